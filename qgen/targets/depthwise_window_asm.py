"""Depthwise convolution of any window in assembly, over a padded copy of a few rows.

The copy holds one block of channels, so columns follow each other without a gap and are loaded two
at a time; it has no edges. Weights are read row by row and shared by all outputs of a step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from qgen.targets.depthwise_asm import (
    REGISTERS,
    Pattern,
    constant_roles,
    constants_in,
    count,
    end_of,
    pairs,
)
from qgen.targets.finish import Finish, load_lines
from qgen.targets.requantize_asm import Lines
from qgen.targets.spec import RegPlan


@dataclass(frozen=True)
class WindowProgram:
    """A row of outputs, some at a time.

    Attributes:
        kernel: rows and columns of taps.
        stride, dilation: of columns.
        outputs: neighbours that one step computes.
        lanes: channels of a block, 16 or 8; also bytes from a column of the copy to the next.
        pattern: taps row by row, kx + columns * ky, and their runs.
        finish: the end.
    """

    kernel: tuple[int, int]
    stride: int
    dilation: int
    outputs: int
    lanes: int
    pattern: Pattern
    finish: Finish

    @property
    def name(self) -> str:
        (rows, columns), dilated = self.kernel, f"d{self.dilation}" if self.dilation > 1 else ""
        shape = f"{rows}x{columns}s{self.stride}{dilated}c{self.lanes}n{self.outputs}"
        parts = ["depthwise_window", shape, self.pattern.name, *self.finish.traits]
        return "_".join(parts)

    @property
    def uniform(self) -> bool:
        return self.finish.immediate is not None

    @property
    def vectors(self) -> int:
        """Registers of 4 sums of one output."""
        return self.lanes // 4

    @property
    def _sizes(self) -> dict[str, int]:
        """What sums and products leave holds a row of weights and, in the end, its constants."""
        sums = self.outputs * self.vectors
        widest = max(len(self._row(ky)) for ky in range(self.kernel[0]))
        return {
            "sums": sums,
            "products": sums // 2,
            "pixels": 4 if self.outputs < 4 else 2,
            "weights": max(widest, len(constant_roles(self.finish))),
        }

    @property
    def fits(self) -> bool:
        """There are registers for a row of weights."""
        return sum(self._sizes.values()) <= REGISTERS

    @cached_property
    def regs(self) -> RegPlan:
        first, plan = 0, {}
        for name, size in self._sizes.items():
            plan[name] = tuple(range(first, first + size))
            first += size
        return RegPlan(plan)

    @property
    def clobbers(self) -> list[str]:
        return [f'"{c}"' for c in (*self.regs.clobbers, "cc", "memory")]

    def _row(self, ky: int) -> list[int]:
        """Rows of weights that belong to row `ky` of taps."""
        return [i for i, t in enumerate(self.pattern.order) if t // self.kernel[1] == ky]

    def _sums(self, output: int) -> tuple[int, ...]:
        return self.regs["sums"][output * self.vectors :][: self.vectors]

    def _products(self, output: int) -> tuple[int, ...]:
        half = self.vectors // 2
        return self.regs["products"][output * half :][:half]

    @cached_property
    def body(self) -> tuple[Lines, ...]:
        lines = [*pairs(self._sums(self.outputs - 1), "q", 0), "mov %[row], %[x]"]
        rows = self.kernel[0]
        for ky in range(rows):
            lines += self._taps(ky)
            if ky + 1 < rows:
                lines.append("add %[row], %[row], %[pitch]")
        roles = constant_roles(self.finish)
        at = constants_in(dict(zip(roles, self.regs["weights"], strict=False)))
        free = () if self.uniform else self.regs["products"][:4]
        sums = [self._sums(o) for o in range(self.outputs)]
        runs = " + ".join(map(str, self.pattern.runs))
        return (
            Lines(f"{self.outputs} outputs: {runs} taps.", tuple(lines)),
            load_lines(self.finish, at),
            end_of(self.finish, sums, free, at),
            Lines("", (*self._stores(), f"add %[x], %[x], #{self._advance}")),
        )

    @property
    def _advance(self) -> int:
        return self.outputs * self.stride * self.lanes

    def _taps(self, ky: int) -> Iterator[str]:
        """One row of taps of all outputs."""
        weights, entries = self.regs["weights"], self._row(ky)
        size = "q" if self.lanes == 16 else "d"
        yield from pairs(weights[: len(entries)], "w", self.lanes * entries[0], size)
        found = dict(zip(entries, weights, strict=False))
        columns = self._columns(entries)
        loads = list(self._loads(sorted(columns), size))
        # Loads run one ahead where there are registers for it.
        ahead = len(self.regs["pixels"]) // 2
        for line, _ in loads[:ahead]:
            yield line
        for n, (_, pixels) in enumerate(loads):
            for column, x in pixels:
                for output, i in columns[column]:
                    yield from self._multiply(x, found[i], i, output)
            if n + ahead < len(loads):
                yield loads[n + ahead][0]

    def _columns(self, entries: Sequence[int]) -> dict[int, list[tuple[int, int]]]:
        """(output, row of weights) that read a column of the copy."""
        columns: dict[int, list[tuple[int, int]]] = {}
        for output in range(self.outputs):
            for i in entries:
                kx = self.pattern.order[i] % self.kernel[1]
                column = output * self.stride + kx * self.dilation
                columns.setdefault(column, []).append((output, i))
        return columns

    def _loads(
        self, columns: Sequence[int], size: str
    ) -> Iterator[tuple[str, list[tuple[int, int]]]]:
        """(load, [(column, register)]) of one column or two neighbours."""
        regs, n, left = self.regs["pixels"], 0, list(columns)
        while left:
            two = left[:2] if left[1:2] == [left[0] + 1] else left[:1]
            at = f"[%[row], #{self.lanes * two[0]}]"
            here = [regs[(n + i) % len(regs)] for i in range(2)]
            names = ", ".join(f"{size}{r}" for r in here[: len(two)])
            yield (
                f"{'ldp' if len(two) == 2 else 'ldr'} {names}, {at}",
                list(zip(two, here, strict=False)),
            )
            n, left = n + 2, left[len(two) :]

    def _multiply(self, x: int, w: int, i: int, output: int) -> Iterator[str]:
        starts = self.pattern.starts
        name = "smull" if i in starts else "smlal"
        for half, p in enumerate(self._products(output)):
            lanes = "16b" if half else "8b"
            yield f"{name}{'2' * half} v{p}.8h, v{x}.{lanes}, v{w}.{lanes}"
        if i + 1 in starts or i + 1 == len(self.pattern.order):
            # The bias lies in the sums of the last output, which is the last to need it.
            first = i < self.pattern.runs[0]
            base = self._sums(self.outputs - 1) if first else self._sums(output)
            for j, (to, start) in enumerate(zip(self._sums(output), base, strict=True)):
                p, upper = self._products(output)[j // 2], j % 2
                lanes = "8h" if upper else "4h"
                yield f"saddw{'2' * upper} v{to}.4s, v{start}.4s, v{p}.{lanes}"

    def _stores(self) -> Iterator[str]:
        for output in range(self.outputs):
            if self.lanes == 16:
                lane = f"v{self._sums(output)[0]}.16b}}"
            else:
                first = self._sums(output // 2 * 2)[0]
                lane = f"v{first}.d}}[{output % 2}]"
            yield f"st1 {{{lane}, [%[y]], %[step]"

    def instructions(self, steps: int) -> int:
        """Executed in `steps` steps."""
        return steps * (count(self.body) + 2)
