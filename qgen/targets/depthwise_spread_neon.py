"""Depthwise convolution on NEON with few channels or several outputs per channel.

A depth multiplier m makes the channels of the image and of the result different vectors, so the
input is spread: one load and one table look-up put x[c / m] beside the weights of output c, or one
load of a single byte does where all lanes want the same. The rows under the window are first
copied to scratch, as int8 and with the padding around them: the loop then knows no edges, and may
read past the last channel.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from qgen.ir.numerics import INT32_MAX
from qgen.ir.ops.depthwise_conv2d import DepthwiseConv2D
from qgen.ir.types import Array, DType, Rounding
from qgen.targets import portable
from qgen.targets.blocks import block_starts, block_vars, by_blocks
from qgen.targets.depthwise_neon import groups, split, tap_lanes
from qgen.targets.neon import (
    FILL,
    FINISH,
    GATHER,
    NARROW,
    NARROW16,
    NEON,
    PART,
    finish_vars,
    requantize,
)
from qgen.targets.spec import Constant, KernelSpec, Prepared

VECTOR = 16  # bytes
MOST_TAPS = 128  # all are unrolled
PIXELS = {8: 4, 16: 2}  # side by side by lanes, so that a weight is loaded once for all


def _taps(op: DepthwiseConv2D) -> Array:
    """w - Zw as int64 [taps, output channels]."""
    weights: Array = op.centered_weights().reshape(-1, op.channels).astype(np.int64)
    return weights


def _stored_zero(op: DepthwiseConv2D) -> int:
    return op.x.zero - (128 if op.x.dtype is DType.U8 else 0)


def _folded_bias(op: DepthwiseConv2D) -> Array:
    """(Q15) b - Z * sum(w - Zw), for inputs stored as int8."""
    bias: Array = op.bias().astype(np.int64) - _stored_zero(op) * _taps(op).sum(axis=0)
    return bias


def _refuses(op: DepthwiseConv2D, rounding: Rounding) -> str:
    taps = _taps(op)
    if len(split(taps)[0]) > MOST_TAPS:
        return f"more than {MOST_TAPS} taps"
    if np.abs(_folded_bias(op)).max() + 128 * np.abs(taps).sum(axis=0).max() > INT32_MAX:
        return "folded bias may exceed int32"
    return ""


def _lanes(channels: int) -> int:
    """Output channels of one step."""
    return 16 if channels >= 16 else 8


def _widened(rows: list[Array], lanes: int) -> list[Array]:
    """Rows of [channels] with zeros behind them where there are fewer channels than lanes."""
    return [np.pad(r, (0, max(lanes - len(r), 0))) for r in rows]


def spread(channels: int, multiplier: int, starts: list[int], lanes: int) -> tuple[Array, Array]:
    """(first input channel of each block, which of those after it each lane wants)."""
    wanted = np.minimum(np.add.outer(starts, np.arange(lanes)), channels - 1) // multiplier
    first: Array = wanted[:, 0]
    return first, wanted - first[:, None]


def _scratch(op: DepthwiseConv2D) -> tuple[int, int]:
    """(bytes of a padded row of the image, of all rows under the window and a vector more)."""
    axis = op.window.w
    row = (axis.size + axis.before + axis.after) * op.x.shape[3]
    return row, op.window.h.kernel * row + VECTOR


def _spread(op: DepthwiseConv2D, rounding: Rounding) -> Prepared:
    assert op.m0 is not None and op.shift is not None
    lanes = _lanes(op.channels)
    starts = block_starts(op.channels, lanes) if op.channels >= lanes else [0]
    order, taps = split(_taps(op))
    runs, widest = groups(taps)
    first, lane = spread(op.channels, op.depth_multiplier, starts, lanes)
    row, scratch = _scratch(op)
    parameters = _widened([_folded_bias(op), op.m0.const, op.shift.const], lanes)
    helper = requantize(rounding, left=bool((op.shift.const > 0).any()))
    narrow = NARROW16 if lanes == 16 else NARROW
    constants = {
        "w": Constant(
            by_blocks(_widened([*taps], lanes), starts, lanes).astype(np.int8),
            f"[block][tap][{lanes}]; a tap comes twice where it leaves int8",
        ),
        "q": Constant(
            by_blocks(parameters, starts, lanes).astype(np.int32),
            f"per block: bias[{lanes}], M0[{lanes}], shift[{lanes}]",
        ),
    }
    same = not lane.any()
    if not same:
        constants["lane"] = Constant(lane.astype(np.uint8), "input channel of each lane of a block")
    moves = bool(first.any())
    if moves:
        constants["first"] = Constant(first.astype(np.int32), "first input channel of each block")
    blocks: dict[str, Any] = {"blocks": 1, "channel": "0"}
    if op.channels >= lanes:
        blocks = block_vars(op.channels, lanes)
    pixels = min(PIXELS[lanes], op.out.shape[2])
    # Columns that a step reads: of one channel, a vector may hold them all.
    reach = (pixels - 1) * op.window.w.stride + op.window.w.extent
    return Prepared(
        constants=constants,
        scratch=scratch,
        helpers=(FILL, FINISH, GATHER, narrow, *([PART] if op.channels < lanes else []), helper),
        vars=portable.image_vars(op)
        | finish_vars(op)
        | blocks
        | {
            "KH": op.window.h.kernel,
            "KW": op.window.w.kernel,
            "zx": _stored_zero(op),
            "in_flip": -128 if op.x.dtype is DType.U8 else 0,
            "rq": helper.name,
            "narrow": narrow.name,
            "lanes": lanes,
            "same": same,
            "moves": moves,
            "row": row,
            "groups": runs,
            "order": order,
            "in_line": op.x.shape[3] == 1 and reach <= VECTOR,
            "part": op.channels < lanes,
            "pixels": pixels,
        },
        lanes=tap_lanes([len(r) for r in runs], widest),
        notes=("zero point folded into the bias (Q15); padding holds the stored zero point",),
    )


ROWS: tuple[KernelSpec, ...] = (
    KernelSpec(
        name="qs8_depthwise_conv2d__neon_spread",
        op="depthwise_conv2d",
        template="depthwise_conv2d/neon_spread.c.j2",
        requires=NEON,
        prepare=_spread,
        refuses=_refuses,
    ),
)
