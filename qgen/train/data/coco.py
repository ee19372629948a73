"""COCO-style data for detection: a JSON file of annotations and a folder of images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from qgen.errors import QgenError
from qgen.train.data import images

# Of the image's area, and width / height, that a training crop takes.
CROP_AREA = (0.3, 1.0)
CROP_RATIO = (1 / 2, 2.0)

# Image float32 [3, S, S] in [-1, 1]; boxes [B, 4] as x0, y0, x1, y1 in [0, 1]; labels [B] from 1.
Sample = tuple[Tensor, Tensor, Tensor]


class CocoDetection(Dataset[Sample]):
    """Samples (image, boxes, labels); see `Sample`.

    Labels number the categories in the order of their ids from 1, since 0 is background. Crowds and
    boxes without area are left out. Images are resized to `size` x `size` whatever their shape;
    training samples are random crops, mirrored half of the time, and keep the boxes whose centre
    lies in the crop (paper D.3).

    Raises QgenError where the annotations are no such file, name an unknown image or category, or
    an image is missing.
    """

    def __init__(
        self, annotations: Path | str, folder: Path | str, size: int, *, train: bool = False
    ) -> None:
        self.folder = Path(folder)
        self.size = size
        self.train = train
        content = _read(Path(annotations))
        try:
            categories = sorted(content["categories"], key=lambda c: c["id"])
            self.classes = tuple(str(c["name"]) for c in categories)
            label = {c["id"]: i for i, c in enumerate(categories, 1)}
            self.files = {i["id"]: self.folder / i["file_name"] for i in content["images"]}
            self.ids = sorted(self.files)
            self.boxes: dict[Any, list[tuple[list[float], int]]] = {i: [] for i in self.ids}
            for a in content["annotations"]:
                x, y, w, h = (float(v) for v in a["bbox"])
                if a["category_id"] not in label:
                    raise QgenError(f"{annotations}: unknown category {a['category_id']}")
                if a["image_id"] not in self.boxes:
                    raise QgenError(f"{annotations}: unknown image {a['image_id']}")
                if w > 0 and h > 0 and not a.get("iscrowd"):
                    box = [x, y, x + w, y + h]
                    self.boxes[a["image_id"]].append((box, label[a["category_id"]]))
        except (KeyError, TypeError, ValueError, AttributeError) as e:
            raise QgenError(
                f"{annotations}: not COCO annotations: {type(e).__name__} {e}",
                hint="needs images, annotations with bbox, categories",
            ) from e
        missing = next((p for p in self.files.values() if not p.is_file()), None)
        if missing:
            raise QgenError(f"{annotations}: image {missing} is missing")

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        key = self.ids[index]
        image = images.read(self.files[key])
        boxes = np.array([b for b, _ in self.boxes[key]], np.float32).reshape(-1, 4)
        labels = np.array([c for _, c in self.boxes[key]], np.int64)
        area: images.BOX = (0.0, 0.0, float(image.width), float(image.height))
        if self.train:
            area = images.random_box(image, CROP_AREA, CROP_RATIO)
        boxes, labels = inside(boxes, labels, area)
        image = images.cut(image, area, self.size)
        if self.train and torch.rand(()) < 0.5:
            image = images.mirrored(image)
            boxes = boxes[:, [2, 1, 0, 3]]
            boxes[:, [0, 2]] = 1 - boxes[:, [0, 2]]
        return images.to_tensor(image), torch.from_numpy(boxes), torch.from_numpy(labels)


def inside(
    boxes: np.ndarray[Any, Any], labels: np.ndarray[Any, Any], area: images.BOX
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Boxes in pixels to relative ones, clipped to `area`; those centred elsewhere are dropped."""
    left, top, right, bottom = area
    corner = np.array([left, top], np.float32)
    size = np.array([right - left, bottom - top], np.float32)
    middle = ((boxes[:, :2] + boxes[:, 2:]) / 2 - corner) / size
    kept = ((middle >= 0) & (middle <= 1)).all(axis=1)
    relative = (boxes[kept].reshape(-1, 2, 2) - corner) / size
    return np.clip(relative, 0, 1).reshape(-1, 4).astype(np.float32), labels[kept]


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise QgenError(f"cannot read {path}: {(e.strerror or str(e)).lower()}") from e
    except ValueError as e:
        raise QgenError(f"{path} is not JSON: {e}") from e
    if not isinstance(content, dict):
        raise QgenError(f"{path}: not COCO annotations: a {type(content).__name__}")
    return content
