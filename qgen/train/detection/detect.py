"""From the outputs of a detector to its detections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from qgen.train.detection.anchors import flatten
from qgen.train.detection.boxes import decode, suppress


@dataclass(frozen=True)
class Detections:
    """Of one image: boxes [D, 4] in [0, 1], scores [D], labels [D] from 1; best score first."""

    boxes: Tensor
    scores: Tensor
    labels: Tensor


def detect(
    outputs: Sequence[Tensor],
    anchors: Tensor,
    per_cell: int,
    *,
    least: float = 0.01,
    overlap: float = 0.5,
    most: int = 100,
) -> list[Detections]:
    """Detections of each image.

    Args:
        outputs: of a detector, real values.
        anchors: [A, 4].
        per_cell: anchors per cell.
        least: lowest probability of a detection.
        overlap: suppression of worse boxes of the same class, see `suppress`.
        most: detections per image.
    """
    scores, codes = flatten(outputs, per_cell)
    probabilities = scores.softmax(dim=2)
    boxes = decode(codes, anchors.to(codes.device)).clamp(0, 1)
    return [
        _of_image(box, probability, least, overlap, most)
        for box, probability in zip(boxes, probabilities, strict=True)
    ]


def _of_image(
    boxes: Tensor, probabilities: Tensor, least: float, overlap: float, most: int
) -> Detections:
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for label in range(1, probabilities.shape[1]):
        score = probabilities[:, label]
        likely = score >= least
        kept = suppress(boxes[likely], score[likely], overlap, most)
        labels = torch.full((len(kept),), label)
        found.append((boxes[likely][kept], score[likely][kept], labels))
    box, score, label_of = (torch.cat(parts) for parts in zip(*found, strict=True))
    order = torch.argsort(score, descending=True, stable=True)[:most]
    return Detections(box[order], score[order], label_of[order.cpu()])
