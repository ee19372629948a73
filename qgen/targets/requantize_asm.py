"""Requantization in assembly: what stands between int32 sums and the store of a matrix kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qgen.ir.numerics import LOW_BITS
from qgen.ir.types import Rounding


@dataclass(frozen=True)
class Sums:
    """Registers of one vector of sums: the sums themselves, M0, shift and m1 of their channels."""

    value: int
    m0: int
    shift: int
    m1: int


@dataclass(frozen=True)
class Lines:
    """Assembly lines, and what they do in one line."""

    title: str
    lines: tuple[str, ...]


def requantize_lines(
    sums: Sequence[Sums], free: Sequence[int], rounding: Rounding, *, left: bool, floor: bool
) -> Lines:
    """Requantize vectors of 4 channels in place; shift registers change.

    Args:
        sums: vectors; those of equal channels share their parameters.
        free: registers that may be overwritten, at least 4.
        left: some shift may be positive.
        floor: negative ties never show (Q3c).
    """
    if rounding is Rounding.GEMMLOWP:
        return _twice(sums, free, left=left, floor=floor)
    return _once(sums, free, ties_away=rounding is Rounding.NEAREST)


def _shifts(sums: Sequence[Sums]) -> list[int]:
    return list(dict.fromkeys(s.shift for s in sums))


def _twice(sums: Sequence[Sums], free: Sequence[int], *, left: bool, floor: bool) -> Lines:
    lines: list[str] = []
    if left:
        up, zero = free[:2]
        lines.append(f"movi v{zero}.4s, #0")
        for shift in _shifts(sums):
            lines.append(f"smax v{up}.4s, v{shift}.4s, v{zero}.4s")
            lines.append(f"smin v{shift}.4s, v{shift}.4s, v{zero}.4s")
            mine = [s.value for s in sums if s.shift == shift]
            lines += [f"sshl v{v}.4s, v{v}.4s, v{up}.4s" for v in mine]
    lines += [f"sqrdmulh v{s.value}.4s, v{s.value}.4s, v{s.m0}.4s" for s in sums]
    if not floor:
        # As many at a time as there are registers for the fix-ups.
        for i in range(0, len(sums), len(free)):
            fixes = list(zip(free, sums[i : i + len(free)], strict=False))
            lines += [f"and v{f}.16b, v{s.value}.16b, v{s.shift}.16b" for f, s in fixes]
            lines += [f"sshr v{f}.4s, v{f}.4s, #31" for f, _ in fixes]
            lines += [f"sqadd v{s.value}.4s, v{s.value}.4s, v{f}.4s" for f, s in fixes]
    lines += [f"srshl v{s.value}.4s, v{s.value}.4s, v{s.shift}.4s" for s in sums]
    ties = "negative ties are clamped away (Q3c)" if floor else "with ties turned away from zero"
    return Lines(f"(Q3): SQRDMULH, then SRSHL; {ties}.", tuple(lines))


def _once(sums: Sequence[Sums], free: Sequence[int], *, ties_away: bool) -> Lines:
    first, second, wide, tie = free[:4]
    # The right shift of the 64-bit product is 31 - shift; SRSHL shifts right by negative amounts.
    lines = [f"movi v{tie}.4s, #31"]
    lines += [f"sub v{shift}.4s, v{shift}.4s, v{tie}.4s" for shift in _shifts(sums)]
    for s in sums:
        for out, high, lanes in ((first, "", "2s"), (second, "2", "4s")):
            lines.append(f"smull{high} v{out}.2d, v{s.value}.{lanes}, v{s.m0}.{lanes}")
            if ties_away:
                lines += [
                    f"smull{high} v{wide}.2d, v{s.value}.{lanes}, v{s.m1}.{lanes}",
                    f"ssra v{out}.2d, v{wide}.2d, #{LOW_BITS}",
                    f"shl v{wide}.2d, v{wide}.2d, #{64 - LOW_BITS}",
                    f"cmeq v{wide}.2d, v{wide}.2d, #0",
                    f"cmlt v{tie}.2d, v{out}.2d, #0",
                    f"and v{tie}.16b, v{tie}.16b, v{wide}.16b",
                    f"add v{out}.2d, v{out}.2d, v{tie}.2d",
                ]
            lines.append(f"sshll{high} v{wide}.2d, v{s.shift}.{lanes}, #0")
            lines.append(f"srshl v{out}.2d, v{out}.2d, v{wide}.2d")
        lines += [f"sqxtn v{s.value}.2s, v{first}.2d", f"sqxtn2 v{s.value}.4s, v{second}.2d"]
    ties = "away from zero" if ties_away else "up"
    return Lines(f"(Q4): 64-bit product, rounded once, ties {ties}.", tuple(lines))
