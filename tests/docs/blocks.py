"""Fenced code blocks of the documentation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*.md")])

_FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"(?:#|//) (\S+/\S+)\n")


@dataclass(frozen=True)
class Block:
    """A fenced block: its info string, its text, and its line in the page."""

    page: Path
    line: int
    info: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text()
    for found in _FENCE.finditer(text):
        line = text.count("\n", 0, found.start()) + 1
        yield Block(page, line, found[1].strip(), found[2])


def apply(page: Path, root: Path) -> list[Path]:
    """Write the files and changes of a recipe below `root`; the files, in order.

    A block that starts with a comment ``# folder/file`` is that file. One of kind ``diff`` changes
    it: the lines marked ' ' and '-' must occur exactly once, and become those marked ' ' and '+'.
    """
    written = []
    for block in blocks(page):
        named = _FILE.match(block.text)
        if not named:
            continue
        path, body = root / named[1], block.text[named.end() :]
        if block.info == "diff":
            body = changed(path.read_text(), body, str(block))
        else:
            assert not path.exists(), f"{block}: {named[1]} is in the project already"
            path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(body)
        written.append(path)
    return written


def changed(text: str, diff: str, where: str) -> str:
    lines = [(line[:1] or " ", line[1:]) for line in diff.splitlines()]
    assert all(mark in " +-" for mark, _ in lines), f"{where}: a line without ' ', '+' or '-'"
    old = "".join(f"{line}\n" for mark, line in lines if mark != "+")
    new = "".join(f"{line}\n" for mark, line in lines if mark != "-")
    found = [m.start() for m in re.finditer(f"(?={re.escape(old)})", text)]
    starts = [i for i in found if i == 0 or text[i - 1] == "\n"]
    assert len(starts) == 1, f"{where}: its context must occur exactly once"
    return text[: starts[0]] + new + text[starts[0] + len(old) :]
