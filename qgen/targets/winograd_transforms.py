"""The transforms of a Winograd convolution in assembly, from the steps of its forms."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product as pairs_of

from qgen.targets.finish import Constants, Finish, finish_lines, load_lines
from qgen.targets.requantize_asm import Lines, Sums
from qgen.targets.spec import RegPlan
from qgen.targets.straight import Operation, allocate, most_live
from qgen.targets.winograd_forms import Form, Scheme, Step
from qgen.targets.winograd_products import CHANNELS

REGISTERS = 32


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


def _widening(step: Step, byte: set[str], constants: _Constants) -> Operation:
    """A step that may read bytes, whose result is int16."""
    bytes_read = step.a in byte, step.b in byte
    if not any(bytes_read):
        return _operation(step, "8h", constants.wide)
    if all(bytes_read):
        name = "saddl" if step.k > 0 else "ssubl"
        return Operation(f"{name} v{{0}}.8h, v{{1}}.8b, v{{2}}.8b", step.to, (step.a, step.b))
    assert not bytes_read[0], "bytes are added to int16, not the other way"
    name = "smlal" if step.k > 0 else "smlsl"
    text = f"{name} v{{0}}.8h, v{{1}}.8b, v{constants.narrow[abs(step.k)]}.8b"
    return Operation(text, step.to, (step.a, step.b), update=True)


def _factors(steps: Iterable[Step]) -> list[int]:
    return sorted({abs(s.k) for s in steps} - {1})


def input_transform(scheme: Scheme, places: Sequence[int], *, flip: bool) -> Transform:
    """B^T d B of 8 channels: columns first, from bytes, then rows.

    Args:
        places: bytes of scratch ahead of each frequency.
        flip: bytes are uint8.
    """
    down, along = scheme.rows, scheme.columns
    fixed = iter(range(REGISTERS))
    from_int16 = [*along.input, *(s for s in down.widen if not s.b.startswith("d"))]
    wide = {k: next(fixed) for k in _factors(from_int16)}
    narrow = {k: next(fixed) for k in _factors(s for s in down.widen if s.b.startswith("d"))}
    once = [f"movi v{r}.8h, #{k}" for k, r in wide.items()]
    once += [f"movi v{r}.8b, #{k}" for k, r in narrow.items()]
    top = next(fixed) if flip else None
    once += [f"movi v{top}.8b, #128"] if flip else []
    pool = tuple(fixed)
    constants = _Constants(narrow, wide, top)
    # Rows that registers cannot hold until all columns are there wait where their results will be.
    operations = list(_input(scheme, places, constants, down.size))
    for held in range(down.size - 1, -1, -1):
        if most_live(operations) <= len(pool):
            break
        operations = list(_input(scheme, places, constants, held))
    lines, _ = allocate(operations, pool)
    return Transform(_plan(pool), Lines("Factors.", tuple(once)), (Lines("V.", tuple(lines)),))


@dataclass(frozen=True)
class _Constants:
    """Registers of factors of bytes, factors of int16, and of the bit that uint8 flips."""

    narrow: dict[int, int]
    wide: dict[int, int]
    top: int | None


def _plan(pool: Sequence[int]) -> RegPlan:
    fixed = {"fixed": tuple(range(pool[0]))} if pool[0] else {}
    return RegPlan(fixed | {"values": tuple(pool)})


def _input(
    scheme: Scheme, places: Sequence[int], constants: _Constants, held: int
) -> Iterator[Operation]:
    """Columns, then rows, of which the first `held` stay in registers."""
    rows, columns = scheme.rows.size, scheme.columns.size
    at = {
        (i, j): f"[%[to], #{places[i * columns + j]}]" for i in range(rows) for j in range(columns)
    }
    for j in range(columns):
        waiting = {f"c{i},{j}": at[i, j] for i in range(held, rows)}
        for operation in _column(scheme.rows, j, constants):
            yield operation
            if operation.to in waiting:
                yield Operation(f"str q{{0}}, {waiting[operation.to]}", sources=(operation.to,))
    for i in range(rows):
        row = "c" if i < held else "r"
        if i >= held:
            for j in range(columns):
                yield Operation(f"ldr q{{0}}, {at[i, j]}", f"r{i},{j}")
        names = {f"d{j}": f"{row}{i},{j}" for j in range(columns)}
        names |= {f"v{j}": f"v{i},{j}" for j in range(columns)}
        for step in _named(scheme.columns.input, names, f"row {i}"):
            yield _operation(step, "8h", constants.wide)
        for j in range(columns):
            yield Operation(f"str q{{0}}, {at[i, j]}", sources=(f"v{i},{j}",))


def _column(form: Form, j: int, constants: _Constants) -> Iterator[Operation]:
    """One column of B^T d, from bytes."""
    loaded = [f"d{i},{j}" for i in range(form.size)]
    for name in loaded:
        raw = name if constants.top is None else f"raw {name}"
        yield Operation("ld1 {{v{0}.8b}}, [%[x]], %[line]", raw)
        if constants.top is not None:
            yield Operation(f"eor v{{0}}.8b, v{{1}}.8b, v{constants.top}.8b", name, (raw,))
    yield Operation("add %[x], %[x], %[column]")
    names = {f"d{i}": name for i, name in enumerate(loaded)}
    names |= {f"v{i}": f"c{i},{j}" for i in range(form.size)}
    for step in _named(form.widen, names, f"column {j}"):
        yield _widening(step, set(loaded), constants)


def output_transform(scheme: Scheme, tiles: int, finish: Finish) -> Transform:
    """A^T M A of 4 channels, divided by s s' (Q23), then the end and the stores."""
    height, width = scheme.height, scheme.width
    fixed = iter(range(REGISTERS))
    wide = {k: next(fixed) for k in _factors([*scheme.rows.output, *scheme.columns.output])}
    reciprocal = next(fixed)
    once = [f"movi v{r}.4s, #{k}" for k, r in wide.items()]
    once.append(f"dup v{reciprocal}.4s, %w[reciprocal]")
    pool = tuple(fixed)
    operations = list(_sums(scheme, tiles, wide))
    names = [f"y{i},{j}" for i, j in pairs_of(range(height), range(width))]
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
    for i in range(height * width):
        stores.append(f"st1 {{v{bytes_at[i // 4]}.s}}[{i % 4}], [%[to]], %[pixel]")
        if i % width == width - 1:
            stores.append(f"add %[to], %[to], %[{'back' if i == height * width - 1 else 'line'}]")
    parts = (
        Lines(f"A^T M A, over {scheme.factor}.", tuple(lines)),
        Lines("Parameters of the channels.", tuple(loads)),
        load_lines(finish, end_constants),
        end,
        Lines("Results.", (*stores, "add %[sums], %[sums], #16")),
    )
    return Transform(_plan(pool), Lines("Factors.", tuple(once)), parts)


