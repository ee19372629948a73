"""conv2d and fully_connected on the kernels of `dot.py`: panels, tiles, what runs when.

The rows of the left factor are packed once into a panel in scratch, a few tiles at a time, and meet
all blocks of channels there. A row alone is its own panel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from qgen.ir.linear import Linear
from qgen.ir.ops.conv2d import Conv2D
from qgen.ir.types import DType, Rounding
from qgen.targets.dot import DotKernel, Instance, Packed, Walk, excess_table, instance, pack
from qgen.targets.empty import flips
from qgen.targets.finish import Finish, finish_values, plan_finish
from qgen.targets.finish_top import with_top
from qgen.targets.fold import overflow_reason
from qgen.targets.neon import FINISH_CONSTANTS
from qgen.targets.panel_asm import CHUNK, Layout, packing, unit
from qgen.targets.spec import Constant, Helper, KernelSpec, Prepared, with_sharing

SHAPE = Helper("panel_shape", "helpers/panel_shape.c.j2")
CHANNELS = 8  # of a block where there are several rows
ROWS = (8, 4, 1)  # rows of a tile
# Scratch is no more than a share of what the op reads and writes, and no more than so many bytes,
# unless a single tile is: a longer panel saves calls of kernels, which are few beside the products.
PANEL_BYTES = 2048
PANEL_SHARE = 16
PER_CALL = 36  # instructions around a call of a kernel, as compilers print them
PER_PACK = 14  # the same of a packing function


@dataclass(frozen=True)
class Part:
    """Tiles of equal height, one after another.

    Attributes:
        kernel: its instance.
        half: the instance of the last block, if that is half empty.
        first: number of the first row.
        tiles: how many there are.
        at_once: tiles of a panel.
    """

    kernel: Instance
    half: Instance | None
    first: int
    tiles: int
    at_once: int

    @property
    def rows(self) -> int:
        return self.kernel.tile.rows

    @property
    def helpers(self) -> list[Helper]:
        return [k.helper for k in (self.kernel, self.half) if k]

    @property
    def panels(self) -> int:
        return -(-self.tiles // self.at_once)

    def cost(self, packed: Packed, calls: int) -> float:
        """Instructions of `calls` calls per panel, without packing."""
        # What a call does once per block is in the cost of the first panel.
        more = (self.panels - 1) * self.kernel.cost(packed, 0)
        total: float = self.kernel.cost(packed, self.tiles) + more + self.panels * calls * PER_CALL
        if self.half:
            less = self.kernel.cost(packed, self.tiles) - self.half.cost(packed, self.tiles)
            total -= less / len(packed.parameters)
        return total


@dataclass(frozen=True)
class Plan:
    """An op as a matrix product: its factors and its parts."""

    kernel: DotKernel
    op: Linear
    rounding: Rounding
    finish: Finish
    packed: Packed
    parts: tuple[Part, ...]

    @property
    def calls(self) -> int:
        """Calls of kernels for one panel."""
        return 1 + (self.packed.overlap or self.packed.half)

    def cost(self) -> float:
        """Instructions of a run."""
        total = 0.0
        for part in self.parts:
            total += part.cost(self.packed, self.calls)
            if not in_place(self, part):
                total += part.panels * PER_PACK + part.tiles * self.pack_cost(part.rows)
        return total + PER_CALL

    def pack_cost(self, rows: int) -> int:
        """Instructions to pack a tile of rows that follow each other."""
        turns, rest = divmod(self.packed.depth, unit(self.kernel.layout))
        made = packing(self.kernel.layout, rows, rest)
        return turns * (len(made.loop) + 2) + (turns > 0) + len(made.last) + 3


def split_rows(count: int) -> list[tuple[int, int, int]]:
    """Rows as (height, first, tiles), tallest tiles first."""
    found, first = [], 0
    for rows in ROWS:
        tiles = (count - first) // rows
        if tiles:
            found.append((rows, first, tiles))
            first += rows * tiles
    return found


def in_place(plan: Plan, part: Part) -> bool:
    """Rows that follow each other are their own panel: single ones, and those of one chunk."""
    one = plan.op.weight_matrix().shape[0] == CHUNK
    return part.rows == 1 or (plan.kernel.layout.direct and one)


def panel_bytes(plan: Plan, part: Part) -> int:
    """Size of a part's panel, with what is read behind it."""
    layout, packed = plan.kernel.layout, plan.packed
    behind = layout.behind(bool(packed.excess))
    return part.at_once * layout.bytes(part.rows, packed.depth) + behind


