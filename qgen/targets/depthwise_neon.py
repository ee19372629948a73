"""Depthwise convolution on NEON: products in int16 lanes, as deep as the weights allow.

Two kernels: 16 channels at a time with int8 weights, folded zero points and edges resolved at build
time; and 8 channels with int16 weights for what the first does not take.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from qgen.ir.numerics import INT32_MAX
from qgen.ir.ops.depthwise_conv2d import DepthwiseConv2D
from qgen.ir.types import Array, DType, Rounding
from qgen.ir.windows import Axis
from qgen.targets import portable
from qgen.targets.blocks import block_starts, block_vars, by_blocks
from qgen.targets.neon import (
    EITHER,
    FINISH,
    HIGH,
    NARROW,
    NARROW16,
    TAP,
    finish_vars,
    requantize,
)
from qgen.targets.spec import Constant, KernelSpec, Lanes, Prepared

INT16_MAX = 2**15 - 1
WIDE = 16
NARROW_LANES = 8
MOST_TAPS = 25
HOISTED_TAPS = 10  # of int8 weights in registers across a row
MOST_EDGES = 4


def _refuses_eight(op: DepthwiseConv2D, rounding: Rounding) -> str:
    if op.depth_multiplier != 1:
        return f"depth multiplier {op.depth_multiplier}"
    return "fewer than 8 channels" if op.channels < NARROW_LANES else ""


def _refuses_sixteen(op: DepthwiseConv2D, rounding: Rounding) -> str:
    if op.depth_multiplier != 1:
        return f"depth multiplier {op.depth_multiplier}"
    if op.channels < WIDE:
        return f"fewer than {WIDE} channels"
    taps = taps_of(op)
    if len(taps) > MOST_TAPS:
        return f"more than {MOST_TAPS} taps"
    if np.abs(folded_bias(op)).max() + 128 * np.abs(taps).sum(axis=0).max() > INT32_MAX:
        return "folded bias may exceed int32"
    before, _, after = columns(op.window.w)
    return "more edge columns than are worth code" if len(before) + len(after) > MOST_EDGES else ""


def taps_of(op: DepthwiseConv2D) -> Array:
    """w - Zw as int64 [taps, channels]."""
    weights: Array = op.centered_weights().reshape(-1, op.channels).astype(np.int64)
    return weights


def split(taps: Array) -> tuple[list[int], Array]:
    """Taps as int8: (tap of each row, rows [rows, channels]).

    A few weights of uint8 models do not fit; what is left of them is a second row of that tap.
    """
    order: list[int] = []
    rows: list[Array] = []
    for t, left in enumerate(taps):
        while True:
            part = np.clip(left, -128, 127)
            order.append(t)
            rows.append(part)
            left = left - part
            if not left.any():
                break
    return order, np.stack(rows)


def stored_zero(op: DepthwiseConv2D) -> int:
    return op.x.zero - (128 if op.x.dtype is DType.U8 else 0)


def folded_bias(op: DepthwiseConv2D) -> Array:
    """(Q15) b - Z * sum(w - Zw), for inputs stored as int8."""
    bias: Array = op.bias().astype(np.int64) - stored_zero(op) * taps_of(op).sum(axis=0)
    return bias


def groups(taps: Array) -> tuple[list[list[int]], int]:
    """(Q16) Runs of taps whose products fit one int16 lane in every channel, and the widest sum.

    Greedy in reading order: a tap joins the run as long as no int8 input can overflow the lane.
    """
    up = np.where(taps < 0, -128 * taps, 127 * taps)
    down = np.where(taps > 0, 128 * taps, -127 * taps) - 1
    found: list[list[int]] = []
    widest = 0
    for t in range(len(taps)):
        run = [*found[-1], t] if found else [t]
        reach = int(max(up[run].sum(axis=0).max(), down[run].sum(axis=0).max()))
        if found and reach <= INT16_MAX:
            found[-1] = run
        else:
            found.append([t])
            reach = int(max(up[t].max(), down[t].max()))
        widest = max(widest, reach)
    return found, widest


Columns = list[int | None]


def columns(axis: Axis) -> tuple[list[Columns], dict[str, Any], list[Columns]]:
    """Where each output column reads its taps: those before, inside and after the padding.

    Columns are counted from the row pointer, which the inner columns advance; None is padding.
    """

    def taps(ox: int, start: int) -> Columns:
        at = [ox * axis.stride - axis.before + k * axis.dilation for k in range(axis.kernel)]
        return [c - start if 0 <= c < axis.size else None for c in at]

    whole = [ox for ox in range(axis.out) if None not in taps(ox, 0)]
    first, count = (whole[0], len(whole)) if whole else (axis.out, 0)
    start = first * axis.stride - axis.before if count else 0
    end = start + (count * axis.stride if count > 1 else 0)
    middle = {"first": start, "count": count, "columns": taps(first, start) if count else []}
    before = [taps(ox, 0) for ox in range(first)]
    after = [taps(ox, end) for ox in range(first + count, axis.out)]
    return before, middle, after


def _sixteen(op: DepthwiseConv2D, rounding: Rounding) -> Prepared:
    assert op.m0 is not None and op.shift is not None
    m0, shift = op.m0.const, op.shift.const
    order, taps = split(taps_of(op))
    uniform = len(set(m0.tolist())) == len(set(shift.tolist())) == 1
    starts = block_starts(op.channels, WIDE)
    rows = [folded_bias(op)] + ([] if uniform else [m0, shift])
    runs, widest = groups(taps)
    before, middle, after = columns(op.window.w)
    helper = requantize(rounding, left=bool((shift > 0).any()))
    return Prepared(
        constants={
            "w": Constant(
                by_blocks([*taps], starts, WIDE).astype(np.int8),
                "[block][tap][16]; a tap comes twice where it leaves int8",
            ),
            "q": Constant(
                by_blocks(rows, starts, WIDE).astype(np.int32),
                "per block: bias[16]" if uniform else "per block: bias[16], M0[16], shift[16]",
            ),
        },
        helpers=(FINISH, NARROW16, HIGH, helper),
        vars=portable.image_vars(op)
        | finish_vars(op)
        | block_vars(op.channels, WIDE)
        | {
            "KH": op.window.h.kernel,
            "KW": op.window.w.kernel,
            "zx": stored_zero(op),
            "rq": helper.name,
            "uniform": uniform,
            "m0": int(m0[0]),
            "shift": int(shift[0]),
            "hoisted": len(taps) <= HOISTED_TAPS,
            "tall": bool(op.window.h.before or op.window.h.after),
            "steps": middle["count"] > 1
            or bool(middle["first"])
            or any(c for row in (*before, middle["columns"], *after) for c in row),
            "groups": runs,
            "order": order,
            "before": before,
            "middle": middle,
            "after": after,
            "edges": any(None in c for c in (*before, *after)),
        },
        lanes=tap_lanes([len(r) for r in runs], widest),
        notes=("zero point folded into the bias (Q15); padding reads the stored zero point",),
    )


def tap_lanes(runs: Sequence[int], widest: int) -> Lanes:
    """Lanes that take runs of so many taps, one after the other."""
    return Lanes(f"runs of {', '.join(map(str, runs))} taps", sum(runs) / len(runs), widest)


def _eight(op: DepthwiseConv2D, rounding: Rounding) -> Prepared:
    assert op.m0 is not None and op.shift is not None
    starts = block_starts(op.channels, NARROW_LANES)
    rows = [op.bias(), op.m0.const, op.shift.const]
    helper = requantize(rounding, left=bool((op.shift.const > 0).any()))
    weights = by_blocks([*taps_of(op)], starts, NARROW_LANES).astype(np.int16)
    parameters = by_blocks(rows, starts, NARROW_LANES).astype(np.int32)
    return Prepared(
        constants={
            "w": Constant(weights, "w - Zw: [block][tap][8]"),
            "q": Constant(parameters, "per block: bias[8], M0[8], shift[8]"),
        },
        helpers=(FINISH, NARROW, TAP, helper),
        vars=portable.image_vars(op)
        | finish_vars(op)
        | block_vars(op.channels, NARROW_LANES)
        | {"zx": stored_zero(op), "rq": helper.name},
    )


ROWS: tuple[KernelSpec, ...] = (
    KernelSpec(
        name="qs8_depthwise_conv2d__neon_16",
        op="depthwise_conv2d",
        template="depthwise_conv2d/neon_c16.c.j2",
        requires=EITHER,
        prepare=_sixteen,
        refuses=_refuses_sixteen,
    ),
    KernelSpec(
        name="qs8_depthwise_conv2d__neon_8",
        op="depthwise_conv2d",
        template="depthwise_conv2d/neon.c.j2",
        requires=EITHER,
        prepare=_eight,
        refuses=_refuses_eight,
    ),
)
