"""Depthwise convolution and pooling on NEON."""

from __future__ import annotations

from qgen.targets.spec import KernelSpec

ROWS: tuple[KernelSpec, ...] = ()
