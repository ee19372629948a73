"""Matrix products on NEON by SMULL: packing, proofs and assembly of the Appendix B kernel.

The kernel multiplies int8 by int8 into int16 lanes (SMULL, SMLAL), adds pairs of lanes to int32
(SADALP) and finishes in registers. Everything that depends on the weights is decided here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from qgen.ir.linear import Linear
from qgen.ir.types import Array, DType, Rounding
from qgen.targets import gemm_lines
from qgen.targets.blocks import block_starts, by_blocks
from qgen.targets.finish import Constants, Finish, finish_lines, load_lines, plan_finish
from qgen.targets.fold import fold_zero_points
from qgen.targets.gemm_lines import CHANNELS, LANES, STEP, register_plan, two_pointers
from qgen.targets.once import once_per_op
from qgen.targets.requantize_asm import Lines, Sums
from qgen.targets.spec import Helper, Lanes
from qgen.targets.work import Part, Work

DEEP = STEP // LANES  # products of one step that meet in a lane
INT16_MAX = 2**15 - 1
NEXT_STEP = "adds %[flags], %[flags], %[flags]"
WORD_STEPS = 63  # steps of which a word of flags tells; one bit says where it ends


@dataclass(frozen=True)
class Packed:
    """Weights of one op in the order in which the kernel reads them.

    Attributes:
        weights: int8, blocks of 4 channels; the last overlaps its neighbour if channels are not
            a multiple of 4.
        parameters: int32 [block][words]: bias[4], words of flags, and per channel what the end and
            row sums need.
        row: bytes of an input row, K rounded up to a multiple of 8.
        blocks: blocks without the overlapping one.
        pairs: 2 if any two products of a lane fit int16 in every block, else 1.
        deep: [block][step], whether the 4 products of a step fit.
        row_sums: some channel needs the sum of its input row, (Q15), or may.
        lane_bound: largest |int16 lane| that any input can produce.
        extremes: inputs [K] that drive a lane there, one of them from above, one from below.
        finish: the end of the op.
    """

    weights: Array
    parameters: Array
    row: int
    blocks: int
    pairs: int
    deep: Array
    row_sums: bool
    lane_bound: int
    extremes: tuple[Array, ...]
    finish: Finish

    def sharing(self) -> Packed:
        """The same for an instance that takes any shift."""
        return replace(self, finish=self.finish.sharing())

    @property
    def steps(self) -> int:
        return self.row // STEP


@once_per_op
def pack(op: Linear, rounding: Rounding) -> Packed:
    """Fold zero points, prove the depth of each step, and put weights into reading order."""
    weights, bias, factor = fold_zero_points(op)
    finish = plan_finish(op, rounding)
    k, channels = weights.shape
    row = -(-k // LANES) * LANES
    w = np.zeros((row, channels), np.int8)
    w[:k] = weights
    starts = block_starts(channels, CHANNELS)
    blocks = [w[:, s : s + CHANNELS] for s in starts]
    pairs = 2 if max(lane_bound(b, 2) for b in blocks) <= INT16_MAX else 1
    deep = np.array([deep_steps(b) for b in blocks], bool).reshape(len(blocks), row // STEP)
    bounds = [0] * channels
    for start, block, d in zip(starts, blocks, deep, strict=True):
        for j in range(CHANNELS):
            bounds[start + j] = widest(block[:, j : j + 1], d, pairs)
    # Nearly every op with uint8 weights has a channel that needs them: one instance serves all.
    row_sums = bool(factor.any()) or op.w.dtype is DType.U8
    rows = [*finish.rows] + ([factor] if row_sums else [])
    parts = [by_blocks([bias], starts, CHANNELS).reshape(len(starts), -1)]
    parts.append(np.stack([flag_words(d) for d in deep]))
    if rows:
        parts.append(by_blocks(rows, starts, CHANNELS).reshape(len(starts), -1))
    return Packed(
        weights=np.concatenate([_reading_order(b) for b in blocks]),
        parameters=np.concatenate(parts, axis=1).astype(np.int32),
        row=row,
        blocks=channels // CHANNELS,
        pairs=pairs,
        deep=deep,
        row_sums=row_sums,
        lane_bound=max(bounds),
        extremes=extremes(w[:k, int(np.argmax(bounds))]),
        finish=finish,
    )


def _reading_order(block: Array) -> Array:
    """[K][4] as [K / 32][4][32], then the rest of K as [4][16] and [4][8]."""
    parts, at = [], 0
    for width in (STEP, 16, LANES):
        while len(block) - at >= width:
            parts.append(block[at : at + width].T.reshape(-1))
            at += width
    return np.concatenate(parts)


def flag_words(deep: Array) -> Array:
    """Per step a bit, first step on top, and a bit that ends the word; int32 halves, low first.

    A chain of words for more than 63 steps, ended by 0.
    """
    words: list[int] = []
    for start in range(0, max(len(deep), 1), WORD_STEPS):
        bits = [int(d) for d in deep[start : start + WORD_STEPS]] + [1]
        words.append(sum(bit << (63 - i) for i, bit in enumerate(bits)))
    if len(words) > 1:
        words.append(0)
    return np.asarray(np.array(words, np.uint64).view(np.int32))


def lane_range(runs: Array) -> tuple[Array, Array]:
    """(Q16) Least and greatest sums of int8 times `runs` [runs][depth][...] over axis 1."""
    runs = runs.astype(np.int64)
    up = np.where(runs < 0, -128 * runs, 127 * runs).sum(axis=1)
    down = np.where(runs > 0, -128 * runs, 127 * runs).sum(axis=1)
    return down, up


def extremes(channel: Array) -> tuple[Array, ...]:
    """Inputs as int8 at which every lane of a channel's weights [K] is at an end of its range."""
    up = np.where(channel > 0, 127, -128).astype(np.int8)
    return up, np.where(channel > 0, -128, 127).astype(np.int8)


