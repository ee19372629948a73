"""Element-wise ops on NEON."""

from __future__ import annotations

from qgen.targets.spec import KernelSpec

ROWS: tuple[KernelSpec, ...] = ()
