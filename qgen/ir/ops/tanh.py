"""tanh: hyperbolic tangent (A.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qgen.ir import numerics
from qgen.ir.op import register
from qgen.ir.sigmoid import Sigmoid
from qgen.ir.types import Array


@register
@dataclass(frozen=True, eq=False, kw_only=True)
class Tanh(Sigmoid):
    """Result in [-1, 1): scale 1/128, zero point in the middle of the type. TFLite TANH."""

    NAME = "tanh"
    OUTPUT_BITS: ClassVar[int] = 7
    UNSIGNED_ZERO: ClassVar[int] = 128

    @staticmethod
    def real(x: float) -> float:
        return numerics.tanh_real(x)

    @staticmethod
    def fixed(x: Array, integer_bits: int) -> Array:
        return numerics.tanh(x, integer_bits)
