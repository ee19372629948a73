"""reshape: the same elements in another shape; costs nothing in the generated code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qgen.errors import QgenError
from qgen.ir.op import Cost, Env, Op, register
from qgen.ir.types import Array, Tensor


@register
@dataclass(frozen=True, eq=False, kw_only=True)
class Reshape(Op):
    """y = x with the shape of the result; row-major order is kept. Source: TFLite RESHAPE."""

    NAME = "reshape"
    SAME_STORAGE: ClassVar[bool] = True
    IN_PLACE: ClassVar[tuple[str, ...]] = ("x",)

    x: Tensor

    def check(self) -> None:
        if not self.x.type.same_meaning(self.out.type):
            raise QgenError("input and output must have the same type and quantization")
        if self.x.type.elements != self.out.type.elements:
            raise QgenError(f"cannot turn {list(self.x.shape)} into {list(self.out.shape)}")

    def infer(self) -> tuple[int, ...]:
        return self.out.shape

    def channelwise(self) -> tuple[Tensor, ...]:
        return (self.x,) if self.x.shape[-1:] == self.out.shape[-1:] else ()

    def reach(self) -> None:
        return None

    def eval(self, env: Env) -> Array:
        return env(self.x).reshape(self.out.shape)

    def cost(self) -> Cost:
        return Cost()
