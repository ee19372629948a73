"""Drawn faces with binary attributes and an age, in place of the paper's private photographs."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from qgen.train.data.canvas import Array, Canvas

ATTRIBUTES = ("glasses", "smile", "hat", "beard", "eyes closed")
AGES = (5, 85)  # years
NOISE = 0.03


class Faces(Dataset[tuple[Tensor, tuple[Tensor, Tensor]]]):
    """Samples (image float32 [3, size, size] in [-1, 1], (attributes [5] of 0 or 1, age [1])).

    Sample i is a function of (seed, i); use different seeds for training and test. Age, in years,
    shows as the length of the face and the greyness of hair and brows. Training samples are
    mirrored half of the time (paper D.4).
    """

    def __init__(self, count: int, size: int = 32, *, seed: int = 0, train: bool = False) -> None:
        drawn = [draw(size, np.random.default_rng((seed, i))) for i in range(count)]
        self.images = torch.from_numpy(np.stack([image for image, _, _ in drawn]))
        self.attributes = torch.from_numpy(np.stack([found for _, found, _ in drawn]))
        self.ages = torch.tensor([[age] for _, _, age in drawn], dtype=torch.float32)
        self.train = train

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        image = self.images[index]
        if self.train and torch.rand(()) < 0.5:
            image = image.flip(-1)
        return image, (self.attributes[index], self.ages[index])


def draw(size: int, rng: np.random.Generator) -> tuple[Array, Array, float]:
    """One face: image [3, size, size] in [-1, 1], attributes float32 [5], age in years."""
    found = dict(zip(ATTRIBUTES, (rng.random(len(ATTRIBUTES)) < 0.5).tolist(), strict=True))
    age = float(rng.uniform(*AGES))
    years = (age - AGES[0]) / (AGES[1] - AGES[0])
    u = size / 32  # all lengths below are for a picture of 32 pixels
    canvas = Canvas(size, rng.uniform(0.1, 0.9, 3))
    skin = np.array([0.95, 0.78, 0.65]) * rng.uniform(0.5, 1.0)
    young = rng.uniform(0, 0.35, 3)
    hair = young + (0.9 - young) * years
    cx, cy = size / 2 + u * rng.uniform(-2, 2, 2)
    rx, ry = u * 9 * rng.uniform(0.9, 1.1), u * (9.5 + 3 * years)

    canvas.paint(canvas.ellipse(cx, cy - u * 2, rx + u * 1.5, ry + u), hair)
    canvas.paint(canvas.ellipse(cx, cy, rx, ry), skin)
    if found["beard"]:
        chin = canvas.ellipse(cx, cy + 0.55 * ry, 0.8 * rx, 0.5 * ry)
        canvas.paint(np.minimum(chin, canvas.ellipse(cx, cy, rx, ry)), hair)
    if found["hat"]:
        canvas.paint(
            canvas.rectangle(cx - rx - u, cy - ry - 3 * u, cx + rx + u, cy - 0.55 * ry),
            rng.uniform(0, 1, 3),
        )
    _features(canvas, found, cx, cy, u, hair, rng)
    return canvas.image(NOISE, rng), np.array(list(found.values()), np.float32), age


def _features(
    canvas: Canvas,
    found: dict[str, bool],
    cx: float,
    cy: float,
    u: float,
    hair: Array,
    rng: np.random.Generator,
) -> None:
    """Eyes, brows, glasses and mouth."""
    dark = np.full(3, 0.05)
    for side in (-1, 1):
        x, y = cx + side * 3.8 * u, cy - 2 * u
        height = 0.45 * u if found["eyes closed"] else 1.5 * u
        if found["glasses"]:
            canvas.paint(canvas.ellipse(x, y, 3.2 * u, 2.9 * u), dark)
            canvas.paint(canvas.ellipse(x, y, 2.3 * u, 2.0 * u), np.array([0.75, 0.85, 0.95]))
        canvas.paint(canvas.ellipse(x, y, 1.5 * u, height), dark)
        canvas.paint(canvas.rectangle(x - 2 * u, y - 4.2 * u, x + 2 * u, y - 3.3 * u), hair)
    red = np.array([0.7, 0.1, 0.15])
    y = cy + 5 * u
    if found["smile"]:
        # The lower part of an ellipse: its upper edge hangs down.
        upper = canvas.ellipse(cx, y - 1.3 * u, 4.6 * u, 1.8 * u)
        canvas.paint(np.clip(canvas.ellipse(cx, y, 4.4 * u, 2.2 * u) - upper, 0, 1), red)
    else:
        half = 3.5 * u * rng.uniform(0.8, 1.1)
        canvas.paint(canvas.rectangle(cx - half, y - 0.6 * u, cx + half, y + 0.6 * u), red)
