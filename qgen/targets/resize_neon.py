"""Resizing on NEON: eight channels at a time, or whole pixels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qgen.ir.ops.resize_bilinear import UNIT, WEIGHT_BITS, ResizeBilinear
from qgen.ir.ops.resize_nearest import ResizeNearest
from qgen.ir.types import Array, Rounding
from qgen.targets import portable
from qgen.targets.blocks import block_vars
from qgen.targets.neon import EITHER, GATHER, gather_run
from qgen.targets.spec import Constant, KernelSpec, Prepared

LANES = 8
# Longest pixel whose copy is printed move by move, in bytes.
LONGEST = 256


def _few_channels(op: ResizeBilinear, rounding: Rounding) -> str:
    return f"fewer than {LANES} channels" if op.x.shape[3] < LANES else ""


def _runs(op: ResizeBilinear) -> Array:
    """Columns of the result that lie between the same two: left, right, and where they end."""
    _, columns = op.taps()
    channels = op.x.shape[3]
    pairs = np.stack([columns.low, columns.high], 1) * channels
    ends = [*(np.flatnonzero((pairs[1:] != pairs[:-1]).any(axis=1)) + 1), len(pairs)]
    return np.array([[*pairs[end - 1], end] for end in ends], np.int32)


def _bilinear(op: ResizeBilinear, rounding: Rounding) -> Prepared:
    _, columns = op.taps()
    runs = _runs(op)
    bits = 2 * WEIGHT_BITS
    return Prepared(
        {
            "rows": portable.taps_of_rows(op),
            "runs": Constant(runs, "columns between the same two: these, and where they end"),
            "parts": Constant(columns.part.astype(np.int32), "weight of the right one, of 1024"),
        },
        vars=portable.common_vars(op, rounding)
        | portable.resize_vars(op)
        | block_vars(op.x.shape[3], LANES)
        | {"unit": UNIT, "bits": WEIGHT_BITS, "shift": bits, "half": 1 << (bits - 1)}
        | {"runs": len(runs)},
        notes=(f"sums of 8-bit values times weights of {bits} bits stay inside int32",),
    )


def _nearest(op: ResizeNearest, rounding: Rounding) -> Prepared:
    made, channels = portable.resize_nearest(op, rounding), op.x.shape[3]
    pixel = gather_run(channels, flip=False) if channels <= LONGEST else None
    wanted = ((pixel, pixel is not None), (GATHER, made.vars["repeats"] or pixel is None))
    helpers = tuple(helper for helper, needed in wanted if helper and needed)
    return replace(made, helpers=helpers, vars={**made.vars, "pixel": pixel and pixel.name})


ROWS: tuple[KernelSpec, ...] = (
    KernelSpec(
        name="q8_resize_bilinear__neon_8",
        op="resize_bilinear",
        template="resize_bilinear/neon.c.j2",
        requires=EITHER,
        prepare=_bilinear,
        refuses=_few_channels,
    ),
    KernelSpec(
        name="q8_resize_nearest__neon",
        op="resize_nearest",
        template="resize_nearest/neon.c.j2",
        requires=EITHER,
        prepare=_nearest,
    ),
)
