"""resize_bilinear: interpolation between the four nearest pixels of an image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import numpy as np

from qgen.errors import QgenError
from qgen.ir.op import Bound, Cost, Env, Op, register
from qgen.ir.resize import Resize
from qgen.ir.types import Array, DType

WEIGHT_BITS = 10  # of a weight along one axis
UNIT = 1 << WEIGHT_BITS
FLOAT_BITS = 24  # of single precision
BYTE_BITS = 8


@dataclass(frozen=True)
class Taps:
    """Interpolation along one axis: y[i] = x[low[i]] * (1 - part[i] / 2^10) + x[high[i]] * ...

    All three have the length of the result; `part` has ten bits.
    """

    low: Array
    high: Array
    part: Array


@register
@dataclass(frozen=True, eq=False, kw_only=True)
class ResizeBilinear(Resize):
    """y = round(sum of four pixels * weight / 2^20), weights of ten bits along each axis (Q7b).

    After `legalize`: halves_up, whether halves are rounded up instead of away from zero.
    Source: TFLite RESIZE_BILINEAR.
    """

    NAME = "resize_bilinear"
    INTEGER: ClassVar[tuple[str, ...]] = ("halves_up",)

    halves_up: bool | None = None

    def check(self) -> None:
        super().check()
        if self.x.dtype is DType.U8:
            self._exact()

    def _exact(self) -> None:
        """TFLite computes uint8 in single precision: refuse what ten bits do not hold exactly."""
        parts = [
            math.lcm(*(self._place(size, out, i).denominator for i in range(out)))
            for size, out in self.axes()
        ]
        if any(UNIT % p for p in parts) or math.prod(parts) > 1 << (FLOAT_BITS - BYTE_BITS):
            raise QgenError(
                f"u8 from {self.x.shape[1]}x{self.x.shape[2]} to {self.out.shape[1]}x"
                f"{self.out.shape[2]} has weights that are no short binary fractions",
                hint="quantize the model to int8, whose weights are integers",
            )

    def legalize(self) -> Op:
        return self.replace(halves_up=self.x.dtype is DType.U8)

    def _place(self, size: int, out: int, i: int) -> Fraction:
        """Where result i lies in x, exactly."""
        aligned = self.align_corners and out > 1
        scale = Fraction(size - 1, out - 1) if aligned else Fraction(size, out)
        if self.half_pixel_centers:
            return (i + Fraction(1, 2)) * scale - Fraction(1, 2)
        return i * scale

    def taps(self) -> tuple[Taps, Taps]:
        """Of rows and of columns, in TFLite's fixed point of ten bits."""
        rows, columns = (self._taps(size, out) for size, out in self.axes())
        return rows, columns

    def _taps(self, size: int, out: int) -> Taps:
        aligned = self.align_corners and out > 1
        a, b = (size - 1, out - 1) if aligned else (size, out)
        scale = (UNIT * a + b // 2) // b
        at = np.arange(out, dtype=np.int64) * scale
        if self.half_pixel_centers:
            at += scale // 2 - UNIT // 2
        # C divides towards zero: what lies before the first pixel is at 0.
        low = np.maximum(np.trunc(at / UNIT).astype(np.int64), 0)
        high = np.minimum(np.trunc((at + UNIT - 1) / UNIT).astype(np.int64), size - 1)
        # Where both are one pixel any weights give that pixel.
        part = np.where(low == high, 0, at - low * UNIT)
        return Taps(low, high, part)

    def eval(self, env: Env) -> Array:
        rows, columns = self.taps()
        x = env(self.x).astype(np.int64)
        part = rows.part[:, None, None]
        x = x[:, rows.low] * (UNIT - part) + x[:, rows.high] * part
        part = columns.part[:, None]
        total = x[:, :, columns.low] * (UNIT - part) + x[:, :, columns.high] * part
        bits = 2 * WEIGHT_BITS
        # Halves away from zero: below it, those one less round down.
        down = (total < 0) & (not self.halves_up)
        y = (total + (1 << (bits - 1)) - down) >> bits
        return np.asarray(y, self.out.dtype.numpy)

    def bounds(self) -> Bound:
        one = 1 << (2 * WEIGHT_BITS)
        return Bound(self.x.dtype.min * one, self.x.dtype.max * one)

    def cost(self) -> Cost:
        return Cost(elementwise=6 * math.prod(self.out.shape))
