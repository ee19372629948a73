"""conv2d: 2-D convolution of an NHWC image with OHWI weights, eq. (7)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from qgen.errors import QgenError
from qgen.ir.linear import Linear
from qgen.ir.op import Cost, Env, Reach, register
from qgen.ir.types import Array, Padding, Tensor
from qgen.ir.windows import Pads, Window, window


@register
@dataclass(frozen=True, eq=False, kw_only=True)
class Conv2D(Linear):
    """y[n, i, j, o] = requantize(sum over kh, kw, c of (x - Z_x) * (w[o] - Z_w) + b[o]).

    Shapes: x [N, H, W, C]; w [O, KH, KW, C]; b [O]; result [N, OH, OW, O]. Padding inserts real
    zeros, that is Z_x. Source: paper section 2.4; TFLite CONV_2D.
    """

    NAME = "conv2d"

    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: Padding | Pads = Padding.VALID

    @property
    def window(self) -> Window:
        kernel = (self.w.shape[1], self.w.shape[2])
        return window(self.x.shape, kernel, self.stride, self.dilation, self.padding)

    def check(self) -> None:
        super().check()
        if len(self.w.shape) != 4:
            raise QgenError(f"weights must be [out, kh, kw, in], got {list(self.w.shape)}")
        if len(self.x.shape) == 4 and self.w.shape[3] != self.x.shape[3]:
            raise QgenError(
                f"weights expect {self.w.shape[3]} input channels, x has {self.x.shape[3]}"
            )

    def reach(self) -> Mapping[Tensor, Reach] | None:
        return self.window.reach(self.x)

    def infer(self) -> tuple[int, ...]:
        win = self.window
        return (self.x.shape[0], win.h.out, win.w.out, self.channels)

    def eval(self, env: Env) -> Array:
        patches = self.window.patches(env(self.x), self.x.zero)
        pixels = np.prod(self.out.shape[:3])
        return self.finish(self.matmul(patches.reshape(pixels, -1), env), env)

    def cost(self) -> Cost:
        return Cost(macs=self.out.type.elements * int(np.prod(self.w.shape[1:])))

    def adversarial(self, rng: np.random.Generator) -> list[Array]:
        """For the widest channels: one patch of x set to the extreme of each weight's sign."""
        low, high = self.x.dtype.min, self.x.dtype.max
        inputs = []
        for channel in self.widest_channels(2):
            for sign in (1, -1):
                w = self.centered_weights()[channel] * sign
                inputs.append(self.show(np.where(w > 0, high, low).reshape(-1), rng))
        return inputs

    def show(self, patch: Array, rng: np.random.Generator) -> Array:
        kind = self.x.dtype
        x = rng.integers(kind.min, kind.max + 1, self.x.shape).astype(kind.numpy)
        self.window.fill_patch(x, patch.reshape(self.w.shape[1:]))
        return x
