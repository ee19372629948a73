"""The import rules: meaning does not know the machine, and the pipeline runs one way."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "qgen"
FILES = sorted(PACKAGE.rglob("*.py"))

# Folder or module of the package -> what it may import, beside itself and `errors`.
ALLOWED = {
    "errors": set(),
    "ir": set(),
    "frontend": {"ir", "files"},
    "passes": {"ir"},
    "plan": {"ir", "passes"},
    "toolchain": set(),
    "targets": {"ir", "passes", "toolchain"},
    "asm": set(),
    "render": {"asm", "ctext", "targets"},
    "codesize": {"ir", "targets"},
    "lower": {"asm", "codesize", "ir", "passes", "plan", "render", "targets"},
    "train": {"ir", "passes", "files"},
    "selftest": {"ir", "lower"},
    "emit": {"ir", "lower", "plan", "render", "selftest", "targets"},
}


def imports(file: Path) -> Iterator[str]:
    """Second component of every ``qgen.x`` that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "qgen":
            names = [f"qgen.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            continue
        yield from (n.split(".")[1] for n in names if n.startswith("qgen."))


def part(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("owner", ALLOWED)
def test_imports(owner: str) -> None:
    files = [f for f in FILES if part(f) == owner]
    assert files
    allowed = ALLOWED[owner] | {owner, "errors", "__version__"}
    found = {f"{f.relative_to(PACKAGE)}: {name}" for f in files for name in imports(f)}
    broken = sorted(line for line in found if line.split(": ")[1] not in allowed)
    assert not broken, f"{owner} must not import: {broken}"


def test_golden_does_not_know_the_machine() -> None:
    """The rule of the house: golden and the kernels share no bug but those of `ir`."""
    reached = {name for f in FILES if part(f) == "ir" for name in imports(f)}
    assert reached <= {"ir", "errors"}


def test_files_are_short() -> None:
    longest = max(FILES, key=lambda f: len(f.read_text().splitlines()))
    assert len(longest.read_text().splitlines()) <= 400, longest
