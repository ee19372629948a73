"""NEON of 32-bit Arm: intrinsics rows of 64-bit Arm with the few helpers that differ.

Half of a register is a register there, and there is no sum across lanes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from qgen.ir.op import Op
from qgen.ir.types import Rounding
from qgen.targets.spec import Helper, KernelSpec, Prepared

NEON32 = frozenset({"neon", "armv7"})

# Before the kernels in assembly.
STATE = Helper("state", "helpers/state_neon32.c.j2")

# By the name of the helper that each stands in for.
HELPERS: Mapping[str, Helper] = {
    name: Helper(name, f"helpers/{name}_neon32.c.j2")
    for name in ("high", "row_sum", "tap", "total")
}


def adapted(rows: Sequence[KernelSpec]) -> tuple[KernelSpec, ...]:
    """Those of `rows` that need no other instruction set, with the helpers of this one."""
    return tuple(_adapted(row) for row in rows if row.requires <= NEON32)


def _adapted(row: KernelSpec) -> KernelSpec:
    def prepare(op: Op, rounding: Rounding) -> Prepared:
        prepared = row.prepare(op, rounding)
        return replace(prepared, helpers=tuple(HELPERS.get(h.name, h) for h in prepared.helpers))

    return replace(row, prepare=prepare)
