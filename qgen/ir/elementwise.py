"""What add, sub and mul share: two operands, broadcasting, operands rescaled apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qgen.errors import QgenError
from qgen.ir.linear import EIGHT_BIT
from qgen.ir.op import Op
from qgen.ir.types import Activation, Tensor


@dataclass(frozen=True, eq=False, kw_only=True)
class Binary(Op):
    """Base of element-wise ops on two tensors, broadcast as numpy does.

    After `legalize`: clamp, the inclusive output range, and the multipliers of the op.
    """

    REAL: ClassVar[tuple[str, ...]] = ("activation",)
    IN_PLACE: ClassVar[tuple[str, ...]] = ("a", "b")

    a: Tensor
    b: Tensor
    activation: Activation = Activation.NONE
    clamp: tuple[int, int] | None = None

    def check(self) -> None:
        if self.a.dtype not in EIGHT_BIT or self.b.dtype not in EIGHT_BIT:
            raise QgenError(
                f"needs u8 or i8 operands, got {self.a.dtype.value} and {self.b.dtype.value}"
            )

    def channelwise(self) -> tuple[Tensor, ...]:
        same = self.a.shape == self.b.shape and self.a.data is None and self.b.data is None
        return (self.a, self.b) if same else ()

    def infer(self) -> tuple[int, ...]:
        try:
            return tuple(np.broadcast_shapes(self.a.shape, self.b.shape))
        except ValueError:
            raise QgenError(
                f"shapes {list(self.a.shape)} and {list(self.b.shape)} do not broadcast"
            ) from None
