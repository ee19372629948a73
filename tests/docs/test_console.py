"""What the documentation shows of the command line is what the command line does.

A fenced block of kind ``console`` holds commands (``$ ...``) and their output. Each page gets a
folder of its own with the examples; its commands run in order, and must succeed and print what the
page says. Figures (they depend on the compiler) and white space may differ, and ``...`` stands for
any text. A block of kind ``console illustrative`` is not run.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.blocks import PAGES, ROOT, Block, blocks

pytestmark = pytest.mark.skipif(
    not (
        shutil.which("cc")
        and shutil.which("aarch64-linux-gnu-gcc")
        and shutil.which("qemu-aarch64")
    ),
    reason="needs compilers and the emulator",
)

SHOWN = {page: [b for b in blocks(page) if b.info == "console"] for page in PAGES}


def commands(block: Block) -> Iterator[tuple[str, str]]:
    """(command, output) of a block."""
    assert block.text.startswith("$ "), f"{block}: a console block starts with '$ '"
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield command, output


def pattern(output: str) -> str:
    """A regular expression for an output without its figures and white space."""
    words = re.sub(r"\d+(?:[.,]\d+)*", "\0", output).split()
    text = r"\s+".join(re.escape(word) for word in words)
    return text.replace(re.escape("\0"), r"\d+(?:[.,]\d+)*").replace(re.escape("..."), ".*?")


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    words = shlex.split(command)
    assert words[0] == "qgen", "console blocks show qgen; use sh for other commands"
    return subprocess.run(
        [sys.executable, "-m", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_pages_show_commands() -> None:
    assert sum(len(found) for found in SHOWN.values()) >= 3


@pytest.mark.parametrize("page", [p for p in PAGES if SHOWN[p]], ids=lambda p: p.name)
def test_console(page: Path, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    (tmp_path / "build").mkdir()
    for block in SHOWN[page]:
        for command, output in commands(block):
            done = run(command, tmp_path)
            said = done.stdout + done.stderr
            assert done.returncode == 0, f"{block}: $ {command}\n{said}"
            # An output left out altogether is not compared.
            if output.strip():
                shown = re.fullmatch(rf"\s*{pattern(output)}\s*", said, re.DOTALL)
                assert shown, f"{block}: $ {command}\n{said}"


def test_pattern() -> None:
    assert re.fullmatch(pattern("a 12 b\n"), "a  1,234.5  b")
    assert re.fullmatch(pattern("a ... c"), "a b b c", re.DOTALL)
    assert not re.fullmatch(pattern("a 12 b"), "a x b")
    assert not re.fullmatch(pattern("a b"), "a c")
