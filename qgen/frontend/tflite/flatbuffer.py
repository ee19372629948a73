"""Read a .tflite file into plain records, trusting nothing in it.

The generated accessors of the `tflite` package follow whatever offsets they find. Here every list
is checked against the size of the file before it is walked, the numbers read are budgeted, and
any exception of the accessors means that the file is broken. What leaves this module is bounded by
the size of the file.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qgen.errors import Loc, QgenError

IDENTIFIER = b"TFL3"
MAX_RANK = 8
# No real network comes near; a damaged count is found before it costs time.
MAX_ITEMS = 1 << 16

# Options read per operator: flatbuffer table and its fields.
OPTIONS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "ADD": ("AddOptions", ("FusedActivationFunction",)),
    "SUB": ("SubOptions", ("FusedActivationFunction",)),
    "MUL": ("MulOptions", ("FusedActivationFunction",)),
    "AVERAGE_POOL_2D": (
        "Pool2DOptions",
        ("Padding", "StrideH", "StrideW", "FilterHeight", "FilterWidth", "FusedActivationFunction"),
    ),
    "CONCATENATION": ("ConcatenationOptions", ("Axis", "FusedActivationFunction")),
    "CONV_2D": (
        "Conv2DOptions",
        (
            "Padding",
            "StrideH",
            "StrideW",
            "DilationHFactor",
            "DilationWFactor",
            "FusedActivationFunction",
        ),
    ),
    "DEPTHWISE_CONV_2D": (
        "DepthwiseConv2DOptions",
        (
            "Padding",
            "StrideH",
            "StrideW",
            "DilationHFactor",
            "DilationWFactor",
            "FusedActivationFunction",
        ),
    ),
    "FULLY_CONNECTED": (
        "FullyConnectedOptions",
        ("FusedActivationFunction", "WeightsFormat", "KeepNumDims"),
    ),
    "MEAN": ("ReducerOptions", ("KeepDims",)),
    "RESIZE_BILINEAR": ("ResizeBilinearOptions", ("AlignCorners", "HalfPixelCenters")),
    "RESIZE_NEAREST_NEIGHBOR": (
        "ResizeNearestNeighborOptions",
        ("AlignCorners", "HalfPixelCenters"),
    ),
    "SOFTMAX": ("SoftmaxOptions", ("Beta",)),
}
OPTIONS = {**OPTIONS, "MAX_POOL_2D": OPTIONS["AVERAGE_POOL_2D"]}


@dataclass(frozen=True)
class RawTensor:
    """A tensor as the file has it; `data` is None for one that is computed or an input."""

    index: int
    name: str
    shape: tuple[int, ...]
    signature: tuple[int, ...]
    type_name: str
    scale: tuple[float, ...]
    zero: tuple[int, ...]
    axis: int
    data: memoryview | None
    oddity: str

    @property
    def label(self) -> str:
        """The name for a message: of a fused tensor the first part."""
        return _printable(self.name.split(";")[0])

    def loc(self, file: str) -> Loc:
        return Loc(file, item=f"tensor {self.index} '{self.label}'")


@dataclass(frozen=True)
class RawOp:
    """An operator; operands are tensor indices, -1 for one that is left out."""

    index: int
    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, Any]

    def loc(self, file: str) -> Loc:
        return Loc(file, item=f"op {self.index} {self.name}")


@dataclass(frozen=True)
class RawModel:
    """The one subgraph that runs."""

    tensors: tuple[RawTensor, ...]
    ops: tuple[RawOp, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def read_model(data: bytes, file: str) -> RawModel:
    """Parse `data`. Raises QgenError for anything but a well-formed TFLite model."""
    try:
        import tflite
    except ImportError as e:
        raise QgenError(
            "reading .tflite files needs the package tflite", hint="pip install qgen[tflite]"
        ) from e
    if data[4:8] != IDENTIFIER:
        raise QgenError("not a TFLite model: the identifier TFL3 is missing", Loc(file))
    try:
        return _Reader(tflite, data, file).model()
    except (
        AttributeError,
        IndexError,
        OverflowError,
        TypeError,
        ValueError,
        struct.error,
    ) as e:
        raise _broken(file, str(e)) from e


def _broken(file: str, detail: str) -> QgenError:
    reason = " ".join(detail.split())
    return QgenError(
        f"the file is truncated or corrupted: {reason}", Loc(file), hint="export it again"
    )


class _Reader:
    def __init__(self, tflite: Any, data: bytes, file: str) -> None:
        self.tflite, self.data, self.file = tflite, data, file
        self.type_names = _enum_names(tflite.TensorType)
        self.op_names = _enum_names(tflite.BuiltinOperator)
        # Lists that share storage are read more than once, hence the generous factor.
        self.budget = 8 * len(data) + 4096

    def model(self) -> RawModel:
        model = self.tflite.Model.GetRootAs(self.data, 0)
        subgraphs = self.tables(model, "Subgraphs")
        signatures = self.tables(model, "SignatureDefs")
        if len(signatures) > 1:
            raise QgenError(
                f"the model has {len(signatures)} signatures, qgen takes one",
                Loc(self.file),
                hint="export each one to a file of its own",
            )
        main = signatures[0].SubgraphIndex() if signatures else 0
        if main >= len(subgraphs):
            raise _broken(self.file, f"there is no subgraph {main}")
        graph = subgraphs[main]
        buffers = self.tables(model, "Buffers")
        codes = self.tables(model, "OperatorCodes")
        tensors = self.tables(graph, "Tensors")
        self.known = len(tensors)
        return RawModel(
            tuple(self.tensor(i, t, buffers) for i, t in enumerate(tensors)),
            tuple(self.op(i, o, codes) for i, o in enumerate(self.tables(graph, "Operators"))),
            self.indices(graph, "Inputs", 0),
            self.indices(graph, "Outputs", 0),
        )

    def tensor(self, index: int, t: Any, buffers: Sequence[Any]) -> RawTensor:
        shape, signature = self.numbers(t, "Shape"), self.numbers(t, "ShapeSignature")
        if max(len(shape), len(signature)) > MAX_RANK:
            raise _broken(self.file, f"tensor {index} has {len(shape)} dimensions")
        scale: tuple[float, ...] = ()
        zero: tuple[int, ...] = ()
        axis, oddity = 0, ""
        quantization = t.Quantization()
        if quantization is not None:
            scale = self.numbers(quantization, "Scale")
            zero = self.numbers(quantization, "ZeroPoint")
            axis = quantization.QuantizedDimension()
            oddity = "a custom quantization" if quantization.DetailsType() else ""
        if t.Sparsity() is not None:
            oddity = "sparse storage"
        elif t.IsVariable():
            oddity = "state kept between runs"
        return RawTensor(
            index,
            (t.Name() or b"").decode("utf-8", "replace"),
            shape,
            signature,
            self.type_names.get(t.Type(), f"type {t.Type()}"),
            scale,
            zero,
            axis,
            self.buffer(t.Buffer(), buffers),
            oddity,
        )

    def buffer(self, index: int, buffers: Sequence[Any]) -> memoryview | None:
        if index >= len(buffers):
            raise _broken(self.file, f"there is no buffer {index}")
        if buffers[index].Offset() > 1:
            raise QgenError(
                f"buffer {index} lies outside the flatbuffer",
                Loc(self.file),
                hint="models with external weights (over 2 GB) are not supported",
            )
        array = buffers[index].DataAsNumpy()
        return array.data if isinstance(array, np.ndarray) and array.size else None

    def op(self, index: int, op: Any, codes: Sequence[Any]) -> RawOp:
        if op.OpcodeIndex() >= len(codes):
            raise _broken(self.file, f"op {index} has no operator code")
        code = codes[op.OpcodeIndex()]
        # Codes above 126 do not fit the old 8-bit field.
        number = max(code.DeprecatedBuiltinCode(), code.BuiltinCode())
        name = self.op_names.get(number, f"operator {number}")
        if name == "CUSTOM":
            custom = (code.CustomCode() or b"").decode("utf-8", "replace")
            name = f"CUSTOM {_printable(custom)}"
        return RawOp(
            index,
            name,
            self.indices(op, "Inputs", -1),
            self.indices(op, "Outputs", 0),
            self.options(name, op),
        )

    def options(self, name: str, op: Any) -> Mapping[str, Any]:
        if name not in OPTIONS:
            return {}
        table, fields = OPTIONS[name]
        found = op.BuiltinOptions()
        if found is None or op.BuiltinOptionsType() != getattr(self.tflite.BuiltinOptions, table):
            raise _broken(self.file, f"{name} has no {table}")
        options = getattr(self.tflite, table)()
        options.Init(found.Bytes, found.Pos)
        return {field: getattr(options, field)() for field in fields}

    # -- guarded lists ---------------------------------------------------------------------------

    def tables(self, owner: Any, field: str) -> list[Any]:
        count = getattr(owner, f"{field}Length")()
        if count > min(MAX_ITEMS, len(self.data) // 4):
            raise _broken(self.file, f"{count} {field.lower()} do not fit the file")
        return [getattr(owner, field)(i) for i in range(count)]

    def numbers(self, owner: Any, field: str) -> tuple[Any, ...]:
        self.budget -= 4 * getattr(owner, f"{field}Length")()
        if self.budget < 0:
            raise _broken(self.file, f"the list of {field.lower()} is longer than the file")
        array = getattr(owner, f"{field}AsNumpy")()
        return tuple(array.tolist()) if isinstance(array, np.ndarray) else ()

    def indices(self, owner: Any, field: str, lowest: int) -> tuple[int, ...]:
        found: tuple[int, ...] = self.numbers(owner, field)
        for i in found:
            if not lowest <= i < self.known:
                raise _broken(self.file, f"there is no tensor {i}")
        return found


def _printable(text: str) -> str:
    """`text` in one line of bounded length, whatever a damaged file holds."""
    clean = "".join(c if c.isprintable() else "?" for c in text)
    return clean if len(clean) <= 80 else f"{clean[:77]}..."


def _enum_names(enum: type) -> dict[int, str]:
    return {value: name for name, value in vars(enum).items() if name.isupper()}
