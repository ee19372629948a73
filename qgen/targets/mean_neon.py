"""Mean on NEON: sums of whole vectors, int16 lanes as deep as int8 allows.

Neighbouring dimensions that are all reduced or all kept are one dimension to a kernel. Where the
last is kept (the global pooling of a classifier), its elements are lanes that are summed in step;
where it is reduced, a row of elements becomes one sum.
"""

from __future__ import annotations

from itertools import accumulate
from typing import Any

from qgen.ir.ops.mean import Mean
from qgen.ir.types import DType, Rounding
from qgen.targets import portable
from qgen.targets.blocks import block_vars
from qgen.targets.neon import FINISH, NARROW, NARROW16, NEON, finish_vars, requantize
from qgen.targets.spec import KernelSpec, Prepared

DEEPEST = 256  # values of int8 whose sum fits int16
WIDTHS = (32, 16, 8)  # lanes of a block, widest first
VECTOR = 16


def merged(op: Mean) -> list[tuple[int, bool]]:
    """(size, reduced) of the dimensions, those of one element dropped, like neighbours merged."""
    found: list[tuple[int, bool]] = []
    for axis, size in enumerate(op.x.shape):
        reduced = axis in op.axes
        if size == 1:
            continue
        if found and found[-1][1] == reduced:
            found[-1] = (found[-1][0] * size, reduced)
        else:
            found.append((size, reduced))
    return found


def _loops(dims: list[tuple[int, bool]]) -> list[dict[str, Any]]:
    """Dimensions as loops: name, size, elements from one step to the next, reduced or kept."""
    strides = [*accumulate((n for n, _ in dims[:0:-1]), lambda a, b: a * b, initial=1)][::-1]
    return [
        {"name": f"i{d}", "size": size, "stride": stride, "reduced": reduced}
        for d, ((size, reduced), stride) in enumerate(zip(dims, strides, strict=True))
    ]


def _refuses_lanes(op: Mean, rounding: Rounding) -> str:
    dims = merged(op)
    if not dims or dims[-1][1]:
        return "the last dimension is reduced"
    return f"fewer than {WIDTHS[-1]} elements to keep" if dims[-1][0] < WIDTHS[-1] else ""


def _refuses_rows(op: Mean, rounding: Rounding) -> str:
    dims = merged(op)
    if not dims or not dims[-1][1]:
        return "the last dimension is kept"
    return f"rows of fewer than {VECTOR} elements" if dims[-1][0] < VECTOR else ""


def _input_vars(op: Mean) -> dict[str, Any]:
    """The type of the input, and what removes its zero point from a sum of int8."""
    unsigned = op.x.dtype is DType.U8
    zero = op.x.zero - (128 if unsigned else 0)
    return {"unsigned": unsigned, "bias": -op.count * zero}


def _lanes(op: Mean, rounding: Rounding) -> Prepared:
    assert op.m_y
    *loops, last = _loops(merged(op))
    channels = last["size"]
    lanes = next(width for width in WIDTHS if width <= channels)
    helper = requantize(rounding, left=op.m_y.shift > 0)
    narrow = NARROW if lanes == 8 else NARROW16
    # The innermost reduced dimension is summed in int16 lanes, DEEPEST of its steps at a time.
    inner = next((d for d in reversed(loops) if d["reduced"]), None)
    return Prepared(
        helpers=(FINISH, narrow, helper),
        vars=finish_vars(op)
        | _input_vars(op)
        | block_vars(channels, lanes)
        | {
            "kept": [d for d in loops if not d["reduced"]],
            "reduced": [d for d in loops if d["reduced"] and d is not inner],
            "inner": inner or {"name": "k", "size": 1, "stride": 0},
            "channels": channels,
            "lanes": lanes,
            "deepest": DEEPEST,
            "narrow": narrow.name,
            "rq": helper.name,
        },
    )


def _rows(op: Mean, rounding: Rounding) -> Prepared:
    *loops, last = _loops(merged(op))
    return Prepared(
        helpers=(portable.REQUANTIZE[rounding], portable.CLAMP),
        vars=portable.common_vars(op, rounding)
        | _input_vars(op)
        | {
            "kept": [d for d in loops if not d["reduced"]],
            "reduced": [d for d in loops if d["reduced"]],
            "length": last["size"],
            "deepest": DEEPEST // 2,
        },
    )


ROWS: tuple[KernelSpec, ...] = (
    KernelSpec(
        name="q8_mean__neon_lanes",
        op="mean",
        template="mean/neon_lanes.c.j2",
        requires=NEON,
        prepare=_lanes,
        refuses=_refuses_lanes,
    ),
    KernelSpec(
        name="q8_mean__neon_rows",
        op="mean",
        template="mean/neon_rows.c.j2",
        requires=NEON,
        prepare=_rows,
        refuses=_refuses_rows,
    ),
)
