"""What the NEON rows share: helper functions and the values at the end of a kernel."""

from __future__ import annotations

from typing import Any

from qgen.ir.op import Op
from qgen.ir.types import DType, Rounding
from qgen.targets.spec import Helper

# Instructions of both instruction sets, and of one.
EITHER = frozenset({"neon"})
NEON = frozenset({"neon", "aarch64"})

COPY = Helper("copy", "helpers/copy_neon.c.j2")
FILL = Helper("fill", "helpers/fill_neon.c.j2")
GATHER = Helper("gather", "helpers/gather_neon.c.j2")
FINISH = Helper("finish", "helpers/finish_neon.c.j2")
FINISH_CONSTANTS = Helper("finish_constants", "helpers/finish_constants_neon.c.j2")
NARROW = Helper("narrow", "helpers/narrow_neon.c.j2")
NARROW16 = Helper("narrow16", "helpers/narrow16_neon.c.j2")
PART = Helper("part", "helpers/part_neon.c.j2")
TAP = Helper("tap", "helpers/tap_neon.c.j2")
HIGH = Helper("high", "helpers/high_neon.c.j2")
TOTAL = Helper("total", "helpers/total_neon.c.j2")
ROW_SUM = Helper("row_sum", "helpers/row_sum_neon.c.j2")


def gather_run(count: int, flip: bool) -> Helper:
    """A copy of a fixed number of bytes, unrolled; uint8 becomes int8 with `flip`."""
    width = 16 if count >= 16 else 8 if count >= 8 else 1
    moves = [(at, width) for at in range(0, count - width + 1, width)]
    if count % width:
        moves.append((count - width, width))
    name = f"gather_{count}" + ("_flip" if flip else "")
    values = {"bytes": count, "flip": flip, "moves": moves}
    return Helper(name, "helpers/gather_fixed_neon.c.j2", values)


def requantize(rounding: Rounding, *, left: bool) -> Helper:
    """Requantization of four lanes; `left` where a shift may be positive."""
    left = left and rounding is Rounding.GEMMLOWP
    name = f"requantize_s32_{rounding.value}" + ("_left" if left else "")
    return Helper(name, "helpers/requantize_neon.c.j2", {"kind": rounding.value, "left": left})


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
        "X": getattr(op, "x", op.out).dtype
        if not isinstance(getattr(op, "x", None), tuple)
        else None,
        "Y": op.out.dtype,
    }
