"""The code of docs/experiments.md runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="PyTorch trains")
pytest.importorskip("sklearn", reason="scikit-learn holds the digits")

from tests.docs.blocks import ROOT, blocks


def test_training_from_data_to_integers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = [b for b in blocks(ROOT / "docs" / "experiments.md") if b.info == "python"]
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(block.text.replace("epochs=8", "epochs=2").replace("epochs=4", "epochs=1"), names)
    assert (tmp_path / "build" / "run" / "last.pt").is_file()
    right = names["outputs"].argmax(dim=1) == names["held_out"].labels
    assert len(right) == 449 and float(right.float().mean()) > 0.5
