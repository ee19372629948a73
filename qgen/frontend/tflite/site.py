"""From records of the file to tensors of the IR, and what an operator's importer gets to see."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from qgen.errors import Loc, QgenError
from qgen.frontend.tables import Tables
from qgen.frontend.tflite.flatbuffer import RawModel, RawOp, RawTensor
from qgen.ir.types import Activation, Array, DType, Padding, QParams, Tensor, TensorType, located

T = TypeVar("T")

DTYPES = {"UINT8": DType.U8, "INT8": DType.I8, "INT32": DType.I32}
FLOATS = ("FLOAT32", "FLOAT16", "FLOAT64", "BFLOAT16")
NUMPY_INDICES = {"INT32": "<i4", "INT64": "<i8"}
QUANTIZE_HINT = "quantize it fully with the TFLite converter, inputs and outputs to int8 or uint8"

# In the order of the schema's enums ActivationFunctionType and Padding.
ACTIVATIONS = (Activation.NONE, Activation.RELU, Activation.RELU_N1_TO_1, Activation.RELU6)
PADDINGS = (Padding.SAME, Padding.VALID)


@dataclass
class Tensors:
    """Tensors of the IR by index in the file, each made once, when it is first asked for."""

    raw: RawModel
    names: Sequence[str]
    file: str
    made: dict[int, Tensor] = field(default_factory=dict)

    def __call__(self, index: int) -> Tensor:
        if index not in self.made:
            raw = self.raw.tensors[index]
            self.made[index] = located(raw.loc(self.file), self._make, raw)
        return self.made[index]

    def _make(self, raw: RawTensor) -> Tensor:
        if raw.type_name in FLOATS:
            raise QgenError(f"the tensor is {raw.type_name.lower()}", hint=QUANTIZE_HINT)
        if raw.type_name not in DTYPES:
            known = ", ".join(DTYPES).lower()
            raise QgenError(f"type {raw.type_name.lower()} is not supported", hint=f"use {known}")
        if raw.oddity:
            raise QgenError(f"{raw.oddity} is not supported")
        # A free batch size is fixed at the value the file has for it, as TFLite does.
        if any(d < 0 for d in (*raw.shape, *raw.signature[1:])):
            shape = list(raw.signature or raw.shape)
            raise QgenError(
                f"the shape {shape} is dynamic", hint="convert the model with fixed input shapes"
            )
        if raw.data is None and not raw.scale:
            raise QgenError("the tensor has no scale", hint=QUANTIZE_HINT)
        dtype = DTYPES[raw.type_name]
        type = TensorType(dtype, raw.shape, _quant(raw))
        data = None if raw.data is None else _values(raw, dtype.numpy, type.elements)
        return Tensor(self.names[raw.index], type, data, raw.loc(self.file))


@dataclass(frozen=True)
class Site:
    """One operator of the file, with what its importer needs to build ops of the IR."""

    op: RawOp
    tensors: Tensors
    tables: Tables

    @property
    def loc(self) -> Loc:
        return self.op.loc(self.tensors.file)

    @property
    def out(self) -> Tensor:
        if len(self.op.outputs) != 1:
            raise QgenError(f"expected one output, got {len(self.op.outputs)}")
        return self.tensors(self.op.outputs[0])

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        return tuple(self.input(i) for i in range(len(self.op.inputs)))

    def input(self, position: int) -> Tensor:
        return self.tensors(self._index(position))

    def optional(self, position: int) -> Tensor | None:
        absent = position >= len(self.op.inputs) or self.op.inputs[position] < 0
        return None if absent else self.input(position)

    def integers(self, position: int) -> Array:
        """The value of a constant that is an argument, such as axes or paddings."""
        raw = self.tensors.raw.tensors[self._index(position)]
        if raw.data is None:
            raise QgenError(f"'{raw.label}' must be a constant", raw.loc(self.tensors.file))
        if raw.type_name not in NUMPY_INDICES:
            raise QgenError(f"'{raw.label}' must be int32 or int64, it is {raw.type_name.lower()}")
        elements = int(np.prod(raw.shape, dtype=np.float64))
        build: Callable[..., Array] = _values
        kind = np.dtype(NUMPY_INDICES[raw.type_name])
        return located(raw.loc(self.tensors.file), build, raw, kind, elements)

    def option(self, field: str) -> Any:
        return self.op.options[field]

    def pair(self, height: str, width: str) -> tuple[int, int]:
        return (self.option(height), self.option(width))

    @property
    def activation(self) -> Activation:
        return _choose(ACTIVATIONS, self.option("FusedActivationFunction"), "fused activation")

    @property
    def padding(self) -> Padding:
        return _choose(PADDINGS, self.option("Padding"), "padding")

    def _index(self, position: int) -> int:
        if position >= len(self.op.inputs) or self.op.inputs[position] < 0:
            raise QgenError(f"operand {position} is missing")
        return self.op.inputs[position]


def _choose(values: Sequence[T], index: int, what: str) -> T:
    if not 0 <= index < len(values):
        raise QgenError(f"{what} {index} of the schema is not supported")
    return values[index]


def _quant(raw: RawTensor) -> QParams | None:
    # A bias has S = S_x * S_w and Z = 0 by eq. (11); `_check_bias_scale` looks at what is stored.
    if not raw.scale or raw.type_name == "INT32":
        return None
    zeros = set(raw.zero) or {0}
    if len(zeros) > 1:
        raise QgenError("zero points that differ between channels are not supported")
    axis = raw.axis if len(raw.scale) > 1 else None
    return QParams(raw.scale, zeros.pop(), axis)


def _values(raw: RawTensor, kind: np.dtype[Any], elements: int) -> Array:
    assert raw.data is not None
    if raw.data.nbytes != elements * kind.itemsize:
        raise QgenError(
            f"the constant has {raw.data.nbytes} bytes, its shape {list(raw.shape)} needs "
            f"{elements * kind.itemsize}"
        )
    # The buffer may be unaligned in the file; a copy is aligned and does not hold the file.
    values: Array = np.frombuffer(raw.data, kind).reshape(raw.shape).copy()
    return values.astype(kind.newbyteorder("="), copy=False)
