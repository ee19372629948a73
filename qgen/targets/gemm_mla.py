"""Matrix products on NEON by MLA: packing, proofs and assembly of the kernel for few inputs.

Lanes are 8 output channels: int16 activations times int16 weights by element, accumulated in int16
for as long as the weights allow (Q16), then added to int32. Nothing is added across lanes and K
needs no padding, which pays where K is small. Weights are two bytes, so no channel needs row sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from qgen.ir.linear import Linear
from qgen.ir.types import Array, Rounding
from qgen.targets.blocks import block_starts, by_blocks
from qgen.targets.finish import Constants, Finish, finish_lines, load_lines, plan_finish
from qgen.targets.fold import fold_input_zero
from qgen.targets.gemm import INT16_MAX, extremes, flag_words, lane_range
from qgen.targets.once import once_per_op
from qgen.targets.requantize_asm import Lines, Sums
from qgen.targets.spec import Helper, Lanes, RegPlan
from qgen.targets.work import Part, Work

CHANNELS = 8  # output channels of one block
CHUNK = 8  # inputs of one turn of the loop
ROWS = (5, 6, 7)  # rows of a tile, whichever leaves fewest over
MOST_INPUTS = 96  # beyond that weights of two bytes cost more than they save


def register_plan(rows: int) -> RegPlan:
    """Vector registers of the kernel: what the rows leave holds weights."""
    first = (0, rows, 2 * rows, 4 * rows, 32)
    parts = [tuple(range(a, b)) for a, b in pairwise(first)]
    # No more weights than one turn takes.
    parts[-1] = parts[-1][:CHUNK]
    return RegPlan(dict(zip(("x", "product", "acc", "w"), parts, strict=True)))


@dataclass(frozen=True)
class Packed:
    """Weights of one op in the order in which the kernel reads them.

    Attributes:
        weights: int16 [block][K][8]; the last block overlaps its neighbour if it must.
        parameters: int32 [block][words]: bias[8], flags, and per channel what the end needs.
        row: K.
        grain: products between two points where a lane may be added to int32.
        fresh: [block][K / grain], whether int16 lanes start anew there.
        lane_bound: largest |int16 lane| that any input can produce.
        extremes: inputs [K] that drive a lane there, one of them from above, one from below.
        finish: the end of the op.
    """

    weights: Array
    parameters: Array
    row: int
    grain: int
    fresh: Array
    lane_bound: int
    extremes: tuple[Array, ...]
    finish: Finish

    def sharing(self) -> Packed:
        """The same for an instance that takes any shift."""
        return replace(self, finish=self.finish.sharing())

    @property
    def chunks(self) -> int:
        return self.row // CHUNK


@once_per_op
def pack(op: Linear, rounding: Rounding) -> Packed:
    """Fold the zero point, prove where lanes are added up, and put weights into reading order."""
    weights, bias = fold_input_zero(op)
    k, channels = weights.shape
    finish = plan_finish(op, rounding)
    starts = block_starts(channels, CHANNELS)
    blocks = [weights[:, s : s + CHANNELS] for s in starts]
    grain = grain_of(weights)
    found = [runs(b, grain) for b in blocks]
    bounds = np.stack([bound for _, bound in found])
    block, lane = np.unravel_index(int(bounds.argmax()), bounds.shape)
    widest = starts[int(block)] + int(lane)
    # The first bit is not tested: the first product of a block is always alone.
    flags = [flag_words(fresh[1:]) for fresh, _ in found]
    parts = [by_blocks([bias], starts, CHANNELS).reshape(len(starts), -1), np.stack(flags)]
    if finish.rows:
        parts.append(by_blocks(finish.rows, starts, CHANNELS).reshape(len(starts), -1))
    return Packed(
        weights=np.concatenate([b.astype(np.int16).reshape(-1) for b in blocks]),
        parameters=np.concatenate(parts, axis=1).astype(np.int32),
        row=k,
        grain=grain,
        fresh=np.stack([fresh for fresh, _ in found]),
        lane_bound=int(bounds.max()),
        extremes=extremes(weights[:, widest]),
        finish=finish,
    )


def grain_of(weights: Array) -> int:
    """The coarsest grain of which every group fits an int16 lane; 0 if even two products do not."""
    for grain in (4, 2):
        if not len(weights) % grain:
            down, up = lane_range(weights.reshape(-1, grain, weights.shape[1]))
            if up.max() <= INT16_MAX and down.min() >= -INT16_MAX - 1:
                return grain
    return 0


def runs(block: Array, grain: int) -> tuple[Array, Array]:
    """(Q16) Where lanes of [K][8] weights start anew, per `grain` products, and their bounds."""
    downs, ups = lane_range(block.reshape(-1, grain, block.shape[1]))
    fresh = np.zeros(len(ups), bool)
    low = high = np.zeros(block.shape[1], np.int64)
    widest = np.zeros(block.shape[1], np.int64)
    for i, (down, up) in enumerate(zip(downs, ups, strict=True)):
        low, high = low + down, high + up
        if i == 0 or high.max() > INT16_MAX or low.min() < -INT16_MAX - 1:
            fresh[i] = True
            low, high = down, up
        widest = np.maximum(widest, np.maximum(high, -low - 1))
    return fresh, widest


# -- assembly ------------------------------------------------------------------------------------


def multiply(regs: RegPlan, k: int, *, fresh: bool) -> list[str]:
    """One input of every row times 8 channels."""
    w = regs["w"][k % len(regs["w"])]
    name = "mul" if fresh else "mla"
    return [
        f"{name} v{p}.8h, v{w}.8h, v{x}.h[{k % CHUNK}]"
        for p, x in zip(regs["product"], regs["x"], strict=True)
    ]


def add_up(regs: RegPlan) -> list[str]:
    """int16 lanes to int32."""
    low = [
        f"saddw v{a}.4s, v{a}.4s, v{p}.4h"
        for a, p in zip(regs["acc"][::2], regs["product"], strict=True)
    ]
    high = [
        f"saddw2 v{a}.4s, v{a}.4s, v{p}.8h"
        for a, p in zip(regs["acc"][1::2], regs["product"], strict=True)
    ]
    return low + high


def load(registers: Sequence[int], pointer: str) -> list[str]:
    """Consecutive vectors from a pointer that moves on."""
    pairs = zip(registers[::2], registers[1::2], strict=False)
    lines = [f"ldp q{a}, q{b}, [%[{pointer}]], #32" for a, b in pairs]
    return lines + ([f"ldr q{registers[-1]}, [%[{pointer}]], #16"] if len(registers) % 2 else [])


@dataclass(frozen=True)
class Group:
    """Products of a turn behind a point where lanes may start anew.

    The first input comes in two forms; `before` is what has to happen ahead of either.
    """

    before: tuple[str, ...]
    fresh: tuple[str, ...]
    first: tuple[str, ...]
    rest: tuple[str, ...]


@dataclass(frozen=True)
class Assembly:
    """The kernel's text in pieces; the template puts labels and branches between them."""

    start: Lines
    groups: tuple[Group, ...]
    add: Lines
    parameters: Lines
    load: Lines
    end: Lines
    results: tuple[int, ...]


