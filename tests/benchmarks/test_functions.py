"""Instructions per function of any program, and the command line that shows them."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import count
from qgen.errors import QgenError
from tests.profile.conftest import CALLS, EMULATOR, build

__all__ = ["build"]


@pytest.fixture
def calls(build):  # type: ignore[no-untyped-def]
    return build(CALLS, "calls")


def test_profile_per_function(calls: Path) -> None:
    spent = count.profile(calls, EMULATOR, ["10"], ["30"], 20)
    assert spent["body"] == 204
    assert 4 <= spent["twice"] <= 12
    assert sum(spent.values()) == count.per_inference(calls, EMULATOR, ["10"], ["30"], 20)


def test_command_line(calls: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert count.main([str(calls), "--functions", "--", "10"]) == 0
    assert "           2,040 body\n" in capsys.readouterr().out
    assert count.main([str(calls), "--per", "20", "--few", "10", "--many", "30"]) == 0
    assert "per inference" in capsys.readouterr().out
    assert count.main([str(calls), "--", "1", "extra"]) == 2
    assert capsys.readouterr().err.startswith("calls failed with exit code 1")


def test_no_symbols(build, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    stripped = build(CALLS, "stripped", "-Wl,-s")
    with pytest.raises(QgenError, match=r"no function symbols \(do not strip"):
        count.symbol_ranges(stripped)
    (tmp_path / "text").write_text("text")
    with pytest.raises(QgenError, match="text: not a usable ELF file"):
        count.symbol_ranges(tmp_path / "text")
