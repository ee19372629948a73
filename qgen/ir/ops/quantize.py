"""quantize: move a tensor to another scale, zero point or 8-bit type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qgen.errors import QgenError
from qgen.ir.linear import EIGHT_BIT
from qgen.ir.numerics import Multiplier, quantize_multiplier, requantize, saturate
from qgen.ir.op import Env, Op, register
from qgen.ir.types import Array, Tensor


@register
@dataclass(frozen=True, eq=False, kw_only=True)
class Quantize(Op):
    """y = sat(Z_y + M * (x - Z_x)) with M = S_x / S_y. Source: TFLite QUANTIZE (requantize)."""

    NAME = "quantize"
    INTEGER: ClassVar[tuple[str, ...]] = ("m_y",)
    IN_PLACE: ClassVar[tuple[str, ...]] = ("x",)

    x: Tensor
    m_y: Multiplier | None = None

    def check(self) -> None:
        if self.x.dtype not in EIGHT_BIT or self.out.dtype not in EIGHT_BIT:
            raise QgenError(
                f"needs u8 or i8 on both sides, got {self.x.dtype.value} and {self.out.dtype.value}"
            )

    def infer(self) -> tuple[int, ...]:
        return self.x.shape

    def channelwise(self) -> tuple[Tensor, ...]:
        return (self.x,)

    def legalize(self) -> Quantize:
        return self.replace(m_y=quantize_multiplier(self.x.type.scale / self.out.type.scale))

    def eval(self, env: Env) -> Array:
        assert self.m_y
        y = requantize(env(self.x).astype(np.int64) - self.x.zero, *self.m_y, env.rounding)
        return saturate(y + self.out.zero, self.out.dtype.min, self.out.dtype.max, self.out.dtype)
