"""Loaders on files that the test writes, and drawn data whose truth is known."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch trains")
Image = pytest.importorskip("PIL.Image", reason="Pillow reads images")

from qgen.errors import QgenError  # noqa: E402
from qgen.train.data import (  # noqa: E402
    CocoDetection,
    Digits,
    Faces,
    ImageFolder,
    Shapes,
    batches,
)
from qgen.train.data.canvas import Canvas  # noqa: E402
from qgen.train.data.digits import moved  # noqa: E402
from qgen.train.data.images import read  # noqa: E402

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


def paint(path: Path, size: tuple[int, int], colour: tuple[int, int, int]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


# -- folders of images -------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in range(3):
        paint(tmp_path / "red" / f"{i}.png", (40 + i, 30), RED)
    paint(tmp_path / "blue" / "deeper" / "x.JPG", (20, 50), BLUE)
    (tmp_path / "blue" / "notes.txt").write_text("no image")
    return tmp_path


def test_folder(folder: Path) -> None:
    data = ImageFolder(folder, 16)
    assert data.classes == ("blue", "red")
    assert [label for _, label in (data[i] for i in range(len(data)))] == [0, 1, 1, 1]
    image, _ = data[1]
    assert image.shape == (3, 16, 16) and image.dtype == torch.float32
    assert image[0].min() == 1.0 and image[1:].max() == -1.0


def test_folder_takes_the_centre(tmp_path: Path) -> None:
    """Of a wide picture, red in its middle square and blue beside it, red is left (D.1)."""
    picture = Image.new("RGB", (96, 32), BLUE)
    picture.paste(RED, (32, 0, 64, 32))
    (tmp_path / "a").mkdir()
    picture.save(tmp_path / "a" / "x.png")
    image, _ = ImageFolder(tmp_path, 28)[0]
    assert image[0].min() == 1.0 and image[2].max() == -1.0


def test_training_samples_are_random_and_seeded(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    (tmp_path / "a").mkdir()
    Image.fromarray(noise).save(tmp_path / "a" / "x.png")
    data = ImageFolder(tmp_path, 16, train=True, colours=True)
    taken = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        taken.append(data[0][0])
    assert torch.equal(taken[0], taken[1])
    assert not torch.equal(taken[0], taken[2])
    assert all(t.shape == (3, 16, 16) and t.abs().max() <= 1 for t in taken)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: root / "none", "no folder .*none .*one folder per class"),
        (lambda root: root, "has no folders"),
        (lambda root: (root / "a").mkdir() or root, "class folder .*a has no images"),
    ],
)
def test_bad_folder(tmp_path: Path, make: Callable[[Path], Path], message: str) -> None:
    with pytest.raises(QgenError, match=message):
        ImageFolder(make(tmp_path), 16)


def test_bad_image(folder: Path) -> None:
    (folder / "red" / "0.png").write_text("no image")
    with pytest.raises(QgenError, match=r"0\.png is not an image"):
        ImageFolder(folder, 16)[1]
    (folder / "red" / "0.png").unlink()
    with pytest.raises(QgenError, match=r"cannot read .*0\.png: No such file"):
        read(folder / "red" / "0.png")


# -- COCO --------------------------------------------------------------------------------------


def annotations() -> dict[str, Any]:
    def box(image: int, category: int, *bbox: int, crowd: int = 0) -> dict[str, Any]:
        return {"image_id": image, "category_id": category, "bbox": bbox, "iscrowd": crowd}

    return {
        "images": [{"id": 7, "file_name": "a.png"}, {"id": 3, "file_name": "b.png"}],
        "categories": [{"id": 44, "name": "cup"}, {"id": 2, "name": "car"}],
        "annotations": [
            box(7, 44, 10, 5, 20, 10),
            box(7, 2, 0, 0, 40, 20),
            box(7, 2, 0, 0, 40, 20, crowd=1),
            box(7, 2, 5, 5, 0, 9),
        ],
    }


@pytest.fixture
def coco(tmp_path: Path) -> Callable[..., CocoDetection]:
    picture = Image.new("RGB", (40, 20), BLUE)
    picture.paste(RED, (10, 5, 30, 15))
    picture.save(tmp_path / "a.png")
    paint(tmp_path / "b.png", (30, 30), WHITE)

    def load(change: dict[str, Any] | None = None, **options: Any) -> CocoDetection:
        path = tmp_path / "instances.json"
        path.write_text(json.dumps(annotations() | (change or {})))
        return CocoDetection(path, tmp_path, 32, **options)

    return load


def test_coco(coco: Callable[..., CocoDetection]) -> None:
    data = coco()
    assert data.classes == ("car", "cup") and len(data) == 2
    empty, (image, boxes, labels) = data[0], data[1]
    assert empty[1].shape == (0, 4) and empty[2].shape == (0,)
    assert image.shape == (3, 32, 32)
    assert boxes.tolist() == [[0.25, 0.25, 0.75, 0.75], [0, 0, 1, 1]]
    assert labels.tolist() == [2, 1]


def test_coco_crops_move_the_boxes(coco: Callable[..., CocoDetection]) -> None:
    """Whatever the crop and the mirror, the box of the cup is where the picture is red."""
    data = coco(train=True)
    seen = 0
    for seed in range(20):
        torch.manual_seed(seed)
        image, boxes, labels = data[1]
        red = (image[0] > 0).nonzero().float() / 32
        for box, label in zip(boxes, labels, strict=True):
            if label == 2:
                low, high = red.min(dim=0).values, red.max(dim=0).values + 1 / 32
                np.testing.assert_allclose(box, [low[1], low[0], high[1], high[0]], atol=0.05)
                seen += 1
    assert seen > 10


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"categories": []}, "unknown category 44"),
        ({"images": [{"id": 3, "file_name": "b.png"}]}, "unknown image 7"),
        ({"images": [{"id": 7}]}, "not COCO annotations: KeyError 'file_name'"),
        ({"annotations": 5}, "not COCO annotations"),
        (
            {"images": [{"id": 7, "file_name": "a.png"}, {"id": 1, "file_name": "c.png"}]},
            r"image .*c\.png is missing",
        ),
    ],
)
def test_bad_annotations(
    coco: Callable[..., CocoDetection], change: dict[str, Any], message: str
) -> None:
    with pytest.raises(QgenError, match=message):
        coco(change)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot read .*: no such file"),
        ("{", "is not JSON"),
        ("[]", "not COCO annotations: a list"),
    ],
)
def test_bad_file(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "x.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(QgenError, match=message):
        CocoDetection(path, tmp_path, 32)


# -- small sets --------------------------------------------------------------------------------


def test_digits() -> None:
    pytest.importorskip("sklearn", reason="scikit-learn holds the data set")
    training, held_out = Digits(16, train=True), Digits(16, train=False)
    assert (len(training), len(held_out)) == (1348, 449)
    image, label = held_out[0]
    assert image.shape == (1, 16, 16) and 0 <= label <= 9
    assert float(held_out.images.min()) == -1.0 and float(held_out.images.max()) == 1.0
    torch.manual_seed(0)
    assert any(not torch.equal(training[0][0], training.images[0]) for _ in range(5))


def test_digits_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(QgenError, match="the digits need scikit-learn"):
        Digits(train=True)


def test_moved() -> None:
    image = torch.arange(12.0).reshape(1, 3, 4)
    assert moved(image, 1, -1).tolist() == [[[-1] * 4, [1, 2, 3, -1], [5, 6, 7, -1]]]
    assert torch.equal(moved(image, 0, 0), image)


def test_shapes_are_reproducible_and_boxed() -> None:
    first, again, other = Shapes(8, 32), Shapes(8, 32), Shapes(8, 32, seed=1)
    for a, b in zip(first.samples, again.samples, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    assert not torch.equal(first[0][0], other[0][0])
    for image, boxes, labels in first.samples:
        assert image.shape == (3, 32, 32) and image.abs().max() <= 1
        assert 1 <= len(boxes) == len(labels) <= 3
        assert ((boxes >= 0) & (boxes <= 1)).all() and (boxes[:, 2:] > boxes[:, :2]).all()
        assert set(labels.tolist()) <= {1, 2, 3}
        for x0, y0, x1, y1 in (boxes * 32).tolist():
            # Another colour inside than in the corner of the picture, which may hold a shape.
            inside = image[:, int((y0 + y1) / 2), int((x0 + x1) / 2)]
            outside = torch.stack([image[:, 0, 0], image[:, -1, 0], image[:, 0, -1]]).median(0)[0]
            assert (inside - outside).abs().max() > 0.3


def test_canvas_areas() -> None:
    canvas = Canvas(64, np.zeros(3))
    assert canvas.ellipse(32, 32, 20, 10).sum() == pytest.approx(np.pi * 200, rel=0.02)
    assert canvas.rectangle(10, 20, 30, 50).sum() == pytest.approx(600, rel=0.02)
    triangle = np.array([[10.0, 10.0], [50.0, 10.0], [10.0, 50.0]])
    assert canvas.polygon(triangle).sum() == pytest.approx(800, rel=0.03)


def test_faces() -> None:
    first, again = Faces(16), Faces(16)
    assert torch.equal(first.images, again.images)
    image, (attributes, age) = first[0]
    assert image.shape == (3, 32, 32) and attributes.shape == (5,) and age.shape == (1,)
    assert set(first.attributes.flatten().tolist()) == {0.0, 1.0}
    assert first.ages.min() >= 5 and first.ages.max() <= 85
    torch.manual_seed(0)
    training = Faces(1, train=True)
    seen = [training[0][0] for _ in range(20)]
    assert any(torch.equal(x, first.images[0]) for x in seen)
    assert any(torch.equal(x, first.images[0].flip(-1)) for x in seen)


def test_batches() -> None:
    data = torch.utils.data.TensorDataset(torch.arange(10))
    assert [len(b[0]) for b in batches(data, 4, train=True)] == [4, 4]
    tested = torch.cat([b[0] for b in batches(data, 4, train=False)])
    assert tested.tolist() == list(range(10))
    with pytest.raises(QgenError, match="10 samples are less than a batch of 11"):
        batches(data, 11, train=True)
