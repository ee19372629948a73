"""legalize: what it fills in, and that no float is left behind it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from enum import Enum
from typing import Any

import numpy as np
import pytest

from qgen.ir.graph import Graph
from qgen.ir.interp import run_all
from qgen.ir.op import Op
from qgen.ir.ops.clamp import Clamp
from qgen.ir.ops.logistic import Logistic
from qgen.ir.ops.lookup import Lookup
from qgen.ir.ops.max_pool2d import MaxPool2D
from qgen.ir.sigmoid import Method
from qgen.ir.types import DType, QParams, Rounding, Tensor, TensorType
from qgen.ir.verify import Stage, stage_of
from qgen.passes.legalize import legalize
from qgen.passes.storage import as_stored, signed_storage
from tests.ops.strategies import OPS, program


def floats(value: Any, path: str) -> Iterator[str]:
    """Where a float hides in a value: fields, tuples and arrays."""
    if isinstance(value, np.ndarray):
        if value.dtype.kind == "f":
            yield path
    elif isinstance(value, float | np.floating):
        yield path
    elif isinstance(value, Enum):
        yield from floats(value.value, path)
    elif isinstance(value, tuple):
        for i, v in enumerate(value):
            yield from floats(v, f"{path}[{i}]")
    elif dataclasses.is_dataclass(value):
        # A field that describes a real value is at its default by now (verify checks that).
        skipped = value.REAL if isinstance(value, Op) else ()
        for field in dataclasses.fields(value):
            if field.name not in skipped:
                yield from floats(getattr(value, field.name), f"{path}.{field.name}")


@pytest.mark.parametrize("name", OPS)
def test_no_float_is_left(name: str) -> None:
    model = program(name, Rounding.GEMMLOWP, 20, 3)
    assert stage_of(model) is Stage.QUANTIZED
    assert any(floats(op, op.name) for op in model.ops)
    integer = legalize(model)
    assert stage_of(integer) is Stage.INTEGER
    edges = {*integer.inputs, *integer.outputs}
    for op in integer.ops:
        ports = [*op.operands(), op.out]
        # Scales of the caller's tensors describe them to the user; the op must not need them.
        bare = {t: _without_scale(t) for t in ports if t in edges}
        assert list(floats(op.with_tensors(bare), op.name)) == []


def _without_scale(t: Tensor) -> Tensor:
    assert t.type.quant
    quant = dataclasses.replace(t.type.quant, scale=())
    return dataclasses.replace(t, type=t.type.with_quant(quant))


def test_floats_are_found() -> None:
    op = program("softmax", Rounding.GEMMLOWP, 1, 3).ops[0]
    assert any(".scale" in path for path in floats(op, "op"))
    assert list(floats((1, (2.0, np.zeros(1))), "x")) == ["x[1][0]", "x[1][1]"]


@pytest.mark.parametrize("name", OPS)
def test_twice_is_once(name: str) -> None:
    integer = legalize(program(name, Rounding.GEMMLOWP, 20, 3))
    assert legalize(integer).same(integer)


def test_names_types_and_order_stay() -> None:
    model = program("conv2d", Rounding.NEAREST, 20, 4)
    integer = legalize(model)
    assert [op.name for op in integer.ops] == [op.name for op in model.ops]
    assert [(t.dtype, t.shape, t.zero) for t in integer.activations] == [
        (t.dtype, t.shape, t.zero) for t in model.activations
    ]
    assert integer.rounding is Rounding.NEAREST
    assert [t.type for t in (*integer.inputs, *integer.outputs)] == [
        t.type for t in (*model.inputs, *model.outputs)
    ]


def test_multipliers_by_hand() -> None:
    x = Tensor("x", TensorType(DType.I8, (4,), QParams((0.5,), 3)))
    y = Tensor("y", TensorType(DType.I8, (4,), QParams((0.25,), -7)))
    op = Clamp(x=x, out=y).legalize()
    assert op.m_y == (2**30, 2) and op.clamp == (-128, 127)


def test_sigmoid_as_a_table_becomes_a_lookup() -> None:
    x = Tensor("x", TensorType(DType.I8, (4,), QParams((0.1,), 0)))
    y = Tensor("y", TensorType(DType.I8, (4,), QParams((1 / 256,), -128)))
    op = Logistic(x=x, out=y, method=Method.TABLE).legalize()
    assert isinstance(op, Lookup) and op.name == "y"
    values = op.table.const.astype(int)
    assert values[128] == 0 and values[0] == -128 and np.all(np.diff(values) >= 0)


@pytest.mark.parametrize("kind", [DType.U8, DType.I8])
@pytest.mark.parametrize("bits", range(4, 9))
def test_bits_become_clamps(kind: DType, bits: int) -> None:
    """(Q20) Golden keeps to the levels; the integer graph knows them as clamps alone."""
    zero = QParams((), 0, bits=bits).limits(kind)[0] + 7
    quant = QParams((0.02,), zero, bits=bits)
    low, high = quant.limits(kind)
    assert high - low + 1 == 2**bits and low >= kind.min and high <= kind.max
    x = Tensor("x", TensorType(kind, (1, 1, 256, 1), QParams((0.1,), kind.min + 128)))
    inner = Tensor("inner", TensorType(kind, (1, 1, 256, 1), quant))
    y = Tensor("y", TensorType(kind, (1, 1, 128, 1), quant))
    ops = (Clamp(x=x, out=inner), MaxPool2D(x=inner, kernel=(1, 2), stride=(1, 2), out=y))
    model = legalize(Graph("bits", (x,), (y,), ops))
    assert model.ops[0].out.type.quant == QParams((), quant.zero)
    every = np.arange(kind.min, kind.max + 1).astype(kind.numpy).reshape(x.shape)
    result = run_all(model, [every])
    assert (result["inner"].min(), result["inner"].max()) == (low, high)
    assert (result["y"].min(), result["y"].max()) == (low, high)
    stored = signed_storage(model)
    for name, values in run_all(stored, [every]).items():
        t = next(t for t in stored.activations if t.name == name)
        assert np.array_equal(values, as_stored(result[name], t))
