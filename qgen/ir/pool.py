"""What average_pool2d and max_pool2d share: a window, equal quantization in and out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from qgen.errors import QgenError
from qgen.ir.linear import EIGHT_BIT
from qgen.ir.numerics import activation_range
from qgen.ir.op import Cost, Op, OpT, Reach
from qgen.ir.types import Activation, Padding, Tensor
from qgen.ir.windows import Pads, Window, window


@dataclass(frozen=True, eq=False, kw_only=True)
class Pool(Op):
    """Base of pooling ops. Shapes: x [N, H, W, C], result [N, OH, OW, C]."""

    INTEGER: ClassVar[tuple[str, ...]] = ("clamp",)
    REAL: ClassVar[tuple[str, ...]] = ("activation",)
    SAME_STORAGE: ClassVar[bool] = True

    x: Tensor
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: Padding | Pads = Padding.VALID
    activation: Activation = Activation.NONE
    clamp: tuple[int, int] | None = None

    @property
    def window(self) -> Window:
        return window(self.x.shape, self.kernel, self.stride, (1, 1), self.padding)

    def check(self) -> None:
        if self.x.dtype not in EIGHT_BIT:
            raise QgenError(f"needs u8 or i8 input, got {self.x.dtype.value}")
        if not self.x.type.same_meaning(self.out.type):
            raise QgenError("input and output must have the same scale and zero point")
        win = self.window
        for axis in (win.h, win.w):
            last = (axis.out - 1) * axis.stride - axis.before
            if axis.before >= axis.kernel or last >= axis.size:
                raise QgenError("a window lies in the padding alone")

    def channelwise(self) -> tuple[Tensor, ...]:
        return (self.x,)

    def reach(self) -> Mapping[Tensor, Reach] | None:
        return self.window.reach(self.x)

    def infer(self) -> tuple[int, ...]:
        win = self.window
        return (self.x.shape[0], win.h.out, win.w.out, self.x.shape[3])

    def legalize(self: OpT) -> OpT:
        assert isinstance(self, Pool)
        y = self.out.type
        if not y.quant:
            raise QgenError("output needs quantization parameters", self.loc)
        clamp = activation_range(self.activation, y.quant, y.dtype)
        return self.replace(clamp=clamp, activation=Activation.NONE)

    def cost(self) -> Cost:
        return Cost(elementwise=self.out.type.elements * self.kernel[0] * self.kernel[1])
