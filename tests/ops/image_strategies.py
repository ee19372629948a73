"""Random ops on images that have no weights: pooling, reduction, resizing."""

from __future__ import annotations

from collections.abc import Callable

from qgen.ir.op import Op
from qgen.ir.ops.mean import Mean
from qgen.ir.ops.resize_bilinear import ResizeBilinear
from qgen.ir.ops.resize_nearest import ResizeNearest
from qgen.ir.types import DType
from tests.ops.building import built, window
from tests.ops.draw import Draw


def pool(cls: type[Op]) -> Callable[[Draw], Op]:
    def draw(d: Draw) -> Op:
        kernel, attributes, size = window(d, 4)
        del attributes["dilation"]
        x = d.tensor("x", d.dtype(), (d.integer(1, 2), *size, d.channels()))
        return built(
            cls, d, x.dtype, None, x=x, kernel=kernel, activation=d.activation(), **attributes
        )

    return draw


def mean(d: Draw) -> Op:
    # Long dimensions leave int16 lanes: 256 values fit, and 128 vectors of pairs.
    long = d.choose(((300, d.channels()), (3, 257, 2, 16), (2, 2100), (256, 40), (1, 4, 2064)))
    shape = d.choose((d.shape(), d.shape(), (1, 7, 7, d.channels()), long))
    x = d.tensor("x", d.dtype(), shape)
    axes = tuple(i for i in range(len(x.shape)) if d.chance(0.5)) or (len(x.shape) - 1,)
    scale = x.type.scale * (d.log(-6, 12) if d.chance(0.3) else d.log(-1, 1))
    return built(Mean, d, d.like(x.dtype), scale, x=x, axes=axes, keep_dims=d.chance(0.5))


def resize_nearest(d: Draw) -> Op:
    aligned, centers = d.choose(((False, False), (True, False), (False, True)))
    channels = d.integer(257, 300) if d.chance(0.1) else d.channels()
    x = d.tensor("x", d.dtype(), (d.integer(1, 2), d.integer(1, 9), d.integer(1, 9), channels))
    shape = (x.shape[0], d.integer(1, 20), d.integer(1, 20), x.shape[3])
    return ResizeNearest(
        x=x, align_corners=aligned, half_pixel_centers=centers,
        out=d.tensor("y", x.dtype, shape, x.type.quant), loc=d.loc,
    )  # fmt: skip


def resize_bilinear(d: Draw) -> Op:
    kind = d.dtype()
    aligned, centers = d.choose(((False, False), (True, False), (False, True)))
    x = d.tensor("x", kind, (d.integer(1, 2), d.integer(1, 9), d.integer(1, 9), d.channels()))
    # What uint8 can be resized to exactly.
    size = [
        d.integer(1, 20) if kind is DType.I8
        else (n - aligned) * (1 << d.integer(0, 3)) + aligned
        for n in x.shape[1:3]
    ]  # fmt: skip
    out = d.tensor("y", kind, (x.shape[0], *size, x.shape[3]), x.type.quant)
    return ResizeBilinear(
        x=x, align_corners=aligned, half_pixel_centers=centers, out=out, loc=d.loc
    )
