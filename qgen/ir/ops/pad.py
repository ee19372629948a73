"""pad: a constant border around a tensor of any rank."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from qgen.errors import QgenError
from qgen.ir.op import Env, Op, register
from qgen.ir.types import Array, Tensor


@register
@dataclass(frozen=True, eq=False, kw_only=True)
class Pad(Op):
    """y = x with `amounts[d] = (before, after)` elements of `value` along each dimension.

    `value` is a quantized value; None means the zero point, real 0. Source: TFLite PAD, PADV2.
    """

    NAME = "pad"
    SAME_STORAGE: ClassVar[bool] = True

    x: Tensor
    amounts: tuple[tuple[int, int], ...]
    value: int | None = None

    def check(self) -> None:
        if not self.x.type.same_meaning(self.out.type):
            raise QgenError("input and output must have the same type and quantization")
        if len(self.amounts) != len(self.x.shape) or any(min(a) < 0 for a in self.amounts):
            raise QgenError(f"amounts {self.amounts} do not fit {list(self.x.shape)}")
        if not self.x.dtype.min <= self.fill <= self.x.dtype.max:
            raise QgenError(f"value {self.fill} is outside {self.x.dtype.value}")

    @property
    def fill(self) -> int:
        """The quantized value of the border."""
        return self.x.zero if self.value is None else self.value

    def infer(self) -> tuple[int, ...]:
        return tuple(d + b + a for d, (b, a) in zip(self.x.shape, self.amounts, strict=True))

    def channelwise(self) -> tuple[Tensor, ...]:
        return (self.x,) if self.amounts and self.amounts[-1] == (0, 0) else ()

    def eval(self, env: Env) -> Array:
        return np.pad(env(self.x), self.amounts, constant_values=self.fill)

    def shifted(self, offset: int) -> dict[str, Any]:
        return {} if self.value is None else {"value": self.value + offset}
