"""Golden's arithmetic written again, slowly: Python integers, fractions and nested loops."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np

from qgen.ir.op import Op
from qgen.ir.ops.conv2d import Conv2D
from qgen.ir.ops.depthwise_conv2d import DepthwiseConv2D
from qgen.ir.types import Array, Padding, Rounding
from qgen.ir.windows import Pads

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1


def clip32(value: int) -> int:
    return min(max(value, INT32_MIN), INT32_MAX)


def wrap32(value: int) -> int:
    return (value + 2**31) % 2**32 - 2**31


def round_half_away(value: Fraction) -> int:
    whole = math.floor(abs(value) + Fraction(1, 2))
    return whole if value >= 0 else -whole


def round_half_up(value: Fraction) -> int:
    return math.floor(value + Fraction(1, 2))


def high_mul(a: int, b: int) -> int:
    """gemmlowp's SaturatingRoundingDoublingHighMul: a division of C, which truncates."""
    if a == b == INT32_MIN:
        return INT32_MAX
    nudged = a * b + (2**30 if a * b >= 0 else 1 - 2**30)
    return int(Fraction(nudged, 2**31).__trunc__())


def requantize(acc: int, m0: int, shift: int, rounding: Rounding, m1: int = 0) -> int:
    """One value at a time, as (Q3) and (Q4) are written."""
    if rounding is Rounding.GEMMLOWP:
        high = high_mul(wrap32(acc << max(shift, 0)), m0)
        return round_half_away(Fraction(high, 1 << max(-shift, 0)))
    scale = Fraction(m0, 1) * Fraction(2) ** (shift - 31)
    if rounding is Rounding.SINGLE:
        return clip32(round_half_up(acc * scale))
    scale += Fraction(m1, 2**22) * Fraction(2) ** (shift - 31)
    return clip32(round_half_away(acc * scale))


def before(
    size: int, kernel: int, stride: int, dilation: int, padding: Padding | Pads, i: int
) -> int:
    """Elements of padding in front of axis `i`."""
    if isinstance(padding, Pads):
        return padding[2 * i]
    if padding is Padding.VALID:
        return 0
    outputs = -(-size // stride)
    return max((outputs - 1) * stride + (kernel - 1) * dilation + 1 - size, 0) // 2


def accumulators(op: Op, x: Array) -> Array:
    """sum((x - Zx)(w - Zw)) + b of a convolution, one product at a time; int64 [N, OH, OW, O]."""
    assert isinstance(op, Conv2D | DepthwiseConv2D)
    depthwise = isinstance(op, DepthwiseConv2D)
    _, height, width, depth = x.shape
    kernel = op.w.shape[1:3]
    top = before(height, kernel[0], op.stride[0], op.dilation[0], op.padding, 0)
    left = before(width, kernel[1], op.stride[1], op.dilation[1], op.padding, 1)
    w = op.w.const.tolist()
    pixels = x.tolist()
    total = np.zeros(op.out.shape, np.int64)
    for n, i, j, o in itertools.product(*(range(d) for d in op.out.shape)):
        acc = int(op.b.const[o]) if op.b else 0
        for kh, kw in itertools.product(range(kernel[0]), range(kernel[1])):
            r = i * op.stride[0] - top + kh * op.dilation[0]
            c = j * op.stride[1] - left + kw * op.dilation[1]
            if not (0 <= r < height and 0 <= c < width):
                continue
            if depthwise:
                channel = o // (op.out.shape[3] // depth)
                acc += (pixels[n][r][c][channel] - op.x.zero) * (w[0][kh][kw][o] - op.w.zero)
                continue
            for channel in range(depth):
                acc += (pixels[n][r][c][channel] - op.x.zero) * (w[o][kh][kw][channel] - op.w.zero)
        total[n, i, j, o] = acc
    return total
