"""The recipes work: applied to a copy of the project, the new op and the new target verify."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT, apply, changed

pytestmark = pytest.mark.skipif(
    not (shutil.which("aarch64-linux-gnu-gcc") and shutil.which("qemu-aarch64")),
    reason="needs the aarch64 compiler and emulator",
)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The project without its caches."""
    for folder in ("qgen", "tests", "examples"):
        shutil.copytree(
            ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__", "docs")
        )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def python(copy: Path, *arguments: str) -> str:
    """Run Python in the copy; the standard output of a run that must succeed."""
    # The package of the copy, not the installed one; nothing from the pytest that runs this.
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "QGEN"))}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=copy,
        env={**env, "PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def clean(copy: Path, written: list[Path]) -> None:
    """Recipes keep the house rules; files of the copy are known by their place."""
    assert written
    sources = sorted({str(p.relative_to(copy)) for p in written if p.suffix == ".py"})
    python(copy, "-m", "ruff", "check", *sources)
    python(copy, "-m", "ruff", "format", "--check", *sources)
    package = [s for s in sources if s.startswith("qgen/")]
    python(copy, "-m", "mypy", "--follow-imports=silent", *package)


def test_copy_is_what_runs(copy: Path) -> None:
    shown = python(copy, "-c", "import qgen, sys; print(qgen.__file__)")
    assert shown.strip() == str(copy / "qgen" / "__init__.py")


def test_new_op(copy: Path) -> None:
    written = apply(ROOT / "docs" / "new-op.md", copy)
    assert len(written) >= 10
    clean(copy, written)
    shown = python(copy, "-m", "pytest", "-p", "no:cacheprovider", "-rs", "-k", "leaky_relu",
                   "tests/ops", "tests/test_golden.py")  # fmt: skip
    # Two targets under three roundings, golden against LiteRT, two by hand.
    passed = re.search(r"(\d+) passed", shown)
    assert passed and int(passed[1]) >= 9 and "skipped" not in shown, shown
    row = next(r for r in python(copy, "-m", "qgen", "ops").splitlines() if "leaky_relu" in r)
    assert row.split()[1:4] == ["LEAKY_RELU", *["q8_leaky_relu__neon_8"] * 2]


def test_new_target(copy: Path) -> None:
    clean(copy, apply(ROOT / "docs" / "new-target.md", copy))
    model = "examples/digits/digits.qg"
    python(copy, "-m", "qgen", "compile", model, "--target", "aarch64-size", "-o", "digits.h")
    shown = python(copy, "-m", "qgen", "verify", model, "--target", "aarch64-size")
    assert "target aarch64-size equals golden bit for bit" in shown
    assert "aarch64-size" in python(copy, "-m", "qgen", "ops").splitlines()[1]


def test_a_change_needs_its_context() -> None:
    assert changed("a\nb\n", " a\n-b\n+c\n", "here") == "a\nc\n"
    assert changed("a\nb\n", "+c\n a\n", "here") == "c\na\nb\n"
    for text in ("xa\n", "a\na\n"):
        with pytest.raises(AssertionError, match="here: its context must occur exactly once"):
            changed(text, " a\n+b\n", "here")
    with pytest.raises(AssertionError, match="a line without"):
        changed("a\n", "a\n+b\n", "here")
