"""ImageNet-style data: a folder per class with its images."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from qgen.errors import QgenError
from qgen.train.data import images

# Of the image's area, and width / height, that a training crop takes.
CROP_AREA = (0.2, 1.0)
CROP_RATIO = (3 / 4, 4 / 3)


class ImageFolder(Dataset[tuple[Tensor, int]]):
    """Samples (image float32 [3, size, size] in [-1, 1], label).

    ``root/<class>/**/*.jpg`` (or png, bmp, webp); labels number the classes in the order of their
    names. Training samples are random crops, mirrored half of the time and, with `colours`,
    distorted in colour; others are the centre, resized by their smallest side (paper D.1, D.2).

    Raises QgenError where the folder, its classes or the images of one class are missing; and when
    a sample is taken whose file is no image.
    """

    def __init__(
        self, root: Path | str, size: int, *, train: bool = False, colours: bool = False
    ) -> None:
        self.root = Path(root)
        self.size = size
        self.train = train
        self.colours = colours
        if not self.root.is_dir():
            raise QgenError(f"no folder {self.root}", hint="it holds one folder per class")
        folders = sorted(p for p in self.root.iterdir() if p.is_dir())
        if not folders:
            raise QgenError(f"{self.root} has no folders", hint="one folder per class is needed")
        self.classes = tuple(p.name for p in folders)
        self.samples: list[tuple[Path, int]] = []
        for label, folder in enumerate(folders):
            found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in images.SUFFIXES)
            if not found:
                raise QgenError(f"class folder {folder} has no images")
            self.samples += [(path, label) for path in found]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path, label = self.samples[index]
        image = images.read(path)
        if not self.train:
            return images.to_tensor(images.centre(image, self.size)), label
        box = images.random_box(image, CROP_AREA, CROP_RATIO)
        image = images.cut(image, box, self.size)
        if torch.rand(()) < 0.5:
            image = images.mirrored(image)
        if self.colours:
            image = images.distorted(image)
        return images.to_tensor(image), label
