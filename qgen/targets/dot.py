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
from qgen.targets.finish import (
    Constants,
    Finish,
    finish_lines,
    load_lines,
    plan_finish,
)
from qgen.targets.panel_asm import CHUNK, load, position
from qgen.targets.requantize_asm import Lines, Sums
from qgen.targets.spec import Helper, RegPlan

TEMPLATE = "helpers/dot_tile.c.j2"
UNROLLED = 2  # chunks of 16 products in the loop
UNIT = 16  # most channels that share one set of parameter registers


@dataclass(frozen=True)
class Tile:
    """Rows by channels of one instance; `depth` bytes per row, a multiple of the group."""

    rows: int
    channels: int
    depth: int

    @property
    def steps(self) -> int:
        return self.depth // (CHUNK * UNROLLED)

    @property
    def tails(self) -> tuple[int, ...]:
        """Products behind the loop, in pieces that are loaded at once."""
        whole, rest = divmod(self.depth, CHUNK)
        return (CHUNK,) * (whole % UNROLLED) + ((rest,) if rest else ())


@dataclass(frozen=True)
class DotKernel:
    """A way of multiplying.

    Attributes:
        mnemonic: of the multiplying instruction.
        name: isa, as in the names of rows.
        requires: ISA features.
        group: products of one row and channel that lie together.
        registers: register plan for (rows, channels).
        products: lines for (plan, tile, products): load them and multiply.
        again: lines that load one group of a tile's rows, and of weights, and multiply.
        lanes: parameters [channels] of a block in the order of the lanes.
        store: lines for (registers of results, tile, free registers).
        alone: widths of the blocks of tiles of one row, if there are no others; widest first.
        wide_ends: ends that need a third vector of parameters fit the registers.
    """

    mnemonic: str
    name: str
    requires: frozenset[str]
    group: int
    registers: Callable[[int, int], RegPlan]
    products: Callable[[RegPlan, Tile, int], list[str]]
    again: Callable[[RegPlan, Tile], list[str]]
    lanes: Callable[[Array], Array]
    store: Callable[[Sequence[int], Tile, Sequence[int]], list[str]]
    alone: tuple[int, ...] = (8,)
    wide_ends: bool = True

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
    """

    weights: Array
    parameters: Array
    excess: tuple[tuple[int, Array], ...]
    depth: int
    channels: int
    blocks: int
    count: int

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
        units = [
            kernel.lanes(row[s + u : s + min(u + UNIT, channels)])
            for u in range(0, channels, UNIT)
            for row in finish.rows
        ]
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
    )


def excess_table(kernel: DotKernel, packed: Packed, rows: int) -> Array:
    """int8 table of the groups that are multiplied again by a kernel of `rows` rows.

    Each is 16 bytes, offsets of the group from the end of a panel for the first and the second four
    rows as int32, and the weights [channels][group].
    """
    entries = []
    for group, weights in packed.excess:
        places = [
            position(group * kernel.group, row, rows, packed.depth, kernel.group)
            - rows * packed.depth
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
        per_tile = 3 + pointer + 2 * wide + (1 + self.tile.steps * (len(loop) + 2) if loop else 0)
        per_tile += len(values["bias"]) + len(values["tails"]) + len(values["end"].lines)
        groups = tiles * (len(again) + 3) * len(packed.excess)
        blocks: int = len(packed.parameters) * (8 + 2 * wide + tiles * per_tile)
        return blocks + groups


def instance(kernel: DotKernel, packed: Packed, finish: Finish, rows: int) -> Instance:
    """The kernel of `rows` rows that an op needs."""
    tile = Tile(rows, packed.channels, packed.depth)
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
    traits = (
        *(["loop"] if tile.steps else []),
        *([f"k{sum(tile.tails)}"] if tile.tails else []),
        *(["wide"] if packed.excess else []),
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
        "loop": [x for _ in range(UNROLLED) for x in kernel.products(regs, tile, CHUNK)]
        if tile.steps
        else [],
        "tails": [x for k in tile.tails for x in kernel.products(regs, tile, k)],
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
        lines += made.lines
        title = made.title
        results += found
    spare = [r for r in pool if r not in results]
    return Lines(title, (*lines, *kernel.store(results, tile, spare)))
