"""The MAC rate that a core's multiply instructions alone allow: what 100 % means."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from qgen.profile.mca import Cost


@dataclass(frozen=True)
class Multiply:
    """A multiply instruction of int8 and how many MACs it does.

    Attributes:
        feature: of the instruction set, which brings it.
        macs: per instruction.
        pattern: assembly; ``{d}`` is an accumulator, ``{a}`` and ``{b}`` operands.
        accumulators: numbers of registers that are written in turn, so that none waits for another.
    """

    feature: str
    macs: int
    pattern: str
    accumulators: range = range(8, 32)

    @property
    def name(self) -> str:
        return self.pattern.split()[0]

    @property
    def text(self) -> str:
        """As many instructions as there are accumulators."""
        return "\n".join(
            self.pattern.format(d=d, a=i % 4, b=4 + i % 4) for i, d in enumerate(self.accumulators)
        )


@dataclass(frozen=True)
class Peak:
    """The most MACs per cycle, and the multiply instruction that reaches them."""

    rate: float
    instruction: str


MULTIPLIES = (
    Multiply("aarch64", 8, "smlal v{d}.8h, v{a}.8b, v{b}.8b"),
    Multiply("dotprod", 16, "sdot v{d}.4s, v{a}.16b, v{b}.16b"),
    Multiply("i8mm", 32, "smmla v{d}.4s, v{a}.16b, v{b}.16b"),
)
# Instructions of the 32-bit set have names of their own; a core has one or the other.
MULTIPLIES_32 = (Multiply("neon", 8, "vmlal.s8 q{d}, d{a}, d{b}", range(4, 16)),)


# MACs of a line of assembly: multiplies of int8, and of int16 where they do the same work.
_WORK = (
    (re.compile(r"(?:[su]mull2?|[su]mlal2?|mla|mul) v\d+\.8h"), 8),
    (re.compile(r"[su]dot v"), 16),
    (re.compile(r"(?:s|u|us)mmla v"), 32),
    (re.compile(r"vm(?:ull|lal|la|ul)\.[sui](?:8|16) q"), 8),
)


def macs_of(text: str) -> int:
    """MACs that vector multiplies of a block of assembly do in one round."""
    lines = (" ".join(line.split()) for line in text.splitlines())
    return sum(macs for line in lines for form, macs in _WORK if form.match(line))


def multiplies(features: frozenset[str]) -> tuple[Multiply, ...]:
    """Those that code with `features` may use."""
    found = tuple(m for m in MULTIPLIES if m.feature in features)
    return found or tuple(m for m in MULTIPLIES_32 if m.feature in features)


def macs_per_instruction(features: frozenset[str]) -> int:
    """MACs of the widest multiply instruction; 1 where there are no vectors."""
    known = (*MULTIPLIES, *MULTIPLIES_32)
    return max((m.macs for m in known if m.feature in features), default=1)


def peak(features: frozenset[str], costs: Mapping[str, Cost]) -> Peak | None:
    """The best instruction of code with `features`, from the cost of each one's `text`.

    None where there is no vector multiply.
    """
    found = (
        Peak(m.macs * len(m.accumulators) / costs[m.text].throughput, m.name)
        for m in multiplies(features)
    )
    return max(found, key=lambda p: p.rate, default=None)
