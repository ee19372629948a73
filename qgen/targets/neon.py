"""What the NEON rows share: helper functions and the values at the end of a kernel."""

from __future__ import annotations

from typing import Any

from qgen.ir.numerics import LOW_BITS
from qgen.ir.op import Op
from qgen.ir.types import DType, Rounding
from qgen.targets.spec import Helper

COPY = Helper("copy", "helpers/copy_neon.c.j2")
FILL = Helper("fill", "helpers/fill_neon.c.j2")
GATHER = Helper("gather", "helpers/gather_neon.c.j2")
REQUANTIZE = {
    r: Helper(
        f"requantize_s32_{r.value}",
        "helpers/requantize_neon.c.j2",
        {"kind": r.value, "low_bits": LOW_BITS},
    )
    for r in Rounding
}


def finish_vars(op: Op) -> dict[str, Any]:
    """Zero point and clamp of the result in int8; `flip` turns int8 into uint8 at the store."""
    offset = 128 if op.out.dtype is DType.U8 else 0
    low, high = getattr(op, "clamp", None) or (op.out.dtype.min, op.out.dtype.max)
    return {
        "zero": op.out.zero - offset,
        "low": low - offset,
        "high": high - offset,
        "flip": -offset,
        "elements": op.out.type.elements,
        "X": getattr(op, "x", op.out).dtype,
        "Y": op.out.dtype,
    }
