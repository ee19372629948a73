"""average_pool2d: mean of the window's elements inside the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

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
    `legalize` writes that down as `ties_away`, so that it survives a change of storage.
    """

    NAME = "average_pool2d"
    INTEGER: ClassVar[tuple[str, ...]] = ("clamp", "ties_away")

    ties_away: bool | None = None

    def legalize(self) -> AveragePool2D:
        return super().legalize().replace(ties_away=self.out.dtype is not DType.U8)

    def eval(self, env: Env) -> Array:
        assert self.clamp and self.ties_away is not None
        x = env(self.x).astype(np.int64)
        total = self.window.patches(x, 0).sum(axis=(3, 4))
        count = self.window.patches(np.ones_like(x[:1, :, :, :1]), 0).sum(axis=(3, 4))
        y = divide_rounding(total, count, ties_away=self.ties_away)
        return saturate(y, *self.clamp, self.out.dtype)
