"""Boxes, matching, loss and average precision against values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch trains")

from qgen.errors import QgenError  # noqa: E402
from qgen.train.detection import (  # noqa: E402
    Detections,
    SsdLoss,
    anchor_boxes,
    average_precision,
    decode,
    detect,
    encode,
    evaluate_detections,
    flatten,
    iou,
    map_sizes,
    match,
    suppress,
)

UNIT = torch.tensor([[0.0, 0.0, 0.5, 0.5]])


def test_iou() -> None:
    others = torch.tensor(
        [[0.0, 0.0, 0.5, 0.5], [0.25, 0.0, 0.75, 0.5], [0.5, 0.5, 1.0, 1.0], [0.1, 0.1, 0.1, 0.1]]
    )
    assert iou(UNIT, others).tolist() == [[1.0, pytest.approx(1 / 3), 0.0, 0.0]]
    assert iou(others[3:], others[3:]).tolist() == [[0.0]]


def test_codes() -> None:
    anchors = torch.tensor([[0.4, 0.4, 0.6, 0.6]])
    box = torch.tensor([[0.45, 0.4, 0.65, 0.8]])
    expected = [0.05 / 0.2 / 0.1, 0.1 / 0.2 / 0.1, 0.0, math.log(2) / 0.2]
    np.testing.assert_allclose(encode(box, anchors), [expected], atol=1e-5)
    torch.manual_seed(0)
    corner = torch.rand(50, 2) * 0.5
    boxes = torch.cat([corner, corner + 0.05 + torch.rand(50, 2) * 0.4], dim=1)
    np.testing.assert_allclose(decode(encode(boxes, anchors), anchors), boxes, atol=1e-6)
    assert torch.isfinite(decode(torch.full((1, 4), 1e9), anchors)).all()


def test_anchors() -> None:
    anchors = anchor_boxes([(2, 3), (1, 1)], smallest=0.2, largest=0.8, ratios=(1.0, 4.0))
    assert anchors.shape == ((6 + 1) * 3, 4)
    # The first cell is at x = 1/6, y = 1/4: a square, a box twice as wide as 0.2, half as tall.
    np.testing.assert_allclose(anchors[0], [1 / 6 - 0.1, 0.15, 1 / 6 + 0.1, 0.35], atol=1e-6)
    np.testing.assert_allclose(anchors[1], [1 / 6 - 0.2, 0.2, 1 / 6 + 0.2, 0.3], atol=1e-6)
    side = math.sqrt(0.2 * 0.8)
    assert float(anchors[2][2] - anchors[2][0]) == pytest.approx(side, abs=1e-6)
    # Then comes the next cell of the row.
    assert float((anchors[3][0] + anchors[3][2]) / 2) == pytest.approx(0.5)
    with pytest.raises(QgenError, match=r"scales of anchors must ascend from above 0, got 0\.5"):
        anchor_boxes([(1, 1)], smallest=0.5, largest=0.4)


def test_flatten_has_the_order_of_the_anchors() -> None:
    """Scores that hold their own row, column and anchor come out where their anchor is."""
    h, w, per_cell = 2, 3, 3
    anchor = torch.arange(h * w * per_cell).reshape(h, w, per_cell).permute(2, 0, 1)
    scores = anchor.repeat_interleave(4, dim=0)[None].float()
    codes = scores.clone()
    flat = flatten([scores, codes, scores[:, :, :1, :1], codes[:, :, :1, :1]], per_cell)
    assert flat[0].shape == (1, h * w * per_cell + per_cell, 4)
    assert flat[0][0, :18, 0].tolist() == list(range(18))
    assert map_sizes([scores, codes]) == [(2, 3)]


def test_match() -> None:
    anchors = torch.tensor(
        [[0.0, 0.0, 0.5, 0.5], [0.0, 0.0, 0.4, 0.5], [0.5, 0.5, 1.0, 1.0], [0.0, 0.5, 0.5, 1.0]]
    )
    boxes = torch.tensor([[0.0, 0.0, 0.5, 0.5], [0.6, 0.9, 0.9, 1.0]])
    labels, codes = match(anchors, [boxes, torch.tensor([5, 2])])
    # The small box is far from all anchors, and still has the nearest one.
    assert labels.tolist() == [5, 5, 2, 0]
    np.testing.assert_allclose(codes[0], [0, 0, 0, 0], atol=1e-6)
    np.testing.assert_allclose(decode(codes[2], anchors[2]), boxes[1], atol=1e-6)
    none, _ = match(anchors, [torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)])
    assert none.tolist() == [0, 0, 0, 0]


def test_each_object_has_an_anchor_of_its_own() -> None:
    """Two objects that want the same anchor share out the two there are."""
    anchors = torch.tensor([[0.0, 0.0, 0.5, 0.5], [0.5, 0.0, 1.0, 0.5]])
    boxes = torch.tensor([[0.0, 0.0, 0.5, 0.5], [0.1, 0.0, 0.6, 0.5]])
    labels, _ = match(anchors, [boxes, torch.tensor([1, 2])])
    assert labels.tolist() == [1, 2]


def test_loss() -> None:
    """One positive with loss log 2 and codes off by 2, and the one hardest of three negatives."""
    anchors = torch.tensor([[0.0, 0.0, 0.5, 0.5]] + [[0.5, 0.5, 1.0, 1.0]] * 3)
    scores = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [3.0, 0.0]])
    codes = torch.zeros(4, 4)
    codes[0, 0] = 2.0
    # One cell with four anchors.
    outputs = [t.reshape(1, -1, 1, 1).requires_grad_() for t in (scores, codes)]
    target = [(UNIT, torch.tensor([1]))]
    loss = SsdLoss(anchors, 4, negatives=1)(outputs, target)
    expected = math.log(2) + math.log(1 + math.e) + (2 - 0.5)
    loss.backward()
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert all(torch.isfinite(t.grad).all() for t in outputs)
    empty = [(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))]
    assert SsdLoss(anchors, 4)(outputs, empty).item() == pytest.approx(math.log(1 + math.e))


def test_suppress() -> None:
    boxes = torch.tensor(
        [[0.0, 0.0, 0.5, 0.5], [0.0, 0.0, 0.5, 0.45], [0.5, 0.5, 1, 1], [0.0, 0.0, 0.2, 0.5]]
    )
    scores = torch.tensor([0.8, 0.9, 0.1, 0.7])
    assert suppress(boxes, scores).tolist() == [1, 3, 2]
    assert suppress(boxes, scores, most=1).tolist() == [1]
    assert suppress(boxes[:0], scores[:0]).tolist() == []


def test_detect() -> None:
    """Scores that are sure of one anchor give its decoded box."""
    anchors = anchor_boxes([(2, 2)], ratios=(1.0,))
    scores = torch.zeros(1, 2 * 3, 2, 2)
    scores[:, 0::3] = 20.0
    scores[0, 0, 1, 0], scores[0, 2, 1, 0] = 0.0, 20.0
    (found,) = detect([scores, torch.zeros(1, 8, 2, 2)], anchors, 2)
    assert found.labels.tolist() == [2]
    np.testing.assert_allclose(found.boxes[0], anchors[4].clamp(0, 1), atol=1e-6)
    assert float(found.scores[0]) == pytest.approx(1.0, abs=1e-6)


def test_average_precision() -> None:
    assert average_precision(np.array([True, True]), 2) == 1.0
    assert average_precision(np.array([], bool), 2) == 0.0
    # Half of the objects at precision 1: recalls 0 to 0.50 are 51 of 101.
    assert average_precision(np.array([True]), 2) == pytest.approx(51 / 101)
    # Right, wrong, right: precision 1 up to recall 1/2, then 2/3.
    hits = np.array([True, False, True])
    assert average_precision(hits, 2) == pytest.approx((51 + 50 * 2 / 3) / 101)


def detections(*rows: tuple[float, list[float], int]) -> Detections:
    boxes = torch.tensor([r[1] for r in rows]).reshape(-1, 4)
    scores, labels = torch.tensor([r[0] for r in rows]), torch.tensor([r[2] for r in rows])
    return Detections(boxes, scores, labels)


def test_scores() -> None:
    """Image 1: a box of overlap 0.7 and its duplicate. Image 2: an object that is missed."""
    truth = [0.0, 0.0, 1.0, 1.0]
    objects = [(torch.tensor([truth]), torch.tensor([1]))] * 2
    near = [0.0, 0.0, 0.72, 1.0]
    found = [detections((0.9, near, 1), (0.8, near, 1), (0.4, truth, 2)), detections()]
    result = evaluate_detections(found, objects, 2)
    # Right at thresholds 0.5 to 0.7, five of ten; class 2 has no objects and does not count.
    assert result.ap50 == pytest.approx(51 / 101)
    assert result.ap == pytest.approx(51 / 101 / 2)
    assert result.precision == pytest.approx(0.5 / 2)
    assert result.recall == pytest.approx(0.5 / 2)


def test_scores_of_nothing() -> None:
    empty = (torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    result = evaluate_detections([detections()], [empty], 2)
    assert all(math.isnan(v) for v in (result.ap, result.ap50, result.precision, result.recall))


def test_each_object_is_found_once() -> None:
    """The better of two detections takes the object that both overlap most; the other its own."""
    objects = [(torch.tensor([[0.0, 0.0, 0.5, 0.5], [0.0, 0.0, 0.5, 0.4]]), torch.tensor([1, 1]))]
    found = [detections((0.9, [0.0, 0.0, 0.5, 0.5], 1), (0.8, [0.0, 0.0, 0.5, 0.48], 1))]
    assert evaluate_detections(found, objects, 1).ap50 == 1.0
