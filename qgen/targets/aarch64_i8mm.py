"""aarch64+i8mm: ARMv8.6 with SMMLA (Cortex-A510, A715, Neoverse V1 and N2)."""

from __future__ import annotations

from dataclasses import replace

from qgen.targets import gemm_smmla, panel, panel_patches, panel_window
from qgen.targets.aarch64_dotprod import AARCH64_DOTPROD
from qgen.targets.gemm_smmla import I8MM

AARCH64_I8MM = replace(
    AARCH64_DOTPROD,
    name="aarch64+i8mm",
    summary="ARMv8.6-A with NEON, dot products and int8 matrix multiply",
    features=I8MM,
    toolchain=replace(
        AARCH64_DOTPROD.toolchain,
        name="aarch64+i8mm",
        flags=("-march=armv8.6-a+dotprod+i8mm",),
        emulator=("qemu-aarch64", "-cpu", "max"),
        probe='__asm__("smmla v0.4s, v1.16b, v2.16b");',
        needs="gcc >= 10 or clang >= 11 for 64-bit Arm",
    ),
    kernels=(
        *panel.rows(gemm_smmla.KERNEL),
        *panel_window.rows(gemm_smmla.KERNEL),
        *panel_patches.rows(gemm_smmla.KERNEL),
        *AARCH64_DOTPROD.kernels,
    ),
    guard=f"{AARCH64_DOTPROD.guard} && defined(__ARM_FEATURE_MATMUL_INT8)",
    generic_cpu="cortex-a510",
)
