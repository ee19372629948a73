"""Write .tflite models of one quantized operator in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

Array = npt.NDArray[Any]

TYPES = {
    "u1": schema.TensorType.UINT8,
    "i1": schema.TensorType.INT8,
    "i4": schema.TensorType.INT32,
    "f4": schema.TensorType.FLOAT32,
}


@dataclass(frozen=True)
class Tensor:
    """A tensor of the model; `data` makes it a constant.

    Args:
        dtype: numpy code, a key of `TYPES`.
        scale: none, one, or one per slice along `axis`.
    """

    shape: tuple[int, ...]
    dtype: str
    scale: tuple[float, ...] = ()
    zero: int = 0
    axis: int = 0
    data: Array | None = None


def constant(data: Array, scale: Sequence[float] = (), zero: int = 0, axis: int = 0) -> Tensor:
    code = f"{data.dtype.kind}{data.dtype.itemsize}"
    return Tensor(data.shape, code, tuple(scale), zero, axis, data)


def build(
    op: str, options: Any, inputs: Sequence[Tensor | None], outputs: Sequence[Tensor]
) -> bytes:
    """A model of one operator; its inputs are the operator's non-constant inputs.

    Args:
        op: name in the schema's BuiltinOperator.
        options: an object of the schema, e.g. ``Conv2DOptionsT()``, or None.
        inputs: None stands for an omitted optional input.
    """
    model = schema.ModelT()
    model.version = 3
    model.description = op.lower()
    # Buffer 0 is empty by convention.
    model.buffers = [schema.BufferT()]
    graph = schema.SubGraphT()
    graph.name = "main"
    graph.tensors = []

    def add(tensor: Tensor, name: str) -> int:
        made = schema.TensorT()
        made.name = name
        made.shape = list(tensor.shape)
        made.hasRank = True
        made.type = TYPES[tensor.dtype]
        if tensor.scale:
            made.quantization = schema.QuantizationParametersT()
            made.quantization.scale = [float(s) for s in tensor.scale]
            made.quantization.zeroPoint = [int(tensor.zero)] * len(tensor.scale)
            made.quantization.quantizedDimension = tensor.axis
        if tensor.data is not None:
            buffer = schema.BufferT()
            little = tensor.data.astype(np.dtype(f"<{tensor.dtype}"), copy=False)
            buffer.data = np.frombuffer(little.tobytes(), np.uint8)
            made.buffer = len(model.buffers)
            model.buffers.append(buffer)
        graph.tensors.append(made)
        return len(graph.tensors) - 1

    operator = schema.OperatorT()
    operator.inputs = [
        -1 if tensor is None else add(tensor, f"input{i}") for i, tensor in enumerate(inputs)
    ]
    operator.outputs = [add(tensor, f"output{i}") for i, tensor in enumerate(outputs)]
    if options is not None:
        operator.builtinOptionsType = getattr(
            schema.BuiltinOptions, type(options).__name__.removesuffix("T")
        )
        operator.builtinOptions = options
    graph.inputs = [
        index
        for index, tensor in zip(operator.inputs, inputs, strict=True)
        if tensor is not None and tensor.data is None
    ]
    graph.outputs = list(operator.outputs)
    graph.operators = [operator]
    model.subgraphs = [graph]
    code = schema.OperatorCodeT()
    code.builtinCode = getattr(schema.BuiltinOperator, op)
    code.deprecatedBuiltinCode = min(code.builtinCode, 127)
    code.version = 1
    model.operatorCodes = [code]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def random_inputs(model: bytes, rng: np.random.Generator, count: int) -> list[list[Array]]:
    """`count` lists of uniformly random inputs, then one all-minimum and one all-maximum list."""
    unpacked = schema.ModelT.InitFromPackedBuf(model, 0)
    graph = unpacked.subgraphs[0]
    codes = {value: np.dtype(code) for code, value in TYPES.items()}
    # The reader gives None or 0 for the empty shape of a scalar.
    tensors = [graph.tensors[i] for i in graph.inputs]
    shapes = [() if np.ndim(t.shape) == 0 else tuple(map(int, t.shape)) for t in tensors]
    infos = [np.iinfo(codes[t.type]) for t in tensors]
    signature = list(zip(shapes, infos, strict=True))
    lists = [
        [rng.integers(i.min, i.max, shape, i.dtype, endpoint=True) for shape, i in signature]
        for _ in range(count)
    ]
    lists.append([np.full(shape, i.min, i.dtype) for shape, i in signature])
    lists.append([np.full(shape, i.max, i.dtype) for shape, i in signature])
    # rng.integers returns a bare scalar for an empty shape.
    return [
        [np.asarray(a, i.dtype) for a, (_, i) in zip(row, signature, strict=True)] for row in lists
    ]