def assembly(rows: int, packed: Packed) -> Assembly:
    """The instance of the kernel that a packed op needs."""
    regs = register_plan(rows)
    x, product, acc, w = (regs[role] for role in ("x", "product", "acc", "w"))
    spare = (*x, *w)
    at = Constants(m0=spare[0], zero=spare[1], low=spare[2], high=spare[3], flip=spare[4])
    halves = [(spare[5 + i], spare[7 + i], spare[9 + i]) for i in range(2)]
    sums = [Sums(a, *halves[i % 2]) for i, a in enumerate(acc)]
    end, results = finish_lines(packed.finish, sums, product, at)
    parameters = [
        f"ldp q{halves[0][i]}, q{halves[1][i]}, [%[q]], #32" for i in range(len(packed.finish.rows))
    ]
    start = [f"ldp q{acc[2 * i]}, q{acc[2 * i + 1]}, [%[q]]" for i in range(rows)]
    start[-1] += ", #32"
    return Assembly(
        start=Lines("Accumulators start at the bias.", tuple(start)),
        groups=tuple(_group(regs, k, packed.grain) for k in range(0, CHUNK, packed.grain)),
        add=Lines("Lanes to int32.", tuple(add_up(regs))),
        parameters=Lines("Parameters of the channels.", tuple(parameters)),
        load=load_lines(packed.finish, at),
        end=end,
        results=results,
    )


