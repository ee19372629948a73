"""concat: tensors side by side; equal parameters make it lossless (A.3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qgen.errors import QgenError
from qgen.ir.op import Env, Op, Reach, register
from qgen.ir.types import Array, Tensor


@register
@dataclass(frozen=True, eq=False, kw_only=True)
class Concat(Op):
    """y = x0, x1, ... along `axis`; all parameters equal. Source: paper A.3; TFLite CONCATENATION.

    Operands with other parameters are requantized first, by an op of their own.
    """

    NAME = "concat"
    SAME_STORAGE: ClassVar[bool] = True

    x: tuple[Tensor, ...]
    axis: int

    def check(self) -> None:
        if not self.x:
            raise QgenError("needs at least one operand")
        first = self.x[0]
        if not 0 <= self.axis < len(first.shape):
            raise QgenError(f"axis {self.axis} does not exist in {list(first.shape)}")
        for t in self.x:
            if not t.type.same_meaning(self.out.type):
                raise QgenError(
                    f"operand '{t.name}' differs from the result in type or quantization",
                    hint="put a quantize op in front of it",
                )
            if (
                len(t.shape) != len(first.shape)
                or t.shape[: self.axis] != first.shape[: self.axis]
                or t.shape[self.axis + 1 :] != first.shape[self.axis + 1 :]
            ):
                raise QgenError(f"operand '{t.name}' {list(t.shape)} does not line up")

    def infer(self) -> tuple[int, ...]:
        shape = list(self.x[0].shape)
        shape[self.axis] = sum(t.shape[self.axis] for t in self.x)
        return tuple(shape)

    def reach(self) -> Mapping[Tensor, Reach] | None:
        image = len(self.out.shape) == 4 and self.out.shape[0] == 1
        if not image or self.axis < 2 or self.constants():
            return None
        return dict.fromkeys(self.x, Reach())

    def eval(self, env: Env) -> Array:
        return np.concatenate([env(t) for t in self.x], axis=self.axis)
