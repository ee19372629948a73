"""logistic: 1 / (1 + exp(-x)) (A.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qgen.ir import numerics
from qgen.ir.op import register
from qgen.ir.sigmoid import Sigmoid
from qgen.ir.types import Array


@register
@dataclass(frozen=True, eq=False, kw_only=True)
class Logistic(Sigmoid):
    """Result in [0, 1): scale 1/256, zero point at the type's minimum. TFLite LOGISTIC."""

    NAME = "logistic"
    OUTPUT_BITS: ClassVar[int] = 8
    UNSIGNED_ZERO: ClassVar[int] = 0

    @staticmethod
    def real(x: float) -> float:
        return numerics.logistic_real(x)

    @staticmethod
    def fixed(x: Array, integer_bits: int) -> Array:
        return numerics.logistic(x, integer_bits)
