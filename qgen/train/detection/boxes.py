"""Boxes as x0, y0, x1, y1 in parts of the image; their codes relative to anchors.

Codes are those of SSD (Liu et al. 2015): offset of the centre in sizes of the anchor, logarithm of
the ratio of sizes, divided by `CENTRE` and `SIZE`, which brings both to about variance 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

CENTRE, SIZE = 0.1, 0.2
# Limit of a decoded logarithm: no box is larger than 1000 anchors, whatever the code.
LARGEST_LOG = 6.9


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of [A, 4] with [B, 4]: [A, B]; 0 for boxes without area."""
    corner = torch.maximum(a[:, None, :2], b[None, :, :2])
    opposite = torch.minimum(a[:, None, 2:], b[None, :, 2:])
    common = (opposite - corner).clamp(min=0).prod(dim=2)
    areas = [(box[:, 2:] - box[:, :2]).clamp(min=0).prod(dim=1) for box in (a, b)]
    union = areas[0][:, None] + areas[1][None, :] - common
    return torch.where(union > 0, common / union.clamp(min=1e-12), torch.zeros_like(union))


def _centred(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Centres and sizes."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2, (boxes[..., 2:] - boxes[..., :2]).clamp(min=1e-6)


def encode(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Codes [..., 4] of boxes relative to anchors, both [..., 4]."""
    centre, size = _centred(boxes)
    anchor_centre, anchor_size = _centred(anchors)
    offset = (centre - anchor_centre) / anchor_size / CENTRE
    return torch.cat([offset, torch.log(size / anchor_size) / SIZE], dim=-1)


def decode(codes: Tensor, anchors: Tensor) -> Tensor:
    """The inverse of `encode`."""
    anchor_centre, anchor_size = _centred(anchors)
    centre = codes[..., :2] * CENTRE * anchor_size + anchor_centre
    size = torch.exp((codes[..., 2:] * SIZE).clamp(max=LARGEST_LOG)) * anchor_size
    return torch.cat([centre - size / 2, centre + size / 2], dim=-1)


def suppress(boxes: Tensor, scores: Tensor, threshold: float = 0.5, most: int = 100) -> Tensor:
    """Non-maximum suppression: indices of the boxes kept, best score first.

    A box goes if its intersection over union with a better one that stays exceeds `threshold`.
    """
    order = torch.argsort(scores, descending=True, stable=True)
    overlaps = iou(boxes[order], boxes[order]) > threshold
    kept: list[int] = []
    dead = torch.zeros(len(order), dtype=torch.bool, device=boxes.device)
    for i in range(len(order)):
        if not dead[i]:
            kept.append(i)
            dead |= overlaps[i]
            if len(kept) == most:
                break
    return order[kept]