def _sums(scheme: Scheme, tiles: int, wide: dict[int, int]) -> Iterator[Operation]:
    """Columns, then rows; the scaled bias joins where it reaches every output alike."""
    down, along = scheme.rows, scheme.columns
    yield Operation("ldr q{0}, [%[q]], #16", "bias")
    for j in range(along.size):
        for i in range(down.size):
            at = (i * along.size + j) * tiles * 4 * CHANNELS
            name = "raw" if i == j == 1 else f"m{i},{j}"
            yield Operation(f"ldr q{{0}}, [%[sums], #{at}]", name)
        if j == 1:
            yield Operation("add v{0}.4s, v{1}.4s, v{2}.4s", "m1,1", ("raw", "bias"))
        names = {f"m{i}": f"m{i},{j}" for i in range(down.size)}
        names |= {f"y{i}": f"c{i},{j}" for i in range(down.outputs)}
        for step in _named(down.output, names, f"column {j}"):
            yield _operation(step, "4s", wide)
    for i in range(down.outputs):
        names = {f"m{j}": f"c{i},{j}" for j in range(along.size)}
        names |= {f"y{j}": f"y{i},{j}" for j in range(along.outputs)}
        for step in _named(along.output, names, f"row {i}"):
            yield _operation(step, "4s", wide)
