"""What the weights of an op make unnecessary: zero points, row sums, clamps, ties."""

from __future__ import annotations

import numpy as np

from qgen.ir.linear import Linear
from qgen.ir.numerics import INT32_MAX
from qgen.ir.types import Array, DType


def fold_zero_points(op: Linear) -> tuple[Array, Array, Array]:
    """(Q15) int8 weights w', folded bias and row-sum factor per channel.

    With x stored as int8 with zero point Z: sum((x - Z)(w - Zw)) = sum(x w') + f sum(x) - Z sum(w -
    Zw), where w' = w - Zw - f. The factor f is 0 wherever w - Zw fits int8.

    Returns: w' int8 [K, channels], bias int64 [channels], f int64 [channels].
    """
    centered, bias = fold_input_zero(op)
    low, high = centered.min(axis=0), centered.max(axis=0)
    fits = (low >= -128) & (high <= 127)
    # Weights span at most 255 values, so a shift by the middle always fits.
    factor = np.where(fits, 0, (low + high + 1) // 2)
    return (centered - factor).astype(np.int8), bias, factor


def fold_input_zero(op: Linear) -> tuple[Array, Array]:
    """(Q15) with f = 0, where weights may take two bytes.

    Returns: w - Zw int64 [K, channels], bias int64 [channels].
    """
    centered = op.weight_matrix().astype(np.int64)
    stored_zero = op.x.zero - (128 if op.x.dtype is DType.U8 else 0)
    return centered, op.bias().astype(np.int64) - stored_zero * centered.sum(axis=0)


def overflow_reason(op: Linear) -> str:
    """Why the kernel's int32 sums could overflow, or an empty string."""
    weights, bias, factor = fold_zero_points(op)
    products = np.abs(weights.astype(np.int64)).sum(axis=0) * 128
    widest = products + np.abs(bias) + 128 * weights.shape[0] * np.abs(factor)
    return "partial sums may exceed int32" if widest.max() > INT32_MAX else ""


def needs_clamp(op: Linear) -> bool:
    """False where saturation to int8 is all the clamp that an op has."""
    full = (op.out.dtype.min, op.out.dtype.max)
    return op.clamp != full or op.out.dtype is DType.U8


def ties_are_dead(op: Linear) -> bool:
    """True where results below the zero point are clamped: a negative tie never shows (Q3c)."""
    return op.clamp is not None and op.clamp[0] >= op.out.zero
