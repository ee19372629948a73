"""add and sub as one linear form: equal to golden for every pair of operands."""

from __future__ import annotations

import numpy as np
import pytest

from qgen.ir.graph import Graph
from qgen.ir.numerics import INT32_MAX
from qgen.ir.op import Env
from qgen.ir.ops.add import Add
from qgen.ir.types import DType, QParams, Rounding, Tensor, TensorType
from qgen.passes.legalize import legalize
from qgen.targets.linear_sum import LinearSum, evaluate, linear_sum
from tests.ops.strategies import one


def adds(count: int) -> list[Add]:
    found = []
    for case in range(count):
        for name in ("add", "sub"):
            op = one(name, 3, case)
            legal = legalize(Graph("g", tuple(dict.fromkeys(op.inputs())), (op.out,), (op,))).ops[0]
            assert isinstance(legal, Add)
            if legal.a is not legal.b:
                found.append(legal)
    return found


@pytest.mark.parametrize("rounding", Rounding)
def test_equals_golden_for_all_pairs(rounding: Rounding) -> None:
    forms = 0
    for op in adds(25):
        form = linear_sum(op, rounding)
        if form is None:
            continue
        forms += 1
        a = np.arange(op.a.dtype.min, op.a.dtype.max + 1)[:, None]
        b = np.arange(op.b.dtype.min, op.b.dtype.max + 1)[None, :]
        values = {op.a: a.astype(op.a.dtype.numpy), op.b: b.astype(op.b.dtype.numpy)}
        golden = op.eval(Env(lambda t, values=values: values[t], rounding))  # type: ignore[misc]
        assert np.array_equal(evaluate(op, form, a - op.a.zero, b - op.b.zero), golden)
        total = form.alpha * (a - op.a.zero) + form.beta * (b - op.b.zero) + form.gamma
        assert np.abs(total).max() + (1 << (form.shift - 1)) <= INT32_MAX
    assert forms > 20


def test_ties_are_turned_by_a_neighbouring_coefficient() -> None:
    """Equal scales meet ties at every odd sum. A little above 1/2 turns them away from zero."""
    kind = TensorType(DType.I8, (1, 16), QParams((0.5,), 0))
    y = TensorType(DType.I8, (1, 16), QParams((1.0,), 0))
    add = Add(a=Tensor("a", kind), b=Tensor("b", kind), out=Tensor("y", y)).legalize()
    half = 1 << 21
    assert linear_sum(add, Rounding.GEMMLOWP) == LinearSum(half + 1, half + 1, 0, 22)
    assert linear_sum(add, Rounding.SINGLE) == LinearSum(half, half, 0, 22)


def test_no_form_is_no_error() -> None:
    """A result scale so fine that every rounding of (Q6) shows."""
    a = TensorType(DType.I8, (1, 16), QParams((1.0,), 0))
    b = TensorType(DType.I8, (1, 16), QParams((0.7,), 0))
    y = TensorType(DType.I8, (1, 16), QParams((2.0**-22,), 0))
    add = Add(a=Tensor("a", a), b=Tensor("b", b), out=Tensor("y", y)).legalize()
    assert linear_sum(add, Rounding.GEMMLOWP) is None
