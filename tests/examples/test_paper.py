"""The commands of the paper's tables: arguments, errors, and a quick run."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch trains")
pytest.importorskip("sklearn", reason="scikit-learn holds the digits")
Image = pytest.importorskip("PIL.Image", reason="Pillow reads images")

from examples.paper import command, cost, phases, table_4_1, table_4_4  # noqa: E402
from examples.paper.command import Experiment, Options, change, percent  # noqa: E402
from qgen.errors import QgenError  # noqa: E402
from qgen.train import (  # noqa: E402
    QatConfig,
    create_eval_graph,
    create_training_graph,
    export,
)
from qgen.train.models import mobilenet_v1  # noqa: E402

COMMANDS = ("table_4_1", "table_4_3", "table_4_4", "table_4_7", "figure_1_1c")


@pytest.fixture(autouse=True)
def threads() -> Any:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def experiment(name: str) -> Experiment:
    found: Experiment = importlib.import_module(f"examples.paper.{name}").EXPERIMENT
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_code:
        experiment(name).main(["--help"])
    assert exit_code.value.code == 0
    shown = capsys.readouterr().out
    assert f"python -m examples.paper.{name} --quick" in shown
    assert all(option in shown for option in ("--seeds N", "--epochs N", "--plot FILE", "torchrun"))
    assert len(experiment(name).differs) >= 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "0"], "'0' is not a positive number"),
        (["--epochs", "x"], "'x' is not a positive number"),
        (["--data", "missing"], "no folder missing/train"),
        (["--bits", "8"], "unrecognized arguments: --bits 8"),
    ],
)
def test_errors(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert experiment("table_4_1").main(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and message in shown.err and shown.err.count("\n") == 1


def test_quick_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plot = tmp_path / "plot.svg"
    arguments = ["--quick", "--plot", str(plot), "--folder", str(tmp_path / "runs")]
    assert experiment("table_4_1").main(arguments) == 0
    first = capsys.readouterr().out
    assert "Floating-point accuracy, %" in first and "Integer-quantized accuracy, %" in first
    assert "a quick trial" in first and first.count("\n- ") == len(table_4_1.EXPERIMENT.differs)
    drawn = plot.read_bytes()
    assert drawn.startswith(b"<?xml")
    # The second run has only to read the checkpoints of the first, and shows the same.
    before = {p: p.read_bytes() for p in (tmp_path / "runs").rglob("*.pt")}
    assert len(before) == 3
    assert experiment("table_4_1").main(arguments) == 0
    assert capsys.readouterr().out == first and plot.read_bytes() == drawn
    assert {p: p.read_bytes() for p in before} == before


def options(**changes: Any) -> Options:
    settings: dict[str, Any] = {
        "seeds": 1, "epochs": 1, "quick": True, "plot": None, "data": None, "folder": None
    }  # fmt: skip
    return Options(**settings | changes)


def test_without_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; import examples.paper.table_4_1"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    expected = "error: the experiments need PyTorch (pip install 'qgen[train]')\n"
    assert (done.returncode, done.stderr) == (1, expected)


def test_plot_that_cannot_be_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    series = {"a": ([1.0], [2.0])}
    with pytest.raises(QgenError, match=r"cannot write the plot: .*gif"):
        command.plot(options(plot=tmp_path / "x.gif"), series, x="x", y="y", title="t")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(QgenError, match="the plot needs matplotlib"):
        command.plot(options(plot=tmp_path / "x.svg"), series, x="x", y="y", title="t")


def test_figures() -> None:
    assert percent([0.5]) == "50.0"
    assert percent([0.5, 0.7]) == "60.0 ± 10.0"
    assert percent([0.5, float("nan")]) == "n/a"
    assert change([0.45, 0.45], [0.5]) == "-10.0 %"
    assert change([0.1], [0.0]) == "n/a"


def test_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Executed instructions, or predicted ones where there is no emulator."""
    images = torch.randn(2, 1, 8, 8)
    training = create_training_graph(mobilenet_v1(0.25, 8, 10, channels=1), images, QatConfig())
    training(images)
    graph = export(create_eval_graph(training))

    def missing(*_: object) -> None:
        raise QgenError("emulator not found")

    monkeypatch.setattr(cost, "profile_model", missing)
    predicted = cost.cost(graph)
    assert not predicted.executed and predicted.macs == sum(op.cost().macs for op in graph.ops)
    # The cost model of kernels sees the multiplying loops, a good part of all.
    assert predicted.macs / 30 < predicted.instructions < predicted.macs * 2


def test_folders_of_images(tmp_path: Path) -> None:
    for part in phases.PARTS:
        for name in ("cat", "dog"):
            (tmp_path / part / name).mkdir(parents=True)
            Image.new("RGB", (20, 20)).save(tmp_path / part / name / "x.png")
    task = phases.classification(options(data=tmp_path), small=8, full=16)
    assert (task.classes, task.channels, task.size) == (2, 3, 16)
    assert task.training[0][0].shape == (3, 16, 16)
    (tmp_path / "val" / "emu").mkdir()
    Image.new("RGB", (20, 20)).save(tmp_path / "val" / "emu" / "x.png")
    with pytest.raises(QgenError, match="train and val do not have the same classes"):
        phases.classification(options(data=tmp_path), small=8, full=16)


def test_coco_annotations(tmp_path: Path) -> None:
    for part in phases.PARTS:
        (tmp_path / part).mkdir()
        Image.new("RGB", (20, 20)).save(tmp_path / part / "x.png")
        content = {
            "images": [{"id": 1, "file_name": "x.png"}],
            "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
            "annotations": [{"image_id": 1, "category_id": 2, "bbox": [2, 2, 9, 9]}],
        }
        (tmp_path / f"{part}.json").write_text(json.dumps(content))
    task, detector = table_4_4.data(options(data=tmp_path, quick=False))
    assert task.classes == 2 and task.test[0][0].shape == (3, 320, 320)
    # The published maps: 20 x 20 down to one cell, with 6 anchors per cell.
    assert len(detector.anchors) == 6 * sum(n * n for n in (20, 10, 5, 3, 2, 1))


def test_small_anchors_cover_the_shapes() -> None:
    """Every drawn shape overlaps some anchor by more than 0.4."""
    from qgen.train.detection import iou

    task, detector = table_4_4.data(options())
    best = [iou(boxes, detector.anchors).max(dim=1).values for _, boxes, _ in task.test]
    assert float(np.concatenate(best).min()) > 0.4
