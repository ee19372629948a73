"""Links between the pages lead somewhere, and the table of ops is the one `qgen ops` prints."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from qgen.__main__ import main
from tests.docs.blocks import PAGES, ROOT, blocks


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_table_of_ops(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ops", "--markdown"]) == 0
    table = capsys.readouterr().out
    assert table in (ROOT / "docs" / "ops.md").read_text(), "qgen ops --markdown > docs/ops.md"


@pytest.mark.skipif(not shutil.which("aarch64-linux-gnu-gcc"), reason="needs the aarch64 compiler")
def test_excerpt_of_generated_code(tmp_path: Path) -> None:
    """Figures may differ; every other line of the README's excerpt is in the generated file."""
    (block,) = (b for b in blocks(ROOT / "README.md") if b.info == "c")
    model, out = ROOT / "examples" / "digits" / "digits.qg", tmp_path / "digits.h"
    assert main(["compile", str(model), "-o", str(out)]) == 0
    generated = {re.sub(r"\d+", "0", line) for line in out.read_text().splitlines()}
    for line in block.text.splitlines():
        assert "..." in line or re.sub(r"\d+", "0", line) in generated, line


def test_picture(tmp_path: Path) -> None:
    model, out = ROOT / "examples" / "digits" / "digits.qg", tmp_path / "digits.svg"
    assert main(["inspect", str(model), "--plot", str(out)]) == 0
    committed = (ROOT / "docs" / "img" / "digits.svg").read_text()
    assert out.read_text() == committed, "draw docs/img/digits.svg again, see CONTRIBUTING.md"
