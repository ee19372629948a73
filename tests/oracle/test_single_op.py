"""The random models are valid and tell something; the oracle runs them and names its errors."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from qgen.errors import QgenError
from qgen.verify.oracle import litert_reference, litert_reference_tensors
from tests.oracle.builder import Tensor, build
from tests.oracle.single_op import RANDOM_OPS, random_inputs


@pytest.mark.parametrize("op", RANDOM_OPS)
@pytest.mark.parametrize("seed", range(5))
def test_random_model_runs(op: str, seed: int) -> None:
    model = RANDOM_OPS[op](np.random.default_rng(seed))
    assert model == RANDOM_OPS[op](np.random.default_rng(seed))
    inputs = random_inputs(model, np.random.default_rng(seed), 24)
    outputs = litert_reference(model, inputs)
    assert len(outputs) == len(inputs) == 26
    assert len(np.unique([row[0] for row in outputs])) > 3


def relu_model() -> bytes:
    tensor = Tensor((2, 3), "u1", (0.5,), 10)
    return build("RELU", None, [tensor], [tensor])


def test_reference_computes_relu(tmp_path: Path) -> None:
    path = tmp_path / "relu.tflite"
    path.write_bytes(relu_model())
    x = np.array([[0, 9, 10], [11, 200, 255]], np.uint8)
    ((y,),) = litert_reference(path, [[x]])
    np.testing.assert_array_equal(y, np.maximum(x, 10))


def test_reference_tensors_by_name() -> None:
    x = np.full((2, 3), 7, np.uint8)
    (tensors,) = litert_reference_tensors(relu_model(), [[x]])
    np.testing.assert_array_equal(tensors["input0"], x)
    np.testing.assert_array_equal(tensors["output0"], np.full((2, 3), 10, np.uint8))


def test_oracle_is_quiet(capfd: pytest.CaptureFixture[str]) -> None:
    litert_reference(relu_model(), [[np.zeros((2, 3), np.uint8)]])
    assert capfd.readouterr() == ("", "")


def test_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.zeros((2, 3), np.uint8)
    with pytest.raises(QgenError, match="model has 1 inputs, got 2"):
        litert_reference(relu_model(), [[x, x]])
    with pytest.raises(QgenError, match=r"input 'input0' is uint8\[2, 3\], got uint8\[3, 2\]"):
        litert_reference(relu_model(), [[x.T]])
    with pytest.raises(QgenError, match="LiteRT cannot load this model"):
        litert_reference(b"not a flatbuffer", [])
    with pytest.raises(QgenError, match="cannot read model: No such file"):
        litert_reference(tmp_path / "missing.tflite", [])
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    with pytest.raises(QgenError, match=r"needs the package.*qgen\[oracle\]"):
        litert_reference(relu_model(), [[x]])
