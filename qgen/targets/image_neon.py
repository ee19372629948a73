"""Depthwise convolution and pooling on NEON: eight channels at a time."""

from __future__ import annotations

import numpy as np

from qgen.ir.ops.depthwise_conv2d import DepthwiseConv2D
from qgen.ir.pool import Pool
from qgen.ir.types import DType, Rounding
from qgen.targets import portable
from qgen.targets.neon import FINISH, NARROW, NEON, TAP, finish_vars, requantize
from qgen.targets.spec import Constant, KernelSpec, Prepared

LANES = 8


def _few_channels(op: DepthwiseConv2D | Pool, rounding: Rounding) -> str:
    return f"fewer than {LANES} channels" if op.out.shape[3] < LANES else ""


def _refuses_depthwise(op: DepthwiseConv2D, rounding: Rounding) -> str:
    if op.depth_multiplier != 1:
        return f"depth multiplier {op.depth_multiplier}"
    return _few_channels(op, rounding)


def block_starts(channels: int) -> list[int]:
    """First channel of each block of 8; the last overlaps its neighbour where it must."""
    starts = list(range(0, channels - LANES + 1, LANES))
    return starts if channels % LANES == 0 else [*starts, channels - LANES]


def block_vars(channels: int) -> dict[str, object]:
    """Blocks of 8 channels, and the C expression of a block's first channel."""
    blocks = len(block_starts(channels))
    channel = "block * 8" if blocks > 1 else "0"
    if channels % LANES:
        channel = f"block * 8 < {channels - LANES} ? block * 8 : {channels - LANES}"
    return {"blocks": blocks, "channel": channel}


def _depthwise(op: DepthwiseConv2D, rounding: Rounding) -> Prepared:
    assert op.m0 is not None and op.shift is not None
    starts = block_starts(op.channels)
    taps = op.centered_weights().reshape(-1, op.channels)
    weights = np.stack([taps[:, s : s + LANES] for s in starts]).astype(np.int16)
    rows = [op.bias(), op.m0.const, op.shift.const]
    parameters = np.stack([np.stack([r[s : s + LANES] for r in rows]) for s in starts])
    helper = requantize(rounding, left=bool((op.shift.const > 0).any()))
    stored_zero = op.x.zero - (128 if op.x.dtype is DType.U8 else 0)
    return Prepared(
        constants={
            "w": Constant(weights, "w - Zw: blocks of 8 channels, [tap][8]"),
            "q": Constant(parameters.astype(np.int32), "per block: bias[8], M0[8], shift[8]"),
        },
        helpers=(FINISH, NARROW, TAP, helper),
        vars=portable.image_vars(op)
        | finish_vars(op)
        | block_vars(op.channels)
        | {"zx": stored_zero, "rq": helper.name},
    )


def _pool(op: Pool, rounding: Rounding) -> Prepared:
    values = portable.common_vars(op, rounding) | portable.image_vars(op)
    return Prepared({}, 0, (portable.CLAMP,), values | block_vars(op.out.shape[3]))


def _max_pool(op: Pool, rounding: Rounding) -> Prepared:
    prepared = _pool(op, rounding)
    return Prepared({}, 0, (), prepared.vars)


ROWS: tuple[KernelSpec, ...] = (
    KernelSpec(
        name="qs8_depthwise_conv2d__neon_8",
        op="depthwise_conv2d",
        template="depthwise_conv2d/neon.c.j2",
        requires=NEON,
        prepare=_depthwise,
        refuses=_refuses_depthwise,
    ),
    KernelSpec(
        name="q8_average_pool2d__neon_8",
        op="average_pool2d",
        template="average_pool2d/neon.c.j2",
        requires=NEON,
        prepare=_pool,
        refuses=_few_channels,
    ),
    KernelSpec(
        name="q8_max_pool2d__neon_8",
        op="max_pool2d",
        template="max_pool2d/neon.c.j2",
        requires=NEON,
        prepare=_max_pool,
        refuses=_few_channels,
    ),
)
