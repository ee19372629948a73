"""The benchmark of training steps runs; its figures are not judged."""

from __future__ import annotations

import pytest

from benchmarks import training


def test_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert training.main(["--steps", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 * (1 + len(training.CONFIGS))
    assert lines[0].startswith("separable") and lines[0].endswith("1.00 x float")
