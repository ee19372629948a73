"""conv2d and fully_connected as products of a matrix and packed weights, by the SMULL kernel.

Rows of the left factor are read where they lie, or copied into scratch, whole patches of the image
at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

from qgen.ir.linear import Linear
from qgen.ir.ops.conv2d import Conv2D
from qgen.ir.ops.fully_connected import FullyConnected
from qgen.ir.types import DType, Rounding
from qgen.ir.windows import Window
from qgen.targets import gemm
from qgen.targets.finish import finish_values
from qgen.targets.fold import overflow_reason
from qgen.targets.gemm_lines import CHANNELS, FEWER, LANES, ROWS, STEP, register_plan
from qgen.targets.neon import (
    FILL,
    FINISH_CONSTANTS,
    GATHER,
    NEON,
    ROW_SUM,
    TOTAL,
    finish_vars,
    gather_run,
)
from qgen.targets.spec import Constant, KernelSpec, Prepared, with_sharing
from qgen.targets.work import Work

# Longest copy that is worth printing move by move, in bytes.
LONGEST_UNROLLED = 256
NO_IMAGE: Mapping[str, Any] = MappingProxyType({})


def prepare(
    op: Linear,
    rounding: Rounding,
    pixels: int,
    tile: int,
    *,
    gather: bool,
    run: int,
    padded: bool = False,
    cut: bool = False,
    image: Mapping[str, Any] = NO_IMAGE,
    sharing: bool = False,
) -> Prepared:
    """What conv2d and fully_connected have in common once they are a matrix product.

    Args:
        pixels: rows of the left factor, of one image.
        tile: rows of a tile.
        gather: rows are copied into scratch first, `run` bytes at a time.
        padded: some of them lie in padding.
        cut: padding may cut a run.
        sharing: as in `with_sharing`.
    """
    packed = _packed(op, rounding, sharing)
    whole, rest = divmod(pixels, tile)
    instances = [gemm.helper(r, packed) for r, n in ((tile, whole), (1, rest)) if n]
    depth = packed.row
    incomplete = depth > op.weight_matrix().shape[0]
    flip = op.x.dtype is DType.U8
    unrolled = gather_run(run, flip)
    wanted = (
        (FINISH_CONSTANTS, True),
        (FILL, gather and (incomplete or padded)),
        (GATHER, gather and (cut or run > LONGEST_UNROLLED)),
        (unrolled, gather and run <= LONGEST_UNROLLED),
        (TOTAL, packed.row_sums),
        (ROW_SUM, packed.row_sums),
        *((instance, True) for instance in instances),
    )
    values = {
        "pixels": pixels,
        "tile": tile,
        # Whole tiles first: kernel, rows of its tile, first row, rows that it takes.
        "shares": [
            part
            for part in (
                (instances[0].name, tile, 0, whole * tile),
                (instances[-1].name, 1, whole * tile, rest),
            )
            if part[3]
        ],
        "gather": gather,
        "row_bytes": depth,
        "run": run,
        "unrolled": unrolled.name if run <= LONGEST_UNROLLED else "",
        "depth_in": op.weight_matrix().shape[0],
        "blocks": packed.blocks,
        "edge": CHANNELS if op.channels % CHANNELS else 0,
        "block_bytes": depth * CHANNELS,
        "block_words": packed.parameters.shape[1],
        "O": op.channels,
        "X": op.x.dtype,
        "in_flip": -128 if flip else 0,
        "pad": op.x.zero - (128 if flip else 0),
        "end": finish_values(packed.finish, op),
    }
    return Prepared(
        constants={
            "w": Constant(packed.weights, "w' in reading order: see the kernel"),
            "q": Constant(packed.parameters, "per block of channels: see the kernel"),
        },
        scratch=min(pixels, tile) * depth if gather else 0,
        helpers=tuple(helper for helper, needed in wanted if needed),
        vars=finish_vars(op) | values | dict(image),
        lanes=gemm.lanes(packed),
        notes=gemm.notes(tile, packed),
        extremes=packed.extremes,
    )


def _packed(op: Linear, rounding: Rounding, sharing: bool) -> gemm.Packed:
    packed = gemm.pack(op, op.rounding(rounding))
    return packed.sharing() if sharing else packed


def conv2d(tile: int, op: Conv2D, rounding: Rounding, *, sharing: bool = False) -> Prepared:
    win = op.window
    n, oh, ow, _ = op.out.shape
    channels = op.x.shape[3]
    return prepare(
        op,
        rounding,
        oh * ow if gathers(op) else n * oh * ow,
        tile,
        gather=gathers(op),
        run=win.w.kernel * channels if win.w.dilation == 1 else channels,
        padded=win.padded,
        cut=win.padded and win.w.dilation == 1,
        image={"win": win, "C": channels, "N": n, "OH": oh, "OW": ow},
        sharing=sharing,
    )


def fully_connected(
    tile: int, op: FullyConnected, rounding: Rounding, *, sharing: bool = False
) -> Prepared:
    gather = gathers(op)
    return prepare(op, rounding, op.rows, tile, gather=gather, run=op.w.shape[1], sharing=sharing)


def gathers(op: Linear) -> bool:
    """False where the kernel can read its rows where they lie."""
    if op.x.dtype is not DType.I8 or op.weight_matrix().shape[0] % LANES:
        return True
    if not isinstance(op, Conv2D):
        return False
    win = op.window
    strides = win.h.stride, win.w.stride
    return win.h.kernel * win.w.kernel > 1 or win.padded or strides != (1, 1)


def work(tile: int, op: Linear, rounding: Rounding, *, sharing: bool = False) -> Work:
    """A run: the printed lines of the kernel, an estimate of the C around it."""
    packed = _packed(op, rounding, sharing)
    pixels = op.out.type.elements // op.channels
    images = op.out.shape[0] if isinstance(op, Conv2D) and gathers(op) else 1
    whole, rest = divmod(pixels // images, tile)
    # The block at the edge of the channels runs over all rows once more.
    passes = 2 if op.channels % CHANNELS else 1
    total = Work((), 20.0 + (gather_cost(op) if gathers(op) else 0))
    for rows, count in ((tile, whole), (1, rest)):
        if count:
            around = passes * gemm.tile_cost(rows, packed)
            total += gemm.block_work(rows, packed).times(images * count, around)
    return total


def gather_cost(op: Linear) -> float:
    """Instructions that copy rows: moves of 16 bytes, and what finds a pixel."""
    pixels = op.out.type.elements // op.channels
    if not isinstance(op, Conv2D):
        return pixels * (12.0 + op.w.shape[1] / 8)
    win: Window = op.window
    run = win.w.kernel * op.x.shape[3]
    per_line = 4 + 2 * -(-run // 16) * (1.5 if op.x.dtype is DType.U8 else 1)
    inside = 20 + win.h.kernel * per_line
    edge = 0.0
    if win.padded:
        covered = 1.0
        for axis in (win.h, win.w):
            free = sum(
                0 <= i * axis.stride - axis.before <= axis.size - axis.extent
                for i in range(axis.out)
            )
            covered *= free / float(axis.out)
        edge = (1 - covered) * win.h.kernel * 40
    return float(pixels * (inside + edge))


def _refuses(op: Linear, rounding: Rounding) -> str:
    if op.channels < CHANNELS:
        return f"fewer than {CHANNELS} output channels"
    return overflow_reason(op)


def _rows() -> tuple[KernelSpec, ...]:
    makers: dict[str, Callable[..., Prepared]]
    makers = {"conv2d": conv2d, "fully_connected": fully_connected}
    return tuple(
        with_sharing(
            KernelSpec(
                name=f"qs8_{op}__neon_{tile}x{CHANNELS}c{STEP}",
                op=op,
                template=f"{op}/neon_product.c.j2",
                requires=NEON,
                prepare=partial(make, tile),
                refuses=_refuses,
                work=partial(work, tile),
                tile=(tile, CHANNELS, STEP),
                regs=register_plan(tile),
            )
        )
        for tile in (ROWS, FEWER)
        for op, make in makers.items()
    )


KERNELS = _rows()
