"""scikit-learn's handwritten digits: 1797 grey images of 8 x 8 pixels, real and small."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torch.utils.data import Dataset

from qgen.errors import QgenError

HELD_OUT = 4  # every fourth image


class Digits(Dataset[tuple[Tensor, int]]):
    """Samples (image float32 [1, size, size] in [-1, 1], digit).

    Images are enlarged bilinearly; every fourth one is held out for testing. Training samples are
    moved by up to an eighth of their size in both directions.

    Raises QgenError where scikit-learn, which holds the data, is missing.
    """

    classes = tuple("0123456789")

    def __init__(self, size: int = 16, *, train: bool) -> None:
        try:
            from sklearn.datasets import load_digits
        except ImportError as e:
            raise QgenError("the digits need scikit-learn", hint="pip install scikit-learn") from e
        content = load_digits()
        chosen = (np.arange(len(content.images)) % HELD_OUT == HELD_OUT - 1) != train
        grey = torch.from_numpy(content.images[chosen].astype(np.float32))[:, None] / 8 - 1
        self.images = interpolate(grey, size=(size, size), mode="bilinear", align_corners=False)
        self.labels = torch.from_numpy(content.target[chosen].astype(np.int64))
        self.shift = size // 8 if train else 0

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = self.images[index]
        if self.shift:
            dy, dx = torch.randint(-self.shift, self.shift + 1, (2,)).tolist()
            image = moved(image, dy, dx)
        return image, int(self.labels[index])


def moved(image: Tensor, dy: int, dx: int) -> Tensor:
    """[C, H, W] moved by whole pixels, filled with -1 (black)."""
    height, width = image.shape[1:]
    result = torch.full_like(image, -1.0)
    rows, columns = (slice(max(d, 0), n + min(d, 0)) for d, n in ((dy, height), (dx, width)))
    from_rows, from_columns = (
        slice(max(-d, 0), n + min(-d, 0)) for d, n in ((dy, height), (dx, width))
    )
    result[:, rows, columns] = image[:, from_rows, from_columns]
    return result
