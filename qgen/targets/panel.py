"""conv2d and fully_connected on the kernels of `dot.py`: panels, tiles, what runs when.

The rows of the left factor are packed once into a panel in scratch, a few tiles at a time, and meet
all blocks of channels there. A row alone is its own panel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from qgen.ir.linear import Linear
from qgen.ir.ops.conv2d import Conv2D
from qgen.ir.types import DType, Rounding
from qgen.targets.dot import DotKernel, Instance, Packed, excess_table, instance, pack
from qgen.targets.finish import Finish, finish_values, plan_finish
from qgen.targets.fold import overflow_reason
from qgen.targets.neon import FINISH_CONSTANTS
from qgen.targets.panel_asm import CHUNK, pack_chunk, pack_rest
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
        first: number of the first row.
        tiles: how many there are.
        at_once: tiles of a panel.
    """

    kernel: Instance
    first: int
    tiles: int
    at_once: int

    @property
    def rows(self) -> int:
        return self.kernel.tile.rows

    @property
    def panels(self) -> int:
        return -(-self.tiles // self.at_once)

    def cost(self, packed: Packed, calls: int) -> float:
        """Instructions of `calls` calls per panel, without packing."""
        # What a call does once per block is in the cost of the first panel.
        more = (self.panels - 1) * self.kernel.cost(packed, 0)
        return self.kernel.cost(packed, self.tiles) + more + self.panels * calls * PER_CALL


@dataclass(frozen=True)
class Plan:
    """An op as a matrix product: its factors and its parts."""

    kernel: DotKernel
    op: Linear
    finish: Finish
    packed: Packed
    parts: tuple[Part, ...]

    @property
    def calls(self) -> int:
        """Calls of kernels for one panel."""
        return 1 + self.packed.overlap

    def cost(self) -> float:
        """Instructions of a run."""
        total = 0.0
        for part in self.parts:
            total += part.cost(self.packed, self.calls)
            if part.rows > 1:
                total += part.panels * PER_PACK + part.tiles * self.pack_cost(part.rows)
        return total + PER_CALL

    def pack_cost(self, rows: int) -> int:
        """Instructions to pack a tile of rows that follow each other."""
        chunks, rest = divmod(self.packed.depth, CHUNK)
        lines = len(pack_chunk(rows, self.kernel.group)) + 2
        more = len(list(pack_rest(rows, rest, self.kernel.group)))
        return chunks * lines + (chunks > 0) + more + 3


def split_rows(count: int) -> list[tuple[int, int, int]]:
    """Rows as (height, first, tiles), tallest tiles first."""
    found, first = [], 0
    for rows in ROWS:
        tiles = (count - first) // rows
        if tiles:
            found.append((rows, first, tiles))
            first += rows * tiles
    return found


def make_plan(
    kernel: DotKernel,
    op: Linear,
    rounding: Rounding,
    order: Sequence[int],
    count: int,
    *,
    sharing: bool = False,
) -> Plan:
    """The cheapest plan for `count` rows in the given order of products.

    With `sharing` for instances that take any shift.
    """
    finish = plan_finish(op, op.rounding(rounding))
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
            most = max(scratch_bytes(op, PANEL_BYTES, PANEL_SHARE) // (rows * packed.depth), 1)
            # A row alone is not packed.
            at_once = tiles if rows == 1 else balanced(tiles, most)
            parts.append(Part(instance(kernel, packed, finish, rows), first, tiles, at_once))
        plans.append(Plan(kernel, op, finish, packed, tuple(parts)))
    return min(plans, key=Plan.cost)


def scratch_bytes(op: Linear, most: int, share: int) -> int:
    """Bytes that an op may take for a panel or for lines."""
    return min(most, (op.x.type.bytes + op.out.type.bytes) // share)


def balanced(count: int, most: int) -> int:
    """Size of pieces, at most `most` long, that split `count` as evenly as possible."""
    pieces = -(-count // most)
    return -(-count // pieces)


def pack_rows(kernel: DotKernel, rows: int, depth: int) -> Helper:
    """Packing of rows that follow each other."""
    chunks, rest = divmod(depth, CHUNK)
    traits = [*(["loop"] if chunks else []), *([f"k{rest}"] if rest else [])]
    name = "_".join([f"pack_{rows}x{kernel.group}", *traits])
    registers = [f'"v{r}"' for r in range(rows)]
    values = {
        "rows": rows,
        "rest": rest,
        "loop": chunks > 0,
        "chunk": pack_chunk(rows, kernel.group),
        "last": list(pack_rest(rows, rest, kernel.group)),
        "clobbers": [*registers, '"cc"', '"memory"'],
    }
    return Helper(name, "helpers/pack_rows.c.j2", values)


def drive_rows(plan: Plan, part: Part, packing: Helper) -> Helper:
    """What packs tiles of rows that follow each other and calls their kernel."""
    kernel, tile, packed = part.kernel.helper.name, part.kernel.tile, plan.packed
    values = {
        "rows": part.rows,
        "channels": tile.channels,
        "pack": packing.name,
        "kernel": kernel,
        "chunks": packed.depth >= CHUNK,
        "steps": tile.steps > 0,
        "wide": bool(packed.excess),
        "edge": packed.overlap,
    }
    name = "_".join(["rows", *(["edge"] if packed.overlap else []), kernel])
    return Helper(name, "helpers/panel_rows.c.j2", values)


def part_values(plan: Plan, part: Part) -> dict[str, Any]:
    """What templates print of a part."""
    packed, tile = plan.packed, part.kernel.tile
    step = packed.depth
    entry = 16 + packed.channels * plan.kernel.group
    mine = int(packed.parameters[: packed.blocks, -4].sum()) if packed.excess else 0
    overlap = {
        "weights": packed.blocks * packed.depth * packed.channels,
        "words": packed.blocks * packed.parameters.shape[1],
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
        "chunks": f", {step // CHUNK}" if step >= CHUNK else "",
        "x": part.first * step,
        "y": f"{y} + {offset}" if offset else y,
        "stride": plan.op.channels,
        "blocks": packed.blocks,
        "steps": f", {tile.steps}" if tile.steps else "",
        "excess": f"e{part.rows}" if packed.excess else "",
        "overlap": overlap if packed.overlap else None,
        "pack": "",
    }


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


def _rows_plan(kernel: DotKernel, op: Linear, rounding: Rounding, *, sharing: bool) -> Plan:
    order, count = range(op.weight_matrix().shape[0]), op.out.type.elements // op.channels
    return make_plan(kernel, op, rounding, order, count, sharing=sharing)


def _cost_rows(
    kernel: DotKernel, op: Linear, rounding: Rounding, *, sharing: bool = False
) -> float:
    return _rows_plan(kernel, op, rounding, sharing=sharing).cost()


def _prepare_rows(
    kernel: DotKernel, op: Linear, rounding: Rounding, *, sharing: bool = False
) -> Prepared:
    plan = _rows_plan(kernel, op, rounding, sharing=sharing)
    depth = plan.packed.depth
    helpers, parts = [FINISH_CONSTANTS, SHAPE], []
    scratch = 0
    for part in plan.parts:
        values = part_values(plan, part)
        helpers.append(part.kernel.helper)
        values["driver"] = ""
        if part.rows > 1:
            packing = pack_rows(kernel, part.rows, depth)
            driver = drive_rows(plan, part, packing)
            values["driver"] = driver.name
            helpers += [packing, driver]
            scratch = max(scratch, part.at_once * part.rows * depth)
        parts.append(values)
    return Prepared(
        constants=constants(plan),
        scratch=scratch,
        helpers=tuple(helpers),
        vars={"end": finish_values(plan.finish, op), "panels": parts},
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
