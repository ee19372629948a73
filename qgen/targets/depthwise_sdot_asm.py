"""3 x 3 depthwise convolution with SDOT: a column of three taps at once.

Four rows of a column are interleaved, so that a lane of 32 bits holds the four pixels of a channel.
Two rows of outputs use it: the upper with weights [w0 w1 w2 0], the lower with [0 w0 w1 w2].
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from qgen.targets.depthwise_asm import REGISTERS, Program, pairs
from qgen.targets.finish import load_lines
from qgen.targets.panel_asm import load
from qgen.targets.requantize_asm import Lines

FOUR = 4  # rows of the image that two rows of outputs read
COLUMNS = 3


@dataclass(frozen=True)
class Unit:
    """Weights that are read at once: of a row of the pattern, for a row of outputs."""

    column: int
    row: int
    vectors: tuple[int, ...]


@dataclass(frozen=True)
class SdotProgram(Program):
    """Two rows of outputs, a column at a time."""

    ISA: ClassVar[str] = "sdot"
    TITLE: ClassVar[str] = "SDOT of four interleaved rows, for two rows of outputs"
    WEIGHTS: ClassVar[str] = "[column][upper, lower][lane][4]"
    ROWS: ClassVar[int] = 2
    INPUTS: ClassVar[tuple[str, ...]] = (*Program.INPUTS, "across")

    @cached_property
    def sizes(self) -> Mapping[str, int]:
        """What is left holds weights; the others are read into `free` at each use."""
        sizes = {"column0": FOUR, "column1": FOUR, "free": 2, "sums": 2 * self.vectors}
        left = REGISTERS - sum(sizes.values()) - len(self.constant_roles)
        return sizes | {"weights": min(left // 2 * 2, sum(len(u.vectors) for u in self._units))}

    @property
    def temporaries(self) -> tuple[str, ...]:
        rows = [f"{p}{k}" for p in "ab" for k in range(FOUR)]
        return ("y1", *rows, "s0", "s2", "s3", "d1", "left")

    @cached_property
    def _units(self) -> tuple[Unit, ...]:
        """Weights in the order of use, one or two neighbouring vectors at a time."""
        has = self.pattern.has
        units = (
            Unit(c, o, tuple(v for v in (half, half + 1) if has(c, v)))
            for c in range(len(self.pattern.order))
            for half in range(0, self.vectors, 2)
            for o in range(self.ROWS)
        )
        return tuple(u for u in units if u.vectors)

    @cached_property
    def _held(self) -> Mapping[Unit, tuple[int, ...]]:
        """Registers of the weights that stay: those of the upper row first."""
        left = self.regs["weights"]
        held = {}
        for unit in sorted(self._units, key=lambda u: u.row):
            count = len(unit.vectors)
            if count <= len(left):
                held[unit], left = left[:count], left[count:]
        return held

    def _load(self, unit: Unit, regs: Sequence[int]) -> list[str]:
        at = (unit.column * self.ROWS + unit.row) * self.vectors + unit.vectors[0]
        return pairs(regs[: len(unit.vectors)], "w", 16 * at)

    # -- sections --------------------------------------------------------------------------------

    @cached_property
    def head(self) -> tuple[Lines, ...]:
        lines = []
        for unit, regs in self._held.items():
            lines += self._load(unit, regs)
        lines += load_lines(self.finish, self.constants).lines
        lines.append(f"lsl {self.general('d1')}, %[step], #1")
        return (Lines("Weights and constants stay for all rows.", tuple(lines)),)

    @cached_property
    def row(self) -> tuple[Lines, ...]:
        g = self.general
        left, d1 = g("left"), g("d1")
        lines = [
            f"sub {g('a0')}, %[x], %[pitch]",
            "tst %[edges], #1",
            f"csel {g('a0')}, %[z], {g('a0')}, ne",
            f"csel {g('s0')}, xzr, {d1}, ne",
            f"mov {g('a1')}, %[x]",
            "and %[edges], %[edges], #2",
            f"sub {left}, %[rows], %[edges], lsr #1",
            f"add {g('a2')}, %[x], %[pitch]",
            f"add {g('a3')}, %[x], %[pitch], lsl #1",
            f"cmp {left}, #1",
            f"csel {g('a2')}, %[z], {g('a2')}, lt",
            f"csel {g('s2')}, xzr, {d1}, lt",
            f"csel {g('a3')}, %[z], {g('a3')}, le",
            f"csel {g('s3')}, xzr, {d1}, le",
            "cmp %[rows], #1",
            f"add {g('y1')}, %[y], %[across]",
            # A last row alone is computed twice; the upper result is written last.
            f"csel {g('y1')}, %[y], {g('y1')}, eq",
        ]
        title = "Rows above and below the image: the zero point, again and again."
        return Lines(title, tuple(lines)), Lines("", (*self._first_columns(), *self.start))

    def _step(self, k: int) -> str:
        """Register with the bytes from a column to the next but one in row k."""
        return self.general("d1" if k == 1 else f"s{k}")

    def _first_columns(self) -> Iterator[str]:
        """The columns that every step finds in registers, and pointers to those it loads."""
        columns = [self.regs["column0"][:FOUR], self.regs["column1"][:FOUR]]
        for slot, regs in enumerate(columns):
            outside = slot == 0 and self.form.left
            for k, r in enumerate(regs):
                a = self.general(f"a{k}")
                yield f"ldr {'q' if outside else self.size}{r}, [{'%[z]' if outside else a}]"
                if slot:
                    yield f"add {self.general(f'b{k}')}, {a}, {self._step(k)}"
                if not outside:
                    yield f"add {a}, {a}, {self._step(k)}, lsr #1"
            if not outside:
                yield from self._interleave(slot)

    def _interleave(self, slot: int) -> Iterator[str]:
        """Four rows of bytes to four pixels per lane; see `_lanes`."""
        r0, r1, r2, r3 = self.regs[f"column{slot}"]
        low, high = self.regs["free"]
        yield f"zip1 v{low}.16b, v{r0}.16b, v{r1}.16b"
        yield f"zip1 v{high}.16b, v{r2}.16b, v{r3}.16b"
        if self.vectors > 2:
            yield f"zip2 v{r0}.16b, v{r0}.16b, v{r1}.16b"
            yield f"zip2 v{r2}.16b, v{r2}.16b, v{r3}.16b"
            yield f"zip1 v{r1}.8h, v{r0}.8h, v{r2}.8h"
            if not self.pattern.zeros:
                yield f"zip2 v{r3}.8h, v{r0}.8h, v{r2}.8h"
        yield f"zip1 v{r0}.8h, v{low}.8h, v{high}.8h"
        yield f"zip2 v{r2}.8h, v{low}.8h, v{high}.8h"

    def _lanes(self, slot: int) -> tuple[int, ...]:
        """Registers of an interleaved column, four channels each."""
        r0, r1, r2, r3 = self.regs[f"column{slot}"]
        return (r0, r2, r1, r3)

    @cached_property
    def body(self) -> tuple[Lines, ...]:
        return (*self._column(0, "a"), *self._column(1, "b"))

    @cached_property
    def tail(self) -> tuple[Lines, ...]:
        return self._column(0, "" if self.form.right else "a")

    @cached_property
    def end(self) -> tuple[Lines, ...]:
        lines = (
            "add %[x], %[x], %[advance]",
            f"mov %[y], {self.general('y1')}",
            "subs %[rows], %[rows], #2",
            "b.gt 1b",
        )
        return (Lines("", lines),)

    # -- one step --------------------------------------------------------------------------------

    def _column(self, slot: int, pointer: str) -> tuple[Lines, ...]:
        """Two outputs, one above the other; the column in `slot` is replaced by the next."""
        regs = self.regs[f"column{slot}"]
        # The same biases twice.
        lines = [line for o in range(2) for line in load(self.sums(o), "q", post=False)]
        lines += self._products(0, slot)
        if pointer:
            lines += [
                f"ld1 {{v{r}.{self.bytes}}}, [{self.general(f'{pointer}{k}')}], {self._step(k)}"
                for k, r in enumerate(regs)
            ]
        else:
            lines += [f"ldr q{r}, [%[z]]" for r in regs]
        lines += self._products(1, 1 - slot)
        if pointer:
            lines += self._interleave(slot)
        lines += self._products(2, slot)
        free = () if self.uniform else self.regs["free"]
        title, end = "Two outputs, one above the other.", self.finish_outputs(2, free)
        if self.pattern.zeros:
            last = [f"v{self.sums(o)[-1]}." for o in range(2)]
            end = Lines(end.title, tuple(x for x in end.lines if not any(v in x for v in last)))
        return Lines(title, tuple(lines)), end, self._stores()

    def _products(self, kx: int, slot: int) -> Iterator[str]:
        lanes = self._lanes(slot)
        for unit in (u for u in self._units if self.pattern.order[u.column] == kx):
            regs = self._held.get(unit, self.regs["free"])
            if unit not in self._held:
                yield from self._load(unit, regs)
            for v, w in zip(unit.vectors, regs, strict=False):
                yield f"sdot v{self.sums(unit.row)[v]}.4s, v{lanes[v]}.16b, v{w}.16b"

    def _stores(self) -> Lines:
        first, second = self.sums(0)[0], self.sums(1)[0]
        lane = f"v{second}.16b}}" if self.form.lanes == 16 else f"v{first}.d}}[1]"
        lines = (
            f"st1 {{{lane}, [{self.general('y1')}], %[step]",
            f"st1 {{v{first}.{self.bytes}}}, [%[y]], %[step]",
        )
        return Lines("", lines)
