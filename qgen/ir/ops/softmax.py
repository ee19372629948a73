"""softmax: exp(x) / sum(exp(x)) along the last axis, in fixed point (A.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qgen.errors import QgenError
from qgen.ir.linear import EIGHT_BIT
from qgen.ir.numerics import (
    Multiplier,
    exp_negative,
    input_radius,
    quantize_multiplier,
    reciprocal,
    requantize,
    rounding_doubling_high_mul,
    rounding_right_shift,
    saturate,
)
from qgen.ir.op import Env, Op, register
from qgen.ir.types import Array, Tensor

# Integer bits of the scaled difference x - max(x), and of the sum of exponentials.
DIFFERENCE_BITS = 5
SUM_BITS = 12
LONGEST_ROW = (1 << SUM_BITS) - 1


@register
@dataclass(frozen=True, eq=False, kw_only=True)
class Softmax(Op):
    """y = sat(Z_y + 256 * exp(beta * r) / sum(exp(beta * r))), r = S_x * (x - max(x))  (Q12)

    The result has scale 1/256 and its zero point at the type's minimum. After `legalize`: m_x
    brings x - max(x) to 5 integer bits; below `diff_min` the exponential counts as zero.
    Source: paper A.1; TFLite SOFTMAX.
    """

    NAME = "softmax"
    INTEGER: ClassVar[tuple[str, ...]] = ("m_x", "diff_min")
    REAL: ClassVar[tuple[str, ...]] = ("beta",)
    IN_PLACE: ClassVar[tuple[str, ...]] = ("x",)

    x: Tensor
    beta: float = 1.0
    m_x: Multiplier | None = None
    diff_min: int | None = None

    def check(self) -> None:
        if self.x.dtype not in EIGHT_BIT or self.out.dtype not in EIGHT_BIT:
            raise QgenError(f"needs u8 or i8 input, got {self.x.dtype.value}")
        q = self.out.type.quant
        if q is None or q.zero != self.out.dtype.min or (q.scale and q.scale != (1 / 256,)):
            raise QgenError(
                f"the result must have scale {1 / 256} and zero point {self.out.dtype.min}"
            )
        if not self.x.shape or self.x.shape[-1] > LONGEST_ROW:
            raise QgenError(f"rows of {list(self.x.shape)[-1:]} exceed {LONGEST_ROW} elements")

    def infer(self) -> tuple[int, ...]:
        return self.x.shape

    def legalize(self) -> Softmax:
        widest = 2.0**31 - 1.0
        real = min(self.beta * self.x.type.scale * 2.0 ** (31 - DIFFERENCE_BITS), widest)
        m_x = quantize_multiplier(real)
        diff_min = -input_radius(DIFFERENCE_BITS, m_x.shift)
        return self.replace(m_x=m_x, diff_min=diff_min, beta=1.0)

    def eval(self, env: Env) -> Array:
        assert self.m_x and self.diff_min is not None
        x = env(self.x).astype(np.int64)
        diff = x - x.max(axis=-1, keepdims=True)
        counts = diff >= self.diff_min
        raw = requantize(np.where(counts, diff, 0), *self.m_x, env.rounding)
        exp = np.where(counts, exp_negative(raw, DIFFERENCE_BITS), 0)
        total = rounding_right_shift(exp, SUM_BITS).sum(axis=-1, keepdims=True)
        scale, over_unit = reciprocal(total, SUM_BITS)
        product = rounding_doubling_high_mul(exp, scale)
        y = rounding_right_shift(product, over_unit + 31 - 8) + self.out.dtype.min
        return saturate(
            np.where(counts, y, self.out.dtype.min),
            self.out.dtype.min,
            self.out.dtype.max,
            self.out.dtype,
        )

    def adversarial(self, rng: np.random.Generator) -> list[Array]:
        """All equal: the sum of exponentials reaches its bound."""
        return [np.full(self.x.shape, self.x.dtype.max, self.x.dtype.numpy)]
