"""mul: element-wise product."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qgen.ir.elementwise import Binary
from qgen.ir.numerics import (
    Multiplier,
    activation_range,
    quantize_multiplier,
    requantize,
    saturate,
)
from qgen.ir.op import Env, register
from qgen.ir.types import Array


@register
@dataclass(frozen=True, eq=False, kw_only=True)
class Mul(Binary):
    """y = clamp(Z_y + M * (a - Z_a) * (b - Z_b)) with M = S_a * S_b / S_y, eq. (4) for N = 1.

    M is computed in single precision, as TFLite MUL does.
    """

    NAME = "mul"
    INTEGER: ClassVar[tuple[str, ...]] = ("clamp", "m_y")

    m_y: Multiplier | None = None

    def legalize(self) -> Mul:
        y = self.out.type
        assert y.quant
        a, b, c = (np.float32(t.scale) for t in (self.a.type, self.b.type, y))
        return self.replace(
            m_y=quantize_multiplier(float(a * b / c)),
            clamp=activation_range(self.activation, y.quant, y.dtype),
            activation=type(self.activation).NONE,
        )

    def eval(self, env: Env) -> Array:
        assert self.m_y and self.clamp
        a = env(self.a).astype(np.int64) - self.a.zero
        b = env(self.b).astype(np.int64) - self.b.zero
        y = requantize(a * b, *self.m_y, env.rounding)
        return saturate(y + self.out.zero, *self.clamp, self.out.dtype)
