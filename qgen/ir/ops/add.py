"""add: element-wise sum; both operands are rescaled onto one finer scale (A.2)."""

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
from qgen.ir.types import Array, Rounding, Tensor

# Operands are shifted left by this many bits before they are rescaled, so that the rescaling loses
# nothing that an 8-bit result could show; TFLite's constant.
HEADROOM = 20


@register
@dataclass(frozen=True, eq=False, kw_only=True)
class Add(Binary):
    """y = clamp(Z_y + M_y * (M_a * 2^20 * (a - Z_a) + M_b * 2^20 * (b - Z_b)))   (Q6)

    with M_a = S_a / 2T, M_b = S_b / 2T, M_y = 2T / (2^20 * S_y), T = max(S_a, S_b).
    Source: paper A.2; TFLite ADD.
    """

    NAME = "add"
    INTEGER: ClassVar[tuple[str, ...]] = ("clamp", "m_a", "m_b", "m_y")
    SIGN: ClassVar[int] = 1

    m_a: Multiplier | None = None
    m_b: Multiplier | None = None
    m_y: Multiplier | None = None

    def legalize(self) -> Add:
        a, b, y = self.a.type, self.b.type, self.out.type
        twice_widest = 2.0 * max(a.scale, b.scale)
        assert y.quant
        return self.replace(
            m_a=quantize_multiplier(a.scale / twice_widest),
            m_b=quantize_multiplier(b.scale / twice_widest),
            m_y=quantize_multiplier(twice_widest / ((1 << HEADROOM) * y.scale)),
            clamp=activation_range(self.activation, y.quant, y.dtype),
            activation=type(self.activation).NONE,
        )

    def eval(self, env: Env) -> Array:
        assert self.m_a and self.m_b and self.m_y and self.clamp

        def rescaled(t: Tensor, m: Multiplier, rounding: Rounding) -> Array:
            return requantize((env(t).astype(np.int64) - t.zero) << HEADROOM, *m, rounding)

        a, b = rescaled(self.a, self.m_a, env.rounding), rescaled(self.b, self.m_b, env.rounding)
        y = requantize(a + self.SIGN * b, *self.m_y, env.rounding)
        return saturate(y + self.out.zero, *self.clamp, self.out.dtype)
