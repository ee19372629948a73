"""Matching of anchors with objects, and the loss of SSD (Liu et al. 2015, 2.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, smooth_l1_loss

from qgen.train.detection.anchors import flatten
from qgen.train.detection.boxes import encode, iou

# Boxes [B, 4] and labels [B] from 1 of one image.
Objects = Sequence[Tensor]


def match(anchors: Tensor, objects: Objects, threshold: float = 0.5) -> tuple[Tensor, Tensor]:
    """Label [A] (0 is background) and code [A, 4] that each anchor should predict.

    Each object has the anchor that overlaps it most; other anchors have the object that they
    overlap most where intersection over union exceeds `threshold`.
    """
    boxes, labels = objects
    labels_of = torch.zeros(len(anchors), dtype=torch.int64, device=anchors.device)
    if not len(boxes):
        return labels_of, torch.zeros_like(anchors)
    overlap = iou(anchors, boxes)
    best, chosen = overlap.max(dim=1)
    positive = best > threshold
    # Best pairs first, so that an anchor wanted by two objects goes to the nearer one.
    remaining = overlap.clone()
    for _ in range(min(len(boxes), len(anchors))):
        anchor, item = divmod(int(remaining.argmax()), len(boxes))
        chosen[anchor], positive[anchor] = item, True
        remaining[anchor, :] = remaining[:, item] = -1
    labels_of[positive] = labels[chosen[positive]]
    return labels_of, encode(boxes[chosen], anchors)


@dataclass(frozen=True)
class SsdLoss:
    """Loss of outputs of a detector against a list of objects per image.

    Softmax cross entropy of the scores, over the anchors that have an object and over the
    `negatives` times as many of the others (at least 1 per image) whose loss is largest, plus
    smooth L1 of the codes of the former; divided by their number.

    Attributes:
        anchors: [A, 4].
        per_cell: anchors per cell.
        negatives: per positive.
    """

    anchors: Tensor
    per_cell: int
    negatives: float = 3.0

    def __call__(self, outputs: Sequence[Tensor], targets: Sequence[Objects]) -> Tensor:
        scores, codes = flatten(outputs, self.per_cell)
        anchors = self.anchors.to(scores.device)
        matched = [match(anchors, [t.to(scores.device) for t in objects]) for objects in targets]
        labels = torch.stack([m[0] for m in matched])
        wanted = torch.stack([m[1] for m in matched])
        positive = labels > 0
        losses = cross_entropy(scores.flatten(0, 1), labels.flatten(), reduction="none")
        losses = losses.reshape(labels.shape)
        count = positive.sum(dim=1, keepdim=True)
        order = losses.detach().masked_fill(positive, -1.0).argsort(dim=1, descending=True)
        rank = order.argsort(dim=1)
        hard = ~positive & (rank < (self.negatives * count).clamp(min=1))
        boxes = smooth_l1_loss(codes[positive], wanted[positive], reduction="sum")
        return (losses[positive | hard].sum() + boxes) / count.sum().clamp(min=1)
