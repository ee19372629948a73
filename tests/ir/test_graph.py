"""Graphs, their rewriting and their stages; what ops say of themselves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from qgen.ir.graph import Graph, rewrite
from qgen.ir.op import Cost, Op, register, registry
from qgen.ir.ops.add import Add
from qgen.ir.ops.clamp import Clamp
from qgen.ir.ops.conv2d import Conv2D
from qgen.ir.types import DType, QParams, Rounding, Tensor, TensorType
from qgen.ir.verify import Stage, stage_of, verify
from qgen.ir.windows import Pads
from qgen.passes.legalize import legalize


def t(name: str, *shape: int, scale: float = 0.5) -> Tensor:
    return Tensor(name, TensorType(DType.I8, shape, QParams((scale,), 0)))


def constant(name: str, *shape: int) -> Tensor:
    return replace(t(name, *shape), data=np.ones(shape, np.int8))


def diamond() -> Graph:
    x = t("x", 2, 3)
    top = Clamp(x=x, out=t("top", 2, 3))
    left, right = Clamp(x=top.out, out=t("left", 2, 3)), Clamp(x=top.out, out=t("right", 2, 3))
    total = Add(a=left.out, b=right.out, out=t("total", 2, 3))
    return Graph("diamond", (x,), (total.out,), (top, left, right, total))


def test_dataflow_and_consumers() -> None:
    graph = diamond()
    assert set(graph.dataflow().edges) == {(0, 1), (0, 2), (1, 3), (2, 3)}
    assert [op.name for op in graph.consumers(graph.ops[0].out)] == ["left", "right"]
    assert [x.name for x in graph.tensors()] == ["x", "top", "left", "right", "total"]


def test_rewrite_carries_new_results_to_later_ops() -> None:
    graph = diamond()

    def renamed(op: Op) -> Op:
        return op.replace(out=replace(op.out, name=op.name.upper()))

    new = rewrite(graph, renamed)
    assert [op.name for op in new.ops] == ["TOP", "LEFT", "RIGHT", "TOTAL"]
    assert [x.name for x in new.ops[3].operands()] == ["LEFT", "RIGHT"]
    assert new.outputs == (new.ops[3].out,) and new.inputs == graph.inputs
    assert not new.same(graph) and graph.ops[3].name == "total"


def test_rewrite_of_tensors_reaches_every_use() -> None:
    graph = diamond()
    new = rewrite(
        graph, lambda op: op, lambda x: replace(x, name=f"{x.name}_1") if x.name == "top" else x
    )
    assert [op.name for op in new.ops] == ["top_1", "left", "right", "total"]
    assert {op.inputs()[0].name for op in new.ops[1:3]} == {"top_1"}
    assert rewrite(graph, lambda op: op).same(graph)


def test_same_compares_contents_not_places() -> None:
    graph = diamond()
    assert graph.same(diamond())
    assert not graph.same(graph.replace(rounding=Rounding.SINGLE))
    x = t("x", 1, 2, 2, 3)

    def conv(w: Tensor, **fields: object) -> Graph:
        op = Conv2D(x=x, w=w, out=t("y", 1, 2, 2, 1), **fields)  # type: ignore[arg-type]
        return Graph("g", (x,), (op.out,), (op,))

    w = constant("w", 1, 1, 1, 3)
    other = replace(w, data=np.full(w.shape, 2, np.int8))
    assert conv(w).same(conv(replace(w, data=np.ones(w.shape, np.int8))))
    assert not conv(w).same(conv(other))
    assert not conv(w).same(conv(w, padding=Pads(0, 0, 0, 0)))
    bias = Tensor("b", TensorType(DType.I32, (1,)), np.zeros(1, np.int32))
    assert not conv(w).same(conv(w, b=bias))


def test_constants_are_read_only() -> None:
    with pytest.raises(ValueError, match="read-only"):
        constant("w", 3).const[0] = 5


def test_stages() -> None:
    graph = diamond()
    assert stage_of(graph) is Stage.QUANTIZED and verify(graph, Stage.QUANTIZED) is graph
    integer = legalize(graph)
    assert stage_of(integer) is Stage.INTEGER and verify(integer, Stage.INTEGER) is integer
    assert integer.inputs[0].type.scale == 0.5  # for the user
    assert integer.ops[0].out.type.quant == QParams((), 0)


def test_schema_says_what_the_fields_are() -> None:
    schema = Conv2D.schema()
    assert schema.operands[:3] == (("x", "one"), ("w", "one"), ("b", "optional"))
    assert {"stride", "dilation", "padding", "activation", "clamp"} <= {
        a.name for a in schema.attributes
    }


def test_costs() -> None:
    conv = Conv2D(x=t("x", 2, 5, 5, 3), w=constant("w", 4, 3, 3, 3), out=t("y", 2, 3, 3, 4))
    assert conv.cost() == Cost(macs=2 * 3 * 3 * 4 * 27)
    assert diamond().ops[3].cost() == Cost(elementwise=6)


def test_names_of_ops_are_taken_once() -> None:
    with pytest.raises(ValueError, match="'conv2d' is empty or taken"):
        register(Conv2D)
    assert list(registry()) == sorted(registry())
