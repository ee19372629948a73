"""Matrix products on NEON: packing, proofs and register plan of the Appendix B kernel.

The kernel multiplies int8 by int8 into int16 lanes (SMULL, SMLAL), adds pairs of lanes to int32
(SADALP) and requantizes in registers. Everything that depends on the weights is decided here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qgen.ir.linear import Linear
from qgen.ir.types import Array, Rounding
from qgen.targets.blocks import block_starts, by_blocks
from qgen.targets.fold import fold_zero_points, needs_clamp, ties_are_dead
from qgen.targets.matmul import MatrixKernel, operands
from qgen.targets.neon import NEON
from qgen.targets.requantize_asm import Sums, requantize_lines
from qgen.targets.spec import Helper, RegPlan

CHANNELS = 4  # output channels of one block
STEP = 32  # products of one step
LANES = 8
DEEP = STEP // LANES  # products of one step that meet in a lane
INT16_MAX = 2**15 - 1


def register_plan(rows: int) -> RegPlan:
    """Vector registers of the kernel for 1 or 4 rows."""
    return RegPlan(
        {
            "a": tuple(range(2 * rows)),
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
        parameters: int32 [block][row][4]: flags, bias, M0, shift and what the variant adds.
        row: bytes of an input row, K rounded up to a multiple of 8.
        blocks: blocks without the overlapping one.
        pairs: 2 if any two products of a lane fit int16 in every block, else 1.
        deep: per block, whether the 4 products of a step fit.
        row_sums: some channel needs the sum of its input row, (Q15).
        left_shift: some multiplier is above 1.
        lane_bound: largest |int16 lane| that any input can produce.
    """

    weights: Array
    parameters: Array
    row: int
    blocks: int
    pairs: int
    deep: tuple[bool, ...]
    row_sums: bool
    left_shift: bool
    lane_bound: int


def pack(op: Linear, rounding: Rounding) -> Packed:
    """Fold zero points, prove the depth of each block, and put weights into reading order."""
    assert op.m0 is not None and op.shift is not None
    weights, bias, factor = fold_zero_points(op)
    k, channels = weights.shape
    row = -(-k // LANES) * LANES
    w = np.zeros((row, channels), np.int8)
    w[:k] = weights
    starts = block_starts(channels, CHANNELS)
    blocks = [w[:, s : s + CHANNELS] for s in starts]
    pairs = max(lane_bound(b, 2) for b in blocks) <= INT16_MAX
    deep = [lane_bound(b, DEEP) <= INT16_MAX for b in blocks]
    rows = [bias, op.m0.const, op.shift.const]
    if rounding is Rounding.NEAREST:
        rows.append(op.m1.const if op.m1 is not None else np.zeros(channels, np.int32))
    if factor.any():
        rows.append(factor)
    flags = np.zeros((len(starts), 1, CHANNELS), np.int64)
    flags[:, 0, 0] = deep
    return Packed(
        weights=np.concatenate([_reading_order(b) for b in blocks]),
        parameters=np.concatenate([flags, by_blocks(rows, starts, CHANNELS)], 1).astype(np.int32),
        row=row,
        blocks=channels // CHANNELS,
        pairs=2 if pairs else 1,
        deep=tuple(deep),
        row_sums=bool(factor.any()),
        left_shift=bool((op.shift.const > 0).any()),
        lane_bound=max(
            lane_bound(b, DEEP if d else 2 if pairs else 1)
            for b, d in zip(blocks, deep, strict=True)
        ),
    )


def _reading_order(block: Array) -> Array:
    """[K][4] as [K / 32][4][32], then the rest of K as [4][16] and [4][8]."""
    parts, at = [], 0
    for width in (STEP, 16, LANES):
        while len(block) - at >= width:
            parts.append(block[at : at + width].T.reshape(-1))
            at += width
    return np.concatenate(parts)


def lane_bound(block: Array, depth: int) -> int:
    """(Q16) Largest magnitude of an int16 lane over all int8 inputs, for weights [K][channels].

    `depth` products meet in a lane between SADALPs: those of weights 8 apart. A lane holds one more
    below zero than above, which the bound takes into account.
    """
    steps = block[: len(block) // STEP * STEP].astype(np.int64)
    rest = block[len(steps) : len(block) // 16 * 16].astype(np.int64)
    # 16 products are one pair per lane; the last 8 are alone.
    runs = [steps.reshape(-1, depth, LANES, block.shape[1])]
    runs.append(rest.reshape(-1, min(depth, 2), LANES, block.shape[1]))
    widest = 0
    for run in runs:
        if run.size:
            up = np.where(run < 0, -128 * run, 127 * run).sum(axis=1)
            down = np.where(run > 0, 128 * run, -127 * run).sum(axis=1) - 1
            widest = max(widest, int(up.max()), int(down.max()))
    return widest


def helper(rows: int, packed: Packed, rounding: Rounding, op: Linear) -> Helper:
    """The instance of the kernel that an op needs."""
    regs = register_plan(rows)
    left = packed.left_shift and rounding is Rounding.GEMMLOWP
    clamped = needs_clamp(op)
    floor = ties_are_dead(op) and rounding is Rounding.GEMMLOWP
    traits = {
        "alone": packed.pairs == 1,
        "sums": packed.row_sums,
        "left": left,
        "floor": floor,
        "clamp": clamped,
        rounding.value: rounding is not Rounding.GEMMLOWP,
    }
    return Helper(
        "_".join([f"gemm_{rows}x{CHANNELS}", *(t for t, present in traits.items() if present)]),
        "helpers/gemm_neon.c.j2",
        {
            "mr": rows,
            "regs": regs,
            "pairs": packed.pairs,
            "rowsum": packed.row_sums,
            "nearest": rounding is Rounding.NEAREST,
            "clamped": clamped,
            "requantize": requantize_lines(
                [Sums(r, *regs["b"][1:]) for r in regs["product"]],
                regs["acc"],
                rounding,
                left=left,
                floor=floor,
            ),
            **operands(rows, regs, sums=packed.row_sums),
        },
    )


def notes(packed: Packed) -> tuple[str, ...]:
    """Proof and register plan for the comment above an op."""
    return (
        f"int16 lanes (Q16): {DEEP} products in {sum(packed.deep)} of {len(packed.deep)} blocks, "
        f"{packed.pairs} in the others; at most {packed.lane_bound} of {INT16_MAX}",
    )


KERNEL = MatrixKernel(
    name=f"neon_4x{CHANNELS}c{STEP}",
    requires=NEON,
    channels=CHANNELS,
    step=STEP,
    pack=pack,
    helper=helper,
    notes=notes,
    registers=register_plan,
)
