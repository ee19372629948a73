"""The TFLite front end on bad input: one clear line each, whatever the file holds."""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from qgen.errors import QgenError
from qgen.frontend.tflite import loads
from qgen.passes.legalize import legalize
from tests.frontend.tflite_models import conv_model, edited, real_model
from tests.oracle.builder import Tensor, build, constant


def message(model: bytes) -> str:
    with pytest.raises(QgenError) as caught:
        loads(model, "m.tflite")
    text = str(caught.value)
    assert text.startswith("m.tflite: ") and "\n" not in text
    return text


def set_tensor(index: int, **fields: Any) -> Callable[[Any], None]:
    return lambda tree: vars(tree.subgraphs[0].tensors[index]).update(fields)


def set_quant(index: int, **fields: Any) -> Callable[[Any], None]:
    return lambda tree: vars(tree.subgraphs[0].tensors[index].quantization).update(fields)


def set_options(**fields: Any) -> Callable[[Any], None]:
    return lambda tree: vars(tree.subgraphs[0].operators[0].builtinOptions).update(fields)


def set_op(**fields: Any) -> Callable[[Any], None]:
    return lambda tree: vars(tree.subgraphs[0].operators[0]).update(fields)


def set_code(number: int, custom: str | None = None) -> Callable[[Any], None]:
    def edit(tree: Any) -> None:
        code = tree.operatorCodes[0]
        code.builtinCode, code.deprecatedBuiltinCode = number, min(number, 127)
        code.customCode = custom

    return edit


def signatures(tree: Any) -> None:
    tree.signatureDefs = [schema.SignatureDefT(), schema.SignatureDefT()]


def sparse(tree: Any) -> None:
    tree.subgraphs[0].tensors[1].sparsity = schema.SparsityParametersT()


def external(tree: Any) -> None:
    tree.buffers[1].offset = 4096


def custom_quantization(tree: Any) -> None:
    quant = tree.subgraphs[0].tensors[0].quantization
    quant.detailsType = schema.QuantizationDetails.CustomQuantization
    quant.details = schema.CustomQuantizationT()


