"""Products of one row and packed weights by SMULL: fully connected layers of a single input.

Nothing is used twice but the row, so weights pass once through the registers, 8 channels at a time,
and all that counts is how few instructions surround a load. int16 lanes take as many products as
the weights allow (Q16), up to 16.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qgen.ir.linear import Linear
from qgen.ir.ops.conv2d import Conv2D
from qgen.ir.types import Array, DType, Rounding
from qgen.targets.blocks import block_starts, by_blocks
from qgen.targets.finish import (
    Constants,
    Finish,
    finish_lines,
    finish_values,
    load_lines,
    plan_finish,
)
from qgen.targets.fold import fold_zero_points, overflow_reason
from qgen.targets.gemm import extremes
from qgen.targets.matvec_runs import LANES, MOST_POINTS, grain_of, point_bits, runs
from qgen.targets.neon import FINISH_CONSTANTS, NEON, ROW_SUM, TOTAL, finish_vars
from qgen.targets.once import once_per_op
from qgen.targets.requantize_asm import Lines, Sums
from qgen.targets.spec import Constant, Helper, KernelSpec, Lanes, Prepared, RegPlan
from qgen.targets.work import Part, Work

CHANNELS = 8
STEP = 32
DEEP = STEP // LANES  # products of one step that meet in a lane
MOST_STEPS = 4  # of one turn of the loop
REGS = RegPlan(
    {
        "x": tuple(range(8)),
        "product": tuple(range(8, 16)),
        "acc": tuple(range(16, 24)),
        "w": tuple(range(24, 32)),
    }
)


@dataclass(frozen=True)
class Packed:
    """Weights of one op in the order in which the kernel reads them.

    Attributes:
        weights: int8 [block][K / 16][8][16].
        parameters: int32 [block][words]: bias[8], flags where lanes may start anew inside a turn,
            and per channel what the end and row sums need.
        steps: of one turn of the loop.
        turns: of the loop.
        grain: products of a lane between two points where it may start anew, a multiple of 4.
        fresh: [block][turns * points], whether lanes start anew at the points inside turns.
        row_sums: some channel needs the sum of the row, (Q15).
        lane_bound: largest |int16 lane| that any input can produce.
        extremes: inputs [K] that drive a lane there, one of them from above, one from below.
        finish: the end of the op.
    """

    weights: Array
    parameters: Array
    steps: int
    turns: int
    grain: int
    fresh: Array
    row_sums: bool
    lane_bound: int
    extremes: tuple[Array, ...]
    finish: Finish


def steps_of_turn(depth: int) -> int:
    """Steps of 32 that are printed one after the other: the most that divide a row."""
    return next(s for s in (MOST_STEPS, 3, 2, 1) if depth % (s * STEP) == 0)


@once_per_op
def pack(op: Linear, rounding: Rounding) -> Packed | None:
    """Fold zero points, prove depths, put weights into reading order; None if four do not fit."""
    weights, bias, factor = fold_zero_points(op)
    finish = plan_finish(op, rounding)
    k, channels = weights.shape
    steps = steps_of_turn(k)
    starts = block_starts(channels, CHANNELS)
    blocks = [weights[:, s : s + CHANNELS] for s in starts]
    grain = min(grain_of(b, steps * DEEP) for b in blocks)
    if not grain:
        return None
    found = [runs(b, steps * DEEP, grain) for b in blocks]
    rows = [*finish.rows] + ([factor] if factor.any() else [])
    parts = [by_blocks([bias], starts, CHANNELS).reshape(len(starts), -1)]
    if grain < steps * DEEP:
        parts.append(np.stack([point_bits(fresh) for fresh, _ in found]))
    if rows:
        parts.append(by_blocks(rows, starts, CHANNELS).reshape(len(starts), -1))
    bounds = np.stack([bound for _, bound in found])
    block, lane = np.unravel_index(int(bounds.argmax()), bounds.shape)
    order = [b.reshape(-1, 16, CHANNELS).transpose(0, 2, 1).reshape(-1) for b in blocks]
    return Packed(
        weights=np.concatenate(order),
        parameters=np.concatenate(parts, axis=1).astype(np.int32),
        steps=steps,
        turns=k // (steps * STEP),
        grain=grain,
        fresh=np.stack([fresh for fresh, _ in found]),
        row_sums=bool(factor.any()),
        lane_bound=int(bounds.max()),
        extremes=extremes(weights[:, starts[int(block)] + int(lane)]),
        finish=finish,
    )


# -- assembly ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Group:
    """Steps of a turn between two points, where lanes may start anew: the first in two forms."""

    fresh: Lines
    first: Lines
    rest: Lines


@dataclass(frozen=True)
class Assembly:
    """The kernel's text in pieces; the template puts labels and branches between them."""

    x: Lines
    start: Lines
    groups: tuple[Group, ...]
    add: Lines
    sums: Lines
    load: Lines
    end: Lines
    result: int


