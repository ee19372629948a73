"""Golden against LiteRT's reference kernels: equal bit for bit, on real models and random ops.

Set QGEN_FULL=1 to run ten times as many inputs and configurations.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest

from qgen.frontend.tflite import load, loads, tensor_names
from qgen.ir import interp
from qgen.ir.graph import Graph
from qgen.ir.types import Array, Tensor
from qgen.passes.legalize import legalize
from qgen.verify.oracle import litert_reference, litert_reference_tensors
from tests.oracle.single_op import RANDOM_OPS, random_inputs

MODELS = Path(__file__).parents[1] / ".." / "shared" / "models"
NAMES = [
    "mobilenet_v1_0.25_128_quant",
    "mobilenet_v1_0.5_160_quant",
    "mobilenet_v2_1.0_224_quant",
    "vww_96_int8",
    "kws_ref_model",
    "pretrainedResnet_quant",
    "ad01_int8",
    "hello_world_int8",
]
SCALE = 10 if os.environ.get("QGEN_FULL") == "1" else 1
RANDOM_INPUTS = 14 * SCALE
CONFIGURATIONS = 200 * SCALE


@cache
def imported(name: str) -> tuple[Path, Graph]:
    path = MODELS / f"{name}.tflite"
    if not path.exists():
        pytest.skip("the shared models are not there")
    return path, legalize(load(path))


def model_inputs(t: Tensor) -> list[Array]:
    """Random, extreme, constant, gradient and noisy-gradient values of an input."""
    low, high, kind = t.dtype.min, t.dtype.max, t.dtype.numpy
    rng = np.random.default_rng(7)
    values = [rng.integers(low, high + 1, t.shape) for _ in range(RANDOM_INPUTS)]
    values += [np.full(t.shape, v) for v in (low, high, t.zero)]
    ramp = np.linspace(low, high, t.type.elements).reshape(t.shape)
    values += [ramp, ramp[:, ::-1], np.clip(ramp + rng.normal(0, 20, t.shape), low, high)]
    # Two levels: the largest contrasts a network can see.
    values.append(rng.choice([low, high], t.shape))
    return [v.astype(kind) for v in values]


@pytest.mark.parametrize("name", NAMES)
def test_model(name: str) -> None:
    path, graph = imported(name)
    inputs = [[x] for x in model_inputs(graph.inputs[0])]
    assert len(inputs) >= 20
    for x, expected in zip(inputs, litert_reference(path, inputs), strict=True):
        for mine, theirs in zip(interp.run(graph, x), expected, strict=True):
            np.testing.assert_array_equal(mine, theirs)
            assert mine.dtype == theirs.dtype


@pytest.mark.parametrize("name", ["mobilenet_v2_1.0_224_quant", "pretrainedResnet_quant"])
def test_every_intermediate_tensor(name: str) -> None:
    path, graph = imported(name)
    inputs = [[model_inputs(graph.inputs[0])[0]]]
    (expected,) = litert_reference_tensors(path, inputs)
    names = tensor_names(path.read_bytes())
    mine = interp.run_all(graph, inputs[0])
    compared = [n for n in expected if names.get(n) in mine]
    assert len(compared) == len(graph.ops)
    for n in compared:
        np.testing.assert_array_equal(mine[names[n]], expected[n], err_msg=n)


@pytest.mark.parametrize("op", RANDOM_OPS)
def test_op(op: str) -> None:
    for i in range(CONFIGURATIONS):
        seed = [crc32(op.encode()), i]
        model = RANDOM_OPS[op](np.random.default_rng(seed))
        graph = legalize(loads(model, "single.tflite"))
        inputs = random_inputs(model, np.random.default_rng(seed), 3)
        for x, expected in zip(inputs, litert_reference(model, inputs), strict=True):
            (mine,) = interp.run(graph, x)
            np.testing.assert_array_equal(mine, expected[0], err_msg=f"{op}, seed {seed}")
            assert mine.dtype == expected[0].dtype
