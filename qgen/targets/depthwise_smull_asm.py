"""3 x 3 depthwise convolution with SMULL: 16 products of one tap and output in two instructions.

Products are added in int16 lanes in runs of taps that were proven to fit, (Q16); a run is added to
int32 sums when it ends.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from qgen.targets.depthwise_asm import REGISTERS, TALL, Program, pairs
from qgen.targets.finish import load_lines
from qgen.targets.requantize_asm import Lines


@dataclass(frozen=True)
class Column:
    """A column of the image in a step: the registers it takes, and the load that brings it.

    `load` is empty for a column that is there when the step begins.
    """

    slot: int
    load: tuple[str, ...] = ()


@dataclass(frozen=True)
class SmullProgram(Program):
    """One row of outputs, two at a time."""

    ISA: ClassVar[str] = "smull"
    TITLE: ClassVar[str] = "SMULL and SMLAL, runs of taps in int16 lanes"
    WEIGHTS: ClassVar[str] = "[tap][lane], in the order of the kernel"
    ROWS: ClassVar[int] = 1

    @property
    def inplace(self) -> bool:
        """One run: its int16 lanes turn into sums where they are, on a bias in registers."""
        return len(self.pattern.runs) == 1 and self.uniform

    @cached_property
    def sizes(self) -> Mapping[str, int]:
        """What is left holds weights, and the bias where it fits."""
        sizes = {"column0": TALL, "column1": TALL, "sums": 2 * self.vectors}
        if not self.inplace:
            sizes["products"] = self.vectors
        taps = len(self.pattern.order)
        free = REGISTERS - sum(sizes.values()) - len(self.constant_roles)
        if self.inplace or (self.uniform and free - taps >= self.vectors):
            sizes["bias"] = self.vectors
            free -= self.vectors
        # One register for the weights that are read again at each tap.
        return sizes | ({"weights": taps} if taps <= free else {"weights": free - 1, "weight": 1})

    def _products(self, output: int) -> tuple[int, ...]:
        if self.inplace:
            return self.sums(output)[1::2]
        half = self.vectors // 2
        return self.regs["products"][output * half :][:half]

    @property
    def temporaries(self) -> tuple[str, ...]:
        names = ["y1", "a0", "a1", "a2", "b0", "b1", "b2", "s0", "s2", "d1"]
        return tuple(names if self.form.stride == 1 else [*names, "d0", "d2", "f0", "f1", "f2"])

    # -- sections --------------------------------------------------------------------------------

    @cached_property
    def head(self) -> tuple[Lines, ...]:
        g, weights = self.general, self.regs["weights"]
        lines = [
            *pairs(weights, "w", 0, self.size),
            *load_lines(self.finish, self.constants).lines,
        ]
        if "bias" in self.regs.vector:
            lines += pairs(self.regs["bias"], "q", 0)
        steps = [f"add {g('y1')}, %[y], %[step]", f"lsl {g('d1')}, %[step], #1"]
        if self.form.stride == 2:
            steps.append(f"lsl {g('f1')}, %[step], #2")
        return (Lines("Weights and constants stay for all rows.", (*lines, *steps)),)

    @cached_property
    def row(self) -> tuple[Lines, ...]:
        g, stride = self.general, self.form.stride
        unit = g("d1") if stride == 1 else "%[step]"
        a0, a1, a2, s0, s2 = (g(n) for n in ("a0", "a1", "a2", "s0", "s2"))
        lines = [
            f"sub {a0}, %[x], %[pitch]",
            "tst %[edges], #1",
            f"csel {a0}, %[z], {a0}, ne",
            f"csel {s0}, xzr, {unit}, ne",
            "and %[edges], %[edges], #2",
            f"add {a2}, %[x], %[pitch]",
            "cmp %[rows], #1",
            "ccmp %[edges], #2, #0, eq",
            f"csel {a2}, %[z], {a2}, eq",
            f"csel {s2}, xzr, {unit}, eq",
            f"mov {a1}, %[x]",
        ]
        if stride == 2:
            lines += [
                f"lsl {g(to + k)}, {g('s' + k)}, #{'df'.index(to) + 1}" for k in "02" for to in "df"
            ]
        title = "Rows above and below the image: the zero point, again and again."
        return Lines(title, tuple(lines)), Lines("", (*self._first_columns(), *self.start))

    def _first_columns(self) -> Iterator[str]:
        """The columns that every step finds in registers, and pointers to those it loads."""
        g, size = self.general, self.size
        step = self._step
        for k in range(TALL):
            a, b, s = g(f"a{k}"), g(f"b{k}"), step(k)
            first, second = self.regs["column0"][k], self.regs["column1"][k]
            if self.form.stride == 1:
                if self.form.left:
                    yield f"ldr {size}{first}, [%[z]]"
                else:
                    yield f"ldr {size}{first}, [{a}]"
                    yield f"add {a}, {a}, {s}, lsr #1"
                yield f"ldr {size}{second}, [{a}]"
                yield f"add {b}, {a}, {s}"
                yield f"add {a}, {a}, {s}, lsr #1"
            else:
                if self.form.left:
                    yield f"ldr {size}{first}, [%[z]]"
                else:
                    yield f"ld1 {{v{first}.{self.bytes}}}, [{a}], {s}"
                yield f"add {b}, {a}, {self._step(k, 2)}"
                yield f"add {b}, {b}, {s}"

    def _step(self, k: int, times: int = 1) -> str:
        """Register with the bytes from a column to the `times` next in row k; stride 1: two."""
        if self.form.stride == 1:
            return self.general("d1" if k == 1 else f"s{k}")
        if k == 1:
            return {1: "%[step]", 2: self.general("d1"), 4: self.general("f1")}[times]
        return self.general({1: "s", 2: "d", 4: "f"}[times] + str(k))

    def _loads(self, slot: int, pointer: str, times: int = 1) -> Column:
        regs = self.regs[f"column{slot}"]
        return Column(
            slot,
            tuple(
                f"ld1 {{v{r}.{self.bytes}}}, [{self.general(f'{pointer}{k}')}], "
                f"{self._step(k, times)}"
                for k, r in enumerate(regs[:TALL])
            ),
        )

    def _last(self, slot: int) -> Column:
        """The column right of the image, or the last one."""
        return Column(
            slot,
            tuple(
                f"ldr {self.size}{r}, [{'%[z]' if self.form.right else self.general(f'a{k}')}]"
                for k, r in enumerate(self.regs[f"column{slot}"][:TALL])
            ),
        )

    @cached_property
    def body(self) -> tuple[Lines, ...]:
        if self.form.stride == 1:
            columns = [Column(0), Column(1), self._loads(0, "a"), self._loads(1, "b")]
        else:
            columns = [Column(0), self._loads(1, "a"), self._loads(0, "a")]
            columns += [self._loads(1, "a", 2), self._loads(0, "b", 4)]
        return self._outputs(2, columns)

    @cached_property
    def tail(self) -> tuple[Lines, ...]:
        second = Column(1) if self.form.stride == 1 else self._loads(1, "a")
        return self._outputs(1, [Column(0), second, self._last(0)])

    @cached_property
    def end(self) -> tuple[Lines, ...]:
        lines = ("add %[x], %[x], %[advance]", "subs %[rows], %[rows], #1", "b.ne 1b")
        return (Lines("", lines),)

    # -- one step --------------------------------------------------------------------------------

    def _outputs(self, outputs: int, columns: Sequence[Column]) -> tuple[Lines, ...]:
        lines: list[str] = []
        seen: set[int] = set()
        for column in columns:
            if column.slot not in seen:
                lines += column.load
                seen.add(column.slot)
        if "bias" not in self.regs.vector:
            lines += pairs(self.sums(outputs - 1), "q", 0)
        for c, column in enumerate(columns):
            following = [n for n in columns[c + 1 :] if n.slot == column.slot][:1]
            for ky in range(TALL):
                x = self.regs[f"column{column.slot}"][ky]
                for o in range(outputs):
                    kx = c - o * self.form.stride
                    if 0 <= kx < TALL:
                        lines += self._tap(x, TALL * kx + ky, o, outputs)
                lines += [n.load[ky] for n in following if n.load]
        # Products are done when multipliers and shifts of channels are needed.
        free = () if self.uniform else self.regs["products"]
        runs = " + ".join(map(str, self.pattern.runs))
        title = f"{'Two outputs' if outputs == 2 else 'The last output'}: {runs} taps."
        return Lines(title, tuple(lines)), self.finish_outputs(outputs, free), self._stores(outputs)

    def _tap(self, x: int, tap: int, output: int, outputs: int) -> Iterator[str]:
        weights, taps = self.regs["weights"], self.pattern.order
        for i in (i for i, t in enumerate(taps) if t == tap):
            held = i < len(weights)
            w = weights[i] if held else self.regs["weight"][0]
            if not held:
                yield f"ldr {self.size}{w}, [%[w], #{self.form.lanes * i}]"
            name = "smull" if i in self.pattern.starts else "smlal"
            for half, p in enumerate(self._products(output)):
                lanes = "16b" if half else "8b"
                yield f"{name}{'2' * half} v{p}.8h, v{x}.{lanes}, v{w}.{lanes}"
            if i + 1 in self.pattern.starts or i + 1 == len(taps):
                yield from self._flush(output, outputs, first=i < self.pattern.runs[0])

    def _flush(self, output: int, outputs: int, *, first: bool) -> Iterator[str]:
        sums = self.sums(output)
        base = sums
        if first:
            # A bias from memory lies in the sums of the last output, which is the last to need it.
            base = self.regs.vector.get("bias") or self.sums(outputs - 1)
        for j, (to, start) in enumerate(zip(sums, base, strict=True)):
            p = self._products(output)[j // 2]
            upper = j % 2
            lanes = "8h" if upper else "4h"
            yield f"saddw{'2' * upper} v{to}.4s, v{start}.4s, v{p}.{lanes}"

    def _stores(self, outputs: int) -> Lines:
        y1, two = self.general("y1"), self.general("d1")
        first, second = self.sums(0)[0], self.sums(1)[0]
        if outputs == 1:
            lines = [f"st1 {{v{first}.{self.bytes}}}, [%[y]], %[step]", f"add {y1}, {y1}, %[step]"]
        else:
            lines = [f"st1 {{v{first}.{self.bytes}}}, [%[y]], {two}"]
            lane = f"v{second}.16b}}" if self.form.lanes == 16 else f"v{first}.d}}[1]"
            lines.append(f"st1 {{{lane}, [{y1}], {two}")
        return Lines("", tuple(lines))
