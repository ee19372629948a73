"""aarch64+dotprod: ARMv8.2 with SDOT (Cortex-A55, A75 and later, Neoverse)."""

from __future__ import annotations

from dataclasses import replace

from qgen.targets import depthwise_3x3, gemm_sdot, panel, panel_patches, panel_planes, panel_window
from qgen.targets.aarch64 import AARCH64
from qgen.targets.gemm_sdot import DOTPROD

AARCH64_DOTPROD = replace(
    AARCH64,
    name="aarch64+dotprod",
    summary="ARMv8.2-A with NEON and dot products",
    features=DOTPROD,
    toolchain=replace(
        AARCH64.toolchain,
        name="aarch64+dotprod",
        flags=("-march=armv8.2-a+dotprod",),
        emulator=("qemu-aarch64", "-cpu", "cortex-a76"),
        probe='__asm__("sdot v0.4s, v1.16b, v2.4b[0]");',
        needs="gcc >= 8 or clang >= 7 for 64-bit Arm",
    ),
    kernels=(
        *panel.rows(gemm_sdot.KERNEL),
        *panel_planes.rows(gemm_sdot.KERNEL),
        *panel_window.rows(gemm_sdot.KERNEL),
        *panel_patches.rows(gemm_sdot.KERNEL),
        *depthwise_3x3.DOTPROD_ROWS,
        *AARCH64.kernels,
    ),
    guard=f"{AARCH64.guard} && defined(__ARM_FEATURE_DOTPROD)",
    generic_cpu="cortex-a55",
)
