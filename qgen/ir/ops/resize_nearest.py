"""resize_nearest: the nearest pixel of an image, for another size."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from qgen.ir.numerics import float32
from qgen.ir.op import Env, register
from qgen.ir.resize import Resize
from qgen.ir.types import Array


@register
@dataclass(frozen=True, eq=False, kw_only=True)
class ResizeNearest(Resize):
    """y[n, i, j, c] = x[n, rows[i], columns[j], c], the pixel that is nearest.

    Which one that is follows from single precision, as in TFLite RESIZE_NEAREST_NEIGHBOR.
    """

    NAME = "resize_nearest"

    def nearest(self) -> tuple[Array, Array]:
        """Row of x for each row of the result, and the same for columns."""
        rows, columns = (self._axis(size, out) for size, out in self.axes())
        return rows, columns

    def _axis(self, size: int, out: int) -> Array:
        aligned = self.align_corners and out > 1
        scale = np.float32(size - 1 if aligned else size) / np.float32(out - 1 if aligned else out)
        start = 0.5 if self.half_pixel_centers else 0.0
        found = []
        for i in range(out):
            at = float32((np.float32(i) + np.float32(start)) * scale)
            # C's roundf: halves away from zero, and nothing here is negative.
            at = math.floor(at + 0.5) if self.align_corners else math.floor(at)
            found.append(min(at, size - 1))
        return np.array(found, np.int64)

    def eval(self, env: Env) -> Array:
        rows, columns = self.nearest()
        return np.ascontiguousarray(env(self.x)[:, rows][:, :, columns])
