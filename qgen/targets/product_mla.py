"""conv2d of single pixels as a product of a matrix and packed weights, by the MLA kernel."""

from __future__ import annotations

import numpy as np

from qgen.ir.linear import Linear
from qgen.ir.ops.conv2d import Conv2D
from qgen.ir.types import DType, Rounding
from qgen.targets import gemm_mla
from qgen.targets.finish import finish_values
from qgen.targets.fold import overflow_reason
from qgen.targets.gemm_mla import CHANNELS, CHUNK, MOST_INPUTS, ROWS
from qgen.targets.neon import FINISH_CONSTANTS, NEON, finish_vars
from qgen.targets.spec import Constant, KernelSpec, Prepared, with_sharing
from qgen.targets.work import Work


def _packed(op: Linear, rounding: Rounding, sharing: bool) -> gemm_mla.Packed:
    packed = gemm_mla.pack(op, op.rounding(rounding))
    return packed.sharing() if sharing else packed


def rows_of_tile(op: Linear, rounding: Rounding) -> int:
    """The height of the tile that needs the fewest instructions."""
    pixels = op.out.type.elements // op.channels
    packed = _packed(op, rounding, sharing=False)
    fits = (r for r in ROWS if r <= pixels)
    return min(fits, key=lambda r: _work(op, packed, r).instructions)


def _work(op: Linear, packed: gemm_mla.Packed, rows: int) -> Work:
    pixels = op.out.type.elements // op.channels
    # The block at the edge of the channels runs over all rows once more.
    passes = 2 if op.channels % CHANNELS else 1
    around = passes * gemm_mla.tile_cost(rows, packed)
    return gemm_mla.block_work(rows, packed).times(-(-pixels // rows), around) + Work((), 30.0)


def work(op: Linear, rounding: Rounding, *, sharing: bool = False) -> Work:
    """A run: the printed lines of the kernel, an estimate of the C around it."""
    return _work(op, _packed(op, rounding, sharing), rows_of_tile(op, rounding))


def prepare(op: Conv2D, rounding: Rounding, *, sharing: bool = False) -> Prepared:
    packed = _packed(op, rounding, sharing)
    pixels = op.out.type.elements // op.channels
    rows = rows_of_tile(op, rounding)
    instance = gemm_mla.helper(rows, packed)
    whole = pixels // rows * rows
    # The last tile overlaps its neighbour instead of needing a kernel of its own.
    shares = [(0, whole // rows)] + ([(pixels - rows, 1)] if whole < pixels else [])
    blocks = op.channels // CHANNELS
    return Prepared(
        constants={
            "w": Constant(packed.weights, "w - Zw in reading order: see the kernel"),
            "q": Constant(packed.parameters, "per block of channels: see the kernel"),
        },
        scratch=2 * rows * packed.row,
        helpers=(FINISH_CONSTANTS, gemm_mla.widen(rows), instance),
        vars=finish_vars(op)
        | {
            "kernel": instance.name,
            "shares": shares,
            "depth": packed.row,
            "blocks": blocks,
            "edge": CHANNELS if op.channels % CHANNELS else 0,
            "block_words": packed.parameters.shape[1],
            "O": op.channels,
            "end": finish_values(packed.finish, op),
        },
        lanes=gemm_mla.lanes(packed),
        notes=gemm_mla.notes(rows, packed),
        extremes=packed.extremes,
    )


def _refuses(op: Conv2D, rounding: Rounding) -> str:
    win = op.window
    single = win.h.kernel * win.w.kernel == win.h.stride * win.w.stride == 1 and not win.padded
    depth = op.weight_matrix().shape[0]
    if not single:
        return "reads more than one pixel"
    if op.x.dtype is not DType.I8 or depth % CHUNK or depth > MOST_INPUTS:
        return f"needs int8 input of 8 to {MOST_INPUTS} channels, a multiple of {CHUNK}"
    if op.channels < CHANNELS:
        return f"fewer than {CHANNELS} output channels"
    if op.out.type.elements // op.channels < min(ROWS):
        return f"fewer than {min(ROWS)} pixels"
    weights = op.weight_matrix().astype(np.int64)
    if not gemm_mla.grain_of(weights):
        return "two products do not fit an int16 lane"
    return overflow_reason(op)


KERNELS = (
    with_sharing(
        KernelSpec(
            name=f"qs8_conv2d__neon_{ROWS[-1]}x{CHANNELS}k{CHUNK}",
            op="conv2d",
            template="conv2d/neon_mla.c.j2",
            requires=NEON,
            prepare=prepare,
            refuses=_refuses,
            work=work,
            tile=(ROWS[-1], CHANNELS, CHUNK),
            regs=gemm_mla.register_plan(ROWS[-1]),
        )
    ),
)
