"""Depthwise convolution of any window in assembly: 5 x 5 and what has no kernel of its own.

Rows under a few rows of outputs are copied to scratch, one block of channels at a time, as int8 and
with the padding around them.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from qgen.ir.ops.depthwise_conv2d import DepthwiseConv2D
from qgen.ir.types import DType, Rounding
from qgen.targets import portable
from qgen.targets.blocks import block_starts, block_vars, by_blocks
from qgen.targets.depthwise_asm import Pattern
from qgen.targets.depthwise_neon import (
    folded_bias,
    groups,
    split,
    stored_zero,
    tap_lanes,
    taps_of,
)
from qgen.targets.depthwise_window_asm import WindowProgram
from qgen.targets.finish import finish_values, plan_finish
from qgen.targets.fold import overflow_reason
from qgen.targets.neon import FINISH_CONSTANTS, NEON, finish_vars
from qgen.targets.spec import Constant, Helper, KernelSpec, Prepared

STEPS = (4, 2, 1)  # outputs that one step may compute
SCRATCH = 24 * 1024  # bytes of rows that are copied at a time, where more are not needed
# What the addresses of a pair of loads reach, in vectors; and what code is worth.
REACH = 63
MOST_PRODUCTS = 256
# C around a call, and of the copy of a pixel.
CALL = 30
COPY = 3


def _lanes(op: DepthwiseConv2D) -> int:
    return 16 if op.channels >= 16 else 8


def _refuses(op: DepthwiseConv2D, rounding: Rounding) -> str:
    if op.depth_multiplier != 1:
        return f"depth multiplier {op.depth_multiplier}"
    if op.channels < 8:
        return "fewer than 8 channels"
    win = op.window
    if 2 * win.h.stride * win.w.stride > win.h.kernel * win.w.kernel:
        return "too few taps for the pixels that would be copied"
    if len(split(taps_of(op))[0]) > REACH:
        return f"more than {REACH} taps"
    finish = plan_finish(op, rounding)
    if not finish.multiply or finish.left or finish.ties == "mask":
        return "an end that takes more registers than there are"
    if program(op, rounding) is None:
        return "more weights in a row of taps than there are registers"
    return overflow_reason(op)


@lru_cache(maxsize=16)
def program(op: DepthwiseConv2D, rounding: Rounding) -> WindowProgram | None:
    """The program with the step that suits the width of the result, if one fits the registers."""
    order, rows = split(taps_of(op))
    runs, _ = groups(rows)
    pattern = Pattern(tuple(order), tuple(len(r) for r in runs))
    w, kernel = op.window.w, (op.window.h.kernel, op.window.w.kernel)
    finish = plan_finish(op, rounding)
    found = [
        WindowProgram(kernel, w.stride, w.dilation, n, _lanes(op), pattern, finish)
        for n in STEPS
        if n == 1 or (n <= w.out and n * len(order) <= MOST_PRODUCTS)
    ]
    found = [p for p in found if p.fits and w.extent + (p.outputs - 1) * w.stride <= REACH]
    return min(found, key=lambda p: p.instructions(-(-w.out // p.outputs)), default=None)


def _band(op: DepthwiseConv2D) -> int:
    """Rows of the result that are computed from one copy."""
    h = op.window.h
    rows = SCRATCH // _pitch(op)
    return min(max((rows - h.extent) // h.stride + 1, 1), h.out)


def _pitch(op: DepthwiseConv2D) -> int:
    """Bytes of a copied row."""
    w = op.window.w
    return ((w.out - 1) * w.stride + w.extent) * _lanes(op)


def _copied(op: DepthwiseConv2D, rows: int) -> int:
    h = op.window.h
    return (rows - 1) * h.stride + h.extent


def _prepare(op: DepthwiseConv2D, rounding: Rounding) -> Prepared:
    made, lanes, win = program(op, rounding), _lanes(op), op.window
    assert made is not None
    finish = made.finish
    starts = block_starts(op.channels, lanes)
    _, taps = split(taps_of(op))
    _, reach = groups(taps)
    band = _band(op)
    flip = op.x.dtype is DType.U8
    copy = Helper(
        f"depthwise_rows_{lanes}" + ("_flip" if flip else ""),
        "helpers/depthwise_rows_neon.c.j2",
        {"lanes": lanes, "flip": flip},
    )
    kernel = Helper(made.name, "helpers/depthwise_window.c.j2", {"program": made})
    columns = _pitch(op) // lanes
    return Prepared(
        constants={
            "w": Constant(
                by_blocks([*taps], starts, lanes).astype(np.int8),
                f"[block][tap][{lanes}]; a tap comes twice where it leaves int8",
            ),
            "q": Constant(
                by_blocks([folded_bias(op), *finish.rows], starts, lanes).astype(np.int32),
                f"per block: bias[{lanes}]"
                + (f", M0[{lanes}], shift[{lanes}]" if finish.rows else ""),
            ),
        },
        scratch=_copied(op, band) * _pitch(op),
        helpers=(FINISH_CONSTANTS, copy, kernel),
        vars=portable.image_vars(op)
        | finish_vars(op)
        | block_vars(op.channels, lanes)
        | {
            "lanes": lanes,
            "kernel": kernel.name,
            "copy": copy.name,
            "outputs": made.outputs,
            "band": band,
            "extent": win.h.extent,
            "pitch": _pitch(op),
            "columns": columns,
            "inside": min(win.w.size, columns - win.w.before),
            "zx": stored_zero(op),
            "w_bytes": lanes * len(taps),
            "q_words": lanes * (1 + len(finish.rows)),
            "constants": finish_values(finish, op),
        },
        lanes=tap_lanes(made.pattern.runs, reach),
        notes=(
            "zero point folded into the bias (Q15); padding reads the stored zero point",
            f"regs: {made.regs}",
        ),
    )


def _cost(op: DepthwiseConv2D, rounding: Rounding) -> float:
    made, band = program(op, rounding), _band(op)
    assert made is not None
    n, rows, width, _ = op.out.shape
    blocks = n * len(block_starts(op.channels, _lanes(op)))
    calls = rows * (1 + (width % made.outputs > 0))
    copied = sum(_copied(op, min(band, rows - y)) for y in range(0, rows, band))
    pixels = copied * _pitch(op) // _lanes(op)
    steps = made.instructions(-(-width // made.outputs)) * rows
    return blocks * (steps + CALL * calls + COPY * pixels + CALL * copied)


ROWS: tuple[KernelSpec, ...] = (
    KernelSpec(
        name="qs8_depthwise_conv2d__neon_window",
        op="depthwise_conv2d",
        template="depthwise_conv2d/neon_window.c.j2",
        requires=NEON,
        prepare=_prepare,
        refuses=_refuses,
        cost=_cost,
    ),
)
