"""depthwise_conv2d: one filter per channel, `depth_multiplier` outputs per input channel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qgen.errors import QgenError
from qgen.ir.linear import Linear
from qgen.ir.op import Cost, Env, Reach, register
from qgen.ir.types import Array, Padding, Tensor
from qgen.ir.windows import Pads, Window, window


@register
@dataclass(frozen=True, eq=False, kw_only=True)
class DepthwiseConv2D(Linear):
    """y[n, i, j, c*m + k] = requantize(sum over kh, kw of (x[.., c] - Z_x) * (w - Z_w) + b).

    Shapes: x [N, H, W, C]; w [1, KH, KW, C*m]; b [C*m]; result [N, OH, OW, C*m], where m is the
    depth multiplier. Source: paper section 2.4; TFLite DEPTHWISE_CONV_2D.
    """

    NAME = "depthwise_conv2d"
    CHANNEL_AXIS: ClassVar[int] = 3

    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: Padding | Pads = Padding.VALID

    @property
    def depth_multiplier(self) -> int:
        """Output channels per input channel."""
        return self.w.shape[3] // self.x.shape[3]

    @property
    def window(self) -> Window:
        kernel = (self.w.shape[1], self.w.shape[2])
        return window(self.x.shape, kernel, self.stride, self.dilation, self.padding)

    def check(self) -> None:
        if len(self.w.shape) != 4 or self.w.shape[0] != 1:
            raise QgenError(f"weights must be [1, kh, kw, channels], got {list(self.w.shape)}")
        super().check()
        if len(self.x.shape) == 4 and self.w.shape[3] % self.x.shape[3]:
            raise QgenError(
                f"{self.w.shape[3]} output channels are no multiple of {self.x.shape[3]} inputs"
            )

    def channelwise(self) -> tuple[Tensor, ...]:
        return (self.x,) if self.depth_multiplier == 1 else ()

    def reach(self) -> Mapping[Tensor, Reach] | None:
        return self.window.reach(self.x)

    def infer(self) -> tuple[int, ...]:
        win = self.window
        return (self.x.shape[0], win.h.out, win.w.out, self.channels)

    def eval(self, env: Env) -> Array:
        x = env(self.x).astype(np.int32) - self.x.zero
        patches = self.window.patches(x, 0)
        n, oh, ow, kh, kw, c = patches.shape
        w = self.centered_weights().reshape(kh, kw, c, self.depth_multiplier)
        acc = np.zeros((n, oh, ow, c, self.depth_multiplier), np.int32)
        for i in range(kh):
            for j in range(kw):
                acc += patches[:, :, :, i, j, :, None] * w[i, j]
        return self.finish(acc.reshape(n, oh, ow, self.channels), env)

    def cost(self) -> Cost:
        return Cost(macs=self.out.type.elements * self.w.shape[1] * self.w.shape[2])

    def adversarial(self, rng: np.random.Generator) -> list[Array]:
        """Every channel at once: one patch of x set to the extreme of its weights' signs."""
        low, high = self.x.dtype.min, self.x.dtype.max
        win = self.window
        inputs = []
        for k in range(min(self.depth_multiplier, 2)):
            for sign in (1, -1):
                x = rng.integers(low, high + 1, self.x.shape).astype(self.x.dtype.numpy)
                w = self.centered_weights()[0, :, :, k :: self.depth_multiplier] * sign
                win.fill_patch(x, np.where(w > 0, high, low))
                inputs.append(x)
        return inputs
