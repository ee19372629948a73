"""aarch64: NEON of ARMv8.0, the Appendix B kernels.

Matrix products are inline assembly (`gemm.py`), the rest intrinsics; what no row here takes falls
to the portable rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from qgen.ir.linear import Linear
from qgen.ir.ops.conv2d import Conv2D
from qgen.ir.ops.fully_connected import FullyConnected
from qgen.ir.types import DType, Rounding
from qgen.targets import gemm, portable
from qgen.targets.depthwise_neon import ROWS as DEPTHWISE_ROWS
from qgen.targets.elementwise_neon import ROWS as ELEMENTWISE_ROWS
from qgen.targets.neon import FILL, FINISH_VECTORS, GATHER, NEON, ROW_SUM, finish_vars, gather_run
from qgen.targets.pool_neon import ROWS as POOL_ROWS
from qgen.targets.spec import KernelSpec, Prepared, Target
from qgen.toolchain.cc import Toolchain

# Longest copy that is worth printing move by move, in bytes.
LONGEST_UNROLLED = 256
NO_IMAGE: Mapping[str, Any] = MappingProxyType({})


def _refuses(op: Linear, rounding: Rounding) -> str:
    if op.channels < gemm.CHANNELS:
        return f"fewer than {gemm.CHANNELS} output channels"
    return gemm.overflow_reason(op)


def _gemm(
    op: Linear,
    rounding: Rounding,
    pixels: int,
    *,
    gather: bool,
    run: int,
    padded: bool = False,
    cut: bool = False,
    image: Mapping[str, Any] = NO_IMAGE,
) -> Prepared:
    """What conv2d and fully_connected have in common once they are a matrix product.

    Args:
        pixels: rows of the left factor.
        gather: rows are copied into scratch first, `run` bytes at a time.
        padded: some of them lie in padding.
        cut: padding may cut a run.
    """
    rounding = op.rounding(rounding)
    packed = gemm.pack(op, rounding)
    rows = 4 if pixels >= 4 else 1
    kernel = gemm.helper(rows, packed, rounding, op)
    depth = packed.row
    incomplete = depth > op.weight_matrix().shape[0]
    flip = op.x.dtype is DType.U8
    unrolled = gather_run(run, flip)
    wanted = (
        (FINISH_VECTORS, True),
        (FILL, gather and (incomplete or padded)),
        (GATHER, gather and (cut or run > LONGEST_UNROLLED)),
        (unrolled, gather and run <= LONGEST_UNROLLED),
        (ROW_SUM, packed.row_sums),
        (kernel, True),
    )
    helpers = tuple(helper for helper, needed in wanted if needed)
    values = {
        "mr": rows,
        "pixels": pixels,
        "tiles": -(-pixels // rows),
        "gather": gather,
        "row_bytes": depth,
        "run": run,
        "unrolled": unrolled.name if run <= LONGEST_UNROLLED else "",
        "depth_in": op.weight_matrix().shape[0],
        "kernel": kernel.name,
        "blocks": packed.blocks,
        "block_bytes": depth * gemm.CHANNELS,
        "block_words": packed.parameters[0].size,
        "O": op.channels,
        "X": op.x.dtype,
        "in_flip": -128 if flip else 0,
        "pad": op.x.zero - (128 if flip else 0),
    }
    return Prepared(
        constants=gemm.constants(packed),
        scratch=rows * depth if gather else 0,
        helpers=helpers,
        vars=values | finish_vars(op) | dict(image),
        notes=gemm.notes(packed, rows),
    )


def _conv2d(op: Conv2D, rounding: Rounding) -> Prepared:
    win = op.window
    n, oh, ow, _ = op.out.shape
    direct = (
        win.h.kernel == win.w.kernel == 1
        and not win.padded
        and op.x.shape[3] % gemm.LANES == 0
        and op.x.dtype is DType.I8
    )
    strided = (win.h.stride, win.w.stride) != (1, 1)
    channels = op.x.shape[3]
    image = {"win": win, "C": channels, "N": n, "OH": oh, "OW": ow, "strided": strided}
    whole = win.w.dilation == 1
    return _gemm(
        op,
        rounding,
        n * oh * ow,
        gather=not direct,
        run=win.w.kernel * channels if whole else channels,
        padded=win.padded,
        cut=win.padded and whole,
        image=image,
    )


def _fully_connected(op: FullyConnected, rounding: Rounding) -> Prepared:
    direct = op.w.shape[1] % gemm.LANES == 0 and op.x.dtype is DType.I8
    return _gemm(op, rounding, op.rows, gather=not direct, run=op.w.shape[1])


ROWS = (
    KernelSpec(
        name="qs8_conv2d__neon_4x4c32",
        op="conv2d",
        template="conv2d/neon_gemm.c.j2",
        requires=NEON,
        prepare=_conv2d,
        refuses=_refuses,
        tile=(4, gemm.CHANNELS, gemm.STEP),
        regs=gemm.register_plan(4),
    ),
    KernelSpec(
        name="qs8_fully_connected__neon_4x4c32",
        op="fully_connected",
        template="fully_connected/neon_gemm.c.j2",
        requires=NEON,
        prepare=_fully_connected,
        refuses=_refuses,
        tile=(4, gemm.CHANNELS, gemm.STEP),
        regs=gemm.register_plan(4),
    ),
    *DEPTHWISE_ROWS,
    *POOL_ROWS,
    *ELEMENTWISE_ROWS,
    *portable.ROWS,
)

AARCH64 = Target(
    name="aarch64",
    summary="ARMv8.0-A with NEON",
    features=NEON,
    toolchain=Toolchain(
        name="aarch64",
        compilers=("aarch64-linux-gnu-gcc", "clang --target=aarch64-linux-gnu"),
        flags=("-march=armv8-a",),
        emulator=("qemu-aarch64", "-cpu", "cortex-a53"),
        install_hint="apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user",
    ),
    kernels=ROWS,
    includes=("arm_neon.h",),
    guard="defined(__aarch64__) && defined(__ARM_NEON)",
)