TYPE = schema.TensorType
BAD = {
    "float": (set_tensor(0, type=TYPE.FLOAT32), "the model is float: its input 'input0' is float3"),
    "float output": (set_tensor(3, type=TYPE.FLOAT16), "the model is float: its output 'output0'"),
    "float weights": (set_tensor(1, type=TYPE.FLOAT32), "tensor 1 'input1': the tensor is float32"),
    "int16": (set_tensor(0, type=TYPE.INT16), "tensor 0 'input0': type int16 is not supported"),
    "dynamic": (set_tensor(0, shapeSignature=[-1, -1, 5, 2]), r"shape \[-1, -1, 5, 2\] is dynamic"),
    "negative": (set_tensor(0, shape=[1, -1, 5, 2]), r"shape \[1, -1, 5, 2\] is dynamic"),
    "zero size": (set_tensor(0, shape=[1, 0, 5, 2]), "has a dimension that is not positive"),
    "wrong shape": (set_tensor(3, shape=[1, 3, 5, 5]), r"yields \[1, 3, 5, 4\], but its type says"),
    "rank": (set_tensor(0, shape=[1] * 9), "tensor 0 has 9 dimensions"),
    "zero scale": (set_quant(0, scale=[0.0]), "tensor 0 'input0': scale 0.0 is not a positive num"),
    "odd name": (
        lambda tree: (set_tensor(0, name="a\nb" * 99)(tree), set_quant(0, scale=[0.0])(tree)),
        r"tensor 0 'a\?ba\?ba.{70}\.\.\.': scale 0.0",
    ),
    "NaN scale": (set_quant(3, scale=[float("nan")]), "scale nan is not a positive number"),
    "no scale": (
        set_tensor(0, quantization=None),
        "tensor 0 'input0': the tensor has no scale .quantize it",
    ),
    "zero point": (set_quant(0, zeroPoint=[256]), r"zero point 256 is outside u8 \[0, 255\]"),
    "zero points": (
        set_quant(1, scale=[0.1] * 4, zeroPoint=[1, 2, 3, 4]),
        "zero points that differ between channels are not supported",
    ),
    "channels": (set_quant(1, scale=[0.1] * 3, zeroPoint=[1] * 3), "3 scales for 4 slices along"),
    "bias scale": (set_quant(2, scale=[0.5]), "bias scale 0.5 is not input scale times weight sca"),
    "short constant": (set_tensor(1, shape=[4, 3, 3, 3]), "the constant has 72 bytes, its shape"),
    "variable": (set_tensor(0, isVariable=True), "state kept between runs is not supported"),
    "sparse": (sparse, "tensor 1 'input1': sparse storage is not supported"),
    "external": (external, "buffer 1 lies outside the flatbuffer"),
    "custom quantization": (custom_quantization, "a custom quantization is not supported"),
    "unsupported": (set_code(111), r"op 0 ELU: operator ELU is not supported \(supported: ADD, A"),
    "custom": (set_code(32, "Peaks"), "operator CUSTOM Peaks is not supported"),
    "unknown": (set_code(9999), "op 0 operator 9999: operator operator 9999 is not supported"),
    "no options": (set_op(builtinOptions=None, builtinOptionsType=0), "CONV_2D has no Conv2DOptio"),
    "activation": (
        set_options(fusedActivationFunction=schema.ActivationFunctionType.TANH),
        "op 0 CONV_2D: fused activation 4 of the schema is not supported",
    ),
    "stride": (set_options(strideH=0), "kernel, stride and dilation must be at least 1"),
    "no operand": (set_op(inputs=[0]), "op 0 CONV_2D: operand 1 is missing"),
    "no such tensor": (set_op(inputs=[0, 1, 99]), "there is no tensor 99"),
    "no such code": (set_op(opcodeIndex=7), "op 0 has no operator code"),
    "no such buffer": (set_tensor(0, buffer=77), "there is no buffer 77"),
    "two outputs": (set_op(outputs=[3, 0]), "expected one output, got 2"),
    "signatures": (signatures, "the model has 2 signatures, qgen takes one"),
    "no subgraph": (lambda tree: tree.subgraphs.clear(), "there is no subgraph 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_model(case: str) -> None:
    edit, pattern = BAD[case]
    with pytest.raises(QgenError, match=pattern):
        loads_and_legalizes(edited(conv_model(), edit))


def loads_and_legalizes(model: bytes) -> None:
    legalize(loads(model, "m.tflite"))


def axes_model(op: str, options: Any, argument: np.ndarray, *more: Tensor) -> bytes:
    source = Tensor((2, 3), "u1", (0.5,), 0)
    return build(op, options, [source, constant(argument), *more], [Tensor((2, 3), "u1", (0.5,))])


def test_bad_arguments_of_ops() -> None:
    mean, pad = schema.ReducerOptionsT(), schema.PadOptionsT()
    wrong_axis = np.array([5], np.int32)
    assert "axes [5] do not exist in [2, 3]" in message(axes_model("MEAN", mean, wrong_axis))
    resize = schema.ResizeBilinearOptionsT()
    assert "size [4, 4] is not that of the result, [2, 3]" in message(
        axes_model("RESIZE_BILINEAR", resize, np.array([4, 4], np.int32))
    )
    part, start = schema.SliceOptionsT(), np.zeros(2, np.int32)
    assert "size [1, 3] is not that of the result, [2, 3]" in message(
        axes_model("SLICE", part, start, constant(np.array([1, 3], np.int32)))
    )
    assert "begin [0, 0] and size [2] do not fit [2, 3]" in message(
        axes_model("SLICE", part, start, constant(np.array([2], np.int32)))
    )
    flat = np.zeros(4, np.int32)
    assert "paddings must be [rank, 2], got [4]" in message(axes_model("PAD", pad, flat))
    zeros, value = np.zeros((2, 2), np.int32), constant(np.zeros(1, np.uint8), (0.75,))
    assert "padding value must be one value quantized like the output" in message(
        axes_model("PADV2", schema.PadV2OptionsT(), zeros, value)
    )
    assert "must be int32 or int64, it is uint8" in message(
        axes_model("PAD", pad, np.zeros((2, 2), np.uint8))
    )
    computed = Tensor((2, 2), "i4", (1.0,))
    unknown = build("PAD", pad, [Tensor((2, 3), "u1", (0.5,)), computed], [Tensor((2, 3), "u1")])
    assert "'input1' must be a constant" in message(unknown)
    concat = schema.ConcatenationOptionsT()
    concat.fusedActivationFunction = schema.ActivationFunctionType.RELU
    source = Tensor((2, 3), "u1", (0.5,))
    assert "a fused activation of CONCATENATION" in message(
        build("CONCATENATION", concat, [source], [source])
    )
    concat.fusedActivationFunction = 0
    assert "'input0' needs one scale" in message(
        build("CONCATENATION", concat, [Tensor((2, 3), "u1", (0.5, 0.25))], [source])
    )
    full = schema.FullyConnectedOptionsT()
    full.weightsFormat = 1
    weights = constant(np.zeros((4, 3), np.uint8), (1.0,))
    assert "shuffled weights are not supported" in message(
        build("FULLY_CONNECTED", full, [source, weights], [Tensor((2, 4), "u1", (1.0,))])
    )


def test_not_a_model() -> None:
    for data in (b"", b"TFL3", b"PK\x03\x04 something zipped", b"\x00" * 100):
        assert message(data) == "m.tflite: not a TFLite model: the identifier TFL3 is missing"
    assert "the file is truncated or corrupted" in message(b"\x10\x00\x00\x00TFL3")


def test_huge_lists_are_refused_at_once() -> None:
    model = conv_model()
    root = struct.unpack_from("<I", model)[0]
    table = root - struct.unpack_from("<i", model, root)[0]
    # Every field of the root table in turn gets a length in the millions.
    for field in range(struct.unpack_from("<H", model, table)[0] // 2 - 2):
        offset = struct.unpack_from("<H", model, table + 4 + 2 * field)[0]
        if field in (1, 2, 4):  # operator codes, subgraphs, buffers
            position = root + offset
            vector = position + struct.unpack_from("<I", model, position)[0]
            broken = bytearray(model)
            struct.pack_into("<I", broken, vector, 5_000_000)
            assert "5000000" in message(bytes(broken)) and "do not fit the file" in message(
                bytes(broken)
            )


def survives(data: bytes) -> bool:
    """Whether `data` imports; anything but success and QgenError fails the test."""
    try:
        loads_and_legalizes(data)
    except QgenError as e:
        assert "\n" not in str(e)
        return False
    return True


def test_truncated_files() -> None:
    model = real_model("kws_ref_model").read_bytes()
    # The last bytes of a file may be mere padding.
    cuts = np.linspace(0, len(model) - 16, 50).astype(int)
    assert not any(survives(model[:n]) for n in cuts)


@pytest.mark.parametrize("name", ["kws_ref_model", "hello_world_int8"])
def test_flipped_bits(name: str) -> None:
    model = real_model(name).read_bytes()
    rng = np.random.default_rng(5)
    outcomes = set()
    for i in range(200):
        broken = bytearray(model)
        # Half of the flips anywhere, half at the end of the file, where the tables are.
        low = 0 if i % 2 else len(model) * 9 // 10
        for position in rng.integers(low, len(model), 3):
            broken[position] ^= 1 << int(rng.integers(8))
        outcomes.add(survives(bytes(broken)))
    assert outcomes == {True, False}


def test_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tflite", None)
    with pytest.raises(QgenError, match=r"needs the package tflite \(pip install qgen\[tflite\]\)"):
        loads(conv_model(), "m.tflite")
