"""Matrix products on NEON by SMULL: packing, proofs and assembly of the Appendix B kernel.

The kernel multiplies int8 by int8 into int16 lanes (SMULL, SMLAL), adds pairs of lanes to int32
(SADALP) and finishes in registers. Everything that depends on the weights is decided here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from qgen.ir.linear import Linear
from qgen.ir.types import Array, DType, Rounding
from qgen.targets.blocks import block_starts, by_blocks
from qgen.targets.finish import Constants, Finish, finish_lines, load_lines, plan_finish
from qgen.targets.fold import fold_zero_points
from qgen.targets.once import once_per_op
from qgen.targets.requantize_asm import Lines, Sums
from qgen.targets.spec import Helper, Lanes, RegPlan

CHANNELS = 4  # output channels of one block
ROWS = 4
STEP = 32  # products of one step
LANES = 8
DEEP = STEP // LANES  # products of one step that meet in a lane
INT16_MAX = 2**15 - 1
WORD_STEPS = 63  # steps of which a word of flags tells; one bit says where it ends


def register_plan(rows: int) -> RegPlan:
    """Vector registers of the kernel for 1 or 4 rows."""
    return RegPlan(
        {
            "a": tuple(range(8)),
            "product": tuple(range(8, 8 + rows)),
            "b": (12, 13, 14, 15),
            "acc": tuple(range(16, 16 + CHANNELS * rows)),
        }
    )


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


def _step(regs: RegPlan, rows: int, halves: int, depth: int) -> Lines:
    """Products of one step, `depth` accumulated per lane before SADALP.

    `halves` q registers of each row lie in a, `halves` of each channel pass through b.
    """
    a, b, product, acc = (regs[role] for role in ("a", "b", "product", "acc"))

    def weights(j: int) -> str:
        two = f"q{b[2 * (j % 2)]}, q{b[2 * (j % 2) + 1]}"
        return f"ldp {two}, [%[w]], #32"

    lines = []
    for i in range(rows):
        if halves == 2:
            lines.append(f"ldp q{a[2 * i]}, q{a[2 * i + 1]}, [%[a{i}]], #32")
        else:
            lines.append(f"ldr q{a[2 * i]}, [%[a{i}]], #16")
    lines.append(weights(0))
    for j in range(CHANNELS):
        if halves == 2 and j + 1 < CHANNELS:
            lines.append(weights(j + 1))
        elif halves == 1 and j == 0:
            lines.append(weights(1))
        for part in range(2 * halves):
            which = b[2 * (j % 2) + part // 2] if halves == 2 else b[j]
            name = "smull" if part % depth == 0 else "smlal"
            high, lanes = ("2", "16b") if part % 2 else ("", "8b")
            for i in range(rows):
                left = f"v{a[2 * i + part // 2]}.{lanes}"
                lines.append(f"{name}{high} v{product[i]}.8h, {left}, v{which}.{lanes}")
            if part % depth == depth - 1 or part == 2 * halves - 1:
                lines += [
                    f"sadalp v{acc[CHANNELS * i + j]}.4s, v{product[i]}.8h" for i in range(rows)
                ]
    times = f"{depth} product{'s' if depth > 1 else ''} per lane"
    return Lines(f"{16 * halves} products, {times}.", tuple(lines))


def _last_eight(regs: RegPlan, rows: int) -> Lines:
    a, b, product, acc = (regs[role] for role in ("a", "b", "product", "acc"))
    lines = [f"ldr d{a[i]}, [%[a{i}]], #8" for i in range(rows)]
    lines += [f"ldp d{b[j]}, d{b[j + 1]}, [%[w]], #16" for j in (0, 2)]
    for j in range(CHANNELS):
        lines += [f"smull v{product[i]}.8h, v{a[i]}.8b, v{b[j]}.8b" for i in range(rows)]
        lines += [f"sadalp v{acc[CHANNELS * i + j]}.4s, v{product[i]}.8h" for i in range(rows)]
    return Lines("8 products.", tuple(lines))


def _start(regs: RegPlan, rows: int) -> Lines:
    """Accumulators hold the bias in one lane: a load of 32 bits clears the rest of a register."""
    acc = regs["acc"]
    lines = []
    for at in (8, 0):
        for i in range(rows):
            to = CHANNELS * i + at // 4
            where = f"[%[q], #{at}]" if at else "[%[q]]"
            lines.append(f"ldp s{acc[to]}, s{acc[to + 1]}, {where}")
    lines[-1] += ", #16"
    return Lines("Accumulators start at the bias, which lies in their first lanes.", tuple(lines))


def _sums(regs: RegPlan, rows: int, packed: Packed) -> Lines:
    """Partial sums to sums, one register of 4 channels per row; parameters of the end to b."""
    b, product, acc = (regs[role] for role in ("b", "product", "acc"))
    count = len(packed.finish.rows)
    lines = [f"ldp q{b[0]}, q{b[1]}, [%[q]], #32"] if count >= 2 else []
    lines += [f"ldr q{b[2]}, [%[q]], #16"] if count == 3 else []
    for half in (0, 2):
        for i in range(rows):
            one, two = acc[CHANNELS * i + half], acc[CHANNELS * i + half + 1]
            lines.append(f"addp v{one}.4s, v{one}.4s, v{two}.4s")
    for i in range(rows):
        one, two = acc[CHANNELS * i], acc[CHANNELS * i + 2]
        lines.append(f"addp v{product[i]}.4s, v{one}.4s, v{two}.4s")
    if packed.row_sums:
        lines += [f"ldr q{acc[0]}, [%[q]], #16", f"ldr q{acc[1]}, [%[sums]]"]
        lines += [f"mla v{product[i]}.4s, v{acc[0]}.4s, v{acc[1]}.s[{i}]" for i in range(rows)]
    return Lines("Partial sums to sums: one register of 4 channels per row.", tuple(lines))


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
    """The instance of the kernel for 1 or 4 rows that a packed op needs."""
    regs = register_plan(rows)
    a, b, product = regs["a"], regs["b"], regs["product"]
    # Rows are read anew for every block, so their registers are free at its end.
    at = Constants(m0=a[4], zero=a[0], low=a[1], high=a[2], flip=a[3])
    sums = [Sums(r, *b[:3]) for r in product]
    end, results = finish_lines(packed.finish, sums, (*a[5:8], b[3]), at)
    tails = []
    if packed.row % STEP >= 16:
        tails.append(_step(regs, rows, 1, packed.pairs))
    if packed.row % 16:
        tails.append(_last_eight(regs, rows))
    return Assembly(
        start=_start(regs, rows),
        deep=_step(regs, rows, 2, DEEP),
        shallow=_step(regs, rows, 2, packed.pairs),
        tails=tuple(tails),
        sums=_sums(regs, rows, packed),
        load=load_lines(packed.finish, at),
        end=end,
        result=results[0],
    )


def helper(rows: int, packed: Packed) -> Helper:
    """The instance of the kernel that an op needs."""
    regs = register_plan(rows)
    long = packed.steps > WORD_STEPS
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
            # Early clobber: an input of equal value must not share a register that changes.
            "outputs": [f'[{v}] "+&r"({v})' for v in changed] + ['[flags] "=&r"(flags)'],
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


def notes(packed: Packed) -> tuple[str, ...]:
    """Register plan for the comment above an op."""
    sums = "row sums for channels whose w - Zw leaves int8" if packed.row_sums else "no row sums"
    return (
        f"zero points folded into the bias (Q15); {sums}",
        f"end {assembly(ROWS, packed).end.title}",
        f"regs: {register_plan(ROWS)}",
    )


# -- cost ----------------------------------------------------------------------------------------


def block_cost(rows: int, packed: Packed) -> float:
    """Mean instructions of one block for one tile, counted from the lines that are printed."""
    asm = assembly(rows, packed)
    parts = (asm.start, *asm.tails, asm.sums, asm.load, asm.end)
    # Flags, their first test, the count of blocks, and where each row goes on.
    fixed = sum(len(p.lines) for p in parts) + 3 + 2 + 2 * rows
    total = 0.0
    for deep in packed.deep:
        total += fixed + (2 if packed.steps else 1)
        for i, d in enumerate(deep):
            body = asm.deep if d else asm.shallow
            last = i + 1 == len(deep)
            total += len(body.lines) + (3 if last or not (d and deep[i + 1]) else 2)
    return total / len(packed.deep)


def tile_cost(rows: int, packed: Packed) -> float:
    """Instructions around the blocks of one tile: pointers, and sums of rows."""
    return 10 + 4 * rows + (rows * (10 + 2 * packed.row / 16) if packed.row_sums else 0)
