"""scikit-learn's handwritten digits: 1797 grey images of 8 x 8 pixels, values 0 to 16."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_digits

Array = npt.NDArray[Any]


class Split(NamedTuple):
    """Images u8 [N, 8, 8, 1], grey values 0 to 255, and labels [N] from 0 to 9."""

    images: Array
    labels: Array


def load() -> tuple[Split, Split]:
    """Training and held-out samples: every fourth image is held out."""
    digits = load_digits()
    # Spread to the range of a camera's grey values.
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    held_out = np.arange(len(images)) % 4 == 3
    return (
        Split(images[~held_out], digits.target[~held_out]),
        Split(images[held_out], digits.target[held_out]),
    )


def as_input(images: Array) -> Array:
    """The model's input, i8: grey value - 128, its real value is grey / 255."""
    return (images.astype(np.int16) - 128).astype(np.int8)
