"""lookup: a function of one 8-bit value as a table of its 256 results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from qgen.errors import QgenError
from qgen.ir.linear import EIGHT_BIT
from qgen.ir.op import Env, Op, register
from qgen.ir.types import Array, DType, Tensor, TensorType


@register
@dataclass(frozen=True, eq=False, kw_only=True)
class Lookup(Op):
    """y = table[x - min(x's type)], exact for any function. table [256] has the result's type.

    It exists for models whose reference kernel is a table; see docs/quantization.md (Q13).
    """

    NAME = "lookup"
    IN_PLACE: ClassVar[tuple[str, ...]] = ("x",)

    x: Tensor
    table: Tensor

    def check(self) -> None:
        if self.x.dtype not in EIGHT_BIT or self.out.dtype not in EIGHT_BIT:
            raise QgenError("needs u8 or i8 on both sides")
        if self.table.data is None or self.table.shape != (256,):
            raise QgenError("table must be a constant of 256 values")
        if self.table.dtype is not self.out.dtype:
            raise QgenError(f"table must be {self.out.dtype.value} like the result")

    def shifted(self, offset: int) -> dict[str, Any]:
        values = (self.table.const.astype(np.int64) + offset).astype(np.int8)
        kind = TensorType(DType.I8, self.table.shape)
        return {"table": Tensor(self.table.name, kind, values, self.table.loc)}

    def channelwise(self) -> tuple[Tensor, ...]:
        return (self.x,)

    def infer(self) -> tuple[int, ...]:
        return self.x.shape

    def eval(self, env: Env) -> Array:
        return self.table.const[env(self.x).astype(np.int64) - self.x.dtype.min]
