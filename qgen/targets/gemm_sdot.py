"""Matrix products with SDOT (ARMv8.2 dot product): packing and register plan.

SDOT adds four int8 products to each int32 lane, so nothing has to be proven of int16 lanes, and a
lane is an output channel from start to end: bias goes in first, no sums across lanes come last.
uint8 models run on it like int8 ones, since their zero points are folded away.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qgen.ir.linear import Linear
from qgen.ir.types import Array, Rounding
from qgen.targets.blocks import block_starts, by_blocks
from qgen.targets.fold import fold_zero_points, needs_clamp, ties_are_dead
from qgen.targets.matmul import LANES, MatrixKernel, operands
from qgen.targets.requantize_asm import Sums, requantize_lines
from qgen.targets.spec import Helper, RegPlan

CHANNELS = 8
STEP = 16
GROUP = 4  # products of one lane and SDOT
DOTPROD = frozenset({"aarch64", "dotprod"})


def register_plan(rows: int) -> RegPlan:
    """Vector registers of the kernel for 1 or 4 rows."""
    return RegPlan(
        {
            "a": tuple(range(rows)),
            "w": tuple(range(4, 12)),
            "acc": tuple(range(16, 16 + 2 * rows)),
            "free": tuple(range(24, 32)),
        }
    )


@dataclass(frozen=True)
class Packed:
    """Weights of one op in the order in which the kernel reads them.

    Attributes:
        weights: int8 [block][K / 4][8][4]; the last block overlaps its neighbour if channels are
            not a multiple of 8.
        parameters: int32 [block][row][8]: bias, M0, shift and what the variant adds.
        row: bytes of an input row, K rounded up to a multiple of 8.
        blocks: blocks without the overlapping one.
        row_sums: some channel needs the sum of its input row, (Q15).
        left_shift: some multiplier is above 1.
    """

    weights: Array
    parameters: Array
    row: int
    blocks: int
    row_sums: bool
    left_shift: bool


def pack(op: Linear, rounding: Rounding, group: int = GROUP) -> Packed:
    """Fold zero points and put weights into reading order, `group` products of a channel each."""
    assert op.m0 is not None and op.shift is not None
    weights, bias, factor = fold_zero_points(op)
    k, channels = weights.shape
    row = -(-k // LANES) * LANES
    w = np.zeros((row, channels), np.int8)
    w[:k] = weights
    starts = block_starts(channels, CHANNELS)
    blocks = [w[:, s : s + CHANNELS].reshape(-1, group, CHANNELS) for s in starts]
    rows = [bias, op.m0.const, op.shift.const]
    if rounding is Rounding.NEAREST:
        rows.append(op.m1.const if op.m1 is not None else np.zeros(channels, np.int32))
    if factor.any():
        rows.append(factor)
    return Packed(
        weights=np.concatenate([b.transpose(0, 2, 1).reshape(-1) for b in blocks]),
        parameters=by_blocks(rows, starts, CHANNELS).astype(np.int32),
        row=row,
        blocks=channels // CHANNELS,
        row_sums=bool(factor.any()),
        left_shift=bool((op.shift.const > 0).any()),
    )


def helper(rows: int, packed: Packed, rounding: Rounding, op: Linear) -> Helper:
    """The instance of the kernel that an op needs."""
    regs = register_plan(rows)
    name = f"sdot_{rows}x{CHANNELS}"
    return instance(name, "helpers/gemm_sdot.c.j2", rows, regs, regs["acc"], packed, rounding, op)


def instance(
    name: str,
    template: str,
    rows: int,
    regs: RegPlan,
    sums: tuple[int, ...],
    packed: Packed,
    rounding: Rounding,
    op: Linear,
) -> Helper:
    """An instance of a kernel whose sums lie as two registers of 4 channels per row in `sums`."""
    left = packed.left_shift and rounding is Rounding.GEMMLOWP
    clamped = needs_clamp(op)
    floor = ties_are_dead(op) and rounding is Rounding.GEMMLOWP
    traits = {
        "sums": packed.row_sums,
        "left": left,
        "floor": floor,
        "clamp": clamped,
        rounding.value: rounding is not Rounding.GEMMLOWP,
    }
    w = regs["w"]
    halves = [(w[0], w[2], w[4]), (w[1], w[3], w[5])]
    vectors = [Sums(r, *halves[i % 2]) for i, r in enumerate(sums)]
    present = (t for t, found in traits.items() if found)
    return Helper(
        "_".join([name, *present]),
        template,
        {
            "mr": rows,
            "regs": regs,
            "sums": sums,
            "rowsum": packed.row_sums,
            "nearest": rounding is Rounding.NEAREST,
            "clamped": clamped,
            "requantize": requantize_lines(vectors, regs["free"], rounding, left=left, floor=floor),
            **operands(rows, regs, sums=packed.row_sums),
        },
    )


def notes(packed: Packed) -> tuple[str, ...]:
    """What the comment above an op says of the kernel."""
    return (f"int32 lanes are channels: {GROUP} products per lane and SDOT",)


KERNEL = MatrixKernel(
    name=f"neondot_4x{CHANNELS}c{STEP}",
    requires=DOTPROD,
    channels=CHANNELS,
    step=STEP,
    pack=pack,
    helper=helper,
    notes=notes,
    registers=register_plan,
)
