"""3 x 3 depthwise convolution with SDOT, columns two apart: a column of three taps at once.

Three rows of a column are interleaved, so that a lane of 32 bits holds three pixels of a channel
and one more that meets a zero weight. Pointers and rows are those of the SMULL program.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from qgen.targets.depthwise_asm import REGISTERS, TALL, pairs
from qgen.targets.depthwise_smull_asm import Column, SmullProgram
from qgen.targets.finish import load_lines
from qgen.targets.panel_asm import load
from qgen.targets.requantize_asm import Lines

SLOT = 4  # registers of a column when it is interleaved


@dataclass(frozen=True)
class Sdot2Program(SmullProgram):
    """One row of outputs, two at a time, a column after the other."""

    ISA: ClassVar[str] = "sdot"
    TITLE: ClassVar[str] = "SDOT of three interleaved rows"
    WEIGHTS: ClassVar[str] = "[column][lane][4]"

    @cached_property
    def sizes(self) -> Mapping[str, int]:
        """What is left holds weights; the others are read into `free` at each use."""
        sizes = {"column0": SLOT, "column1": SLOT, "free": 2, "sums": 2 * self.vectors}
        left = REGISTERS - sum(sizes.values()) - len(self.constant_roles)
        return sizes | {"weights": min(left // 2 * 2, len(self.pattern.order) * self.vectors)}

    @cached_property
    def head(self) -> tuple[Lines, ...]:
        g = self.general
        lines = (
            *pairs(self.regs["weights"], "w", 0),
            *load_lines(self.finish, self.constants).lines,
            f"add {g('y1')}, %[y], %[step]",
            f"lsl {g('d1')}, %[step], #1",
            f"lsl {g('f1')}, %[step], #2",
        )
        return (Lines("Weights and constants stay for all rows.", lines),)

    def _first_columns(self) -> Iterator[str]:
        yield from super()._first_columns()
        yield from self._interleave(0)

    def _interleave(self, slot: int) -> Iterator[str]:
        """Three rows of bytes to lanes of three pixels; see `_lanes`."""
        r0, r1, r2, r3 = self.regs[f"column{slot}"]
        low, high = self.regs["free"]
        yield f"zip1 v{low}.16b, v{r0}.16b, v{r1}.16b"
        if self.vectors > 2:
            yield f"zip2 v{high}.16b, v{r0}.16b, v{r1}.16b"
            yield f"zip2 v{r1}.16b, v{r2}.16b, v{r2}.16b"
        yield f"zip1 v{r0}.16b, v{r2}.16b, v{r2}.16b"
        yield f"zip1 v{r2}.8h, v{low}.8h, v{r0}.8h"
        yield f"zip2 v{r3}.8h, v{low}.8h, v{r0}.8h"
        if self.vectors > 2:
            yield f"zip1 v{r0}.8h, v{high}.8h, v{r1}.8h"
            yield f"zip2 v{r1}.8h, v{high}.8h, v{r1}.8h"

    def _lanes(self, slot: int) -> tuple[int, ...]:
        """Registers of an interleaved column, four channels each."""
        r0, r1, r2, r3 = self.regs[f"column{slot}"]
        return r2, r3, r0, r1

    def _outputs(self, outputs: int, columns: Sequence[Column]) -> tuple[Lines, ...]:
        """Columns of `outputs` results; the first is there, the last is kept for the next."""
        lines = [x for o in range(outputs) for x in load(self.sums(o), "q", post=False)]
        for c, column in enumerate(columns):
            if c:
                lines += [*column.load, *self._interleave(column.slot)]
            for o in range(outputs):
                kx = c - o * self.form.stride
                if 0 <= kx < TALL:
                    lines += self._column(kx, column.slot, o)
        title = "Two outputs." if outputs == 2 else "The last output."
        free = () if self.uniform else self.regs["free"]
        return Lines(title, tuple(lines)), self.finish_outputs(outputs, free), self._stores(outputs)

    def _column(self, kx: int, slot: int, output: int) -> Iterator[str]:
        lanes, free = self._lanes(slot), self.regs["free"]
        for c in (c for c, column in enumerate(self.pattern.order) if column == kx):
            for first in range(0, self.vectors, 2):
                some = [v for v in (first, first + 1) if self.pattern.has(c, v)]
                at = c * self.vectors + first
                held = self.regs["weights"][at : at + 2]
                if some and not held:
                    yield from pairs(free, "w", 16 * at)
                for v in some:
                    w = (held or free)[v % 2]
                    yield f"sdot v{self.sums(output)[v]}.4s, v{lanes[v]}.16b, v{w}.16b"
