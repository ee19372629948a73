"""Pooling on NEON: eight channels at a time."""

from __future__ import annotations

from qgen.ir.pool import Pool
from qgen.ir.types import Rounding
from qgen.targets import portable
from qgen.targets.blocks import block_vars
from qgen.targets.neon import EITHER
from qgen.targets.spec import KernelSpec, Prepared

LANES = 8


def _few_channels(op: Pool, rounding: Rounding) -> str:
    return f"fewer than {LANES} channels" if op.out.shape[3] < LANES else ""


def _average_pool(op: Pool, rounding: Rounding) -> Prepared:
    values = portable.common_vars(op, rounding) | portable.image_vars(op)
    values |= block_vars(op.out.shape[3], LANES)
    return Prepared({}, 0, portable.average_helpers(op), values)


def _max_pool(op: Pool, rounding: Rounding) -> Prepared:
    return Prepared({}, 0, (), _average_pool(op, rounding).vars)


ROWS: tuple[KernelSpec, ...] = (
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
