"""slice: a box of a tensor; costs nothing where the box lies in one piece in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qgen.errors import QgenError
from qgen.ir.op import Cost, Env, Op, register
from qgen.ir.types import Array, Tensor


@register
@dataclass(frozen=True, eq=False, kw_only=True)
class Slice(Op):
    """y = x[begin : begin + shape of y], along every dimension. Source: TFLite SLICE."""

    NAME = "slice"
    SAME_STORAGE: ClassVar[bool] = True

    x: Tensor
    begin: tuple[int, ...]

    def check(self) -> None:
        x, y = self.x.shape, self.out.shape
        if not self.x.type.same_meaning(self.out.type):
            raise QgenError("input and output must have the same type and quantization")
        inside = len(x) == len(y) == len(self.begin) and all(
            0 <= b <= b + m <= n for b, m, n in zip(self.begin, y, x, strict=True)
        )
        if not inside:
            raise QgenError(f"{list(y)} from {list(self.begin)} on does not lie inside {list(x)}")

    def infer(self) -> tuple[int, ...]:
        return self.out.shape

    @property
    def offset(self) -> int:
        """Elements of x in front of the first one of y."""
        at = 0
        for b, n in zip(self.begin, self.x.shape, strict=True):
            at = at * n + b
        return at

    @property
    def contiguous(self) -> bool:
        """Whether y is one run of x: nothing is cut behind the first dimension longer than 1."""
        long = [d for d, m in enumerate(self.out.shape) if m > 1]
        return not long or self.x.shape[long[0] + 1 :] == self.out.shape[long[0] + 1 :]

    def channelwise(self) -> tuple[Tensor, ...]:
        return (self.x,) if self.x.shape[-1:] == self.out.shape[-1:] else ()

    def eval(self, env: Env) -> Array:
        box = (slice(b, b + m) for b, m in zip(self.begin, self.out.shape, strict=True))
        return env(self.x)[tuple(box)]

    def cost(self) -> Cost:
        return Cost()
