"""A drawn set for detection: circles, squares and triangles of any colour, with boxes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from qgen.train.data.canvas import Array, Canvas
from qgen.train.data.coco import Sample

CLASSES = ("circle", "square", "triangle")
NOISE = 0.03
MOST_OVERLAP = 0.1  # intersection over union of two boxes of one picture


class Shapes(Dataset[Sample]):
    """Samples (image, boxes, labels) as `CocoDetection`; sample i is a function of (seed, i).

    One to `most` shapes of 0.2 to 0.5 of the picture's size, the squares and triangles turned, on a
    plain background of another brightness, with noise. Use different seeds for training and test.
    """

    classes = CLASSES

    def __init__(self, count: int, size: int = 32, *, seed: int = 0, most: int = 3) -> None:
        drawn = [draw(size, np.random.default_rng((seed, i)), most) for i in range(count)]
        self.samples: list[Sample] = [
            (torch.from_numpy(image), torch.from_numpy(boxes), torch.from_numpy(labels))
            for image, boxes, labels in drawn
        ]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]


def draw(size: int, rng: np.random.Generator, most: int) -> tuple[Array, Array, Array]:
    """One picture: image [3, size, size] in [-1, 1], boxes [B, 4] in [0, 1], labels [B] from 1."""
    background = rng.uniform(0, 1, 3)
    canvas = Canvas(size, background)
    boxes: list[Array] = []
    labels: list[int] = []
    for _ in range(int(rng.integers(1, most + 1))):
        placed = _place(size, rng, boxes)
        if placed is None:
            break
        label = int(rng.integers(1, len(CLASSES) + 1))
        coverage, box = _shape(canvas, CLASSES[label - 1], *placed, rng)
        canvas.paint(coverage, _colour(background, rng))
        boxes.append(box)
        labels.append(label)
    corners = np.clip(np.array(boxes) / size, 0, 1).astype(np.float32)
    return canvas.image(NOISE, rng), corners, np.array(labels, np.int64)


def _place(
    size: int, rng: np.random.Generator, others: list[Array]
) -> tuple[float, float, float] | None:
    """Centre and radius of a shape that hardly overlaps the others; None after 20 attempts."""
    for _ in range(20):
        radius = rng.uniform(0.1, 0.25) * size
        cx, cy = rng.uniform(radius, size - radius, 2)
        square = np.array([cx - radius, cy - radius, cx + radius, cy + radius])
        if all(_overlap(square, other) <= MOST_OVERLAP for other in others):
            return cx, cy, radius
    return None


def _overlap(a: Array, b: Array) -> float:
    """Intersection over union of two boxes."""
    w, h = np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0)
    areas = [np.prod(box[2:] - box[:2]) for box in (a, b)]
    return float(w * h / (sum(areas) - w * h))


def _shape(
    canvas: Canvas, kind: str, cx: float, cy: float, radius: float, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Coverage of a shape whose corners lie on a circle, and its box in pixels."""
    if kind == "circle":
        box = np.array([cx - radius, cy - radius, cx + radius, cy + radius])
        return canvas.ellipse(cx, cy, radius, radius), box
    corners = 4 if kind == "square" else 3
    angles = rng.uniform(0, 2 * np.pi) + np.arange(corners) * 2 * np.pi / corners
    points = np.stack([cx + radius * np.cos(angles), cy + radius * np.sin(angles)], axis=1)
    return canvas.polygon(points), np.concatenate([points.min(axis=0), points.max(axis=0)])


def _colour(background: Array, rng: np.random.Generator) -> Array:
    """A colour far from that of the background."""
    while True:
        colour: Array = rng.uniform(0, 1, 3)
        if np.abs(colour - background).max() > 0.4:
            return colour


def collate(samples: list[tuple[Tensor, ...]]) -> tuple[Tensor, list[tuple[Tensor, ...]]]:
    """Images as a batch, and the (boxes, labels) of each."""
    return torch.stack([s[0] for s in samples]), [s[1:] for s in samples]
