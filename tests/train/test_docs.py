"""The recipe of docs/training.md runs and prints what the page says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from qgen.frontend import load_model
from tests.docs.blocks import ROOT, apply

PAGE = ROOT / "docs/training.md"


def test_recipe(tmp_path: Path) -> None:
    (script,) = apply(PAGE, tmp_path)
    done = subprocess.run(
        [sys.executable, str(tmp_path / script)], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert f"`{done.stdout.strip()}`" in " ".join(PAGE.read_text().split())
    assert len(load_model(tmp_path / "digits.qg").ops) == 5
