"""Models for the tests of the TFLite front end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from tests.oracle.builder import Tensor, build, constant

MODELS = Path(__file__).parents[2] / ".." / "shared" / "models"


def real_model(name: str) -> Path:
    path = MODELS / f"{name}.tflite"
    if not path.exists():
        pytest.skip("the shared models are not there")
    return path


def edited(model: bytes, edit: Callable[[Any], None]) -> bytes:
    """`model` after `edit` has changed its object tree."""
    tree = schema.ModelT.InitFromPackedBuf(model, 0)
    edit(tree)
    builder = flatbuffers.Builder(1024)
    builder.Finish(tree.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def conv_model() -> bytes:
    """u8 [1, 5, 5, 2] -> conv 3x3 stride (2, 1), SAME, relu6 -> u8 [1, 3, 5, 4]."""
    options = schema.Conv2DOptionsT()
    options.padding = schema.Padding.SAME
    options.strideH, options.strideW = 2, 1
    options.fusedActivationFunction = schema.ActivationFunctionType.RELU6
    weights = np.arange(4 * 9 * 2, dtype=np.uint8).reshape(4, 3, 3, 2)
    return build(
        "CONV_2D",
        options,
        [
            Tensor((1, 5, 5, 2), "u1", (0.5,), 3),
            constant(weights, (0.25,), 30),
            constant(np.arange(4, dtype=np.int32), (0.125,)),
        ],
        [Tensor((1, 3, 5, 4), "u1", (2.0,), 7)],
    )
