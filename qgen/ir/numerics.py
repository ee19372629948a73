"""Integer arithmetic of the scheme: the only place in Python that rounds or saturates.

Equation numbers without a letter are the paper's, ``(Qn)`` those of docs/quantization.md. Arrays
are numpy; 32-bit quantities are carried in int64 so that every intermediate result is exact, and
brought back to 32 bits where the C code has 32 bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np

from qgen.errors import QgenError
from qgen.ir.types import Activation, Array, DType, QParams, Rounding

INT32_MIN = -(2**31)
INT32_MAX = 2**31 - 1
LOW_BITS = 22  # of a double's mantissa below the 31 bits of M0


class Multiplier(NamedTuple):
    """A real multiplier as ``m0 * 2**(shift - 31)``, eq. (6).

    `m0` is an int32 in [2**30, 2**31), or 0; a positive `shift` is a left shift.
    """

    m0: int
    shift: int


def quantize_multiplier(real: float) -> Multiplier:
    """Nearest Multiplier to a non-negative real, eqs. (5), (6).

    Multipliers too small for a 31-bit right shift become zero, as in TFLite.
    Raises QgenError for negative, infinite or NaN values and for those of 2**30 and more.
    """
    if not math.isfinite(real) or real < 0.0:
        raise QgenError(f"multiplier {real} is not a non-negative number")
    if real == 0.0:
        return Multiplier(0, 0)
    fraction, shift = math.frexp(real)
    m0 = math.floor(fraction * 2.0**31 + 0.5)
    if m0 == 2**31:
        m0, shift = 2**30, shift + 1
    if shift < -31:
        return Multiplier(0, 0)
    if shift > 30:
        raise QgenError(f"multiplier {real} is too large", hint="check the scales around this op")
    return Multiplier(m0, shift)


def divide_multiplier(m: Multiplier, count: int) -> Multiplier:
    """(Q7a) `m` divided by `count`, as TFLite's MEAN does it: m0 gains the bits of `count` first.

    The quotient is truncated and m0 left in (2**29, 2**31), not normalized.
    """
    bits = min(count.bit_length() - 1, 32, 31 + m.shift)
    return Multiplier((m.m0 << bits) // count, m.shift - bits)


def exact_multiplier(real: float, low: int, high: int) -> tuple[Multiplier, int]:
    """A real multiplier in all 53 bits of a double: (m0, shift) and the 22 bits below m0.

    TFLite may compute round(acc * real) in double. 31 bits of M0 would differ beside some ties;
    the exact product does not. That is proven here: both functions are monotone, so comparing them
    around every tie that an 8-bit result can show, for acc in [low, high], compares all of them.
    Raises QgenError if they differ, which takes a tie closer than 2**-44.
    """
    if quantize_multiplier(real).m0 == 0:
        return Multiplier(0, 0), 0
    fraction, shift = math.frexp(real)
    m0, m1 = divmod(int(fraction * 2.0**53), 1 << LOW_BITS)
    ties = (np.arange(-512, 512) + 0.5) / real
    beside = np.unique(np.floor(ties)[:, None] + np.arange(-1, 3))
    acc = beside[(beside >= low) & (beside <= high)].astype(np.int64)
    product = acc * real
    expected = np.copysign(np.floor(np.abs(product) + 0.5), product)
    if not np.array_equal(requantize(acc, m0, shift, Rounding.NEAREST, m1), expected):
        raise QgenError(f"multiplier {real} meets a tie that double precision cannot tell")
    return Multiplier(m0, shift), m1


def float32(value: float | np.float32) -> float:
    """Round to single precision, where TFLite computes a scale in float."""
    return float(np.float32(value))


def round_half_away(value: float) -> int:
    """Nearest integer, ties away from zero (C's roundf)."""
    return int(math.copysign(math.floor(abs(value) + 0.5), value))


def quantize_value(real: float, scale: float, zero: int) -> int:
    """q = Z + round(r / S) with the division in single precision, eq. (1) solved for q."""
    return zero + round_half_away(float32(np.float32(real) / np.float32(scale)))


def activation_range(act: Activation, quant: QParams, dtype: DType) -> tuple[int, int]:
    """Clamp bounds of a fused activation in quantized units (section 2.4)."""
    low, high = act.real_range
    scale = quant.scale[0]
    lo, hi = quant.limits(dtype)
    lo = lo if low is None else max(lo, quantize_value(low, scale, quant.zero))
    hi = hi if high is None else min(hi, quantize_value(high, scale, quant.zero))
    if lo > hi:
        raise QgenError(
            f"activation {act.value} leaves no value of scale {scale}, zero {quant.zero}"
        )
    return lo, hi


class Elementary(Protocol):
    """What rounding needs of an array library: numpy has it, torch has it."""

    def abs(self, x: Any, /) -> Any: ...
    def add(self, x: Any, y: Any, /, *, out: Any) -> Any: ...
    def floor(self, x: Any, /, *, out: Any) -> Any: ...
    def copysign(self, x: Any, y: Any, /, *, out: Any) -> Any: ...


def round_all(values: Any, xp: Elementary) -> Any:
    """`round_half_away` of every element of a float array; `xp` is numpy or torch."""
    y = xp.abs(values)
    xp.add(y, 0.5, out=y)
    xp.floor(y, out=y)
    return xp.copysign(y, values, out=y)


def nudge(low: float, high: float, levels: tuple[int, int]) -> tuple[float, int]:
    """(Q21) Scale and zero point, eq. (13), of [low, high], widened to hold 0 and moved to hit it.

    `levels` are the smallest and largest integer; the scale is s(a, b, n) in single precision.
    Raises QgenError for a range without extent or one that is not finite.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    scale = float32((high - low) / (levels[1] - levels[0]))
    if not (math.isfinite(scale) and scale > 0.0):
        raise QgenError(f"range [{low}, {high}] has no scale")
    zero = round_half_away(levels[0] - low / scale)
    return scale, min(max(zero, levels[0]), levels[1])


def logistic_real(x: float) -> float:
    """1 / (1 + exp(-x)) as C computes it in single precision: every step rounds."""
    one = np.float32(1.0)
    # Beyond 80 the exponential is past all precision; the bound keeps it finite.
    return float(one / (one + np.float32(math.exp(min(-x, 80.0)))))


def tanh_real(x: float) -> float:
    """tanh(x) as C libraries compute it in single precision, through exp(2x) - 1."""
    two = np.float32(2.0)
    if abs(x) >= 1.0:
        t = np.float32(math.expm1(min(2.0 * abs(x), 80.0)))
        magnitude = np.float32(1.0) - two / (t + two)
    else:
        t = np.float32(math.expm1(-2.0 * abs(x)))
        magnitude = -t / (t + two)
    return math.copysign(float(magnitude), x)


def function_table(
    function: Callable[[float], float], x: QParams, x_type: DType, y: QParams, y_type: DType
) -> Array:
    """(Q13) A real function of one 8-bit value as 256 results, in order of x.

    All steps round to single precision in the order of TFLite's reference tables.
    """
    one = np.float32(1.0)
    values = np.arange(x_type.min, x_type.max + 1, dtype=np.float32) - np.float32(x.zero)
    reals = np.float32(x.scale[0]) * values
    results = np.array([function(float(r)) for r in reals], np.float32)
    scaled = results * (one / np.float32(y.scale[0]))
    rounded = [round_half_away(float(s)) + y.zero for s in scaled]
    return saturate(np.array(rounded, np.int64), y_type.min, y_type.max, y_type)


def affine_table(x: QParams, x_type: DType, y: QParams, y_type: DType) -> Array:
    """(Q13a) One 8-bit value rescaled from `x` to `y`, as 256 results in order of x.

    All steps round to single precision in the order of TFLite's concatenation of uint8.
    """
    scale = np.float32(x.scale[0]) * (np.float32(1.0) / np.float32(y.scale[0]))
    bias = np.float32(-x.zero) * scale
    reals = np.arange(x_type.min, x_type.max + 1, dtype=np.float32) * scale + bias
    rounded = [round_half_away(float(r)) + y.zero for r in reals]
    return saturate(np.array(rounded, np.int64), y_type.min, y_type.max, y_type)


# -- rounding ------------------------------------------------------------------------------------


def wrap32(x: Array) -> Array:
    """Two's complement wrap to 32 bits, carried in int64."""
    return x.astype(np.int32).astype(np.int64)


def saturate(x: Array, low: int, high: int, dtype: DType) -> Array:
    """Clamp to [low, high] and narrow to `dtype`."""
    return np.clip(x, low, high).astype(dtype.numpy)


def rounding_doubling_high_mul(a: Array, b: Array | int) -> Array:
    """(Q3a) SQRDMULH: round(a*b / 2**31), ties up, saturating only INT32_MIN**2."""
    high: Array = (np.asarray(a, np.int64) * b + (1 << 30)) >> 31
    return np.minimum(high, INT32_MAX)


def rounding_right_shift(x: Array, exponent: Array | int) -> Array:
    """(Q3b) round(x / 2**exponent), ties away from zero, for exponent >= 0.

    The subtraction for negative x is the fix-up of Appendix B: RSHL alone breaks ties upward.
    """
    e = np.asarray(exponent, np.int64)
    half = (np.int64(1) << e) >> 1
    fixup = (x >> 63) & -np.sign(e)
    shifted: Array = (x + fixup + half) >> e
    return shifted


def requantize(
    acc: Array, m0: Array | int, shift: Array | int, rounding: Rounding, m1: Array | int = 0
) -> Array:
    """Multiply int32 values by real multipliers ``m0 * 2**(shift-31)``.

    Args:
        acc: int32 values in any integer array.
        m0, shift: scalars, or arrays broadcast against `acc` (per channel: its last axis).
        rounding: GEMMLOWP is (Q3): left shift, SQRDMULH, rounding right shift. SINGLE and NEAREST
            are (Q4): the exact product rounded once, ties up or away from zero, saturated.
        m1: for NEAREST, LOW_BITS more bits of the multiplier below m0.

    Returns: int64 array of int32 values.
    """
    x = np.asarray(acc, np.int64)
    s = np.asarray(shift, np.int64)
    if rounding is not Rounding.GEMMLOWP:
        total, high = 31 - s, x * m0
        if rounding is Rounding.NEAREST:
            low = x * m1
            high = high + (low >> LOW_BITS)
            # A tie is a tie only if nothing is left below; then it moves away from zero.
            high = high - ((high < 0) & (low % (1 << LOW_BITS) == 0))
        rounded: Array = (high + (np.int64(1) << (total - 1))) >> total
        return np.clip(rounded, INT32_MIN, INT32_MAX)
    if np.any(s > 0):
        x = wrap32(x << np.maximum(s, 0))
    return rounding_right_shift(rounding_doubling_high_mul(x, m0), np.maximum(-s, 0))


def divide_rounding(total: Array, count: Array | int, ties_away: bool) -> Array:
    """(Q2a) total / count to nearest; ties away from zero, or upward."""
    half = np.asarray(count, np.int64) // 2
    if not ties_away:
        return np.asarray((total + half) // count)
    return np.asarray(np.sign(total) * ((np.abs(total) + half) // count))


# -- fixed-point functions (A.1) -----------------------------------------------------------------
# A raw value r with i integer bits stands for r / 2**(31 - i).


def _constant(value: float, integer_bits: int = 0) -> int:
    return min(math.floor(value * 2.0 ** (31 - integer_bits) + 0.5), INT32_MAX)


def _mul(a: Array, b: Array | int) -> Array:
    return rounding_doubling_high_mul(a, b)


def _shift_left_saturating(x: Array, bits: int) -> Array:
    shifted: Array = x << bits
    return np.clip(shifted, INT32_MIN, INT32_MAX)


EXP_MINUS_EIGHTH = _constant(math.exp(-1 / 8))
ONE_THIRD = _constant(1 / 3)
NEWTON_48_17 = _constant(48 / 17, 2)
NEWTON_32_17 = -_constant(32 / 17, 2)


def exp_steps(integer_bits: int) -> list[tuple[int, int]]:
    """(bit, exp(-2**k)) of the barrel shifter, k from -2 to integer_bits - 1."""
    fractional = 31 - integer_bits
    return [
        (1 << (fractional + k), _constant(math.exp(-(2.0**k)))) for k in range(-2, integer_bits)
    ]


def exp_negative(a: Array, integer_bits: int) -> Array:
    """(Q8) exp(a) for a <= 0 with `integer_bits` (at most 5) -> raw value with 0 integer bits.

    a = -(multiple of 1/4) + (rest in [-1/4, 0)): a fourth-order Taylor polynomial around -1/8
    gives the rest, one multiplication per set bit the multiple.
    """
    a = np.asarray(a, np.int64)
    quarter = 1 << (31 - integer_bits - 2)
    rest = (a & (quarter - 1)) - quarter
    x = _shift_left_saturating(rest, integer_bits) + (1 << 28)
    x2 = _mul(x, x)
    x3 = _mul(x2, x)
    x4_over_4 = rounding_right_shift(_mul(x2, x2), 2)
    tail = rounding_right_shift(_mul(x4_over_4 + x3, ONE_THIRD) + x2, 1)
    result = EXP_MINUS_EIGHTH + _mul(x + tail, EXP_MINUS_EIGHTH)
    multiple = rest - a
    for bit, factor in exp_steps(integer_bits):
        result = np.where(multiple & bit, _mul(result, factor), result)
    return np.where(a == 0, INT32_MAX, result)


def _newton_reciprocal(half_denominator: Array) -> Array:
    """1 / d for d in [1/2, 1], raw with 2 integer bits, by three Newton-Raphson steps (Q9)."""
    x = NEWTON_48_17 + _mul(half_denominator, NEWTON_32_17)
    for _ in range(3):
        error = (1 << 29) - _mul(half_denominator, x)
        x = x + _shift_left_saturating(_mul(x, error), 2)
    return x


def _half_sum_with_one(a: Array) -> Array:
    total = a + INT32_MAX
    half: Array = np.sign(total) * ((np.abs(total) + 1) >> 1)
    return half


def one_over_one_plus(a: Array) -> Array:
    """(Q9) 1 / (1 + a) for a in [0, 1], raw values with 0 integer bits."""
    return _shift_left_saturating(_newton_reciprocal(_half_sum_with_one(a)), 1)


def logistic(a: Array, integer_bits: int) -> Array:
    """(Q10) 1 / (1 + exp(-a)), raw with `integer_bits` -> raw with 0 integer bits."""
    a = np.asarray(a, np.int64)
    positive = one_over_one_plus(exp_negative(-np.abs(a), integer_bits))
    value = np.where(a > 0, positive, INT32_MAX - positive)
    return np.where(a == 0, 1 << 30, value)


def tanh(a: Array, integer_bits: int) -> Array:
    """(Q11) tanh(a) = (1 - e) / (1 + e) with e = exp(-2|a|), raw -> raw with 0 integer bits."""
    a = np.asarray(a, np.int64)
    # Doubling a value is the same raw number read with one more integer bit.
    e = exp_negative(-np.abs(a), integer_bits + 1)
    x = _newton_reciprocal(_half_sum_with_one(e))
    magnitude = _shift_left_saturating(x - (1 << 29), 2)
    return np.where(a == 0, 0, np.where(a < 0, -magnitude, magnitude))


def reciprocal(x: Array, integer_bits: int) -> tuple[Array, Array]:
    """(Q12) 1 / x of a positive raw value: (raw with 0 integer bits, bits over unit)."""
    x = np.asarray(x, np.int64)
    headroom = 32 - (np.floor(np.log2(x.astype(np.float64))).astype(np.int64) + 1)
    fraction = (x << headroom) - (1 << 31)
    return one_over_one_plus(fraction), integer_bits - headroom


def input_radius(integer_bits: int, shift: int) -> int:
    """Largest |q - Z| whose rescaled value still has `integer_bits`; beyond it the op saturates.

    At most INT32_MAX, which no difference of 8-bit values reaches.
    """
    radius = math.floor(((1 << integer_bits) - 1) * 2.0 ** (31 - integer_bits) / 2.0**shift)
    return min(radius, INT32_MAX)
