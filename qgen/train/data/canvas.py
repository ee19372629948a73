"""Drawing for synthetic data: coverage of shapes by pixels, with edges one pixel soft."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class Canvas:
    """An RGB picture [size, size, 3] with values from 0 to 1; coordinates are in pixels."""

    def __init__(self, size: int, background: Array) -> None:
        self.y, self.x = np.mgrid[0:size, 0:size] + 0.5
        self.pixels = np.broadcast_to(background, (size, size, 3)).astype(np.float64)

    def paint(self, coverage: Array, colour: Array) -> None:
        """Lay `colour` over the picture where `coverage` [size, size] is 1."""
        self.pixels += coverage[..., None] * (colour - self.pixels)

    def ellipse(self, cx: float, cy: float, rx: float, ry: float) -> Array:
        """Coverage of an ellipse."""
        distance = np.hypot((self.x - cx) / rx, (self.y - cy) / ry) - 1
        covered: Array = np.clip(0.5 - distance * min(rx, ry), 0, 1)
        return covered

    def polygon(self, points: Array) -> Array:
        """Coverage of a convex polygon [N, 2] of (x, y), clockwise on the screen."""
        inside: Array = np.ones_like(self.x)
        for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
            length = np.hypot(x1 - x0, y1 - y0)
            side = ((x1 - x0) * (self.y - y0) - (y1 - y0) * (self.x - x0)) / length
            inside = np.minimum(inside, np.clip(side + 0.5, 0, 1))
        return inside

    def rectangle(self, left: float, top: float, right: float, bottom: float) -> Array:
        """Coverage of an upright rectangle."""
        corners = [[left, top], [right, top], [right, bottom], [left, bottom]]
        return self.polygon(np.array(corners))

    def image(self, noise: float, rng: np.random.Generator) -> Array:
        """float32 [3, size, size] in [-1, 1] with normal noise, rounded to pixels of 8 bits."""
        noisy = self.pixels + rng.normal(0, noise, self.pixels.shape)
        grey = np.rint(np.clip(noisy, 0, 1) * 255)
        result: Array = (grey / 127.5 - 1).astype(np.float32).transpose(2, 0, 1)
        return result
