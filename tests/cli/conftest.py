"""Models as files in an empty current folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from qgen.frontend.printer import save
from tests.models import forked, tiny


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with tiny.qg, forked.qg and their weights."""
    save(tiny(), tmp_path / "tiny.qg")
    save(forked(), tmp_path / "forked.qg")
    monkeypatch.chdir(tmp_path)
    return tmp_path