def _group(regs: RegPlan, first: int, grain: int) -> Group:
    before = load(regs["x"], "x") if first == 0 else []
    # With few registers for weights the second half of a turn loads its own.
    if first % len(regs["w"]) == 0:
        before += load(regs["w"], "w")
    rest = [line for k in range(1, grain) for line in multiply(regs, first + k, fresh=False)]
    return Group(
        tuple(before),
        tuple(multiply(regs, first, fresh=True)),
        tuple(multiply(regs, first, fresh=False)),
        tuple(rest),
    )


def helper(rows: int, packed: Packed) -> Helper:
    """The instance of the kernel that an op needs."""
    regs = register_plan(rows)
    changed = ["x", "w", "q", "to", "blocks"]
    return Helper(
        "_".join([f"mla_{rows}x{CHANNELS}", f"grain{packed.grain}", *packed.finish.traits]),
        "helpers/gemm_mla_neon.c.j2",
        {
            "mr": rows,
            "regs": regs,
            "asm": assembly(rows, packed),
            "words": len(packed.finish.rows),
            "widen": widen(rows).name,
            "outputs": [f'[{v}] "+&r"({v})' for v in changed] + ['[flags] "=&r"(flags)'],
            "operands": [f'[{v}] "r"({v})' for v in ("panel", "stride", "back", "out")],
            "clobbers": [f'"{c}"' for c in (*regs.clobbers, "cc", "memory")],
        },
    )


def widen(rows: int) -> Helper:
    """What copies the rows of a tile as int16."""
    return Helper(f"widen_{rows}", "helpers/widen_neon.c.j2", {"mr": rows})


def lanes(packed: Packed) -> Lanes:
    """What meets in a lane of int16, and the proof that it fits."""
    runs = int(packed.fresh.sum()) / len(packed.fresh)
    said = f"{packed.row} products in {runs:.1f} runs per block, on average"
    return Lanes(said, packed.row / runs, packed.lane_bound)


def notes(rows: int, packed: Packed) -> tuple[str, ...]:
    """Register plan for the comment above an op."""
    return (
        "zero point folded into the bias (Q15); weights of two bytes need no row sums",
        f"end {assembly(rows, packed).end.title}",
        f"regs: {register_plan(rows)}",
    )


# -- cost ----------------------------------------------------------------------------------------


def block_work(rows: int, packed: Packed) -> Work:
    """All blocks of one tile: the lines that are printed, and the branches between them."""
    asm = assembly(rows, packed)
    fixed = (asm.start, asm.add, asm.parameters, asm.load, asm.end)
    blocks = len(packed.fresh)
    turns = blocks * packed.chunks
    anew = packed.fresh.reshape(blocks, packed.chunks, -1).sum(axis=(0, 1)).tolist()
    anew[0] -= blocks  # the first of a block is never tested
    parts = [Part(tuple(line for p in fixed for line in p.lines), blocks)]
    for group, times in zip(asm.groups, anew, strict=True):
        parts.append(Part(group.before + group.first + group.rest, turns - times))
        parts.append(Part(group.before + asm.add.lines + group.fresh + group.rest, times))
    # A test ahead of every group but the first, and one more branch to the next turn.
    tests = turns * (2 * len(asm.groups) + 1)
    return Work(tuple(parts), blocks * (6 + rows) + tests + sum(anew))


def tile_cost(rows: int, packed: Packed) -> float:
    """Instructions around the blocks of one tile, its rows widened included."""
    return 25 + packed.row / 16 * (6 * rows + 5)
