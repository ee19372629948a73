"""Detection around the network: anchors, loss, detections, metrics. Boxes are x0, y0, x1, y1."""

import qgen.train.needs_torch  # noqa: F401

from qgen.train.detection.anchors import anchor_boxes, flatten, map_sizes
from qgen.train.detection.boxes import decode, encode, iou, suppress
from qgen.train.detection.detect import Detections, detect
from qgen.train.detection.loss import SsdLoss, match
from qgen.train.detection.metrics import Scores, average_precision, evaluate_detections

__all__ = [
    "Detections",
    "Scores",
    "SsdLoss",
    "anchor_boxes",
    "average_precision",
    "decode",
    "detect",
    "encode",
    "evaluate_detections",
    "flatten",
    "iou",
    "map_sizes",
    "match",
    "suppress",
]
