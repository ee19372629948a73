"""armv7a: 32-bit Arm with NEON (Cortex-A7, A8, A9, A15 and every later core that runs AArch32).

Matrix products (`gemm_neon32_pairs.py`, `gemm_neon32.py`) and 3 x 3 depthwise convolutions are
inline assembly, the rest the rows of 64-bit Arm as far as they are intrinsics of both instruction
sets; what no row here takes falls to the portable rows.
"""

from __future__ import annotations

from qgen.targets import depthwise_neon32, gemm_neon32, gemm_neon32_pairs, portable
from qgen.targets.depthwise_neon import ROWS as DEPTHWISE_ROWS
from qgen.targets.elementwise_neon import ROWS as ELEMENTWISE_ROWS
from qgen.targets.neon32 import NEON32, adapted
from qgen.targets.pool_neon import ROWS as POOL_ROWS
from qgen.targets.resize_neon import ROWS as RESIZE_ROWS
from qgen.targets.spec import Target
from qgen.toolchain.cc import Toolchain

ARMV7A = Target(
    name="armv7a",
    summary="ARMv7-A with NEON",
    features=NEON32,
    toolchain=Toolchain(
        name="armv7a",
        compilers=("arm-linux-gnueabihf-gcc", "clang --target=arm-linux-gnueabihf"),
        flags=("-march=armv7-a", "-mfpu=neon", "-mfloat-abi=hard"),
        # The first core with NEON: no divide, no fused multiply, no half precision.
        emulator=("qemu-arm", "-cpu", "cortex-a8"),
        install_hint="apt-get install gcc-arm-linux-gnueabihf libc6-dev-armhf-cross qemu-user",
        probe='__asm__("vpadal.s16 q0, q1");',
        needs="gcc or clang for 32-bit Arm",
    ),
    kernels=(
        *adapted(
            (
                *gemm_neon32_pairs.KERNEL.rows(),
                *gemm_neon32.KERNEL.rows(),
                *depthwise_neon32.ROWS,
                *DEPTHWISE_ROWS,
                *POOL_ROWS,
                *RESIZE_ROWS,
                *ELEMENTWISE_ROWS,
            )
        ),
        *portable.ROWS,
    ),
    includes=("arm_neon.h",),
    granule=8,
    guard="defined(__arm__) && defined(__ARM_NEON)",
    generic_cpu="cortex-a7",
)