def make_plan(
    kernel: DotKernel,
    op: Linear,
    rounding: Rounding,
    order: Sequence[int],
    count: int,
    walk: Walk | None = None,
    *,
    sharing: bool = False,
) -> Plan:
    """The cheapest plan for `count` rows in the given order of products.

    With `sharing` for instances that take any shift.
    """
    finish = with_top(plan_finish(op, op.rounding(rounding)))
    finish = finish.sharing() if sharing else finish
    heights = split_rows(count)
    widths = (CHANNELS,) if heights[0][0] > 1 else kernel.alone
    plans = []
    for width in widths:
        if width > op.channels:
            continue
        packed = pack(kernel, op, finish, width, order)
        parts = []
        for rows, first, tiles in heights:
            size = kernel.layout.bytes(rows, packed.depth)
            most = max(scratch_bytes(op, PANEL_BYTES, PANEL_SHARE) // size, 1)
            # A row alone is not packed, nor are pixels of lines.
            at_once = tiles if rows == 1 or walk else balanced(tiles, most)
            made = instance(kernel, packed, finish, rows, walk)
            half = instance(kernel, packed, finish, rows, walk, half=True) if packed.half else None
            parts.append(Part(made, half, first, tiles, at_once))
        plans.append(Plan(kernel, op, rounding, finish, packed, tuple(parts)))
    return min(plans, key=Plan.cost)


def scratch_bytes(op: Linear, most: int, share: int) -> int:
    """Bytes that an op may take for a panel or for lines."""
    return min(most, (op.x.type.bytes + op.out.type.bytes) // share)


def balanced(count: int, most: int) -> int:
    """Size of pieces, at most `most` long, that split `count` as evenly as possible."""
    pieces = -(-count // most)
    return -(-count // pieces)


def pack_rows(layout: Layout, rows: int, depth: int) -> Helper:
    """Packing of rows that follow each other."""
    turns, rest = divmod(depth, unit(layout))
    made = packing(layout, rows, rest)
    traits = [*(["loop"] if turns else []), *([f"k{rest}"] if rest else [])]
    name = "_".join([f"pack_{rows}x{layout.group}", *traits])
    registers = [f'"v{r}"' for r in made.registers]
    values = {
        "rows": rows,
        "unit": made.unit,
        "rest": rest,
        "over": made.over,
        "loop": made.loop if turns else [],
        "last": made.last,
        "direct": layout.direct,
        "clobbers": [*registers, '"cc"', '"memory"'],
    }
    return Helper(name, "helpers/pack_rows.c.j2", values)


def drive_rows(plan: Plan, part: Part, pack: Helper) -> Helper:
    """What packs tiles of rows that follow each other and calls their kernel."""
    kernel, tile, packed = part.kernel.helper.name, part.kernel.tile, plan.packed
    last = part.half.helper.name if part.half else kernel if packed.overlap else ""
    values = {
        "rows": part.rows,
        "channels": tile.channels,
        "pack": pack.name,
        "turns": bool(pack.vars["loop"]),
        "unit": unit(plan.kernel.layout),
        "kernel": kernel,
        "last": last,
        "half": bool(part.half),
        "steps": tile.steps > 0,
        "step": CHUNK * tile.unrolled,
        "wide": bool(packed.excess),
    }
    some = [*(["edge"] if packed.overlap else []), *(["halved"] if part.half else [])]
    name = "_".join([pack.name.replace("pack", "rows", 1), *some, kernel])
    return Helper(name, "helpers/panel_rows.c.j2", values)


def part_values(plan: Plan, part: Part) -> dict[str, Any]:
    """What templates print of a part."""
    packed, tile = plan.packed, part.kernel.tile
    step = packed.depth
    entry = 16 + packed.channels * plan.kernel.group
    # Blocks of one call; the last one alone, which overlaps its neighbour or is half empty.
    blocks = packed.blocks - packed.half
    mine = int(packed.parameters[:blocks, -4].sum()) if packed.excess else 0
    last = {
        "kernel": (part.half or part.kernel).helper.name,
        "weights": blocks * packed.depth * packed.channels,
        "words": blocks * packed.parameters.shape[1],
        "channel": plan.op.channels - packed.channels,
        "excess": mine * entry,
    }
    y = "y" if plan.op.out.dtype is DType.I8 else "(int8_t *)y"
    offset = part.first * plan.op.channels
    return {
        "kernel": part.kernel.helper.name,
        "rows": part.rows,
        "tiles": part.tiles,
        "chunk": part.at_once,
        "row": step,
        "turns": f", {turns}" if (turns := step // unit(plan.kernel.layout)) else "",
        "x": part.first * step,
        "y": f"{y} + {offset}" if offset else y,
        "stride": plan.op.channels,
        "blocks": blocks,
        "half": bool(part.half),
        "steps": f", {tile.steps}" if tile.steps else "",
        "moves": "",
        "excess": f"e{part.rows}" if packed.excess else "",
        "last": last if packed.overlap or packed.half else None,
        "pack": "",
    }


def end_values(plan: Plan) -> dict[str, Any]:
    """Constants of the end, and the flips of a block that is half empty."""
    values: dict[str, Any] = finish_values(plan.finish, plan.op)
    channels = plan.packed.channels
    block = flips(plan.op, plan.rounding)[-channels:].tolist() if plan.packed.half else []
    return values | {"flips": block * (16 // channels)}


def constants(plan: Plan) -> dict[str, Constant]:
    """Weights and parameters of an op."""
    packed = plan.packed
    found = {
        "w": Constant(packed.weights, "w - Zw in reading order: see the kernel"),
        "q": Constant(packed.parameters, "per block of channels: see the kernel"),
    }
    if packed.excess:
        for part in plan.parts:
            table = excess_table(plan.kernel, packed, part.rows)
            found[f"e{part.rows}"] = Constant(table, "what of w - Zw does not fit int8")
    return found


def notes(plan: Plan) -> tuple[str, ...]:
    """Tiles, proof and register plan for the comment above an op."""
    packed = plan.packed
    tiles = ", ".join(f"{p.tiles} of {p.rows}x{packed.channels}" for p in plan.parts)
    beyond = f"{len(packed.excess)} groups twice, as they leave int8" if packed.excess else "int8"
    return (
        f"tiles {tiles}, {plan.kernel.group} products per sum and {plan.kernel.mnemonic.upper()};"
        f" w - Zw: {beyond}",
        "zero points folded into the bias (Q15)",
        f"regs: {plan.parts[0].kernel.regs}",
    )


# -- rows that follow each other -----------------------------------------------------------------


def _used(kernel: DotKernel, op: Linear, count: int) -> int:
    """Products of a sum: without groups of zero weights at the end of rows of one chunk.

    Rows are tiles as they are then, and their size stays what it is.
    """
    weights = op.weight_matrix()
    depth = len(weights)
    if not kernel.layout.direct or depth != CHUNK or any(r == 1 for r, _, _ in split_rows(count)):
        return depth
    used = np.flatnonzero(weights.any(axis=1)).max(initial=0) + 1
    return max(int(-(-used // kernel.group) * kernel.group), CHUNK // 2 + kernel.group)


def _rows_plan(kernel: DotKernel, op: Linear, rounding: Rounding, *, sharing: bool) -> Plan:
    count = op.out.type.elements // op.channels
    order = range(_used(kernel, op, count))
    plan = make_plan(kernel, op, rounding, order, count, sharing=sharing)
    parts = (replace(p, at_once=p.tiles) if in_place(plan, p) else p for p in plan.parts)
    return replace(plan, parts=tuple(parts))


def _cost_rows(
    kernel: DotKernel, op: Linear, rounding: Rounding, *, sharing: bool = False
) -> float:
    return _rows_plan(kernel, op, rounding, sharing=sharing).cost()


def _prepare_rows(
    kernel: DotKernel, op: Linear, rounding: Rounding, *, sharing: bool = False
) -> Prepared:
    plan = _rows_plan(kernel, op, rounding, sharing=sharing)
    helpers, parts = [FINISH_CONSTANTS], []
    scratch = 0
    for part in plan.parts:
        values = part_values(plan, part) | {"driver": ""}
        helpers += part.helpers
        if not in_place(plan, part):
            packing = pack_rows(kernel.layout, part.rows, plan.packed.depth)
            driver = drive_rows(plan, part, packing)
            values["driver"] = driver.name
            helpers += [SHAPE, packing, driver]
            scratch = max(scratch, panel_bytes(plan, part))
        parts.append(values)
    return Prepared(
        constants=constants(plan),
        scratch=scratch,
        helpers=tuple(helpers),
        vars={"end": end_values(plan), "panels": parts},
        notes=notes(plan),
    )


def refuses(kernel: DotKernel, op: Linear, rounding: Rounding) -> str:
    """Why no row of this kernel takes an op, or an empty string."""
    if op.channels < CHANNELS:
        return f"fewer than {CHANNELS} output channels"
    return kernel.refuses(op, rounding) or overflow_reason(op)


def _refuses_rows(kernel: DotKernel, op: Linear, rounding: Rounding) -> str:
    if isinstance(op, Conv2D):
        win = op.window
        single = win.h.kernel == win.w.kernel == win.h.stride == win.w.stride == 1
        if not single or win.padded:
            return "windows of more than one pixel"
    if op.x.dtype is not DType.I8:
        return "x is not int8"
    if op.weight_matrix().shape[0] % kernel.group:
        return f"rows are not whole groups of {kernel.group} bytes"
    return refuses(kernel, op, rounding)


def rows(kernel: DotKernel) -> tuple[KernelSpec, ...]:
    """Rows of a kernel for a target's table."""
    tile = (ROWS[0], CHANNELS, CHUNK * 2)
    name = f"{kernel.name}_{ROWS[0]}x{CHANNELS}"
    return tuple(
        with_sharing(
            KernelSpec(
                name=f"qs8_{op}__{name}_rows",
                op=op,
                template="conv2d/neon_panel_rows.c.j2",
                requires=kernel.requires,
                prepare=partial(_prepare_rows, kernel),
                refuses=partial(_refuses_rows, kernel),
                cost=partial(_cost_rows, kernel),
                tile=tile,
                regs=kernel.registers(ROWS[0], CHANNELS),
            )
        )
        for op in ("conv2d", "fully_connected")
    )
