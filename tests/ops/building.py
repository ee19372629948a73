"""Parts that random ops have in common."""

from __future__ import annotations

from typing import Any

import numpy as np

from qgen.ir.op import Op
from qgen.ir.types import DType, Padding, QParams, Tensor
from qgen.ir.windows import Pads
from tests.ops.draw import Draw

KERNELS = ((1, 1), (1, 1), (1, 1), (3, 3), (3, 3), (2, 3), (1, 4), (5, 1), (2, 2), (5, 5))


def _axis(d: Draw, kernel: int, dilation: int, padding: Any, i: int) -> int:
    """A size of the image along one axis into which the window fits."""
    if padding is Padding.SAME:
        return d.integer(1, 8)
    inside = padding[2 * i] + padding[2 * i + 1] if isinstance(padding, Pads) else 0
    return max((kernel - 1) * dilation + 1 - inside, 1) + d.integer(0, 5)


def window(
    d: Draw, widest_pad: int, kernels: tuple[tuple[int, int], ...] = KERNELS
) -> tuple[tuple[int, int], dict[str, Any], tuple[int, int]]:
    """Kernel, window attributes, and height and width of the image."""
    kernel = d.choose(kernels)
    dilation = (d.integer(1, 3), d.integer(1, 2)) if d.chance(0.2) else (1, 1)
    stride = (d.integer(1, 3), d.integer(1, 3)) if d.chance(0.5) else (1, 1)
    explicit = Pads(*(d.integer(0, min(widest_pad, k - 1)) for k in np.repeat(kernel, 2).tolist()))
    padding = d.choose((Padding.SAME, Padding.VALID, explicit))
    size = tuple(_axis(d, kernel[i], dilation[i], padding, i) for i in (0, 1))
    attributes = {"stride": stride, "dilation": dilation, "padding": padding}
    return kernel, attributes, (size[0], size[1])


def built(cls: type[Op], d: Draw, kind: DType, scale: float | None, **fields: Any) -> Op:
    """`cls` with a result of the shape that it infers itself."""
    # An op refuses a result of another shape, so its own `infer` is asked first.
    blank = object.__new__(cls)
    defaults = {f: a.default for a in cls.schema().attributes for f in (a.name,)}
    for name, value in {**defaults, **fields}.items():
        object.__setattr__(blank, name, value)
    shape = blank.infer()
    out = (
        result(d, kind, shape, scale)
        if scale
        else d.tensor("y", kind, shape, fields["x"].type.quant)
    )
    return cls(**fields, out=out, loc=d.loc)


def result(d: Draw, kind: DType, shape: tuple[int, ...], scale: float) -> Tensor:
    return d.tensor("y", kind, shape, QParams((scale,), d.zero(kind)))