def assembly(packed: Packed) -> Assembly:
    """The instance of the kernel that a packed op needs."""
    x, product, acc, w = (REGS[role] for role in ("x", "product", "acc", "w"))
    # Behind the loop everything but the row is free, and a row of one turn stays.
    at = Constants(m0=product[0], zero=product[1], low=product[2], high=product[3], flip=product[4])
    halves = ((w[0], w[2], w[4]), (w[1], w[3], w[5]))
    values = [Sums(acc[4 * i], *halves[i]) for i in range(2)]
    end, results = finish_lines(packed.finish, values, (*product[5:8], w[6]), at)
    start = [f"ldp s{acc[i]}, s{acc[i + 1]}, [%[q], #{4 * i}]" for i in (2, 4, 6)]
    start.append(f"ldp s{acc[0]}, s{acc[1]}, [%[q]], #32")
    each = packed.grain // DEEP
    add = tuple(f"sadalp v{a}.4s, v{p}.8h" for a, p in zip(acc, product, strict=True))
    return Assembly(
        x=Lines("The row.", _load_row(x[: 2 * packed.steps])),
        start=Lines("Accumulators start at the bias, in their first lanes.", tuple(start)),
        groups=tuple(_group(first, each) for first in range(0, packed.steps, each)),
        add=Lines("Lanes to int32.", add),
        sums=_sums(packed, halves),
        load=load_lines(packed.finish, at),
        end=end,
        result=results[0],
    )


def _load_row(x: Sequence[int]) -> tuple[str, ...]:
    """As many registers at a time as one instruction takes."""
    fours = [load_four(x[i : i + 4], "x") for i in range(0, len(x) - 3, 4)]
    return (*fours, *([f"ldp q{x[-2]}, q{x[-1]}, [%[x]], #32"] if len(x) % 4 else []))


def load_four(registers: Sequence[int], pointer: str) -> str:
    """64 bytes by one instruction: two LDP take no fewer cycles of the load unit of any core."""
    return f"ld1 {{v{registers[0]}.16b-v{registers[3]}.16b}}, [%[{pointer}]], #64"


def _group(first: int, count: int) -> Group:
    rest = [line for i in range(1, count) for line in _step(first + i, fresh=False)]
    return Group(
        Lines("A step with lanes anew.", tuple(_step(first, fresh=True))),
        Lines("A step.", tuple(_step(first, fresh=False))),
        Lines("Further steps.", tuple(rest)),
    )


def _step(step: int, *, fresh: bool) -> list[str]:
    """32 products of each channel."""
    x, product, w = (REGS[role] for role in ("x", "product", "w"))
    lines = []
    for half in range(2):
        lines += [load_four(w[:4], "w"), load_four(w[4:], "w")]
        left = x[2 * step + half]
        # Each channel waits for its own last product: eight others come between.
        for high, lanes in (("", "8b"), ("2", "16b")):
            name = "smull" if fresh and not half and not high else "smlal"
            lines += [
                f"{name}{high} v{p}.8h, v{left}.{lanes}, v{right}.{lanes}"
                for p, right in zip(product, w, strict=True)
            ]
    return lines


def _sums(packed: Packed, halves: tuple[tuple[int, ...], tuple[int, ...]]) -> Lines:
    """Partial sums to two registers of 4 channels; parameters of the end."""
    acc, w = REGS["acc"], REGS["w"]
    count = len(packed.finish.rows)
    lines = [f"ldp q{halves[0][i]}, q{halves[1][i]}, [%[q]], #32" for i in range(count)]
    for i in range(0, 8, 2):
        lines.append(f"addp v{acc[i]}.4s, v{acc[i]}.4s, v{acc[i + 1]}.4s")
    for i in (0, 4):
        lines.append(f"addp v{acc[i]}.4s, v{acc[i]}.4s, v{acc[i + 2]}.4s")
    if packed.row_sums:
        lines += [f"ldp q{acc[1]}, q{acc[5]}, [%[q]], #32", f"dup v{w[7]}.4s, %w[sum]"]
        lines += [f"mla v{acc[i]}.4s, v{acc[i + 1]}.4s, v{w[7]}.4s" for i in (0, 4)]
    return Lines("Partial sums to sums.", tuple(lines))


def helper(packed: Packed) -> Helper:
    """The instance of the kernel that an op needs."""
    pointed = len(packed.fresh[0]) > 0
    stays = packed.turns == 1
    traits = {
        "stays": stays,
        f"grain{packed.grain}": pointed,
        "sums": packed.row_sums,
    }
    names = [f"matvec_{CHANNELS}c{packed.steps * STEP}", *(t for t, on in traits.items() if on)]
    changed = ["x", "w", "q", "to", "blocks"]
    outputs = [f'[{v}] "+&r"({v})' for v in changed]
    outputs += ['[left] "=&r"(left)'] if not stays else []
    outputs += ['[flags] "=&r"(flags)'] if pointed else []
    inputs = ["out"] + ([] if stays else ["row", "turns"]) + (["sum"] if packed.row_sums else [])
    return Helper(
        "_".join([*names, *packed.finish.traits]),
        "helpers/matvec_neon.c.j2",
        {
            "regs": REGS,
            "asm": assembly(packed),
            "step": packed.steps * STEP,
            "stays": stays,
            "points": len(packed.fresh[0]) // packed.turns,
            "rowsum": packed.row_sums,
            "words": len(packed.finish.rows),
            "outputs": outputs,
            "operands": [f'[{v}] "r"({v})' for v in inputs],
            "clobbers": [f'"{c}"' for c in (*REGS.clobbers, "cc", "memory")],
        },
    )


