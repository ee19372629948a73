"""The TFLite front end on good input: real models, names, attributes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from qgen.frontend.tables import Tables
from qgen.frontend.tflite import SUPPORTED, load, loads, tensor_names
from qgen.frontend.tflite.names import model_name, short_names
from qgen.ir import interp
from qgen.ir.graph import C_KEYWORDS
from qgen.ir.op import registry
from qgen.ir.ops.concat import Concat
from qgen.ir.ops.lookup import Lookup
from qgen.ir.sigmoid import Method
from qgen.ir.types import Activation, Padding, Rounding
from qgen.passes.legalize import legalize
from tests.frontend.tflite_models import conv_model, edited, real_model
from tests.oracle.builder import Tensor, build, constant
from tests.oracle.single_op import RANDOM_OPS


def test_conv_is_read_field_by_field() -> None:
    graph = loads(conv_model(), "some/dir/my-net 2.tflite")
    (op,) = graph.ops
    assert graph.name == "my_net_2" and graph.rounding is Rounding.GEMMLOWP
    assert str(op.loc) == "some/dir/my-net 2.tflite: op 0 CONV_2D"
    assert (op.NAME, op.stride, op.dilation) == ("conv2d", (2, 1), (1, 1))
    assert (op.padding, op.activation) == (Padding.SAME, Activation.RELU6)
    assert op.x.type.quant.scale == (0.5,) and op.x.zero == 3 and op.out.zero == 7
    np.testing.assert_array_equal(op.w.data.ravel(), np.arange(72))
    np.testing.assert_array_equal(op.b.data, np.arange(4))
    assert op.b.type.quant is None


def test_per_channel_weights() -> None:
    graph = load(real_model("vww_96_int8"))
    depthwise = next(op for op in graph.ops if op.NAME == "depthwise_conv2d")
    assert depthwise.w.type.quant.axis == 3
    assert len(depthwise.w.type.quant.scale) == depthwise.channels


def test_names_are_short_unique_and_mapped() -> None:
    path = real_model("mobilenet_v1_0.25_128_quant")
    names = tensor_names(path.read_bytes())
    first = next(n for n in names if n.startswith("MobilenetV1/MobilenetV1/Conv2d_0/Relu6;"))
    assert names[first] == "Conv2d_0_Relu6"
    assert names["MobilenetV1/Predictions/Reshape_1"] == "Reshape_1"
    assert len(set(names.values())) == len(names)
    graph = load(path)
    assert graph.name == "mobilenet_v1_0_25_128_quant"
    assert {t.name for t in graph.tensors()} <= set(names.values())


def test_names_of_awkward_tensors() -> None:
    awkward = ["a/int", "a/", "a/7x", "", "b/same", "b/same", "c/same;d", "ü/ö", "x" * 99, "NULL"]
    short = short_names(awkward, [False] * 10)
    assert short == short_names(awkward, [False] * 10)
    assert short[0] == "int_" and short[2] == "t_7x" and short[6] == "c_same"
    assert short[9] == "NULL_"
    assert len(set(short)) == 10 and not C_KEYWORDS & set(short)
    assert all(s.isidentifier() and s.isascii() and len(s) < 60 for s in short)
    # A computed tensor keeps the plain name whatever its weights are called.
    assert short_names(["a/Relu", "a/Relu"], [True, False]) == ["Relu_2", "Relu"]


def test_name_of_the_model() -> None:
    names = {stem: model_name(stem) for stem in ("kws-8.1", "9", "int", "stdint", "x" * 200)}
    assert list(names.values()) == ["kws_8_1", "model_9", "int_", "stdint_", "x" * 100]


def test_repeated_names_are_mapped_by_index() -> None:
    def rename(tree: Any) -> None:
        for t in tree.subgraphs[0].tensors:
            t.name = "same"

    names = tensor_names(edited(conv_model(), rename))
    assert list(names) == ["same", "same#1", "same#2", "same#3"]
    assert len(set(names.values())) == 4


def test_shared_weights_are_one_tensor() -> None:
    graph = load(real_model("mobilenet_v2_1.0_224_quant"))
    assert len({id(t) for t in graph.tensors()}) == len({t.name for t in graph.tensors()})

    def twice(tree: Any) -> None:
        g = tree.subgraphs[0]
        first, second = g.operators[0], schema.OperatorT()
        second.opcodeIndex, second.builtinOptions = 0, first.builtinOptions
        second.builtinOptionsType = first.builtinOptionsType
        second.inputs, second.outputs = first.inputs, [len(g.tensors)]
        copy = schema.TensorT()
        vars(copy).update(vars(g.tensors[first.outputs[0]]), name="other")
        g.tensors.append(copy)
        g.operators.append(second)

    a, b = loads(edited(conv_model(), twice), "m.tflite").ops
    assert a.w is b.w and a.b is b.b and a.out is not b.out


def test_concat_of_other_parameters_goes_through_a_table() -> None:
    target = Tensor((1, 2), "u1", (0.5,), 10)
    data = np.array([[0, 200]], np.uint8)
    options = schema.ConcatenationOptionsT()
    options.axis = -1
    sources = [target, Tensor((1, 2), "u1", (1.0,), 20), constant(data, (0.25,), 0)]
    model = build("CONCATENATION", options, sources, [Tensor((1, 6), "u1", (0.5,), 10)])
    graph = loads(model, "m.tflite")
    lookup, concat = graph.ops
    assert isinstance(lookup, Lookup) and isinstance(concat, Concat) and concat.axis == 1
    x = [np.array([[1, 2]], np.uint8), np.array([[20, 255]], np.uint8)]
    (y,) = interp.run(legalize(graph), x)
    assert y.tolist() == [[1, 2, 10, 255, 10, 110]]


@pytest.mark.parametrize("op", ["LOGISTIC", "TANH"])
def test_tables(op: str) -> None:
    scale, zero = (1 / 256, 0) if op == "LOGISTIC" else (1 / 128, 128)
    source, result = Tensor((4,), "u1", (0.1,), 9), Tensor((4,), "u1", (scale,), zero)
    model = build(op, None, [source], [result])
    methods = [loads(model, "m", tables=t).ops[0].method for t in Tables]
    assert methods == [Method.FIXED_POINT, Method.TABLE, Method.FIXED_POINT]
    # Fixed point has no other scale of the result than its own.
    other = build(op, None, [source], [Tensor((4,), "u1", (0.02,), zero)])
    assert {loads(other, "m", tables=t).ops[0].method for t in Tables} == {Method.TABLE}


def test_table_where_fixed_point_is_a_step_off() -> None:
    # So coarse that fixed point, of 4 integer bits, saturates from |x| = 3 on, that is 6.0.
    source = Tensor((4,), "i1", (2.0,), 0)
    model = build("LOGISTIC", None, [source], [Tensor((4,), "i1", (1 / 256,), -128)])
    methods = [loads(model, "m", tables=t).ops[0].method for t in Tables]
    assert methods == [Method.TABLE, Method.TABLE, Method.FIXED_POINT]


def test_supported_names_ops_of_the_ir() -> None:
    ops = registry()
    assert {name for made in SUPPORTED.values() for name in made.split(", ")} <= set(ops)
    assert {name.upper() for name in RANDOM_OPS} <= set(SUPPORTED)
