"""What resize_bilinear and resize_nearest share: an image, a new size, and where a result looks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from qgen.errors import QgenError
from qgen.ir.linear import EIGHT_BIT
from qgen.ir.op import Op
from qgen.ir.types import Tensor


@dataclass(frozen=True, eq=False, kw_only=True)
class Resize(Op):
    """x [N, H, W, C] as out [N, OH, OW, C]; its new size is that of `out`.

    Attributes:
        align_corners: the corners of both images lie on each other.
        half_pixel_centers: a pixel's value lies in its middle instead of its corner.
    """

    SAME_STORAGE: ClassVar[bool] = True

    x: Tensor
    align_corners: bool = False
    half_pixel_centers: bool = False

    def check(self) -> None:
        if self.x.dtype not in EIGHT_BIT:
            raise QgenError(f"needs u8 or i8 input, got {self.x.dtype.value}")
        if not self.x.type.same_meaning(self.out.type):
            raise QgenError("input and output must have the same type and quantization")
        if len(self.x.shape) != 4 or len(self.out.shape) != 4:
            raise QgenError(f"needs [N, H, W, C], got {list(self.x.shape)}")
        if self.align_corners and self.half_pixel_centers:
            raise QgenError("align_corners and half_pixel_centers exclude each other")

    def infer(self) -> tuple[int, ...]:
        n, _, _, c = self.x.shape
        return (n, *self.out.shape[1:3], c)

    def channelwise(self) -> tuple[Tensor, ...]:
        return (self.x,)

    def axes(self) -> Iterator[tuple[int, int]]:
        """(size, new size) of height and of width."""
        yield from zip(self.x.shape[1:3], self.out.shape[1:3], strict=True)
