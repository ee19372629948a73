"""What logistic and tanh share: a bounded function of one value, in fixed point or as a table."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

import numpy as np

from qgen.errors import QgenError
from qgen.ir.linear import EIGHT_BIT
from qgen.ir.numerics import (
    Multiplier,
    function_table,
    input_radius,
    quantize_multiplier,
    requantize,
    rounding_right_shift,
    saturate,
)
from qgen.ir.op import Env, Op
from qgen.ir.ops.lookup import Lookup
from qgen.ir.types import Array, Rounding, Tensor, TensorType

INTEGER_BITS = 4


class Method(Enum):
    """FIXED_POINT is the paper's arithmetic (A.1); TABLE what TFLite's reference kernels do."""

    FIXED_POINT = "fixed_point"
    TABLE = "table"


@dataclass(frozen=True, eq=False, kw_only=True)
class Sigmoid(Op):
    """y = sat(Z_y + round(2^OUTPUT_BITS * f(S_x * (x - Z_x)))), f in fixed point (Q10), (Q11).

    The result's scale is 2^-OUTPUT_BITS and its zero point fixed by its type. After `legalize`:
    m_x brings x - Z_x to 4 integer bits, and beyond `radius` the result is saturated.
    """

    INTEGER: ClassVar[tuple[str, ...]] = ("m_x", "radius")
    IN_PLACE: ClassVar[tuple[str, ...]] = ("x",)
    OUTPUT_BITS: ClassVar[int]
    UNSIGNED_ZERO: ClassVar[int]

    x: Tensor
    method: Method = Method.FIXED_POINT
    m_x: Multiplier | None = None
    radius: int | None = None

    @staticmethod
    @abstractmethod
    def real(x: float) -> float:
        """The function on real numbers."""

    @staticmethod
    @abstractmethod
    def fixed(x: Array, integer_bits: int) -> Array:
        """The function on raw fixed-point values (numerics.py)."""

    def check(self) -> None:
        if self.x.dtype not in EIGHT_BIT or self.out.dtype not in EIGHT_BIT:
            raise QgenError("needs u8 or i8 on both sides")
        if self.method is Method.FIXED_POINT and not self.fits:
            raise QgenError(
                f"the result must have scale {2.0**-self.OUTPUT_BITS} and zero point "
                f"{self.UNSIGNED_ZERO + self.out.dtype.min}"
            )

    @property
    def fits(self) -> bool:
        """The result has the quantization that the fixed-point method produces."""
        q = self.out.type.quant
        if q is None or q.zero != self.UNSIGNED_ZERO + self.out.dtype.min:
            return False
        return q.scale in ((), (2.0**-self.OUTPUT_BITS,))

    def channelwise(self) -> tuple[Tensor, ...]:
        return (self.x,)

    def infer(self) -> tuple[int, ...]:
        return self.x.shape

    def legalize(self) -> Op:
        x, y = self.x.type, self.out.type
        if self.method is Method.TABLE:
            assert x.quant and y.quant
            data = function_table(self.real, x.quant, x.dtype, y.quant, y.dtype)
            table = Tensor(f"{self.name}.table", TensorType(y.dtype, (256,)), data, self.loc)
            return Lookup(x=self.x, table=table, out=self.out, loc=self.loc)
        m_x = quantize_multiplier(x.scale * 2.0 ** (31 - INTEGER_BITS))
        return self.replace(m_x=m_x, radius=input_radius(INTEGER_BITS, m_x.shift))

    def equals_table(self, rounding: Rounding = Rounding.GEMMLOWP) -> bool:
        """Whether fixed point gives what the table holds for each of the 256 inputs.

        It nearly always does: its error is far below the steps of the result, so they differ only
        where the real function lies next to the middle between two.
        """
        every = np.arange(self.x.dtype.min, self.x.dtype.max + 1)
        fixed = self.replace(method=Method.FIXED_POINT).legalize()
        table = self.replace(method=Method.TABLE).legalize()
        assert isinstance(fixed, Sigmoid) and isinstance(table, Lookup)
        return np.array_equal(fixed.values(every, rounding), table.table.const)

    def eval(self, env: Env) -> Array:
        return self.values(env(self.x).astype(np.int64), env.rounding)

    def values(self, x: Array, rounding: Rounding) -> Array:
        """The results for inputs `x` of int64, in the type of the result."""
        assert self.m_x and self.radius is not None
        x = x - self.x.zero
        inside = np.clip(x, -self.radius, self.radius)
        raw = requantize(inside, *self.m_x, rounding)
        y = self.out.zero + rounding_right_shift(
            self.fixed(raw, INTEGER_BITS), 31 - self.OUTPUT_BITS
        )
        low, high = self.out.dtype.min, self.out.dtype.max
        y = np.where(x <= -self.radius, low, np.where(x >= self.radius, high, y))
        return saturate(y, low, high, self.out.dtype)
