"""3 x 3 depthwise convolution in assembly: what its kernels share.

A program computes rows of one block of channels. A step makes two neighbouring columns of outputs
from columns of the image that stay in registers for both, and for the next step. Padding costs
nothing inside the loop: rows and columns outside the image are read from a vector of zero points,
by pointers that stand still.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from qgen.targets.finish import Constants, Finish, finish_lines
from qgen.targets.requantize_asm import Lines, Sums
from qgen.targets.spec import RegPlan

TALL = 3  # rows of taps
REGISTERS = 32


@dataclass(frozen=True)
class Pattern:
    """Which rows of weights a program multiplies.

    Attributes:
        order: tap of each row of weights, column by column: 3 * kx + ky; or kx alone where a row
            holds a column of taps. One comes twice where a weight leaves int8.
        runs: taps that share an int16 lane, one run after the other; empty without such lanes.
        vectors: per row of weights, which vectors of four channels have any, as a mask of bits;
            empty where all have.
        zeros: results of the last vector, which has no weights, are in the flips; see `empty.py`.
    """

    order: tuple[int, ...]
    runs: tuple[int, ...] = ()
    vectors: tuple[int, ...] = ()
    zeros: bool = False

    @property
    def name(self) -> str:
        twice = "".join(str(t) for i, t in enumerate(self.order) if t in self.order[:i])
        runs = ["r" + "".join(f"{n:x}" for n in self.runs)] if self.runs else []
        kind = "z" if self.zeros else "v"
        some = [kind + "".join(f"{n:x}" for n in self.vectors)] if self.vectors else []
        return "_".join([*runs, *(["x" + twice] if twice else []), *some])

    def has(self, row: int, vector: int) -> bool:
        """Whether a vector of four channels has weights in a row."""
        return not self.vectors or bool(self.vectors[row] >> vector & 1)

    @property
    def starts(self) -> frozenset[int]:
        """Rows of weights at which a run begins."""
        return frozenset(sum(self.runs[:i]) for i in range(len(self.runs)))


@dataclass(frozen=True)
class Form:
    """What of an op's shape is compiled into a program.

    Attributes:
        stride: of columns, 1 or 2.
        lanes: channels of a block, 16 or 8.
        left, right: the first column of the first output, the last of the last, is padding.
        odd: a row has an odd number of outputs: the last is computed alone.
    """

    stride: int
    lanes: int
    left: bool
    right: bool
    odd: bool

    @property
    def name(self) -> str:
        edges = ("left", self.left), ("right", self.right), ("odd", self.odd)
        found = [name for name, present in edges if present]
        return "_".join([f"3x3s{self.stride}c{self.lanes}", *found])


@dataclass(frozen=True)
class Program(ABC):
    """Assembly for rows of one block; pointers and counts are operands of the statement.

    int8 [row][column][channel] at `x`, the middle row of taps of the first row of outputs.
    """

    ISA: ClassVar[str]
    TITLE: ClassVar[str]
    WEIGHTS: ClassVar[str]
    ROWS: ClassVar[int]  # of outputs in a step
    CHANGED: ClassVar[tuple[str, ...]] = ("x", "y", "out", "rows", "edges")
    INPUTS: ClassVar[tuple[str, ...]] = ("w", "q", "z", "pairs", "step", "pitch", "advance")

    form: Form
    pattern: Pattern
    finish: Finish

    @property
    def name(self) -> str:
        parts = [f"depthwise_{self.ISA}", self.form.name, self.pattern.name, *self.finish.traits]
        return "_".join(p for p in parts if p)

    @property
    @abstractmethod
    def sizes(self) -> Mapping[str, int]:
        """Registers by role, without constants."""

    @property
    @abstractmethod
    def temporaries(self) -> tuple[str, ...]:
        """General registers that the statement uses beside its operands."""

    @property
    @abstractmethod
    def head(self) -> tuple[Lines, ...]:
        """Before the first row."""

    @property
    @abstractmethod
    def row(self) -> tuple[Lines, ...]:
        """Before the first step of a row."""

    @property
    @abstractmethod
    def body(self) -> tuple[Lines, ...]:
        """Two columns of outputs."""

    @property
    @abstractmethod
    def tail(self) -> tuple[Lines, ...]:
        """The last column of an odd number."""

    @property
    @abstractmethod
    def end(self) -> tuple[Lines, ...]:
        """After the last step of a row."""

    # -- registers -------------------------------------------------------------------------------

    @property
    def vectors(self) -> int:
        """Registers of 4 sums of one output."""
        return self.form.lanes // 4

    @property
    def uniform(self) -> bool:
        """One multiplier and shift for all channels, as constants."""
        return self.finish.immediate is not None

    @cached_property
    def constant_roles(self) -> list[str]:
        return constant_roles(self.finish)

    @cached_property
    def regs(self) -> RegPlan:
        first, plan = 0, {}
        for name, size in {**self.sizes, **dict.fromkeys(self.constant_roles, 1)}.items():
            plan[name] = tuple(range(first, first + size))
            first += size
        return RegPlan(plan)

    @property
    def constants(self) -> Constants:
        return constants_in({r: self.regs[r][0] for r in self.constant_roles})

    def sums(self, output: int) -> tuple[int, ...]:
        """Registers of one of the two outputs that are made at a time."""
        return self.regs["sums"][output * self.vectors :][: self.vectors]

    def general(self, name: str) -> str:
        """The register of a temporary: x17 and below, which calls do not preserve."""
        return f"x{17 - self.temporaries.index(name)}"

    @property
    def outputs(self) -> list[str]:
        # Early clobber: an input of equal value must not share a register that the loop changes.
        return [f'[{v}] "+&r"({v})' for v in self.CHANGED]

    @property
    def operands(self) -> list[str]:
        """`w` and `q` are of the block, the rest is in the struct of the op."""
        found = [f'[{v}] "r"({v})' for v in self.INPUTS if len(v) == 1 and v != "z"]
        found.append('[z] "r"(op->outside)')
        return found + [f'[{v}] "r"((size_t)op->{v})' for v in self.INPUTS if len(v) > 1]

    @property
    def clobbers(self) -> list[str]:
        general = (self.general(name) for name in self.temporaries)
        return [f'"{c}"' for c in (*general, *self.regs.clobbers, "cc", "memory")]

    # -- sections --------------------------------------------------------------------------------

    @property
    def size(self) -> str:
        """Prefix of a register as a block of channels."""
        return "q" if self.form.lanes == 16 else "d"

    @property
    def bytes(self) -> str:
        return f"{self.form.lanes}b"

    @property
    def skips(self) -> bool:
        """A row may have no step before the last one."""
        return self.form.odd or self.form.right

    @property
    def redirects(self) -> bool:
        """The last column of the last step is padding."""
        return self.form.right and not self.form.odd

    @property
    def start(self) -> Iterator[str]:
        """Count the steps of a row where a pointer was that is no longer needed."""
        yield "mov %[out], %[pairs]"
        if self.skips:
            yield "cbz %[out], 3f"

    @cached_property
    def redirect(self) -> tuple[Lines, ...]:
        pointers = [name for name in self.temporaries if name[0] == "b"]
        lines = [f"mov {self.general(name)}, %[z]" for name in pointers]
        return (Lines("The last step: its last column is padding.", (*lines, "b 2b")),)

    def finish_outputs(self, outputs: int, free: Sequence[int]) -> Lines:
        """The end of outputs; `free` takes multipliers and shifts that are no constants."""
        sums = [self.sums(o) for o in range(outputs)]
        return end_of(self.finish, sums, free, self.constants)

    # -- budget ----------------------------------------------------------------------------------

    def instructions(self, calls: int, rows: int, columns: int) -> int:
        """Executed in `calls` calls that take `rows` turns of `ROWS` rows in all."""
        steps = columns // 2
        row = count(self.row) + count(self.end) + steps * (count(self.body) + 2)
        if self.form.odd:
            row += count(self.tail)
        elif self.redirects:
            # One step returns by a branch from there; the way out takes one more.
            row += count(self.redirect) + 1 + (steps > 1)
        return calls * count(self.head) + rows * row


def end_of(
    finish: Finish, outputs: Sequence[Sequence[int]], free: Sequence[int], at: Constants
) -> Lines:
    """From the sums of outputs of the same channels to bytes.

    Multipliers and shifts that are no constants follow the bias at `q`, and are read into `free`,
    some at a time.
    """
    if finish.immediate is not None:
        sums = [Sums(v, 0, 0, 0) for output in outputs for v in output]
        return finish_lines(finish, sums, (), at)[0]
    step, vectors = len(free), len(outputs[0])
    sums = [
        Sums(v, free[j % step], free[j % step], 0)
        for output in outputs
        for j, v in enumerate(output)
    ]
    made, _ = finish_lines(finish, sums, (), at)
    lines = list(made.lines)
    shifts = next(i for i, line in enumerate(lines) if line.startswith("srshl"))
    for row, first in (2, shifts), (1, 0):
        found = lines[first : first + len(sums)]
        ordered: list[str] = []
        for j in range(0, vectors, step):
            here = free[: vectors - j]
            ordered += pairs(here, "q", 16 * (vectors * row + j))
            ordered += [line for i, line in enumerate(found) if j <= i % vectors < j + step]
        lines[first : first + len(sums)] = ordered
    return Lines(made.title, tuple(lines))


def constant_roles(finish: Finish) -> list[str]:
    """Constants that an end reads from registers of its own."""
    needed = {
        "m0": finish.immediate is not None,
        "zero": not finish.unsigned,
        "low": finish.low,
        "high": finish.high,
        "flip": finish.flip,
    }
    return [name for name, present in needed.items() if present]


def constants_in(roles: Mapping[str, int]) -> Constants:
    """Constants by role; those without a register are not read."""
    return Constants(*(roles.get(r, 0) for r in ("m0", "zero", "low", "high", "flip")))


def count(sections: Sequence[Lines]) -> int:
    """Instructions of sections."""
    return sum(len(s.lines) for s in sections)


def pairs(regs: Sequence[int], pointer: str, offset: int, size: str = "q") -> list[str]:
    """Loads of consecutive vectors of 16 (q) or 8 bytes (d), two at a time."""
    lines = []
    for i in range(0, len(regs), 2):
        at = f"[%[{pointer}], #{offset + (16 if size == 'q' else 8) * i}]"
        names = ", ".join(f"{size}{r}" for r in regs[i : i + 2])
        lines.append(f"{'ldp' if len(regs) > i + 1 else 'ldr'} {names}, {at}")
    return lines
