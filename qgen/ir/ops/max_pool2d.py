"""max_pool2d: largest element of each window."""

from __future__ import annotations

from dataclasses import dataclass

from qgen.ir.numerics import saturate
from qgen.ir.op import Env, register
from qgen.ir.pool import Pool
from qgen.ir.types import Array


@register
@dataclass(frozen=True, eq=False, kw_only=True)
class MaxPool2D(Pool):
    """y = clamp(max(x)), padding never wins. Source: TFLite MAX_POOL_2D."""

    NAME = "max_pool2d"

    def eval(self, env: Env) -> Array:
        assert self.clamp
        y = self.window.patches(env(self.x), self.x.dtype.min).max(axis=(3, 4))
        return saturate(y, *self.clamp, self.out.dtype)
