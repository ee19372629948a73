"""Assembly around panels: loads of several registers, and packing rows of bytes into a panel.

A panel holds the rows of a tile in the order in which the matrix kernels read them, so that these
stream through it with one pointer. SDOT takes its four products from any lane of a register, so a
register is 16 bytes of one row; SMMLA takes 8 of each of two rows, which are brought together:

    [K / 16][rows][16]                           direct; what is missing to 16 bytes is anything
    [K / 16][rows / 4][16 / 8][4 rows][8]        paired, whole chunks of 16 bytes per row
    [rows / 4][4 rows][8]                        and the rest of 8 bytes

The second is what ST4 makes of 16 bytes of each of four rows: no transposition is needed. The panel
of a tile of one row is the row itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

CHUNK = 16  # bytes of a row that are packed at once
QUAD = 4  # rows that ST4 interleaves


def load(registers: Sequence[int], pointer: str, *, post: bool = True) -> list[str]:
    """Loads of consecutive 16-byte registers, up to four by one instruction.

    Without `post` all of them read the same address.
    """
    lines = []
    for i in range(0, len(registers), 4):
        some = registers[i : i + 4]
        names = f"v{some[0]}.16b" if len(some) == 1 else f"v{some[0]}.16b-v{some[-1]}.16b"
        step = f", #{16 * len(some)}" if post else ""
        lines.append(f"ld1 {{{names}}}, [%[{pointer}]]{step}")
    return lines


@dataclass(frozen=True)
class Layout:
    """Where bytes of the rows of a tile lie in a panel.

    Attributes:
        group: bytes of a row that lie together; a whole chunk if rows are not interleaved.
    """

    group: int

    @property
    def direct(self) -> bool:
        return self.group == CHUNK

    def behind(self, excess: bool) -> int:
        """Bytes behind a panel that kernels read if they multiply some groups again."""
        return CHUNK if self.direct and excess else 0

    def bytes(self, rows: int, depth: int) -> int:
        """Size of a tile's panel of rows of `depth` bytes."""
        return rows * (-(-depth // CHUNK) * CHUNK if self.direct and rows > 1 else depth)

    def position(self, k: int, row: int, rows: int, depth: int) -> int:
        """Offset in a panel of `rows` rows of `depth` bytes of byte `k` of `row`."""
        if rows == 1:
            return k
        chunk, inside = divmod(k, CHUNK)
        if self.direct:
            return (chunk * rows + row) * CHUNK + inside
        width = CHUNK if chunk < depth // CHUNK else depth % CHUNK
        group = self.group
        quad = inside // group * QUAD * group + row % QUAD * group + inside % group
        return chunk * CHUNK * rows + row // QUAD * QUAD * width + quad


DIRECT, PAIRED = Layout(CHUNK), Layout(8)


@dataclass(frozen=True)
class Packing:
    """Lines that pack a tile of rows that follow each other.

    Attributes:
        unit: bytes of each row that a turn of the loop packs.
        loop: that turn; `from` ends at the next bytes of the first row.
        last: the rest, likewise at the next row behind the tile; empty if there is none.
        over: bytes of the rest in front of its last load, or 0.
        registers: vector registers.
    """

    unit: int
    loop: list[str]
    last: list[str]
    over: int
    registers: tuple[int, ...]


def packing(layout: Layout, rows: int, rest: int) -> Packing:
    """How rows are packed whose number of bytes leaves `rest` of a turn's."""
    if layout.direct:
        return _pack_direct(rows, rest)
    return Packing(CHUNK, pack_chunk(rows), list(_pack_rest(rows, rest)), 0, tuple(range(rows)))


def unit(layout: Layout) -> int:
    """Bytes of each row that a turn of the loop packs."""
    return 4 * CHUNK if layout.direct else CHUNK


def _pack_direct(rows: int, rest: int) -> Packing:
    """Up to four chunks of a row by one LD1; STP puts those of two rows side by side."""
    loop = []
    for row in range(rows):
        step = "back" if row == rows - 1 else "step"
        loop.append(_load_chunks(4 * row, 4, f"%[{step}]"))
    loop += _store_chunks(rows, 4)
    last, whole = [], rest // CHUNK
    left = [n for n in (8, 4) if rest % CHUNK & n]
    over = rest // 8 * 8 if rest % 8 else rest // CHUNK * CHUNK if left else 0
    for row in range(rows):
        step = "%[over]" if over else "%[step]"
        if whole:
            last.append(_load_chunks(4 * row, whole, f"#{CHUNK * whole}" if left else step))
        for n in left:
            # Four bytes go behind the eight.
            name = "8b}" if n == 8 else f"s}}[{2 if len(left) > 1 else 0}]"
            by = step if n == left[-1] else f"#{n}"
            last.append(f"ld1 {{v{4 * row + whole}.{name}, [%[from]], {by}")
    if rest:
        last += _store_chunks(rows, whole + bool(left))
    return Packing(4 * CHUNK, loop, last, over, tuple(range(4 * rows)))


def _load_chunks(first: int, count: int, step: str) -> str:
    names = f"v{first}.16b" if count == 1 else f"v{first}.16b-v{first + count - 1}.16b"
    return f"ld1 {{{names}}}, [%[from]], {step}"


def _store_chunks(rows: int, chunks: int) -> list[str]:
    stores = [
        f"stp q{4 * row + c}, q{4 * row + 4 + c}, [%[to], #{CHUNK * (c * rows + row)}]"
        for c in range(chunks)
        for row in range(0, rows, 2)
    ]
    return [*stores, f"add %[to], %[to], #{CHUNK * rows * chunks}"]


@dataclass(frozen=True)
class Moves:
    """One way of moving `bytes` of each of four rows: arrangement of LD1 and of ST4."""

    bytes: int
    load: str
    store: str

    def read(self, register: int, step: str) -> str:
        name, _, lane = self.load.partition("[")
        return f"ld1 {{v{register}.{name}}}{'[' * bool(lane)}{lane}, [%[from]], %[{step}]"

    def write(self, first: int) -> str:
        name, _, lane = self.store.partition("[")
        names = f"v{first}.{name}-v{first + 3}.{name}"
        return f"st4 {{{names}}}{'[' * bool(lane)}{lane}, [%[to]], #{QUAD * self.bytes}"


# Pairs of rows: 16 bytes, and the rest of 8.
WHOLE, HALF = Moves(16, "16b", "2d"), Moves(8, "8b", "d[0]")


def pack_chunk(rows: int) -> list[str]:
    """16 bytes of each row by ST4; `from` ends at the next 16 of the first row."""
    lines = []
    for first in range(0, rows, QUAD):
        for i in range(QUAD):
            last = first + i == rows - 1
            lines.append(WHOLE.read(first + i, "back" if last else "step"))
        lines.append(WHOLE.write(first))
    return lines


def _pack_rest(rows: int, rest: int) -> Iterator[str]:
    """The last 8 bytes of each row; `from` ends at them in the row behind the last."""
    for first in range(0, rows if rest else 0, QUAD):
        for i in range(QUAD):
            yield HALF.read(first + i, "step")
        yield HALF.write(first)


@dataclass(frozen=True)
class PixelPacking:
    """Lines that put windows together: before the loop, for each tile; chunks per window.

    `shared`: windows that one load of 16 bytes serves; each has its own order of bytes.
    """

    table: list[str]
    body: list[str]
    outputs: int
    shared: int
    registers: tuple[int, ...]


def pack_pixels(
    layout: Layout, rows: int, depth: int, lines: int, run: int, step: int
) -> PixelPacking:
    """A tile of windows of `lines` lines of at most 16 bytes; `depth` bytes in all.

    Lines of a window have `run` bytes, windows are `step` bytes apart. Registers: two sets of
    lines, v0-v3 and v8-v11; the orders of bytes, v4-v7; windows, v16-v31.
    """
    outputs = -(-depth // CHUNK)
    shared = 2 if run + step <= CHUNK and 2 * outputs <= 4 else 1
    order, made = range(4, 4 + shared * outputs), range(16, 16 + QUAD * outputs)
    table = [f"ldr q{v}, [%[order], #{CHUNK * o}]" for o, v in enumerate(order)]
    body = []
    for first in range(0, rows, QUAD):
        for pixel in range(QUAD):
            which = pixel % shared
            base = pixel // shared % 2 * 8
            if which == 0:
                body += [f"ld1 {{v{base + i}.16b}}, [%[line{i}]], %[step]" for i in range(lines)]
            names = f"v{base}.16b" if lines == 1 else f"v{base}.16b-v{base + lines - 1}.16b"
            body += [
                f"tbl v{made[QUAD * o + pixel]}.16b, {{{names}}}, v{order[outputs * which + o]}.16b"
                for o in range(outputs)
            ]
        for o in range(outputs):
            at, v = layout.position(CHUNK * o, first, rows, depth), made[QUAD * o]
            if layout.direct:
                body += [f"stp q{v + i}, q{v + i + 1}, [%[to], #{at + CHUNK * i}]" for i in (0, 2)]
            else:
                names = f"v{v}.{WHOLE.store}-v{v + 3}.{WHOLE.store}"
                body += [f"add %[at], %[to], #{at}", f"st4 {{{names}}}, [%[at]]"]
    used = (*range(lines), *range(8, 8 + lines), *order, *made)
    return PixelPacking(table, body, outputs, shared, used)
