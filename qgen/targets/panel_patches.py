"""Any conv2d or fully_connected on the kernels of `dot.py`: rows are copied before they are packed.

This is the way of what `panel.py` and `panel_window.py` leave: rows that are no whole groups of
bytes, uint8 that is not flipped yet, images whose rows are no multiple of four pixels.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from qgen.ir.ops.conv2d import Conv2D
from qgen.ir.ops.fully_connected import FullyConnected
from qgen.ir.types import DType, Rounding
from qgen.targets.dot import DotKernel
from qgen.targets.neon import FILL, FINISH_CONSTANTS, GATHER
from qgen.targets.panel import (
    CHANNELS,
    ROWS,
    Plan,
    constants,
    end_values,
    in_place,
    make_plan,
    notes,
    pack_rows,
    panel_bytes,
    part_values,
    refuses,
)
from qgen.targets.panel_asm import CHUNK
from qgen.targets.panel_window import (
    Image,
    line_helpers,
    make_image,
    order_of,
    refuses_window,
    window_values,
)
from qgen.targets.spec import Helper, KernelSpec, Prepared


def _parts(plan: Plan, kernel: DotKernel) -> tuple[list[dict[str, Any]], list[Helper], int, int]:
    """Template values and helpers of all parts; rows and panel in bytes."""
    depth = plan.packed.depth
    parts, helpers, copied, panel = [], [], 0, 0
    for part in plan.parts:
        values = part_values(plan, part)
        copied = max(copied, part.at_once * part.rows * depth)
        if not in_place(plan, part):
            made = pack_rows(kernel.layout, part.rows, depth)
            helpers.append(made)
            values |= {"pack": made.name, "arguments": f"{depth}{values['turns']}"}
            panel = max(panel, panel_bytes(plan, part))
        helpers += part.helpers
        parts.append(values)
    return parts, helpers, copied, panel


# -- windows ---------------------------------------------------------------------------------------


def moves(op: Conv2D) -> list[tuple[int, int, int]]:
    """Copies of one line of a window: (from, to, 8 or 16 bytes).

    The last may move too much: what follows in the patch is written afterwards, and behind lines
    and patches there is room.
    """
    win, channels = op.window, op.x.shape[3]
    whole = win.w.dilation == 1
    run = win.w.kernel * channels if whole else channels
    found = []
    for tap in range(1 if whole else win.w.kernel):
        for at in range(0, run, CHUNK):
            width = CHUNK if run - at > 8 else 8
            found.append((tap * win.w.dilation * channels + at, tap * channels + at, width))
    return found


def _band_plan(kernel: DotKernel, op: Conv2D, rounding: Rounding) -> tuple[Plan, Image]:
    image = make_image(op, copied=True)
    pixels = image.band * op.window.w.out
    return make_plan(kernel, op, rounding, order_of(kernel, op), pixels), image


def _cost_window(kernel: DotKernel, op: Conv2D, rounding: Rounding) -> float:
    plan, image = _band_plan(kernel, op, rounding)
    each = 9 + op.window.h.kernel * (2 * len(moves(op)) + 4)
    band = sum(p.panels * 10 + p.rows * p.tiles * each for p in plan.parts) + 10
    n, height = op.out.shape[:2]
    return image.cost() + n * height // image.band * (plan.cost() + band)


def _prepare_window(kernel: DotKernel, op: Conv2D, rounding: Rounding) -> Prepared:
    plan, image = _band_plan(kernel, op, rounding)
    parts, helpers, copied, panel = _parts(plan, kernel)
    win, channels = op.window, op.x.shape[3]
    depth, products = plan.packed.depth, op.weight_matrix().shape[0]
    step = win.w.stride * channels
    incomplete = depth > products
    # Loads and stores of whole registers go at most that far beyond lines and patches.
    patches_at = image.bytes + CHUNK
    panel_at = patches_at + copied + CHUNK
    fill = [FILL] if incomplete and not win.padded else []
    return Prepared(
        constants=constants(plan),
        scratch=panel_at + panel,
        helpers=(FINISH_CONSTANTS, *line_helpers(image), *fill, *helpers),
        vars=window_values(op, image, panel_at)
        | {
            "end": end_values(plan),
            "panels": parts,
            "packs": panel > 0,
            "split": any(p.at_once < p.tiles for p in plan.parts),
            "patches_at": patches_at,
            "incomplete": incomplete,
            "patch_bytes": copied + CHUNK,
            "moves": moves(op),
            "kh": win.h.kernel,
            "line_bytes": win.w.kernel * channels,
            "line_pitch": win.h.dilation * image.pitch,
            "padding_bytes": depth - products,
            "step": step,
            "next_row": win.h.stride * image.pitch - win.w.out * step,
        },
        notes=(*notes(plan), f"lines for {image.band} rows at a time"),
    )


# -- rows of a matrix ------------------------------------------------------------------------------


def _rows_plan(kernel: DotKernel, op: FullyConnected, rounding: Rounding) -> Plan:
    depth = op.weight_matrix().shape[0]
    order = [*range(depth), *[-1] * (-depth % kernel.group)]
    return make_plan(kernel, op, rounding, order, op.rows)


def _cost_rows(kernel: DotKernel, op: FullyConnected, rounding: Rounding) -> float:
    plan = _rows_plan(kernel, op, rounding)
    return plan.cost() + op.rows * (24 + 5 * plan.packed.depth // CHUNK)


def _prepare_rows(kernel: DotKernel, op: FullyConnected, rounding: Rounding) -> Prepared:
    plan = _rows_plan(kernel, op, rounding)
    parts, helpers, copied, panel = _parts(plan, kernel)
    depth, products = plan.packed.depth, op.weight_matrix().shape[0]
    fill = [FILL] if depth > products else []
    return Prepared(
        constants=constants(plan),
        scratch=copied + panel,
        helpers=(FINISH_CONSTANTS, GATHER, *fill, *helpers),
        vars={
            "end": end_values(plan),
            "panels": parts,
            "panel_at": copied,
            "incomplete": depth > products,
            "copied": copied,
            "products": products,
            "flip": -128 if op.x.dtype is DType.U8 else 0,
            "packs": panel > 0,
            "split": any(p.at_once < p.tiles for p in plan.parts),
            "y": "y" if op.out.dtype is DType.I8 else "(int8_t *)y",
        },
        notes=notes(plan),
    )


def rows(kernel: DotKernel) -> tuple[KernelSpec, ...]:
    """Rows of a kernel for a target's table."""

    def spec(op: str, refuse: Any, cost: Any, prepare: Any) -> KernelSpec:
        return KernelSpec(
            name=f"qs8_{op}__{kernel.name}_{ROWS[0]}x{CHANNELS}_patches",
            op=op,
            template=f"{op}/neon_panel_patches.c.j2",
            requires=kernel.requires,
            prepare=partial(prepare, kernel),
            refuses=partial(refuse, kernel),
            cost=partial(cost, kernel),
            tile=(ROWS[0], CHANNELS, CHUNK * 2),
            regs=kernel.registers(ROWS[0], CHANNELS),
        )

    return (
        spec("conv2d", refuses_window, _cost_window, _prepare_window),
        spec("fully_connected", refuses, _cost_rows, _prepare_rows),
    )
