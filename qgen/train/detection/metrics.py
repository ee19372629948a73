"""Average precision, precision and recall of detections.

AP is COCO's: the mean over thresholds of intersection over union 0.50, 0.55 ... 0.95 and over
classes of the area under precision as a function of recall, made monotone and sampled at 101 values
of recall. Precision and recall of the paper's Table 4.5 are means over the same thresholds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from qgen.train.detection.boxes import iou
from qgen.train.detection.detect import Detections
from qgen.train.detection.loss import Objects

Array = npt.NDArray[Any]
THRESHOLDS = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))
RECALLS = np.linspace(0, 1, 101)
# Score from which a detection counts for precision and recall.
LEAST_SCORE = 0.5


@dataclass(frozen=True)
class Scores:
    """In parts of 1, NaN where there is nothing to divide by.

    Attributes:
        ap: mean over classes and thresholds; `ap50` at threshold 0.5.
        precision: hits / detections of at least `LEAST_SCORE`, mean over thresholds.
        recall: hits / objects, mean over thresholds.
    """

    ap: float
    ap50: float
    precision: float
    recall: float


def evaluate_detections(
    found: Sequence[Detections], objects: Sequence[Objects], classes: int
) -> Scores:
    """Compare the detections of each image with its objects (boxes, labels)."""
    average = np.full((len(THRESHOLDS), classes), np.nan)
    hits, positives, total = np.zeros(len(THRESHOLDS)), 0, 0
    for label in range(1, classes + 1):
        scores, hit, count = _hits(found, objects, label)
        total += count
        sure = scores >= LEAST_SCORE
        positives += int(sure.sum())
        hits += hit[:, sure].sum(axis=1)
        if count:
            average[:, label - 1] = [average_precision(h, count) for h in hit]
    present = ~np.isnan(average[0])
    return Scores(
        ap=_mean(average[:, present]),
        ap50=_mean(average[0, present]),
        precision=float(hits.mean() / positives) if positives else float("nan"),
        recall=float(hits.mean() / total) if total else float("nan"),
    )


def average_precision(hits: Array, objects: int) -> float:
    """Area under the curve of detections in descending order of score.

    Args:
        hits: [D] bool, whether each one is right.
        objects: how many there are to find, at least 1.
    """
    right = np.cumsum(hits)
    recall = right / objects
    precision = right / np.arange(1, len(hits) + 1)
    # Precision at recall r is the best that any recall of at least r has.
    best = np.maximum.accumulate(precision[::-1])[::-1]
    place = np.searchsorted(recall, RECALLS)
    return float(np.append(best, 0.0)[place].mean())


def _hits(
    found: Sequence[Detections], objects: Sequence[Objects], label: int
) -> tuple[Array, Array, int]:
    """Of one class: scores [D] descending, hits [thresholds, D], number of objects.

    In each image detections choose in the order of their scores the free object that they overlap
    most.
    """
    scores: list[Array] = []
    hits: list[Array] = []
    count = 0
    for detections, (boxes, labels) in zip(found, objects, strict=True):
        truth = boxes[labels == label].cpu()
        mine = detections.labels == label
        score = detections.scores[mine].detach().cpu()
        order = torch.argsort(score, descending=True, stable=True)
        overlap = iou(detections.boxes[mine].detach().cpu()[order], truth).double().numpy()
        count += len(truth)
        scores.append(score[order].numpy())
        hits.append(np.stack([_assign(overlap, t) for t in THRESHOLDS]))
    all_scores = np.concatenate(scores) if scores else np.zeros(0)
    descending = np.argsort(-all_scores, kind="stable")
    joined = np.concatenate(hits, axis=1) if hits else np.zeros((len(THRESHOLDS), 0), bool)
    return all_scores[descending], joined[:, descending], count


def _assign(overlap: Array, threshold: float) -> Array:
    """Whether each detection [D] finds an object of its own; overlap is [D, objects]."""
    hit = np.zeros(len(overlap), bool)
    if not overlap.size:
        return hit
    free = np.ones(overlap.shape[1], bool)
    for i, row in enumerate(overlap):
        best = int(np.where(free, row, -1.0).argmax())
        if free[best] and row[best] >= threshold:
            hit[i], free[best] = True, False
    return hit


def _mean(values: Array) -> float:
    return float(values.mean()) if values.size else float("nan")
