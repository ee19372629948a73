"""3 x 3 depthwise convolution in assembly: registers and instructions, from the op's parameters.

A program computes rows of one block of channels. A step makes two neighbouring outputs from columns
of the image that stay in registers for both, and for the next step. Products are added in int16
lanes in runs of taps that were proven to fit, (Q16); a run is added to int32 sums when it ends.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from qgen.targets.finish import Constants, Finish, finish_lines, load_lines
from qgen.targets.requantize_asm import Lines, Sums
from qgen.targets.spec import RegPlan

TALL = 3  # rows of taps
REGISTERS = 32


@dataclass(frozen=True)
class Pattern:
    """Which taps a program multiplies, and when it adds int16 lanes to int32 sums.

    Attributes:
        order: tap of each row of weights, column by column: 3 * kx + ky. A tap comes twice where
            its weight leaves int8.
        runs: taps that share an int16 lane, one run after the other.
    """

    order: tuple[int, ...]
    runs: tuple[int, ...]

    @property
    def name(self) -> str:
        twice = "".join(str(t) for i, t in enumerate(self.order) if t in self.order[:i])
        return "_".join(
            ["r" + "".join(f"{n:x}" for n in self.runs), *(["x" + twice][: bool(twice)])]
        )

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
        return "_".join([f"depthwise3x3s{self.stride}c{self.lanes}", *found])


@dataclass(frozen=True)
class Column:
    """A column of the image in a step: the registers it takes, and the load that brings it.

    `load` is empty for a column that is there when the step begins.
    """

    slot: int
    load: tuple[str, ...] = ()


@dataclass(frozen=True)
class Program:
    """Assembly for rows of one block; pointers and counts are operands of the statement.

    int8 [row][column][channel] at `x`, the middle row of taps of the first row of outputs.
    """

    form: Form
    pattern: Pattern
    finish: Finish

    # -- registers -------------------------------------------------------------------------------

    @property
    def vectors(self) -> int:
        """Registers of 4 sums of one output."""
        return self.form.lanes // 4

    @property
    def uniform(self) -> bool:
        """One multiplier and shift for all channels, as constants."""
        return self.finish.immediate is not None

    @property
    def inplace(self) -> bool:
        """One run: its int16 lanes turn into sums where they are, on a bias in registers."""
        return len(self.pattern.runs) == 1 and self.uniform

    @cached_property
    def regs(self) -> RegPlan:
        """Registers by role; what is left holds weights, and the bias where it fits."""
        needed = [
            ("m0", self.uniform),
            ("zero", not self.finish.unsigned),
            ("low", self.finish.low),
            ("high", self.finish.high),
            ("flip", self.finish.flip),
        ]
        sizes = {"column0": TALL, "column1": TALL, "sums": 2 * self.vectors}
        if not self.inplace:
            sizes["products"] = self.vectors
        sizes |= {name: 1 for name, present in needed if present}
        taps = len(self.pattern.order)
        free = REGISTERS - sum(sizes.values())
        if self.inplace or (self.uniform and free - taps >= self.vectors):
            sizes["bias"] = self.vectors
            free -= self.vectors
        # One register for the weights that are read again at each tap.
        sizes |= {"weights": taps} if taps <= free else {"weights": free - 1, "weight": 1}
        first, plan = 0, {}
        for name, size in sizes.items():
            plan[name] = tuple(range(first, first + size))
            first += size
        return RegPlan(plan)

    @property
    def constants(self) -> Constants:
        roles = self.regs.vector
        return Constants(*(roles.get(r, (0,))[0] for r in ("m0", "zero", "low", "high", "flip")))

    def _sums(self, output: int) -> tuple[int, ...]:
        return self.regs["sums"][output * self.vectors :][: self.vectors]

    def _products(self, output: int) -> tuple[int, ...]:
        if self.inplace:
            return self._sums(output)[1::2]
        half = self.vectors // 2
        return self.regs["products"][output * half :][:half]

    @property
    def temporaries(self) -> tuple[str, ...]:
        """General registers that the statement uses beside its operands."""
        names = ["y1", "a0", "a1", "a2", "b0", "b1", "b2", "s0", "s2", "d1"]
        return tuple(names if self.form.stride == 1 else [*names, "d0", "d2", "f0", "f1", "f2"])

    def general(self, name: str) -> str:
        """The register of a temporary: x17 and below, which calls do not preserve."""
        return f"x{17 - self.temporaries.index(name)}"

    @property
    def clobbers(self) -> list[str]:
        general = (self.general(name) for name in self.temporaries)
        return [f'"{c}"' for c in (*general, *self.regs.clobbers, "cc", "memory")]

    # -- sections --------------------------------------------------------------------------------

    @cached_property
    def head(self) -> tuple[Lines, ...]:
        g, weights = self.general, self.regs["weights"]
        lines = [
            *_pairs(weights, "w", 0, self._size),
            *load_lines(self.finish, self.constants).lines,
        ]
        if "bias" in self.regs.vector:
            lines += _pairs(self.regs["bias"], "q", 0)
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
        return Lines(title, tuple(lines)), Lines("", tuple(self._first_columns()))

    def _first_columns(self) -> Iterator[str]:
        """The columns that every step finds in registers, and pointers to those it loads."""
        g, size = self.general, self._size
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
                    yield f"ld1 {{v{first}.{self._bytes}}}, [{a}], {s}"
                yield f"add {b}, {a}, {self._step(k, 2)}"
                yield f"add {b}, {b}, {s}"
        yield "mov %[out], %[pairs]"
        if self.skips:
            yield "cbz %[out], 3f"

    @property
    def skips(self) -> bool:
        """A row may have no step before the last one."""
        return self.form.odd or self.form.right

    @property
    def redirects(self) -> bool:
        """The last column of the last step is padding."""
        return self.form.right and not self.form.odd

    def _step(self, k: int, times: int = 1) -> str:
        """Register with the bytes from a column to the `times` next in row k; stride 1: two."""
        if self.form.stride == 1:
            return self.general("d1" if k == 1 else f"s{k}")
        if k == 1:
            return {1: "%[step]", 2: self.general("d1"), 4: self.general("f1")}[times]
        return self.general({1: "s", 2: "d", 4: "f"}[times] + str(k))

    @property
    def _size(self) -> str:
        return "q" if self.form.lanes == 16 else "d"

    @property
    def _bytes(self) -> str:
        return f"{self.form.lanes}b"

    def _loads(self, slot: int, pointer: str, times: int = 1) -> Column:
        regs = self.regs[f"column{slot}"]
        return Column(
            slot,
            tuple(
                f"ld1 {{v{r}.{self._bytes}}}, [{self.general(f'{pointer}{k}')}], "
                f"{self._step(k, times)}"
                for k, r in enumerate(regs)
            ),
        )

    def _last(self, slot: int) -> Column:
        """The column right of the image, or the last one."""
        return Column(
            slot,
            tuple(
                f"ldr {self._size}{r}, [{'%[z]' if self.form.right else self.general(f'a{k}')}]"
                for k, r in enumerate(self.regs[f"column{slot}"])
            ),
        )

    @cached_property
    def body(self) -> tuple[Lines, ...]:
        """Two outputs."""
        if self.form.stride == 1:
            columns = [Column(0), Column(1), self._loads(0, "a"), self._loads(1, "b")]
        else:
            columns = [Column(0), self._loads(1, "a"), self._loads(0, "a")]
            columns += [self._loads(1, "a", 2), self._loads(0, "b", 4)]
        return self._outputs(2, columns)

    @cached_property
    def tail(self) -> tuple[Lines, ...]:
        """One output."""
        second = Column(1) if self.form.stride == 1 else self._loads(1, "a")
        return self._outputs(1, [Column(0), second, self._last(0)])

    @cached_property
    def redirect(self) -> tuple[Lines, ...]:
        lines = [f"mov {self.general(f'b{k}')}, %[z]" for k in range(TALL)]
        return (Lines("The last step: its last column is padding.", (*lines, "b 2b")),)

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
            lines += _pairs(self._sums(outputs - 1), "q", 0)
        for c, column in enumerate(columns):
            following = [n for n in columns[c + 1 :] if n.slot == column.slot][:1]
            for ky in range(TALL):
                x = self.regs[f"column{column.slot}"][ky]
                for o in range(outputs):
                    kx = c - o * self.form.stride
                    if 0 <= kx < TALL:
                        lines += self._tap(x, TALL * kx + ky, o, outputs)
                lines += [n.load[ky] for n in following if n.load]
        runs = " + ".join(map(str, self.pattern.runs))
        title = f"{'Two outputs' if outputs == 2 else 'The last output'}: {runs} taps."
        return Lines(title, tuple(lines)), self._end_of(outputs), self._stores(outputs)

    def _tap(self, x: int, tap: int, output: int, outputs: int) -> Iterator[str]:
        weights, taps = self.regs["weights"], self.pattern.order
        for i in (i for i, t in enumerate(taps) if t == tap):
            held = i < len(weights)
            w = weights[i] if held else self.regs["weight"][0]
            if not held:
                yield f"ldr {self._size}{w}, [%[w], #{self.form.lanes * i}]"
            name = "smull" if i in self.pattern.starts else "smlal"
            for half, p in enumerate(self._products(output)):
                lanes = "16b" if half else "8b"
                yield f"{name}{'2' * half} v{p}.8h, v{x}.{lanes}, v{w}.{lanes}"
            if i + 1 in self.pattern.starts or i + 1 == len(taps):
                yield from self._flush(output, outputs, first=i < self.pattern.runs[0])

    def _flush(self, output: int, outputs: int, *, first: bool) -> Iterator[str]:
        sums = self._sums(output)
        base = sums
        if first:
            # A bias from memory lies in the sums of the last output, which is the last to need it.
            base = self.regs.vector.get("bias") or self._sums(outputs - 1)
        for j, (to, start) in enumerate(zip(sums, base, strict=True)):
            p = self._products(output)[j // 2]
            upper = j % 2
            lanes = "8h" if upper else "4h"
            yield f"saddw{'2' * upper} v{to}.4s, v{start}.4s, v{p}.{lanes}"

    def _end_of(self, outputs: int) -> Lines:
        # Without constants, M0 and then shifts take the registers of products, which are done.
        held = [0] * self.vectors if self.uniform else list(self.regs["products"])
        sums = [
            Sums(v, p, p, p)
            for o in range(outputs)
            for v, p in zip(self._sums(o), held, strict=True)
        ]
        made, _ = finish_lines(self.finish, sums, (), self.constants)
        if self.uniform:
            return made
        at = next(i for i, line in enumerate(made.lines) if line.startswith("srshl"))
        bytes_ = 4 * self.form.lanes
        m0, shift = (_pairs(held, "q", n * bytes_) for n in (1, 2))
        return Lines(made.title, (*m0, *made.lines[:at], *shift, *made.lines[at:]))

    def _stores(self, outputs: int) -> Lines:
        y1, two = self.general("y1"), self.general("d1")
        first, second = self._sums(0)[0], self._sums(1)[0]
        if outputs == 1:
            lines = [f"st1 {{v{first}.{self._bytes}}}, [%[y]], %[step]", f"add {y1}, {y1}, %[step]"]
        else:
            lines = [f"st1 {{v{first}.{self._bytes}}}, [%[y]], {two}"]
            lane = f"v{second}.16b}}" if self.form.lanes == 16 else f"v{first}.d}}[1]"
            lines.append(f"st1 {{{lane}, [{y1}], {two}")
        return Lines("", tuple(lines))

    # -- budget ----------------------------------------------------------------------------------

    def instructions(self, calls: int, rows: int, outputs: int) -> int:
        """Executed in `calls` calls that compute `rows` rows of `outputs` outputs in all."""
        pairs = outputs // 2
        row = _count(self.row) + _count(self.end) + pairs * (_count(self.body) + 2)
        if self.form.odd:
            row += _count(self.tail)
        elif self.redirects:
            # One step returns by a branch from there; the way out takes one more.
            row += _count(self.redirect) + 1 + (pairs > 1)
        return calls * _count(self.head) + rows * row


def _count(sections: Sequence[Lines]) -> int:
    return sum(len(s.lines) for s in sections)


def _pairs(regs: Sequence[int], pointer: str, offset: int, size: str = "q") -> list[str]:
    """Loads of consecutive vectors of 16 (q) or 8 bytes (d), two at a time."""
    lines = []
    for i in range(0, len(regs), 2):
        at = f"[%[{pointer}], #{offset + (16 if size == 'q' else 8) * i}]"
        names = ", ".join(f"{size}{r}" for r in regs[i : i + 2])
        lines.append(f"{'ldp' if len(regs) > i + 1 else 'ldr'} {names}, {at}")
    return lines
