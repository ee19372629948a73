"""Matrix products on NEON: packing, proofs and register plan of the Appendix B kernel.

The kernel multiplies int8 by int8 into int16 lanes (SMULL, SMLAL), adds pairs of lanes to int32
(SADALP) and requantizes in registers. Everything that depends on the weights is decided here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from qgen.ir.linear import Linear
from qgen.ir.numerics import INT32_MAX, LOW_BITS
from qgen.ir.types import Array, DType, Rounding
from qgen.targets.blocks import block_starts, by_blocks
from qgen.targets.spec import Constant, Helper, RegPlan

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


def fold_zero_points(op: Linear) -> tuple[Array, Array, Array]:
    """(Q15) int8 weights w', folded bias and row-sum factor per channel.

    With x stored as int8 with zero point Z: sum((x - Z)(w - Zw)) = sum(x w') + f sum(x) - Z sum(w -
    Zw), where w' = w - Zw - f. The factor f is 0 wherever w - Zw fits int8.

    Returns: w' int8 [K, channels], bias int64 [channels], f int64 [channels].
    """
    centered = op.weight_matrix().astype(np.int64)
    low, high = centered.min(axis=0), centered.max(axis=0)
    fits = (low >= -128) & (high <= 127)
    # Weights span at most 255 values, so a shift by the middle always fits.
    factor = np.where(fits, 0, (low + high + 1) // 2)
    stored_zero = op.x.zero - (128 if op.x.dtype is DType.U8 else 0)
    bias = op.bias().astype(np.int64) - stored_zero * centered.sum(axis=0)
    return (centered - factor).astype(np.int8), bias, factor


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


def overflow_reason(op: Linear) -> str:
    """Why the kernel's int32 sums could overflow, or an empty string."""
    weights, bias, factor = fold_zero_points(op)
    products = np.abs(weights.astype(np.int64)).sum(axis=0) * 128
    widest = products + np.abs(bias) + 128 * weights.shape[0] * np.abs(factor)
    return "partial sums may exceed int32" if widest.max() > INT32_MAX else ""


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
    # Early clobber: an input of equal value must not share a register that the loop changes.
    changed = [f"a{i}" for i in range(rows)] + [f"y{i}" for i in range(rows)] + ["w", "q", "blocks"]
    inputs = ["row", "out"] + (["sums"] if packed.row_sums else [])
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
            "requantize": requantize_lines(regs, rows, rounding, left=left, floor=floor),
            "outputs": [f'[{v}] "+&r"({v})' for v in changed] + ['[left] "=&r"(left)'],
            "operands": [f'[{v}] "r"({v})' for v in inputs],
            "clobbers": [f'"{c}"' for c in (*regs.clobbers, "cc", "memory")],
        },
    )


def needs_clamp(op: Linear) -> bool:
    """False where saturation to int8 is all the clamp that an op has."""
    full = (op.out.dtype.min, op.out.dtype.max)
    return op.clamp != full or op.out.dtype is DType.U8


def ties_are_dead(op: Linear) -> bool:
    """True where results below the zero point are clamped: a negative tie never shows (Q3c)."""
    return op.clamp is not None and op.clamp[0] >= op.out.zero


def requantize_lines(
    regs: RegPlan, rows: int, rounding: Rounding, *, left: bool, floor: bool
) -> Mapping[str, Any]:
    """Assembly that requantizes one register of 4 channels per row, in place.

    M0 is in b[1], the shift in b[2], m1 in b[3]; accumulator registers are free by now.
    """
    targets = [f"v{r}" for r in regs["product"]]
    m0, shift, m1 = (f"v{r}" for r in regs["b"][1:4])
    free = [f"v{r}" for r in regs["acc"]]
    lines: list[str] = []
    if rounding is Rounding.GEMMLOWP:
        if left:
            up, zero = free[:2]
            lines += [f"movi {zero}.4s, #0", f"smax {up}.4s, {shift}.4s, {zero}.4s"]
            lines += [f"smin {shift}.4s, {shift}.4s, {zero}.4s"]
            lines += [f"sshl {t}.4s, {t}.4s, {up}.4s" for t in targets]
        lines += [f"sqrdmulh {t}.4s, {t}.4s, {m0}.4s" for t in targets]
        if not floor:
            fixes = list(zip(free[2:], targets, strict=False))
            lines += [f"and {f}.16b, {t}.16b, {shift}.16b" for f, t in fixes]
            lines += [f"sshr {f}.4s, {f}.4s, #31" for f, _ in fixes]
            lines += [f"sqadd {t}.4s, {t}.4s, {f}.4s" for f, t in fixes]
        lines += [f"srshl {t}.4s, {t}.4s, {shift}.4s" for t in targets]
        ties = (
            "negative ties are clamped away (Q3c)" if floor else "with ties turned away from zero"
        )
        return {"title": f"(Q3): SQRDMULH, then SRSHL; {ties}.", "lines": lines}
    high, low, wide, tie = free[:4]
    # The right shift of the 64-bit product is 31 - shift; SRSHL shifts right by negative amounts.
    lines += [f"movi {tie}.4s, #31", f"sub {shift}.4s, {shift}.4s, {tie}.4s"]
    for t in targets:
        halves = []
        for part, suffix, lanes in (("smull", "2s", "sshll"), ("smull2", "4s", "sshll2")):
            out = high if part == "smull" else low
            lines.append(f"{part} {out}.2d, {t}.{suffix}, {m0}.{suffix}")
            if rounding is Rounding.NEAREST:
                lines += [
                    f"{part} {wide}.2d, {t}.{suffix}, {m1}.{suffix}",
                    f"ssra {out}.2d, {wide}.2d, #{LOW_BITS}",
                    f"shl {wide}.2d, {wide}.2d, #{64 - LOW_BITS}",
                    f"cmeq {wide}.2d, {wide}.2d, #0",
                    f"cmlt {tie}.2d, {out}.2d, #0",
                    f"and {tie}.16b, {tie}.16b, {wide}.16b",
                    f"add {out}.2d, {out}.2d, {tie}.2d",
                ]
            lines.append(f"{lanes} {wide}.2d, {shift}.{suffix}, #0")
            lines.append(f"srshl {out}.2d, {out}.2d, {wide}.2d")
            halves.append(out)
        lines += [f"sqxtn {t}.2s, {halves[0]}.2d", f"sqxtn2 {t}.4s, {halves[1]}.2d"]
    ties = "away from zero" if rounding is Rounding.NEAREST else "up"
    return {"title": f"(Q4): 64-bit product, rounded once, ties {ties}.", "lines": lines}


def constants(packed: Packed) -> dict[str, Constant]:
    """The packed arrays as the generated file prints them."""
    return {
        "w": Constant(packed.weights, "w' in reading order: see the kernel"),
        "q": Constant(packed.parameters, "per block of 4 channels: see the kernel"),
    }


def notes(packed: Packed, rows: int) -> tuple[str, ...]:
    """Proof and register plan for the comment above an op."""
    zero = "row sums for channels whose w - Zw leaves int8" if packed.row_sums else "no row sums"
    return (
        f"int16 lanes (Q16): {DEEP} products in {sum(packed.deep)} of {len(packed.deep)} blocks, "
        f"{packed.pairs} in the others; at most {packed.lane_bound} of {INT16_MAX}",
        f"zero points folded into the bias (Q15); {zero}",
        f"regs: {register_plan(rows)}",
    )
