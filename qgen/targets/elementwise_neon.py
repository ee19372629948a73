"""Element-wise ops, softmax and data movement on NEON, as intrinsics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from qgen.ir.elementwise import Binary
from qgen.ir.numerics import Multiplier
from qgen.ir.op import Op
from qgen.ir.ops.add import Add
from qgen.ir.ops.mul import Mul
from qgen.ir.ops.softmax import DIFFERENCE_BITS, Softmax
from qgen.ir.sigmoid import Sigmoid
from qgen.ir.types import DType, Rounding, Tensor
from qgen.targets import portable
from qgen.targets.neon import (
    COPY,
    EITHER,
    FILL,
    FINISH,
    NARROW,
    NEON,
    PART,
    TOTAL,
    finish_vars,
    requantize,
)
from qgen.targets.spec import Helper, KernelSpec, Prepared

FIXED_POINT = Helper("fixed_point_s32", "helpers/fixedpoint_neon.c.j2")
NEWTON = Helper("newton_s32", "helpers/newton_neon.c.j2", portable.FIXED_POINT.vars)
Prepare = Callable[[Any, Rounding], Prepared]


def exp_helper(bits: int) -> Helper:
    """exp on four lanes."""
    scalar = portable.exp_helper(bits, "helpers/exp_neon.c.j2")
    return replace(scalar, name=f"{scalar.name}_s32")


def _operand(t: Tensor, out: Tensor) -> tuple[bool, bool]:
    """(is uint8, one element serves all) of an operand, for the macro `flat`."""
    return t.dtype is DType.U8, t.type.elements == 1 and out.type.elements > 1


def _zero(t: Tensor) -> int:
    """Zero point of an operand once it is int8."""
    return t.zero - (128 if t.dtype is DType.U8 else 0)


def _flat(
    op: Op, rounding: Rounding, multipliers: dict[str, Multiplier | None], names: dict[str, str]
) -> Prepared:
    """An op over flat tensors: operand field -> variable in `names`."""
    tensors = {variable: getattr(op, field) for field, variable in names.items()}
    constants = portable.constant_operands(op)
    helpers: list[Helper] = [FINISH, NARROW]
    helpers += [PART] if op.out.type.elements % 8 else []
    values: dict[str, Any] = finish_vars(op)
    for key, m in multipliers.items():
        assert m is not None
        helper = requantize(rounding, left=m.shift > 0)
        helpers.append(helper)
        values[f"rq_{key}"] = helper.name
    for field in names:
        t = getattr(op, field)
        values[f"z{field}"] = _zero(t)
    values["operands"] = {v: _operand(t, op.out) for v, t in tensors.items()}
    values["fields"] = {variable: field for field, variable in names.items()}
    return Prepared(constants, 0, tuple(helpers), values)


def _not_flat(op: Binary, rounding: Rounding) -> str:
    for t in (op.a, op.b):
        if t.type.elements not in (1, op.out.type.elements):
            return "operands are broadcast along some dimensions only"
    return ""


def _add(op: Add, rounding: Rounding) -> Prepared:
    return _flat(op, rounding, {"a": op.m_a, "b": op.m_b, "y": op.m_y}, {"a": "va", "b": "vb"})


def _mul(op: Mul, rounding: Rounding) -> Prepared:
    return _flat(op, rounding, {"y": op.m_y}, {"a": "va", "b": "vb"})


def _unary(op: Any, rounding: Rounding) -> Prepared:
    return _flat(op, rounding, {"y": op.m_y}, {"x": "v"})


def _lookup(op: Op, rounding: Rounding) -> Prepared:
    prepared = _flat(op, rounding, {}, {"x": "v"})
    helpers = (PART,) if op.out.type.elements % 8 else ()
    return replace(prepared, helpers=helpers)


def _sigmoid(bits: int) -> Prepare:
    def prepare(op: Sigmoid, rounding: Rounding) -> Prepared:
        prepared = _flat(op, rounding, {"x": op.m_x}, {"x": "v"})
        return replace(prepared, helpers=(*prepared.helpers, FIXED_POINT, NEWTON, exp_helper(bits)))

    return prepare


def _softmax(op: Softmax, rounding: Rounding) -> Prepared:
    assert op.m_x
    helper = requantize(rounding, left=op.m_x.shift > 0)
    padded = -(-op.x.shape[-1] // 8) * 8
    values = portable.softmax_vars(op, rounding) | finish_vars(op)
    return Prepared(
        {},
        4 * padded,
        (
            FINISH,
            NARROW,
            TOTAL,
            helper,
            portable.FIXED_POINT,
            FIXED_POINT,
            exp_helper(DIFFERENCE_BITS),
        ),
        values | {"rq_x": helper.name, "padded": padded},
    )


def _moving(name: str) -> KernelSpec:
    """A portable row that copies, with NEON's copy and fill under the same names."""
    row = next(r for r in portable.ROWS if r.op == name)
    swap = {"copy": COPY, "fill": FILL}

    def prepare(op: Op, rounding: Rounding) -> Prepared:
        prepared = row.prepare(op, rounding)
        return replace(prepared, helpers=tuple(swap[h.name] for h in prepared.helpers))

    return replace(row, name=f"q8_{name}__neon", requires=EITHER, prepare=prepare)


def _row(
    op: str,
    template: str,
    prepare: Prepare,
    refuses: Callable[[Any, Rounding], str] | None = None,
    requires: frozenset[str] = EITHER,
) -> KernelSpec:
    row = KernelSpec(f"q8_{op}__neon_8", op, f"{template}/neon.c.j2", requires, prepare)
    return replace(row, refuses=refuses) if refuses else row


ROWS: tuple[KernelSpec, ...] = (
    _row("add", "add", _add, _not_flat),
    _row("sub", "add", _add, _not_flat),
    _row("mul", "mul", _mul, _not_flat),
    _row("clamp", "clamp", _unary),
    _row("quantize", "clamp", _unary),
    _row("lookup", "lookup", _lookup, requires=NEON),
    _row("logistic", "logistic", _sigmoid(4)),
    _row("tanh", "tanh", _sigmoid(5)),
    _row("softmax", "softmax", _softmax),
    _moving("concat"),
    _moving("pad"),
    _moving("reshape"),
    _moving("slice"),
)
