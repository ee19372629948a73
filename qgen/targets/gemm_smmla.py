"""Matrix products with SMMLA (ARMv8.6 int8 matrix multiply): 2 x 2 sums of 8 products at a time.

Packing and the end of the kernel are those of `gemm_sdot`; fewer than 4 rows are left to it.
"""

from __future__ import annotations

from functools import partial

from qgen.ir.linear import Linear
from qgen.ir.types import Rounding
from qgen.targets import gemm_sdot
from qgen.targets.gemm_sdot import CHANNELS, STEP, Packed
from qgen.targets.matmul import MatrixKernel
from qgen.targets.spec import Helper, RegPlan

ROWS = 4
GROUP = 8  # products of one sum and SMMLA
I8MM = frozenset({"aarch64", "dotprod", "i8mm"})


def register_plan(rows: int) -> RegPlan:
    """Vector registers of the kernel; it has 4 rows."""
    return RegPlan(
        {
            "a": (0, 1, 2, 3),
            "w": tuple(range(4, 12)),
            "free": (12, 13, 14, 15),
            "acc": tuple(range(16, 24)),
            "sums": tuple(range(24, 32)),
        }
    )


def helper(rows: int, packed: Packed, rounding: Rounding, op: Linear) -> Helper:
    """The instance of the kernel that an op needs."""
    regs = register_plan(rows)
    name, template = f"smmla_{ROWS}x{CHANNELS}", "helpers/gemm_smmla.c.j2"
    return gemm_sdot.instance(name, template, ROWS, regs, regs["sums"], packed, rounding, op)


def notes(packed: Packed) -> tuple[str, ...]:
    """What the comment above an op says of the kernel."""
    return (f"int32 lanes: 2 rows x 2 channels, {GROUP} products per lane and SMMLA",)


KERNEL = MatrixKernel(
    name=f"neoni8mm_{ROWS}x{CHANNELS}c{STEP}",
    requires=I8MM,
    channels=CHANNELS,
    step=STEP,
    fewest_rows=ROWS,
    pack=partial(gemm_sdot.pack, group=GROUP),
    helper=helper,
    notes=notes,
    registers=register_plan,
)
