"""Pooling on NEON: eight channels at a time, or sixteen where sums fit 16 bits."""

from __future__ import annotations

import numpy as np

from qgen.ir.ops.average_pool2d import AveragePool2D
from qgen.ir.pool import Pool
from qgen.ir.types import DType, Rounding
from qgen.targets import portable
from qgen.targets.blocks import block_vars
from qgen.targets.neon import EITHER, NEON
from qgen.targets.spec import KernelSpec, Prepared

LANES = 8
WIDE = 16
MOST_UNROLLED = 16
LARGEST_COUNT = 254


def _few_channels(op: Pool, rounding: Rounding) -> str:
    return f"fewer than {LANES} channels" if op.out.shape[3] < LANES else ""


def _average_pool(op: Pool, rounding: Rounding) -> Prepared:
    values = portable.common_vars(op, rounding) | portable.image_vars(op)
    values |= block_vars(op.out.shape[3], LANES)
    return Prepared({}, 0, portable.average_helpers(op), values)


def _reciprocal(count: int) -> tuple[int, int] | None:
    """(M, s): n // count = n * M >> (16 + s) for every dividend n of a window, or None.

    With the offset that makes it positive and rounds it, a sum of int8 is at most 256 * count.
    """
    bits = max(count - 1, 1).bit_length() - 1
    found = -(-(1 << (16 + bits)) // count)
    n = np.arange(256 * count + count // 2 + 1, dtype=np.uint64)
    exact = found < 1 << 16 and bool(((n * found >> (16 + bits)) == n // count).all())
    return (found, bits) if exact else None


def _refuses_sixteen(op: AveragePool2D, rounding: Rounding) -> str:
    count = op.kernel[0] * op.kernel[1]
    if op.out.shape[3] < WIDE:
        return f"fewer than {WIDE} channels"
    if op.x.dtype is not DType.I8 or op.window.padded:
        return "not int8, or padded"
    if op.kernel[1] > MOST_UNROLLED:
        return f"more than {MOST_UNROLLED} columns"
    # Dividends run up to 256 * count + count / 2, which 16 bits hold.
    if count > LARGEST_COUNT:
        return f"windows of more than {LARGEST_COUNT}"
    return "" if _reciprocal(count) else f"no reciprocal of {count} in 16 bits"


def _average_pool_sixteen(op: AveragePool2D, rounding: Rounding) -> Prepared:
    count = op.kernel[0] * op.kernel[1]
    found = _reciprocal(count)
    assert found is not None
    values = portable.common_vars(op, rounding) | portable.image_vars(op)
    values |= block_vars(op.out.shape[3], WIDE)
    reciprocal, shift = found
    return Prepared(
        vars=values
        | {
            "count": count,
            "reciprocal": reciprocal,
            "shift": shift,
            "offset": int(np.array(128 * count + count // 2, np.uint16).view(np.int16)),
            "turned": op.ties_away and count % 2 == 0,
        },
        notes=(f"sums of {count} bytes in 16 bits, times {reciprocal} for the quotient",),
    )


def _max_pool(op: Pool, rounding: Rounding) -> Prepared:
    return Prepared({}, 0, (), _average_pool(op, rounding).vars)


ROWS: tuple[KernelSpec, ...] = (
    KernelSpec(
        name="q8_average_pool2d__neon_16",
        op="average_pool2d",
        template="average_pool2d/neon_16.c.j2",
        requires=NEON,
        prepare=_average_pool_sixteen,
        refuses=_refuses_sixteen,
    ),
    KernelSpec(
        name="q8_average_pool2d__neon_8",
        op="average_pool2d",
        template="average_pool2d/neon.c.j2",
        requires=EITHER,
        prepare=_average_pool,
        refuses=_few_channels,
    ),
    KernelSpec(
        name="q8_max_pool2d__neon_8",
        op="max_pool2d",
        template="max_pool2d/neon.c.j2",
        requires=EITHER,
        prepare=_max_pool,
        refuses=_few_channels,
    ),
)
