"""Sliding windows over NHWC images: output sizes, padding, patches. Shared by conv and pooling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from qgen.errors import QgenError
from qgen.ir.op import Reach
from qgen.ir.types import Array, Padding, Tensor


class Pads(NamedTuple):
    """Explicit padding in elements."""

    top: int
    bottom: int
    left: int
    right: int


@dataclass(frozen=True)
class Axis:
    """One spatial axis of a window: all amounts in elements."""

    size: int
    kernel: int
    stride: int
    dilation: int
    before: int
    after: int

    @property
    def extent(self) -> int:
        """Elements from the first to the last tap, inclusive."""
        return (self.kernel - 1) * self.dilation + 1

    @property
    def out(self) -> int:
        return (self.size + self.before + self.after - self.extent) // self.stride + 1


@dataclass(frozen=True)
class Window:
    """A kernel sliding over height and width."""

    h: Axis
    w: Axis

    @property
    def pads(self) -> Pads:
        return Pads(self.h.before, self.h.after, self.w.before, self.w.after)

    @property
    def padded(self) -> bool:
        return any(self.pads)

    def reach(self, x: Tensor) -> Mapping[Tensor, Reach] | None:
        """As `Op.reach`, for the op that slides this window over `x`."""
        last = (self.h.out - 1) * self.h.stride - self.h.before
        if x.shape[0] != 1 or self.h.before >= self.h.extent or last >= self.h.size:
            return None  # several images, or a row of the result that sees padding alone
        return {x: Reach(self.h.stride, self.h.before, self.h.extent)}

    def patches(self, x: Array, fill: int | float) -> Array:
        """View of shape [N, OH, OW, KH, KW, C] over `x` [N, H, W, C] padded with `fill`."""
        if self.padded:
            pad = ((0, 0), (self.h.before, self.h.after), (self.w.before, self.w.after), (0, 0))
            x = np.pad(x, pad, constant_values=fill)
        n, _, _, c = x.shape
        sn, sh, sw, sc = x.strides
        h, w = self.h, self.w
        return np.lib.stride_tricks.as_strided(
            x,
            (n, h.out, w.out, h.kernel, w.kernel, c),
            (sn, sh * h.stride, sw * w.stride, sh * h.dilation, sw * w.dilation, sc),
            writeable=False,
        )

    def fill_patch(self, x: Array, values: Array) -> None:
        """Write `values` [KH, KW, C] under one window of `x` [N, H, W, C], in place.

        The window is the first that lies inside the image where there is one.
        """
        i, j = (min(-(-a.before // a.stride), a.out - 1) for a in (self.h, self.w))
        for kh in range(self.h.kernel):
            for kw in range(self.w.kernel):
                r = i * self.h.stride - self.h.before + kh * self.h.dilation
                c = j * self.w.stride - self.w.before + kw * self.w.dilation
                if 0 <= r < self.h.size and 0 <= c < self.w.size:
                    x[:, r, c, :] = values[kh, kw]


def window(
    shape: tuple[int, ...],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    padding: Padding | Pads,
) -> Window:
    """Resolve `padding` for an NHWC `shape`.

    SAME gives ceil(size / stride) outputs and puts the odd element behind, VALID pads nothing (as
    TensorFlow defines them). Raises QgenError where the window does not fit.
    """
    if len(shape) != 4:
        raise QgenError(f"input must be [batch, height, width, channels], got {list(shape)}")
    if min(*kernel, *stride, *dilation) < 1:
        raise QgenError("kernel, stride and dilation must be at least 1")
    axes = []
    for i, size in enumerate(shape[1:3]):
        extent = (kernel[i] - 1) * dilation[i] + 1
        if isinstance(padding, Pads):
            before, after = padding[2 * i], padding[2 * i + 1]
        elif padding is Padding.SAME:
            total = max((-(-size // stride[i]) - 1) * stride[i] + extent - size, 0)
            before, after = total // 2, total - total // 2
        else:
            before = after = 0
        if before < 0 or after < 0:
            raise QgenError(f"padding {tuple(padding)} is negative")  # type: ignore[arg-type]
        if size + before + after < extent:
            raise QgenError(
                f"a window of {extent} does not fit into {size + before + after} elements",
            )
        axes.append(Axis(size, kernel[i], stride[i], dilation[i], before, after))
    return Window(axes[0], axes[1])
