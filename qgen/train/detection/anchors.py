"""Anchors: the boxes that an SSD's cells predict relative to."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from qgen.errors import QgenError

RATIOS = (1.0, 2.0, 1 / 2, 3.0, 1 / 3)


def anchor_boxes(
    maps: Sequence[tuple[int, int]],
    *,
    smallest: float = 0.2,
    largest: float = 0.95,
    ratios: Sequence[float] = RATIOS,
) -> Tensor:
    """Anchors [A, 4] of all maps (height, width), finest first, in the order of `flatten`.

    Map k of m has scale s_k = smallest + (largest - smallest) * k / (m - 1); each of its cells has
    one anchor per ratio (width / height) of area s_k^2, and a square one of scale
    sqrt(s_k * s_{k+1}) (Liu et al. 2015, 2.2): len(ratios) + 1 per cell.

    Raises QgenError for scales that do not ascend.
    """
    if not 0 < smallest <= largest:
        raise QgenError(f"scales of anchors must ascend from above 0, got {smallest}, {largest}")
    steps = max(len(maps) - 1, 1)
    scales = [smallest + (largest - smallest) * k / steps for k in range(len(maps))]
    parts: list[Tensor] = []
    for (height, width), (scale, following) in zip(
        maps, pairwise([*scales, max(1.0, largest)]), strict=True
    ):
        sizes = [(scale * r**0.5, scale / r**0.5) for r in ratios]
        sizes.append(((scale * following) ** 0.5,) * 2)
        size = torch.tensor(sizes)
        y, x = torch.meshgrid(
            (torch.arange(height) + 0.5) / height,
            (torch.arange(width) + 0.5) / width,
            indexing="ij",
        )
        centre = torch.stack([x, y], dim=-1).reshape(-1, 1, 2)
        parts.append(torch.cat([centre - size / 2, centre + size / 2], dim=-1).reshape(-1, 4))
    return torch.cat(parts)


def map_sizes(outputs: Sequence[Tensor]) -> list[tuple[int, int]]:
    """(height, width) of each map of a detector's outputs."""
    return [(o.shape[2], o.shape[3]) for o in outputs[::2]]


def flatten(outputs: Sequence[Tensor], anchors: int) -> tuple[Tensor, Tensor]:
    """Scores [N, A, classes + 1] and codes [N, A, 4] of all anchors.

    Args:
        outputs: of a detector: scores [N, anchors * (classes + 1), H, W] and codes
            [N, anchors * 4, H, W] of each map in turn.
        anchors: per cell.
    """
    flat = [o.permute(0, 2, 3, 1).reshape(len(o), -1, o.shape[1] // anchors) for o in outputs]
    return torch.cat(flat[::2], dim=1), torch.cat(flat[1::2], dim=1)
