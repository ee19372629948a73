"""average_pool2d: mean of the window's elements inside the image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qgen.ir.numerics import divide_rounding, saturate
from qgen.ir.op import Env, register
from qgen.ir.pool import Pool
from qgen.ir.types import Array, DType


@register
@dataclass(frozen=True, eq=False, kw_only=True)
class AveragePool2D(Pool):
    """y = clamp(round(sum(x) / count)), count without padding.

    u8 rounds halves up, i8 away from zero: as TFLite AVERAGE_POOL_2D does on its raw values.
    """

    NAME = "average_pool2d"

    def eval(self, env: Env) -> Array:
        assert self.clamp
        x = env(self.x).astype(np.int64)
        total = self.window.patches(x, 0).sum(axis=(3, 4))
        count = self.window.patches(np.ones_like(x[:1, :, :, :1]), 0).sum(axis=(3, 4))
        y = divide_rounding(total, count, ties_away=self.out.dtype is not DType.U8)
        return saturate(y, *self.clamp, self.out.dtype)
