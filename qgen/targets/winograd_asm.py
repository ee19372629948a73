"""Assembly of the Winograd kernels: input transform, products per frequency, output transform."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product as pairs_of

from qgen.ir.types import Array
from qgen.targets.finish import Constants, Finish, finish_lines, load_lines
from qgen.targets.requantize_asm import Lines, Sums
from qgen.targets.spec import RegPlan
from qgen.targets.straight import Operation, allocate
from qgen.targets.winograd_forms import Form, Step

CHANNELS = 8  # output channels of a block
LANES = 8  # int16 elements of a register
REGISTERS = 32
PAIRS = 4  # of a frequency and a tile, which the kernel of the products takes at a time
MOST_WEIGHTS = 16  # registers


# -- products ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Turn:
    """What the kernel of the products takes at a time: 4 pairs of a frequency and a tile.

    8 sums in registers keep a multiplier busy whose results take 4 cycles, so fewer tiles take
    more frequencies.

    Attributes:
        tiles: of a block: 4, 2 or 1.
        step: input channels, 8 or 16.
    """

    tiles: int
    step: int

    @property
    def frequencies(self) -> int:
        return PAIRS // self.tiles

    @property
    def chunk(self) -> int:
        """Input channels for which weights are loaded at once."""
        return min(self.step, MOST_WEIGHTS // self.frequencies)

    @property
    def regs(self) -> RegPlan:
        ends = (0, PAIRS * self.step // LANES, 2 * PAIRS, self.frequencies * self.chunk)
        x, acc, w = ends[1], ends[1] + ends[2], ends[1] + ends[2] + ends[3]
        return RegPlan(
            {"x": tuple(range(x)), "acc": tuple(range(x, acc)), "w": tuple(range(acc, w))}
        )

    def place(self, frequency: int, steps: int) -> int:
        """Bytes of scratch ahead of the inputs of a frequency."""
        turn, inside = divmod(frequency, self.frequencies)
        return 2 * self.tiles * self.step * (turn * steps * self.frequencies + inside)

    def arranged(self, weights: Array) -> Array:
        """[frequency][C][8] in reading order: [turn][step][chunk][frequency][chunk][8]."""
        total, inputs, lanes = weights.shape
        turns = (total // self.frequencies, self.frequencies)
        chunks = (inputs // self.step, self.step // self.chunk, self.chunk)
        return weights.reshape(*turns, *chunks, lanes).transpose(0, 2, 3, 1, 4, 5).reshape(-1)

    def products(self, *, first: bool) -> Lines:
        """One step of every pair; its first input channels start the sums."""
        x, acc, w = (self.regs[role] for role in ("x", "acc", "w"))
        lines = _loads(x, "x")
        for k in range(self.step):
            if k % self.chunk == 0:
                lines += _loads(w, "w")
            name = "smull" if first and k == 0 else "smlal"
            for pair in range(PAIRS):
                element = pair * self.step + k
                by = f"v{x[element // LANES]}.h[{element % LANES}]"
                weights = w[pair // self.tiles * self.chunk + k % self.chunk]
                low, high = acc[2 * pair], acc[2 * pair + 1]
                lines.append(f"{name} v{low}.4s, v{weights}.4h, {by}")
                lines.append(f"{name}2 v{high}.4s, v{weights}.8h, {by}")
        return Lines(f"{self.step} input channels.", tuple(lines))

    def store(self) -> Lines:
        pairs = zip(self.regs["acc"][::2], self.regs["acc"][1::2], strict=True)
        return Lines("Sums.", tuple(f"stp q{a}, q{b}, [%[sums]], #32" for a, b in pairs))


def _loads(registers: Sequence[int], pointer: str) -> list[str]:
    """Consecutive vectors from a pointer that moves on."""
    pairs = zip(registers[::2], registers[1::2], strict=True)
    return [f"ldp q{a}, q{b}, [%[{pointer}]], #32" for a, b in pairs]


@dataclass(frozen=True)
class Product:
    """The kernel that multiplies and adds up over the input channels, frequency by frequency.

    Attributes:
        turn: what it takes at a time.
        steps: those printed one after the other; the last repeats if `repeats` is not 0.
        repeats: how often the last step runs.
    """

    turn: Turn
    steps: tuple[Lines, ...]
    repeats: int

    @property
    def regs(self) -> RegPlan:
        return self.turn.regs

    @property
    def store(self) -> Lines:
        return self.turn.store()

    def length(self, frequencies: int) -> int:
        """Instructions for all frequencies of one block of channels."""
        *straight, last = (len(lines.lines) for lines in self.steps)
        around = len(self.store.lines) + 2 + (1 if self.repeats else 0)
        looped = self.repeats * (last + 2) if self.repeats else last
        return frequencies // self.turn.frequencies * (sum(straight) + looped + around)


def products(turn: Turn, steps: int) -> Product:
    """Two steps are printed as they are, more of them as a loop behind the first."""
    lines = [turn.products(first=i == 0) for i in range(min(steps, 2))]
    return Product(turn, tuple(lines), steps - 1 if steps > 2 else 0)


# -- transforms ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Transform:
    """Straight-line code of a transform.

    Attributes:
        regs: its registers.
        once: lines ahead of the loop.
        parts: the body.
    """

    regs: RegPlan
    once: Lines
    parts: tuple[Lines, ...]

    @property
    def length(self) -> int:
        return sum(len(part.lines) for part in self.parts)


def _named(steps: Sequence[Step], names: dict[str, str], own: str) -> Iterator[Step]:
    """Steps between other values: what `names` lacks belongs to this use of them alone."""

    def of(name: str) -> str:
        return names.get(name, f"{name} {own}")

    for step in steps:
        yield Step(of(step.to), of(step.a), step.k, of(step.b))


def _operation(step: Step, lanes: str, constants: dict[int, int]) -> Operation:
    """A step on equal vectors."""
    if abs(step.k) == 1:
        name = "add" if step.k > 0 else "sub"
        text = f"{name} v{{0}}.{lanes}, v{{1}}.{lanes}, v{{2}}.{lanes}"
        return Operation(text, step.to, (step.a, step.b))
    name = "mla" if step.k > 0 else "mls"
    text = f"{name} v{{0}}.{lanes}, v{{1}}.{lanes}, v{constants[abs(step.k)]}.{lanes}"
    return Operation(text, step.to, (step.a, step.b), update=True)


def _widening(step: Step, byte: set[str], constants: dict[int, int], wide: dict[int, int]) -> Operation:
    """A step that may read bytes, whose result is int16."""
    bytes_read = step.a in byte, step.b in byte
    if not any(bytes_read):
        return _operation(step, "8h", wide)
    if all(bytes_read):
        name = "saddl" if step.k > 0 else "ssubl"
        return Operation(f"{name} v{{0}}.8h, v{{1}}.8b, v{{2}}.8b", step.to, (step.a, step.b))
    assert not bytes_read[0], "bytes are added to int16, not the other way"
    name = "smlal" if step.k > 0 else "smlsl"
    text = f"{name} v{{0}}.8h, v{{1}}.8b, v{constants[abs(step.k)]}.8b"
    return Operation(text, step.to, (step.a, step.b), update=True)


def _factors(steps: Sequence[Step]) -> list[int]:
    return sorted({abs(s.k) for s in steps} - {1})


def _byte_factors(steps: Sequence[Step]) -> list[int]:
    return sorted({abs(s.k) for s in steps if s.b.startswith("d") and abs(s.k) > 1})


def input_transform(form: Form, places: Sequence[int], *, flip: bool) -> Transform:
    """B^T d B of 8 channels: columns first, from bytes, then rows.

    Args:
        places: bytes ahead of each frequency.
        flip: bytes are uint8.
    """
    n = form.size
    halves = _factors([*form.input, *(s for s in form.widen if not s.b.startswith("d"))])
    narrow = _byte_factors(form.widen)
    fixed = iter(range(REGISTERS))
    wide = {k: next(fixed) for k in halves}
    small = {k: next(fixed) for k in narrow}
    top = next(fixed) if flip else -1
    once = [f"movi v{r}.8h, #{k}" for k, r in wide.items()]
    once += [f"movi v{r}.8b, #{k}" for k, r in small.items()]
    once += [f"movi v{top}.8b, #128"] if flip else []
    pool = tuple(fixed)
    # Rows that registers cannot hold until all columns are there wait where their results will be.
    waiting = range(max(0, (len(pool) - 2 * n) // n) if n * n > len(pool) else n, n)
    operations: list[Operation] = []
    for j in range(n):
        operations += _column(form, j, small, wide, top if flip else None)
        for i in waiting:
            place = f"[%[to], #{places[i * n + j]}]"
            operations.append(Operation(f"str q{{0}}, {place}", sources=(f"c{i},{j}",)))
    for i in range(n):
        row = f"c{i},"
        if i in waiting:
            row = f"r{i},"
            for j in range(n):
                place = f"[%[to], #{places[i * n + j]}]"
                operations.append(Operation(f"ldr q{{0}}, {place}", f"{row}{j}"))
        names = {f"d{j}": f"{row}{j}" for j in range(n)}
        names |= {f"v{j}": f"v{i},{j}" for j in range(n)}
        operations += [_operation(s, "8h", wide) for s in _named(form.input, names, f"row {i}")]
        for j in range(n):
            place = f"[%[to], #{places[i * n + j]}]"
            operations.append(Operation(f"str q{{0}}, {place}", sources=(f"v{i},{j}",)))
    lines, _ = allocate(operations, pool)
    regs = RegPlan({"fixed": tuple(range(pool[0])), "values": pool} if pool[0] else {"values": pool})
    return Transform(regs, Lines("Factors.", tuple(once)), (Lines("B^T d B.", tuple(lines)),))


def _column(
    form: Form, j: int, small: dict[int, int], wide: dict[int, int], top: int | None
) -> Iterator[Operation]:
    """One column of B^T d, from bytes."""
    loaded = [f"d{i},{j}" for i in range(form.size)]
    for name in loaded:
        raw = name if top is None else f"raw {name}"
        yield Operation("ld1 {{v{0}.8b}}, [%[x]], %[line]", raw)
        if top is not None:
            yield Operation(f"eor v{{0}}.8b, v{{1}}.8b, v{top}.8b", name, (raw,))
    yield Operation("add %[x], %[x], %[column]")
    names = {f"d{i}": name for i, name in enumerate(loaded)}
    names |= {f"v{i}": f"c{i},{j}" for i in range(form.size)}
    for step in _named(form.widen, names, f"column {j}"):
        yield _widening(step, set(loaded), small, wide)


def output_transform(form: Form, tiles: int, finish: Finish) -> Transform:
    """A^T M A of 4 channels, divided by s^2, then the end and the stores."""
    n, m = form.size, form.outputs
    factors = _factors(form.output)
    fixed = iter(range(REGISTERS))
    wide = {k: next(fixed) for k in factors}
    reciprocal = next(fixed)
    once = [f"movi v{r}.4s, #{k}" for k, r in wide.items()]
    once.append(f"dup v{reciprocal}.4s, %w[reciprocal]")
    pool = tuple(fixed)
    operations = list(_sums(form, tiles, wide))
    names = [f"y{i},{j}" for i, j in pairs_of(range(m), range(m))]
    results = [f"q{name}" for name in names]
    for name, result in zip(names, results, strict=True):
        text = f"sqrdmulh v{{0}}.4s, v{{1}}.4s, v{reciprocal}.4s"
        operations.append(Operation(text, result, (name,)))
    lines, at = allocate(operations, pool, results)
    free = [r for r in pool if r not in at.values()]
    words = len(finish.rows)
    per_channel, constants, free = free[:3], free[3:8], free[8:]
    end_constants = Constants(*constants)
    sums = [Sums(at[result], *per_channel) for result in results]
    end, bytes_at = finish_lines(finish, sums, free, end_constants)
    loads = [f"ldr q{r}, [%[q]], #16" for r in per_channel[:words]]
    stores = []
    for i in range(m * m):
        stores.append(f"st1 {{v{bytes_at[i // 4]}.s}}[{i % 4}], [%[to]], %[pixel]")
        if i % m == m - 1:
            stores.append(f"add %[to], %[to], %[{'back' if i == m * m - 1 else 'line'}]")
    parts = (
        Lines(f"A^T M A, over {form.factor}.", tuple(lines)),
        Lines("Parameters of the channels.", tuple(loads)),
        load_lines(finish, end_constants),
        end,
        Lines("Results.", (*stores, "add %[sums], %[sums], #16")),
    )
    regs = RegPlan({"fixed": tuple(range(pool[0])), "values": pool} if pool[0] else {"values": pool})
    return Transform(regs, Lines("Factors.", tuple(once)), parts)


def _sums(form: Form, tiles: int, wide: dict[int, int]) -> Iterator[Operation]:
    """Columns, then rows; the scaled bias joins where it reaches every output alike."""
    n, m = form.size, form.outputs
    yield Operation("ldr q{0}, [%[q]], #16", "bias")
    for j in range(n):
        for i in range(n):
            at = (i * n + j) * tiles * 4 * CHANNELS
            name = "raw" if i == j == 1 else f"m{i},{j}"
            yield Operation(f"ldr q{{0}}, [%[sums], #{at}]", name)
        if j == 1:
            yield Operation("add v{0}.4s, v{1}.4s, v{2}.4s", "m1,1", ("raw", "bias"))
        names = {f"m{i}": f"m{i},{j}" for i in range(n)} | {f"y{i}": f"c{i},{j}" for i in range(m)}
        yield from (
            _operation(s, "4s", wide) for s in _named(form.output, names, f"column {j}")
        )
    for i in range(m):
        names = {f"m{j}": f"c{i},{j}" for j in range(n)} | {f"y{j}": f"y{i},{j}" for j in range(m)}
        yield from (_operation(s, "4s", wide) for s in _named(form.output, names, f"row {i}"))
