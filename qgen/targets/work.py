"""What a kernel executes in one run: its printed lines and how often each runs.

Counted it is the predicted number of instructions, which says the same on every core. Timed by a
core's clock it says which of two kernels that core finishes first: a multiply by element takes
twice the multiplier of one by vector on some, and a chain of products waits on others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

# Cycles of lines of assembly on a core; of one round of a loop that has so many, if not 0.
Clock = Callable[[tuple[str, ...], float], float]

# What stands for the C around a kernel, which is not printed line by line: it moves data.
_AROUND = (
    "ldr q0, [x0, #16]",
    "str q0, [x1, #16]",
    "add x2, x2, #16",
    "cmp x2, x3",
)


@dataclass(frozen=True)
class Part:
    """Lines of one basic block.

    Attributes:
        times: how often they run.
        rounds: how often they follow themselves, in the mean; 0 where they are no loop.
    """

    lines: tuple[str, ...]
    times: float
    rounds: float = 0.0


@dataclass(frozen=True)
class Work:
    """A run of a kernel.

    Attributes:
        around: instructions beside those of `parts`: branches, and the C that calls the kernel.
    """

    parts: tuple[Part, ...]
    around: float

    @property
    def instructions(self) -> float:
        return self.around + sum(len(p.lines) * p.times for p in self.parts)

    def cycles(self, clock: Clock) -> float:
        """Estimated cycles on the core of `clock`."""
        each = clock(_AROUND, 0.0) / len(_AROUND)
        return self.around * each + sum(clock(p.lines, p.rounds) * p.times for p in self.parts)

    def times(self, runs: float, around: float = 0.0) -> Work:
        """`runs` of this, each with so many instructions `around` it."""
        parts = tuple(Part(p.lines, p.times * runs, p.rounds) for p in self.parts)
        return Work(parts, (self.around + around) * runs)

    def __add__(self, other: Work) -> Work:
        return Work(self.parts + other.parts, self.around + other.around)
