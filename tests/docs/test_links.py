"""Links between the pages lead somewhere, and the table of ops is the one `qgen ops` prints."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from qgen.__main__ import main
from tests.docs.blocks import PAGES, ROOT


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


ACCEPT = "QGEN_ACCEPT=1 pytest tests/docs"


def accepted(page: Path, text: str) -> str:
    """The committed text; it becomes `text` if changes are accepted."""
    if os.environ.get("QGEN_ACCEPT"):
        page.write_text(text)
    return page.read_text()


def test_table_of_ops(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ops", "--markdown"]) == 0
    table, page = capsys.readouterr().out, ROOT / "docs" / "ops.md"
    head, _, _ = page.read_text().partition("| op |")
    assert accepted(page, head + table) == head + table, f"changed; if that is meant: {ACCEPT}"


@pytest.mark.skipif(not shutil.which("aarch64-linux-gnu-gcc"), reason="needs the aarch64 compiler")
def test_excerpt_of_generated_code(tmp_path: Path) -> None:
    """The README shows a function as it is generated, and its comment; weights are left out."""
    model, out = ROOT / "examples" / "digits" / "digits.qg", tmp_path / "digits.h"
    assert main(["compile", str(model), "-o", str(out)]) == 0
    found = re.search(
        r'^(/\* conv2d "branch".*?\*/\n).*?^(DIGITS_OP static void \w+_branch\(.*?^}\n)',
        out.read_text(),
        re.MULTILINE | re.DOTALL,
    )
    assert found
    excerpt = f"```c\n{found[1]}/* ... weights, packed in reading order ... */\n{found[2]}```\n"
    page = ROOT / "README.md"
    now = re.sub(r"^```c\n.*?^```\n", lambda _: excerpt, page.read_text(), flags=re.M | re.S)
    assert accepted(page, now) == now, f"changed; if that is meant: {ACCEPT}"


def test_picture(tmp_path: Path) -> None:
    model, out = ROOT / "examples" / "digits" / "digits.qg", tmp_path / "digits.svg"
    assert main(["inspect", str(model), "--plot", str(out)]) == 0
    page = ROOT / "docs" / "img" / "digits.svg"
    assert accepted(page, out.read_text()) == out.read_text(), f"if that is meant: {ACCEPT}"
