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
from qgen.targets.spec import Constant, Helper, RegPlan

CHANNELS = 4  # output channels of one block
STEP = 16  # products of one step
LANES = 8
INT16_MAX = 2**15 - 1


def register_plan(rows: int) -> RegPlan:
    """Vector registers of the kernel for 1 or 4 rows; v12 to v15 stay free for its operands."""
    return RegPlan(
        {
            "a": tuple(range(rows)),
            "b": (4, 5, 6, 7),
            "product": tuple(range(8, 8 + rows)),
            "acc": tuple(range(16, 16 + CHANNELS * rows)),
        }
    )


@dataclass(frozen=True)
class Packed:
    """Weights of one op in the order in which the kernel reads them.

    Attributes:
        weights: int8, blocks of 4 channels; the last overlaps its neighbour if channels are not
            a multiple of 4.
        parameters: int32 rows of 4 per block: bias, M0, shift and what the variant adds.
        depth: products that share an int16 lane, 2 where the proof holds.
        row_sums: some channel needs the sum of its input row, (Q15).
        lane_bound: largest |int16 lane| that any input can produce.
    """

    weights: Array
    parameters: Array
    depth: int
    row_sums: bool
    left_shift: bool
    lane_bound: int
    blocks: int
    k16: int
    k8: int


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
    """Fold zero points, prove the depth, and put weights into reading order."""
    weights, bias, factor = fold_zero_points(op)
    k, channels = weights.shape
    padded = -(-k // LANES) * LANES
    w = np.zeros((padded, channels), np.int8)
    w[:k] = weights
    k16, k8 = padded // STEP, padded % STEP // LANES
    lane = _lane_bound(w[: k16 * STEP])
    starts = [*range(0, channels - CHANNELS + 1, CHANNELS)]
    if channels % CHANNELS:
        starts.append(channels - CHANNELS)
    columns = [w[:, s : s + CHANNELS].T for s in starts]
    split = k16 * STEP
    blocks = [
        np.concatenate(
            [
                c[:, :split].reshape(CHANNELS, k16, STEP).transpose(1, 0, 2).reshape(-1),
                c[:, split:].reshape(-1),
            ]
        )
        for c in columns
    ]
    assert op.m0 is not None and op.shift is not None
    rows = [bias, op.m0.const, op.shift.const]
    if rounding is Rounding.NEAREST:
        rows.append(op.m1.const if op.m1 is not None else np.zeros(channels, np.int32))
    if factor.any():
        rows.append(factor)
    parameters = np.stack([np.stack([r[s : s + CHANNELS] for r in rows]) for s in starts])
    return Packed(
        weights=np.concatenate(blocks),
        parameters=parameters.astype(np.int32),
        depth=2 if lane <= INT16_MAX else 1,
        row_sums=bool(factor.any()),
        left_shift=bool((op.shift.const > 0).any()),
        lane_bound=lane,
        blocks=channels // CHANNELS,
        k16=k16,
        k8=k8,
    )


def overflow_reason(op: Linear) -> str:
    """Why the kernel's int32 sums could overflow, or an empty string."""
    weights, bias, factor = fold_zero_points(op)
    products = np.abs(weights.astype(np.int64)).sum(axis=0) * 128
    widest = products + np.abs(bias) + 128 * weights.shape[0] * np.abs(factor)
    return "partial sums may exceed int32" if widest.max() > INT32_MAX else ""


def _lane_bound(w: Array) -> int:
    """(Q16) Largest magnitude of x0*w0 + x1*w1 over all int8 x, for the pairs that share a lane."""
    if not w.size:
        return 0
    pairs = w.astype(np.int64).reshape(-1, 2, LANES, w.shape[1])
    # x is -128 where that adds most: 128 |w| for w < 0, 127 w for w > 0; and the other way round.
    up = np.where(pairs < 0, -128 * pairs, 127 * pairs).sum(axis=1)
    down = np.where(pairs > 0, 128 * pairs, -127 * pairs).sum(axis=1) - 1
    return int(max(up.max(), down.max()))


def helper(rows: int, packed: Packed, rounding: Rounding) -> Helper:
    """The instance of the kernel that an op needs."""
    regs = register_plan(rows)
    traits = {
        "depth1": packed.depth == 1,
        "sums": packed.row_sums,
        "left": packed.left_shift and rounding is Rounding.GEMMLOWP,
        rounding.value: rounding is not Rounding.GEMMLOWP,
    }
    name = "_".join([f"gemm_{rows}x{CHANNELS}", *(t for t, present in traits.items() if present)])
    rows_range = range(rows)
    # Early clobber: an input of equal value must not share a register that the loop changes.
    outputs = [f'[a{i}] "+&r"(a{i})' for i in rows_range] + [
        f'[y{i}] "+&r"(y{i})' for i in rows_range
    ]
    outputs += ['[w] "+&r"(w)', '[q] "+&r"(q)', '[blocks] "+&r"(blocks)', '[left] "=&r"(left)']
    operands = ['[k16] "r"(k16)', '[row] "r"(row)']
    operands += ['[sums] "r"(sums)'] if packed.row_sums else []
    operands += [f'[{v}] "w"({v})' for v in ("zero", "low", "high", "flip")]
    return Helper(
        name,
        "helpers/gemm_neon.c.j2",
        {
            "mr": rows,
            "regs": regs,
            "depth": packed.depth,
            "rowsum": packed.row_sums,
            "nearest": rounding is Rounding.NEAREST,
            "requantize": requantize_lines(regs, rows, rounding, packed.left_shift),
            "outputs": outputs,
            "operands": operands,
            "clobbers": [f'"{c}"' for c in (*regs.clobbers, "cc", "memory")],
        },
    )


def requantize_lines(regs: RegPlan, rows: int, rounding: Rounding, left: bool) -> Mapping[str, Any]:
    """Assembly that requantizes one register of 4 channels per row, in place.

    M0 is in b[1], the shift in b[2], m1 in b[3]; accumulator registers are free by now.
    """
    targets = [f"v{r}" for r in regs["product"]]
    m0, shift, m1 = (f"v{r}" for r in regs["b"][1:])
    free = [f"v{r}" for r in regs["acc"]]
    lines: list[str] = []
    if rounding is Rounding.GEMMLOWP:
        if left:
            up, zero = free[0], free[1]
            lines += [f"movi {zero}.4s, #0", f"smax {up}.4s, {shift}.4s, {zero}.4s"]
            lines += [f"smin {shift}.4s, {shift}.4s, {zero}.4s"]
            lines += [f"sshl {t}.4s, {t}.4s, {up}.4s" for t in targets]
        fix = free[4 : 4 + rows] if rows > 1 else free[2:3]
        lines += [f"sqrdmulh {t}.4s, {t}.4s, {m0}.4s" for t in targets]
        lines += [f"and {f}.16b, {t}.16b, {shift}.16b" for f, t in zip(fix, targets, strict=True)]
        lines += [f"sshr {f}.4s, {f}.4s, #31" for f in fix]
        lines += [f"sqadd {t}.4s, {t}.4s, {f}.4s" for f, t in zip(fix, targets, strict=True)]
        lines += [f"srshl {t}.4s, {t}.4s, {shift}.4s" for t in targets]
        title = "(Q3): SQRDMULH, then SRSHL with ties turned away from zero."
        return {"title": title, "lines": lines}
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
    names = ["bias", "M0", "shift"]
    return {
        "w": Constant(
            packed.weights, "w' in reading order: blocks of 4 channels, 16 products deep"
        ),
        "q": Constant(packed.parameters, f"per block of 4 channels: {', '.join(names)}, ..."),
    }


def notes(packed: Packed, rows: int) -> tuple[str, ...]:
    """Proof and register plan for the comment above an op."""
    if packed.depth == 2:
        proof = f"int16 lanes: two products reach at most {packed.lane_bound} of {INT16_MAX}"
    else:
        proof = f"int16 lanes: two products could reach {packed.lane_bound}, so one at a time"
    zero = "row sums for channels whose w - Zw leaves int8" if packed.row_sums else "no row sums"
    return (
        proof,
        f"zero points folded into the bias (Q15); {zero}",
        f"regs: {register_plan(rows)}",
    )
