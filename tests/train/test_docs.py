"""What the pages show of training runs; the recipe prints what its page says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from qgen.frontend import load_model
from tests.docs.blocks import ROOT, apply, blocks
from tests.train.nets import digits, separable

PAGE = ROOT / "docs/training.md"


def test_recipe(tmp_path: Path) -> None:
    (script,) = apply(PAGE, tmp_path)
    done = subprocess.run(
        [sys.executable, str(tmp_path / script)], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert f"`{done.stdout.strip()}`" in " ".join(PAGE.read_text().split())
    assert len(load_model(tmp_path / "digits.qg").ops) == 5


def test_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = (b for b in blocks(ROOT / "README.md") if b.info == "python")
    monkeypatch.chdir(tmp_path)
    images, labels, *_ = digits()
    loader = DataLoader(TensorDataset(images[:128], labels[:128]), 32)
    torch.manual_seed(1)
    exec(block.text, {"model": separable(), "images": images, "loader": loader})
    assert len(load_model(tmp_path / "digits.qg").ops) == 4
