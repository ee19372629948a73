"""Assembly around panels: loads of several registers, and packing rows of bytes into a panel.

A panel holds the rows of a tile in the order in which the matrix kernels read them, so that these
stream through it with one pointer. Rows go by fours; `group` is 4 bytes for SDOT, 8 for SMMLA:

    [K / 16][rows / 4][16 / group][4 rows][group]     whole chunks of 16 bytes per row
    [rows / 4][rest / group][4 rows][group]           the rest, `rest` = K mod 16

which is what ST4 makes of 16 bytes of each of four rows: no transposition is needed. The panel of
a tile of one row is the row itself.
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


def position(k: int, row: int, rows: int, depth: int, group: int) -> int:
    """Offset in a panel of `rows` rows of `depth` bytes of byte `k` of `row`."""
    if rows == 1:
        return k
    chunk, rest = k // CHUNK, depth % CHUNK
    whole = chunk < depth // CHUNK
    width = CHUNK if whole else rest
    inside = k % CHUNK // group * QUAD * group + row % QUAD * group + k % group
    return chunk * CHUNK * rows + row // QUAD * QUAD * width + inside


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


# By the size of a group: the way of 16 bytes and those of the rest, largest first.
WHOLE = {4: Moves(16, "16b", "4s"), 8: Moves(16, "16b", "2d")}
PARTS = {4: (Moves(8, "8b", "2s"), Moves(4, "s[0]", "s[0]")), 8: (Moves(8, "8b", "d[0]"),)}


def pack_chunk(rows: int, group: int) -> list[str]:
    """16 bytes of each row; `from` ends at the next 16 of the first row."""
    lines = []
    way = WHOLE[group]
    for first in range(0, rows, QUAD):
        for i in range(QUAD):
            last = first + i == rows - 1
            lines.append(way.read(first + i, "back" if last else "step"))
        lines.append(way.write(first))
    return lines


def pack_rest(rows: int, rest: int, group: int) -> Iterator[str]:
    """The last bytes of each row; `from` ends at them in the row behind the last."""
    ways = [way for way in PARTS[group] if rest & way.bytes]
    for first in range(0, rows, QUAD):
        for n, way in enumerate(ways):
            for i in range(QUAD):
                # Two ways: the first returns to its first row and 8 bytes on.
                again = i == QUAD - 1 and n + 1 < len(ways)
                yield way.read(first + i, "again" if again else "step")
            yield way.write(first)
        if len(ways) > 1:
            yield f"sub %[from], %[from], #{ways[0].bytes}"


@dataclass(frozen=True)
class PixelPacking:
    """Lines that put windows together: before the loop, for each tile; chunks per window."""

    table: list[str]
    body: list[str]
    outputs: int
    registers: tuple[int, ...]


def pack_pixels(rows: int, depth: int, group: int, lines: int) -> PixelPacking:
    """A tile of windows of `lines` lines of at most 16 bytes; `depth` bytes in all.

    Registers: two sets of lines, v0-v3 and v8-v11; the order of bytes, v4-v7; windows, v16-v31.
    """
    outputs = -(-depth // CHUNK)
    order, made = range(4, 4 + outputs), range(16, 16 + QUAD * outputs)
    table = [f"ldr q{v}, [%[order], #{CHUNK * o}]" for o, v in enumerate(order)]
    body = []
    for first in range(0, rows, QUAD):
        for pixel in range(QUAD):
            base = pixel % 2 * 8
            body += [f"ld1 {{v{base + i}.16b}}, [%[line{i}]], %[step]" for i in range(lines)]
            names = f"v{base}.16b" if lines == 1 else f"v{base}.16b-v{base + lines - 1}.16b"
            body += [
                f"tbl v{made[QUAD * o + pixel]}.16b, {{{names}}}, v{v}.16b"
                for o, v in enumerate(order)
            ]
        for o in range(outputs):
            at = position(CHUNK * o, first, rows, depth, group)
            v, kind = made[QUAD * o], WHOLE[group].store
            names = f"v{v}.{kind}-v{v + 3}.{kind}"
            body += [f"add %[at], %[to], #{at}", f"st4 {{{names}}}, [%[at]]"]
    used = (*range(lines), *range(8, 8 + lines), *order, *made)
    return PixelPacking(table, body, outputs, used)
