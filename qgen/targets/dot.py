"""Matrix kernels that sum products in int32 lanes: packing of weights, tiles, their assembly.

A `DotKernel` is one way of multiplying (SDOT, SMMLA). Its kernels compute tiles of some rows by a
block of 8, 16 or 32 output channels; this module makes an instance of one for an op: weights in
reading order, parameters per block, and the assembly lines, in which ends (`finish.py`) differ.

A weight whose distance from its zero point leaves int8 is split into terms that fit. What does not
fit the first is multiplied again behind the loop, for the few groups of products that have any;
int32 sums wrap, so their order is of no consequence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from qgen.ir.linear import Linear
from qgen.ir.types import Array, DType, Rounding
from qgen.targets.blocks import block_starts
from qgen.targets.empty import VECTOR, last_is_empty
from qgen.targets.finish import (
    Constants,
    Finish,
    finish_lines,
    load_lines,
    plan_finish,
)
from qgen.targets.finish_top import last_lines, top_lines
from qgen.targets.panel_asm import CHUNK, Layout, load
from qgen.targets.requantize_asm import Lines, Sums
from qgen.targets.spec import Helper, RegPlan

TEMPLATE = "helpers/dot_tile.c.j2"
UNROLLED = 2  # chunks of 16 products in the loop
UNIT = 16  # most channels that share one set of parameter registers


@dataclass(frozen=True)
class Walk:
    """Rows that are pixels of lines, read where they lie; see `panel_planes.py`.

    Attributes:
        taps: columns of a window, each a chunk of 16 bytes per pixel.
        phases: neighbouring columns lie in as many planes.
    """

    taps: int
    phases: int

    def steps(self) -> tuple[str, ...]:
        """What moves the pointer from each tap to the next; the last to the next line or plane."""
        hops = ["hop" if (t + 1) % self.phases else "wrap" for t in range(self.taps - 1)]
        return (*hops, "next")


@dataclass(frozen=True)
class Tile:
    """Rows by channels of one instance; `depth` bytes per row, a multiple of the group.

    `half`: the second half of the channels has no weights; see `empty.py`.
    """

    rows: int
    channels: int
    depth: int
    walk: Walk | None = None
    half: bool = False

    @property
    def unrolled(self) -> int:
        """Chunks of 16 products in the loop."""
        return self.walk.taps if self.walk else UNROLLED

    @property
    def steps(self) -> int:
        return self.depth // (CHUNK * self.unrolled)

    @property
    def tails(self) -> tuple[int, ...]:
        """Products behind the loop, in pieces that are loaded at once."""
        whole, rest = divmod(self.depth, CHUNK)
        return (CHUNK,) * (whole % self.unrolled) + ((rest,) if rest else ())


@dataclass(frozen=True)
class DotKernel:
    """A way of multiplying.

    Attributes:
        mnemonic: of the multiplying instruction.
        name: isa, as in the names of rows.
        requires: ISA features.
        group: products of one row and channel that lie together.
        layout: of panels.
        registers: register plan for (rows, channels).
        products: lines for (plan, tile, products, step): load them and multiply. The pointer to
            the rows then moves by the operand `step`, or to what follows if that is empty.
        again: lines that load one group of a tile's rows, and of weights, and multiply.
        lanes: parameters [channels] of a block in the order of the lanes.
        store: lines for (registers of results, tile, free registers).
        alone: widths of the blocks of tiles of one row, if there are no others; widest first.
        wide_ends: ends that need a third vector of parameters fit the registers.
        halves: it leaves out the second half of a tile's channels (`Tile.half`).
    """

    mnemonic: str
    name: str
    requires: frozenset[str]
    group: int
    layout: Layout
    registers: Callable[[int, int], RegPlan]
    products: Callable[[RegPlan, Tile, int, str], list[str]]
    again: Callable[[RegPlan, Tile], list[str]]
    lanes: Callable[[Array], Array]
    store: Callable[[Sequence[int], Tile, Sequence[int]], list[str]]
    alone: tuple[int, ...] = (8,)
    wide_ends: bool = True

    halves: bool = False

    def refuses(self, op: Linear, rounding: Rounding) -> str:
        """Why no kernel of this kind takes an op, or an empty string."""
        if not self.wide_ends and plan_finish(op, op.rounding(rounding)).m1 is not None:
            return "the 64-bit product of (Q4) needs more registers"
        return ""


@dataclass(frozen=True)
class Packed:
    """Weights of one op in the order in which its kernels read them.

    Attributes:
        weights: int8 [block][depth / group][channels][group]; the last block overlaps its
            neighbour if the op's channels are not a multiple of its width.
        parameters: int32 [block][...]: bias, repeated to 16 words, M0, shift and what the end
            needs, the number of groups that are multiplied again.
        excess: per block and group to multiply again: group number and int8 [channels][group].
        depth: bytes of a row.
        channels: width of a block.
        blocks: without the overlapping one.
        count: channels of the op.
        half: the last block has no weights in its second half, as dead channels are last, and its
            end takes the results from `empty.flips`.
    """

    weights: Array
    parameters: Array
    excess: tuple[tuple[int, Array], ...]
    depth: int
    channels: int
    blocks: int
    count: int
    half: bool

    @property
    def overlap(self) -> bool:
        return self.count % self.channels != 0


def split(weights: Array) -> list[Array]:
    """int8 terms of weights [K, channels] - zero point, which span at most -255..255."""
    terms: list[Array] = []
    left = weights.astype(np.int64)
    while left.any() or not terms:
        term = np.clip(left, -128, 127)
        terms.append(term.astype(np.int8))
        left = left - term
    return terms


def pack(
    kernel: DotKernel, op: Linear, finish: Finish, channels: int, order: Sequence[int]
) -> Packed:
    """Fold zero points and put weights into reading order.

    Args:
        channels: of a block.
        order: row of the weight matrix that each byte of a panel row meets, -1 for none.
    """
    centered = op.weight_matrix().astype(np.int64)
    stored_zero = op.x.zero - (128 if op.x.dtype is DType.U8 else 0)
    bias = op.bias().astype(np.int64) - stored_zero * centered.sum(axis=0)
    # One more row, of zeros, is what -1 finds.
    padded = np.concatenate([centered, np.zeros((1, centered.shape[1]), np.int64)])
    first, *others = split(padded[list(order)])
    starts = block_starts(op.channels, channels)
    words, excess = [], []
    for s in starts:
        some = slice(s, s + channels)
        again = [
            (k // kernel.group, group.T)
            for term in others
            for k in range(0, len(order), kernel.group)
            for group in [term[k : k + kernel.group, some]]
            if group.any()
        ]
        # A sum of a wrapped bias and wrapped products is the sum.
        mine = kernel.lanes(bias[some].astype(np.int32))
        units = []
        for u in range(0, channels, UNIT):
            unit = slice(s + u, s + min(u + UNIT, channels))
            units += [kernel.lanes(row[unit]) for row in finish.rows]
            if finish.offset is not None:
                units.append(np.resize(kernel.lanes(finish.offset[unit]), 16))
        count = np.array([len(again), 0, 0, 0]) if others else np.zeros(0)
        words.append(np.concatenate([np.resize(mine, max(len(mine), 16)), *units, count]))
        excess += again
    blocks = [first[:, s : s + channels].reshape(-1, kernel.group, channels) for s in starts]
    return Packed(
        weights=np.concatenate([b.transpose(0, 2, 1).reshape(-1) for b in blocks]),
        parameters=np.stack(words).astype(np.int32),
        excess=tuple(excess),
        depth=len(order),
        channels=channels,
        blocks=op.channels // channels,
        count=op.channels,
        half=kernel.halves
        and op.channels > channels == 2 * VECTOR
        and op.channels % channels == 0
        and last_is_empty(op, finish),
    )


def excess_table(kernel: DotKernel, packed: Packed, rows: int) -> Array:
    """int8 table of the groups that are multiplied again by a kernel of `rows` rows.

    Each is 16 bytes, offsets of the group from the end of a panel for the first and the second four
    rows as int32, and the weights [channels][group].
    """
    entries = []
    for group, weights in packed.excess:
        places = [
            kernel.layout.position(group * kernel.group, row, rows, packed.depth)
            - kernel.layout.bytes(rows, packed.depth)
            for row in (0, min(4, rows - 1))
        ]
        entries.append(np.array([*places, 0, 0], "<i4").view(np.int8))
        entries.append(weights.reshape(-1))
    return np.concatenate(entries)


@dataclass(frozen=True)
class Instance:
    """A kernel for one tile and end."""

    helper: Helper
    tile: Tile
    regs: RegPlan

    def cost(self, packed: Packed, tiles: int) -> int:
        """Instructions of a call for `tiles` tiles and all blocks, without the call itself."""
        values = self.helper.vars
        wide, loop, again = values["wide"], values["loop"], values["again"]
        pointer = not values["repeated"] or bool(values["finish"].rows)
        per_tile = (
            3
            + pointer
            + wide
            + 2 * bool(values["walk"])
            + (1 + self.tile.steps * (len(loop) + 2) if loop else 0)
        )
        per_tile += len(values["bias"]) + len(values["tails"]) + len(values["end"].lines)
        groups = tiles * (len(again) + 4) * len(packed.excess)
        blocks: int = len(packed.parameters) * (8 + 3 * wide + tiles * per_tile)
        return blocks + groups


def instance(
    kernel: DotKernel,
    packed: Packed,
    finish: Finish,
    rows: int,
    walk: Walk | None = None,
    *,
    half: bool = False,
) -> Instance:
    """The kernel of `rows` rows that an op needs; or that of the last block, if it is `half`."""
    tile = Tile(rows, packed.channels, packed.depth, walk, half)
    regs = kernel.registers(rows, tile.channels)
    # Vectors of a block's parameters: those of the bias are repeated until they fill four.
    each = kernel.lanes(np.zeros(tile.channels)).size // 4
    acc = regs["acc"]
    repeated = each <= 4
    bias = [
        line
        for i in range(0, len(acc), 4)
        for line in load(acc[i : i + 4], "q" if repeated else "p", post=not repeated)
    ]
    end = _end(kernel, regs, tile, finish)
    ways = [f"w{walk.taps}p{walk.phases}"] if walk else ["loop"]
    steps = walk.steps() if walk else [""] * UNROLLED
    moves = list(dict.fromkeys(steps)) if walk else []
    traits = (
        *(ways if tile.steps else []),
        *([f"k{sum(tile.tails)}"] if tile.tails else []),
        *(["wide"] if packed.excess else []),
        *(["half"] if half else []),
        *finish.traits,
    )
    values = {
        "kernel": kernel,
        "tile": tile,
        "regs": regs,
        "finish": finish,
        "wide": bool(packed.excess),
        "repeated": repeated,
        "bias": bias,
        "loop": [x for step in steps for x in kernel.products(regs, tile, CHUNK, step)]
        if tile.steps
        else [],
        "walk": moves,
        "walk_in": "".join(f", ptrdiff_t {m}" for m in moves),
        "walk_operands": "".join(f', [{m}] "r"({m})' for m in moves),
        "tails": [x for k in tile.tails for x in kernel.products(regs, tile, k, "")],
        "again": kernel.again(regs, tile),
        "end": end,
        "words": packed.parameters.shape[1],
        "clobbers": [f'"{c}"' for c in (*regs.clobbers, "cc", "memory")],
    }
    name = "_".join([f"{kernel.mnemonic}_{rows}x{tile.channels}", *traits])
    return Instance(Helper(name, TEMPLATE, values), tile, regs)


def _end(kernel: DotKernel, regs: RegPlan, tile: Tile, finish: Finish) -> Lines:
    """From sums to stored bytes, for at most 16 channels at a time."""
    pool = [*regs["w"], *regs["a"], *regs.vector.get("free", ())]
    units = max(tile.channels // UNIT, 1)
    each = kernel.lanes(np.zeros(tile.channels // units)).size // 4
    rows, needed = len(finish.rows), each * len(finish.rows)
    if finish.offset is not None:
        return _top_end(kernel, regs, tile, finish, units, each)
    if rows:
        constants = Constants(0, *pool[needed : needed + 4])
    else:
        constants = Constants(*pool[:5])
        needed = 1
    free = pool[needed + 4 : needed + 8]
    lines = list(load_lines(finish, constants).lines)
    results: list[int] = []
    acc, title = regs["acc"], ""
    for first in range(0, len(acc), len(acc) // units):
        if rows:
            lines += load(pool[:needed], "p")
        sums = [
            Sums(value, *(pool[min(row, rows) * each + i % each] for row in range(3)))
            for i, value in enumerate(acc[first : first + len(acc) // units])
        ]
        made, found = finish_lines(finish, sums, free, constants)
        # Narrowing the first half leaves zeros where the second would be.
        unused = [s.value for s in sums if tile.half and s.value % 2]
        lines += without(made.lines, unused)
        title = made.title
        results += found
    spare = [r for r in pool if r not in results]
    return Lines(title, (*lines, *kernel.store(results, tile, spare)))


def without(lines: Sequence[str], registers: Sequence[int]) -> list[str]:
    """Lines that have nothing to do with some vector registers."""
    return [x for x in lines if not any(f"v{r}." in x for r in registers)]


def _top_end(
    kernel: DotKernel, regs: RegPlan, tile: Tile, finish: Finish, units: int, each: int
) -> Lines:
    """As `_end`, with results in the top byte: as many sums at a time as there are free registers.

    Offsets of a unit are four vectors, which are loaded again and again. Those of the first sums go
    into the pool, later ones into sums that are no longer needed.
    """
    pool = [*regs["w"], *regs["a"], *regs.vector.get("free", ())]
    m0, shift, copies = pool[:each], pool[each : 2 * each], pool[2 * each :]
    lines: list[str] = []
    results: list[int] = []
    acc = list(regs["acc"])
    size = len(acc) // units
    for first in range(0, len(acc), size):
        lines += load([*m0, *shift], "p")
        mine = acc[first : first + size]
        while mine:
            some, mine = mine[: len(copies) // 4 * 4], mine[len(copies) // 4 * 4 :]
            taken = copies[: len(some)]
            for i in range(0, len(taken), 4):
                # The pointer moves on behind the last.
                last = units > 1 and not mine and i + 4 >= len(taken)
                lines += load(taken[i : i + 4], "p", post=last)
            made, found = top_lines(finish, some, taken, m0, shift)
            lines += made
            results += found
            copies = [r for r in [*copies, *some] if r not in results]
            copies = sorted(copies, key=lambda r: (r not in some, r))
    end = last_lines(finish, results, [*m0, *shift])
    spare = [r for r in [*pool, *acc] if r not in results and r not in (*m0, *shift)]
    return Lines(end.title, (*lines, *end.lines, *kernel.store(results, tile, spare)))
