"""add and sub on NEON by their linear form (Q19)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from qgen.ir.ops.add import Add
from qgen.ir.types import DType, Rounding
from qgen.targets.linear_sum import LinearSum, linear_sum
from qgen.targets.neon import NEON, finish_vars
from qgen.targets.spec import Helper, KernelSpec, Prepared

FORM = Helper("linear_sum", "helpers/linear_sum_neon.c.j2")
LANES = 16
LOOP = 3  # instructions of the loop itself


@cache
def _form(op: Add, rounding: Rounding) -> LinearSum | None:
    return linear_sum(op, rounding)


def _refuses(op: Add, rounding: Rounding) -> str:
    tensors = (op.a, op.b, op.out)
    if any(t.data is not None or t.dtype is DType.U8 for t in tensors):
        return "an operand is constant or uint8"
    if op.a is op.b or any(t.shape != op.out.shape for t in tensors):
        return "operands are broadcast or the same"
    if op.out.type.elements % LANES:
        return f"elements are no multiple of {LANES}"
    return "" if _form(op, rounding) else "no linear form gives the same results"


def _cost(op: Add, rounding: Rounding) -> float:
    form = _form(op, rounding)
    values = finish_vars(op)
    assert form is not None
    # Loads, subtractions, widening, products, shifts, narrowing, store.
    each = 2 + 4 + 8 + 8 + 4 + 6 + 1 + LOOP
    each += 4 * bool(form.gamma) + (1 if values["zero"] == -128 else 2)
    each += (values["low"] > -128) + (values["high"] < 127)
    return 30.0 + int(each) * op.out.type.elements / LANES


def _helper(form: LinearSum, values: Mapping[str, Any]) -> Helper:
    """The loop, shared by all ops that need the same steps."""
    traits = {
        "gamma": bool(form.gamma),
        "unsigned": values["zero"] == -128,
        "low": values["low"] > -128,
        "high": values["high"] < 127,
    }
    name = "_".join(["add_16", *(name for name, present in traits.items() if present)])
    return Helper(name, "helpers/add_16_neon.c.j2", traits)


def _prepare(op: Add, rounding: Rounding) -> Prepared:
    form = _form(op, rounding)
    values = finish_vars(op)
    assert form is not None
    loop = _helper(form, values)
    return Prepared(
        helpers=(FORM, loop),
        vars=values | {"form": form, "za": op.a.zero, "zb": op.b.zero, "kernel": loop.name},
        notes=("one linear form, equal to (Q6) for all 65536 pairs of operands (Q19)",),
    )


ROWS: tuple[KernelSpec, ...] = tuple(
    KernelSpec(f"q8_{op}__neon_16", op, "add/neon_16.c.j2", NEON, _prepare, _refuses, _cost)
    for op in ("add", "sub")
)