def _magnitude(runs: Array) -> Array:
    """Of each lane; a lane holds one more below zero than above, which is taken into account."""
    down, up = lane_range(runs)
    return np.asarray(np.maximum(up, -down - 1))


def deep_steps(block: Array) -> Array:
    """Which steps of [K][channels] weights fit 4 products into each of their lanes."""
    runs = block[: len(block) // STEP * STEP].reshape(-1, DEEP, LANES, block.shape[1])
    return np.asarray((_magnitude(runs) <= INT16_MAX).all(axis=(1, 2)))


def lane_bound(block: Array, depth: int) -> int:
    """(Q16) Largest magnitude of an int16 lane over all int8 inputs, for weights [K][channels].

    `depth` products meet in a lane between SADALPs: those of weights 8 apart.
    """
    return widest(block, np.full(len(block) // STEP, depth == DEEP), min(depth, 2))


def widest(block: Array, deep: Array, pairs: int) -> int:
    """(Q16) The same where `deep` steps take 4 products and the others `pairs`."""
    channels = block.shape[1]
    steps = block[: len(deep) * STEP].reshape(-1, STEP, channels)
    shallow = steps[~deep].reshape(-1, pairs, LANES, channels)
    # 16 products are one pair per lane; the last 8 are alone.
    tail = block[len(deep) * STEP : len(block) // 16 * 16]
    last = block[len(block) // 16 * 16 :]
    runs = [
        steps[deep].reshape(-1, DEEP, LANES, channels),
        shallow,
        tail.reshape(-1, pairs, LANES, channels),
        last.reshape(-1, 1, LANES, channels),
    ]
    return max((int(_magnitude(r).max()) for r in runs if r.size), default=0)


# -- assembly ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Assembly:
    """The kernel's text in pieces; the template puts labels and branches between them."""

    start: Lines
    deep: Lines
    shallow: Lines
    tails: tuple[Lines, ...]
    sums: Lines
    load: Lines
    end: Lines
    result: int


def assembly(rows: int, packed: Packed) -> Assembly:
    """The instance of the kernel for so many rows that a packed op needs."""
    regs = register_plan(rows)
    b = regs["b"]
    # Rows are read anew for every block, so their registers are free at its end.
    free = (*regs["a"], *b[3:])
    at = Constants(m0=free[4], zero=free[0], low=free[1], high=free[2], flip=free[3])
    sums = [Sums(r, *b[:3]) for r in regs["product"][:rows]]
    end, results = finish_lines(packed.finish, sums, free[5:9], at)
    tails = []
    if packed.row % STEP >= 16:
        tails.append(gemm_lines.step(regs, rows, 1, packed.pairs))
    if packed.row % 16:
        tails.append(gemm_lines.last_eight(regs, rows))
    return Assembly(
        start=gemm_lines.start(regs, rows),
        deep=gemm_lines.step(regs, rows, 2, DEEP),
        shallow=gemm_lines.step(regs, rows, 2, packed.pairs),
        tails=tuple(tails),
        sums=gemm_lines.sums(regs, rows, words=len(packed.finish.rows), row_sums=packed.row_sums),
        load=load_lines(packed.finish, at),
        end=end,
        result=results[0],
    )


def helper(rows: int, packed: Packed) -> Helper:
    """The instance of the kernel that an op needs."""
    regs = register_plan(rows)
    long, ahead = packed.steps > WORD_STEPS, two_pointers(rows)
    traits = {
        "alone": packed.pairs == 1,
        f"tail{packed.row % STEP}": packed.row % STEP > 0,
        "long": long,
        "sums": packed.row_sums,
    }
    names = [f"gemm_{rows}x{CHANNELS}", *(t for t, present in traits.items() if present)]
    changed = [f"{v}{i}" for v in "ay" for i in range(rows)] + ["w", "q", "blocks"]
    inputs = ["row", "out"] + (["sums"] if packed.row_sums else [])
    return Helper(
        "_".join([*names, *packed.finish.traits]),
        "helpers/gemm_neon.c.j2",
        {
            "mr": rows,
            "regs": regs,
            "asm": assembly(rows, packed),
            "long": long,
            "rowsum": packed.row_sums,
            "words": len(packed.finish.rows),
            "ahead": ahead,
            # Early clobber: an input of equal value must not share a register that changes.
            "outputs": [f'[{v}] "+&r"({v})' for v in changed]
            + [f'[{v}] "=&r"({v})' for v in (["v"] if ahead else []) + ["flags"]],
            "operands": [f'[{v}] "r"({v})' for v in inputs],
            "clobbers": [f'"{c}"' for c in (*regs.clobbers, "cc", "memory")],
        },
    )


def lanes(packed: Packed) -> Lanes:
    """What meets in a lane of int16, and the proof that it fits."""
    deep, steps = int(packed.deep.sum()), packed.deep.size
    widenings = deep + (steps - deep) * DEEP / packed.pairs
    return Lanes(
        f"{DEEP} products in {deep} of {steps} steps of {STEP}, {packed.pairs} in the others",
        steps * DEEP / widenings if steps else packed.pairs,
        packed.lane_bound,
    )


def notes(rows: int, packed: Packed) -> tuple[str, ...]:
    """Register plan for the comment above an op."""
    sums = "row sums for channels whose w - Zw leaves int8" if packed.row_sums else "no row sums"
    return (
        f"zero points folded into the bias (Q15); {sums}",
        f"end {assembly(rows, packed).end.title}",
        f"regs: {register_plan(rows)}",
    )


# -- cost ----------------------------------------------------------------------------------------


def block_work(rows: int, packed: Packed) -> Work:
    """All blocks of one tile: the lines that are printed, and the branches between them."""
    asm = assembly(rows, packed)
    fixed = (asm.start, *asm.tails, asm.sums, asm.load, asm.end)
    blocks = len(packed.deep)
    steps = packed.deep.size
    # From one loop to the other there is one more branch, and behind the last step.
    changes = int((~packed.deep[:, 1:] | ~packed.deep[:, :-1]).sum()) + (blocks if steps else 0)
    parts = [Part(tuple(line for p in fixed for line in p.lines), blocks)]
    for body, kind in ((asm.deep, packed.deep), (asm.shallow, ~packed.deep)):
        times = int(kind.sum())
        if times:
            entered = int(kind[:, 0].sum() + (kind[:, 1:] & ~kind[:, :-1]).sum())
            parts.append(Part((*body.lines, NEXT_STEP), times, times / entered))
    # Flags, their first test, the count of blocks, and where each row goes on.
    around = 3 + 2 + 2 * rows + (2 if packed.steps else 1)
    return Work(tuple(parts), blocks * around + steps + changes)


def tile_cost(rows: int, packed: Packed) -> float:
    """Instructions around the blocks of one tile: pointers, and sums of rows."""
    return 10 + 4 * rows + (rows * (10 + 2 * packed.row / 16) if packed.row_sums else 0)
