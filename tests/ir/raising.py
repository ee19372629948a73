"""Which `raise` statements a list of bad calls reaches."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType

from qgen.errors import QgenError

ROOT = Path(__file__).parents[2]
Place = tuple[str, int]


def raise_statements(*folders: str) -> dict[Place, str]:
    """Every ``raise QgenError(...)`` below `folders`: (file, line) -> its text."""
    found = {}
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            source = path.read_text()
            for node in ast.walk(ast.parse(source)):
                if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                    text = ast.get_source_segment(source, node) or ""
                    if "QgenError" in ast.unparse(node.exc.func):
                        found[str(path), node.lineno] = text
    return found


def _last(tb: TracebackType | None) -> Iterator[Place]:
    while tb is not None:
        if tb.tb_next is None:
            yield tb.tb_frame.f_code.co_filename, tb.tb_lineno
        tb = tb.tb_next


def reached(bad: Callable[[], object]) -> set[Place]:
    """Where `bad` raises, with the errors that were raised again with more to say."""
    try:
        bad()
    except QgenError as e:
        places: set[Place] = set()
        error: BaseException | None = e
        while error is not None:
            places |= set(_last(error.__traceback__))
            error = error.__context__
        return places
    return set()
