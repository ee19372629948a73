"""clamp: relu, relu6 and relu_n1_to_1 as ops of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qgen.errors import QgenError
from qgen.ir.linear import EIGHT_BIT
from qgen.ir.numerics import (
    Multiplier,
    activation_range,
    float32,
    quantize_multiplier,
    requantize,
    saturate,
)
from qgen.ir.op import Env, Op, register
from qgen.ir.types import Activation, Array, Tensor


@register
@dataclass(frozen=True, eq=False, kw_only=True)
class Clamp(Op):
    """y = clamp(Z_y + M * (x - Z_x)) with M = S_x / S_y in single precision.

    Source: paper section 2.4; TFLite RELU, RELU6, RELU_N1_TO_1.
    """

    NAME = "clamp"
    INTEGER: ClassVar[tuple[str, ...]] = ("clamp", "m_y")
    REAL: ClassVar[tuple[str, ...]] = ("activation",)
    IN_PLACE: ClassVar[tuple[str, ...]] = ("x",)

    x: Tensor
    activation: Activation = Activation.NONE
    clamp: tuple[int, int] | None = None
    m_y: Multiplier | None = None

    def check(self) -> None:
        if self.x.dtype not in EIGHT_BIT:
            raise QgenError(f"needs u8 or i8 input, got {self.x.dtype.value}")

    def infer(self) -> tuple[int, ...]:
        return self.x.shape

    def channelwise(self) -> tuple[Tensor, ...]:
        return (self.x,)

    def legalize(self) -> Clamp:
        y = self.out.type
        assert y.quant
        return self.replace(
            m_y=quantize_multiplier(float32(np.float32(self.x.type.scale) / np.float32(y.scale))),
            clamp=activation_range(self.activation, y.quant, y.dtype),
            activation=Activation.NONE,
        )

    def eval(self, env: Env) -> Array:
        assert self.m_y and self.clamp
        y = requantize(env(self.x).astype(np.int64) - self.x.zero, *self.m_y, env.rounding)
        return saturate(y + self.out.zero, *self.clamp, self.out.dtype)