# -- rows of the table ---------------------------------------------------------------------------


def work(op: Linear, rounding: Rounding) -> Work:
    """A run: the printed lines of the kernel, an estimate of the C around it."""
    packed = pack(op, op.rounding(rounding))
    assert packed is not None
    asm = assembly(packed)
    stays, points = packed.turns == 1, len(asm.groups) - 1
    blocks = len(packed.fresh)
    turns = blocks * packed.turns
    fixed = tuple(line for p in (asm.start, asm.sums, asm.load, asm.end) for line in p.lines)
    first, *others = asm.groups
    row = () if stays else asm.x.lines
    # One basic block where nothing is tested, and only then does it follow itself.
    tail = () if others else asm.add.lines
    whole = (*row, *first.fresh.lines, *first.rest.lines, *tail)
    parts = [
        Part(fixed, blocks),
        Part(whole, turns, 0 if others else turns / (1 if stays else blocks)),
    ]
    times = packed.fresh.reshape(turns, points).sum(axis=0).tolist()
    for n, (group, anew) in enumerate(zip(others, times, strict=True), 1):
        tail = asm.add.lines if n == points else ()
        rest = (*group.rest.lines, *tail)
        parts.append(Part((*group.first.lines, *rest), turns - anew))
        parts.append(Part((*asm.add.lines, *group.fresh.lines, *rest), anew))
    each = (0 if stays else 2) + (1 if points else 0) + 3
    each += packed.turns * (points + (0 if stays else 2 + (1 if points else 0)))
    sums = 20 + op.weight_matrix().shape[0] / 4 if packed.row_sums else 0
    run = Work(tuple(parts), blocks * each + int(packed.fresh.sum()))
    return run.times(_rows_of(op), 25.0 + sums) + Work((), 15.0)


def _rows_of(op: Linear) -> int:
    return op.out.type.elements // op.channels


def prepare(op: Linear, rounding: Rounding) -> Prepared:
    packed = pack(op, op.rounding(rounding))
    assert packed is not None
    instance = helper(packed)
    wanted = (
        (FINISH_CONSTANTS, True),
        (TOTAL, packed.row_sums),
        (ROW_SUM, packed.row_sums),
        (instance, True),
    )
    depth = packed.turns * packed.steps * STEP
    products = packed.steps * DEEP
    runs = 1 + int(packed.fresh.sum()) / packed.fresh.shape[0] / packed.turns
    sums = "row sums for channels whose w - Zw leaves int8" if packed.row_sums else "no row sums"
    return Prepared(
        constants={
            "w": Constant(packed.weights, "w' in reading order: see the kernel"),
            "q": Constant(packed.parameters, "per block of channels: see the kernel"),
        },
        helpers=tuple(found for found, needed in wanted if needed),
        vars=finish_vars(op)
        | {
            "kernel": instance.name,
            "rows": _rows_of(op),
            "depth": depth,
            "turns": packed.turns,
            "blocks": op.channels // CHANNELS,
            "edge": CHANNELS if op.channels % CHANNELS else 0,
            "block_words": packed.parameters.shape[1],
            "O": op.channels,
            "end": finish_values(packed.finish, op),
        },
        lanes=Lanes(
            f"{products} products in {runs:.1f} runs, on average",
            products / runs,
            packed.lane_bound,
        ),
        notes=(
            f"zero points folded into the bias (Q15); {sums}",
            f"end {assembly(packed).end.title}",
            f"regs: {REGS}",
        ),
        extremes=packed.extremes,
    )


def _refuses(op: Linear, rounding: Rounding) -> str:
    depth = op.weight_matrix().shape[0]
    if isinstance(op, Conv2D):
        win = op.window
        if win.h.kernel * win.w.kernel > 1 or win.padded or win.h.size * win.w.size > 1:
            return "more than one pixel"
    if op.x.dtype is not DType.I8 or depth % STEP:
        return f"needs int8 input, a multiple of {STEP}"
    if op.channels < CHANNELS:
        return f"fewer than {CHANNELS} output channels"
    reason = overflow_reason(op)
    if reason:
        return reason
    packed = pack(op, op.rounding(rounding))
    if packed is None or packed.fresh.shape[1] > MOST_POINTS:
        return "four products do not fit an int16 lane"
    return ""


KERNELS = tuple(
    KernelSpec(
        name=f"qs8_{op}__neon_1x{CHANNELS}c{MOST_STEPS * STEP}",
        op=op,
        template=f"{op}/neon_matvec.c.j2",
        requires=NEON,
        prepare=prepare,
        refuses=_refuses,
        work=work,
        tile=(1, CHANNELS, MOST_STEPS * STEP),
        regs=REGS,
    )
    for op in ("conv2d", "fully_connected")
)
