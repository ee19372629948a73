"""Numbers and shapes as people read them."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from rich.console import Console

# In a pipe nobody can widen the window, so no column is cut.
PIPE_WIDTH = 200


def count(n: int) -> str:
    """1234567 -> '1,234,567'."""
    return f"{n:,}"


def quantity(n: int) -> str:
    """Three digits and a decimal prefix: 13633536 -> '13.6 M'."""
    for factor, prefix in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if n >= factor:
            value = n / factor
            return f"{value:.{1 if value < 100 else 0}f} {prefix}"
    return str(n)


def shape(dims: Sequence[int]) -> str:
    """[1, 64, 64, 8] -> '1x64x64x8'; a scalar is '[]'."""
    return "x".join(map(str, dims)) or "[]"


def bound_bits(accumulator: Mapping[str, int] | None) -> int | None:
    """Bits of a signed integer that holds the accumulator."""
    if accumulator is None:
        return None
    return max((~accumulator["low"]).bit_length(), accumulator["high"].bit_length()) + 1


def console(width: int | None = None) -> Console:
    """A console for reports on stdout: colours on a terminal, plain and wide text in a pipe."""
    if width is None and not sys.stdout.isatty():
        width = PIPE_WIDTH
    return Console(width=width, highlight=False, soft_wrap=False)
