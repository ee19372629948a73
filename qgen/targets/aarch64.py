"""aarch64: NEON of ARMv8.0, the Appendix B kernels.

Matrix products are inline assembly (`gemm*.py`, `product*.py`, `matvec.py`), the rest intrinsics;
what no row here takes falls to the portable rows.
"""

from __future__ import annotations

from qgen.targets import (
    depthwise_3x3,
    depthwise_window,
    matvec,
    portable,
    product,
    product_mla,
    product_window,
    winograd,
)
from qgen.targets.add_neon import ROWS as ADD_ROWS
from qgen.targets.depthwise_neon import ROWS as DEPTHWISE_ROWS
from qgen.targets.depthwise_spread_neon import ROWS as SPREAD_ROWS
from qgen.targets.dots_neon import ROWS as DOTS_ROWS
from qgen.targets.elementwise_neon import ROWS as ELEMENTWISE_ROWS
from qgen.targets.mean_neon import ROWS as MEAN_ROWS
from qgen.targets.neon import NEON
from qgen.targets.pool_neon import ROWS as POOL_ROWS
from qgen.targets.resize_neon import ROWS as RESIZE_ROWS
from qgen.targets.spec import Target
from qgen.toolchain.cc import Toolchain

ROWS = (
    *matvec.KERNELS,
    *product_mla.KERNELS,
    *product_window.KERNELS,
    *winograd.ROWS,
    *product.KERNELS,
    *DOTS_ROWS,
    *depthwise_3x3.ROWS,
    *depthwise_window.ROWS,
    *DEPTHWISE_ROWS,
    *SPREAD_ROWS,
    *ADD_ROWS,
    *POOL_ROWS,
    *RESIZE_ROWS,
    *MEAN_ROWS,
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
        probe='__asm__("sadalp v0.4s, v1.8h");',
        needs="gcc or clang for 64-bit Arm",
    ),
    kernels=ROWS,
    includes=("arm_neon.h",),
    granule=8,
    guard="defined(__aarch64__) && defined(__ARM_NEON)",
    generic_cpu="cortex-a53",
)
