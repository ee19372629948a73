"""Images as tensors: reading, resizing, cropping, the range [-1, 1] (paper D.1 to D.4).

Random choices come from PyTorch's generator, which data loaders seed in every worker.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageEnhance, UnidentifiedImageError
from torch import Tensor

from qgen.errors import QgenError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})
# Pixels 0 to 255 become (p - 127.5) / 127.5.
MIDDLE = 127.5

BOX = tuple[float, float, float, float]  # left, top, right, bottom in pixels


def read(path: Path) -> Image.Image:
    """An RGB image. Raises QgenError with the path of a file that is none."""
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except UnidentifiedImageError as e:
        raise QgenError(f"{path} is not an image") from e
    except OSError as e:
        raise QgenError(f"cannot read {path}: {e.strerror or e}") from e


def to_tensor(image: Image.Image) -> Tensor:
    """float32 [3, H, W] with values in [-1, 1]."""
    pixels = np.asarray(image, np.float32)
    return torch.from_numpy((pixels - MIDDLE) / MIDDLE).permute(2, 0, 1).contiguous()


def centre(image: Image.Image, size: int) -> Image.Image:
    """The centre `size` x `size` of the image, its smallest side resized to size * 8 / 7 (D.1)."""
    factor = size * 8 / 7 / min(image.size)
    width, height = (max(size, round(side * factor)) for side in image.size)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (width - size) // 2, (height - size) // 2
    return image.crop((left, top, left + size, top + size))


def uniform(low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand(()))


def random_box(image: Image.Image, area: tuple[float, float], ratio: tuple[float, float]) -> BOX:
    """A random part of the image: its share of the area, and width / height, in the given ranges.

    Drawn up to ten times until it fits, else the largest square in the centre.
    """
    width, height = image.size
    for _ in range(10):
        share = uniform(*area) * width * height
        # As probable to be wide as to be tall.
        aspect = float(np.exp(uniform(float(np.log(ratio[0])), float(np.log(ratio[1])))))
        w, h = (share * aspect) ** 0.5, (share / aspect) ** 0.5
        if w <= width and h <= height:
            left, top = uniform(0, width - w), uniform(0, height - h)
            return (left, top, left + w, top + h)
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return (left, top, left + side, top + side)


def cut(image: Image.Image, box: BOX, size: int) -> Image.Image:
    """The part `box` of an image, resized to `size` x `size`."""
    return image.resize((size, size), Image.Resampling.BILINEAR, box=box)


def mirrored(image: Image.Image) -> Image.Image:
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def distorted(image: Image.Image) -> Image.Image:
    """Brightness, saturation and contrast times 0.7 to 1.3 each (D.2 distorts colours)."""
    for enhancer in (ImageEnhance.Brightness, ImageEnhance.Color, ImageEnhance.Contrast):
        image = enhancer(image).enhance(uniform(0.7, 1.3))
    return image
