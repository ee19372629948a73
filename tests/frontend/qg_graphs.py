"""Graphs for the text language: drawn by hypothesis, with all that the language can say."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from qgen.ir.graph import Graph
from qgen.ir.op import Op, registry
from qgen.ir.types import (
    Activation,
    Array,
    DType,
    Padding,
    QParams,
    Rounding,
    Tensor,
    TensorType,
)
from qgen.ir.windows import Pads

OPS = registry()

# Words of the language are names like any other.
NAMES = st.one_of(
    st.sampled_from(["input", "output", "model", "weights", "qgen", "quant", "inf", "nan", "none"]),
    st.sampled_from(["file", "conv2d", "same", "u8", "x.scale", "x.0", "_", "a.b.c_1"]),
    st.from_regex(r"[a-w][A-Za-z0-9_]{0,12}[0-9](\.[A-Za-z0-9_]{1,3})?", fullmatch=True),
)


def scales(low: float, high: float) -> st.SearchStrategy[float]:
    single = [float(np.float32(x)) for x in (low, high)]
    return st.floats(*single, width=32)


class Drawer:
    """Draws tensors and chains of ops; all names differ."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.names: set[str] = set()
        self.rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        self.dtype = draw(st.sampled_from([DType.U8, DType.I8]))
        self.ops: list[Op] = []

    def name(self) -> str:
        name = self.draw(NAMES.filter(lambda n: n not in self.names))
        self.names.add(name)
        return name

    def quant(self) -> QParams:
        zero = self.draw(st.integers(self.dtype.min, self.dtype.max))
        return QParams((self.draw(scales(0.001, 1.0)),), zero)

    def tensor(self, shape: tuple[int, ...], quant: QParams | None = None) -> Tensor:
        return Tensor(self.name(), TensorType(self.dtype, shape, quant or self.quant()))

    def const(self, kind: TensorType, low: int | None = None, high: int | None = None) -> Tensor:
        low, high = low or kind.dtype.min, high or kind.dtype.max
        data: Array = self.rng.integers(low, high, kind.shape, kind.dtype.numpy, endpoint=True)
        return Tensor(self.name(), kind, data)

    def add(
        self, name: str, shape: tuple[int, ...], quant: QParams | None, **fields: Any
    ) -> Tensor:
        self.ops.append(OPS[name](out=self.tensor(shape, quant), **fields))
        return self.ops[-1].out

    def weights(self, shape: tuple[int, ...]) -> Tensor:
        """Per tensor or per output channel, above and below the lengths that stay in the text."""
        if self.draw(st.booleans()):
            quant = self.quant()
        else:
            count = shape[0]
            scale = self.draw(st.lists(scales(0.001, 1.0), min_size=count, max_size=count))
            quant = QParams(tuple(scale), 0, 0)
        return self.const(TensorType(self.dtype, shape, quant))

    def bias(self, channels: int) -> Tensor | None:
        if self.draw(st.booleans()):
            return None
        return self.const(TensorType(DType.I32, (channels,)), -1000, 1000)

    def conv2d(self, x: Tensor) -> Tensor:
        channels = self.draw(st.sampled_from([1, 3, 9, 16]))
        padding = self.draw(st.sampled_from([Padding.SAME, Pads(1, 0, 2, 1)]))
        stride = self.draw(st.sampled_from([(1, 1), (2, 1)]))
        h, w = x.shape[1:3]
        if isinstance(padding, Pads):
            h, w = h + 1, w + 3
        shape = (1, -(-h // stride[0]), -(-w // stride[1]), channels)
        return self.add(
            "conv2d",
            shape,
            None,
            x=x,
            w=self.weights((channels, 1, 1, x.shape[3])),
            b=self.bias(channels),
            stride=stride,
            padding=padding,
            activation=self.draw(st.sampled_from(Activation)),
        )

    def step(self, x: Tensor) -> Tensor:
        kind = self.draw(st.sampled_from(["conv2d", "conv2d", "clamp", "add", "concat", "pad"]))
        n, h, w, c = x.shape
        quant = x.type.quant
        if kind == "conv2d":
            return self.conv2d(x)
        if kind == "clamp":
            activation = self.draw(st.sampled_from(list(Activation)[1:]))
            return self.add("clamp", x.shape, quant, x=x, activation=activation)
        if kind == "add":
            return self.add("add", x.shape, None, a=x, b=self.const(x.type))
        if kind == "concat":
            return self.add("concat", (n, h, 3 * w, c), quant, x=(x, x, x), axis=2)
        return self.add(
            "pad", (n, h + 1, w, c), quant, x=x, amounts=((0, 0), (1, 0), (0, 0), (0, 0))
        )


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """QUANTIZED graphs: chains with constants, several inputs and outputs."""
    d = Drawer(draw)
    inputs = [
        d.tensor((1, 4, 3, draw(st.sampled_from([1, 3])))) for _ in range(draw(st.integers(1, 2)))
    ]
    x = inputs[0]
    for _ in range(draw(st.integers(0, 5))):
        x = d.step(x)
    outputs = [x, *inputs[1:]]
    name = draw(st.sampled_from(["m", "model", "rounding", "net_2"]))
    rounding = draw(st.sampled_from(Rounding))
    return Graph(name, tuple(inputs), tuple(outputs), tuple(d.ops), rounding)


@st.composite
def any_types(draw: st.DrawFn) -> Graph:
    """One input of any type, with any single as scale."""
    shape = tuple(draw(st.lists(st.integers(1, 12), max_size=4)))
    dtype = draw(st.sampled_from(DType))
    axis = draw(st.none() | st.sampled_from(range(len(shape)))) if shape else None
    positive = st.floats(min_value=0.0, exclude_min=True, width=32, allow_infinity=False)
    count = 1 if axis is None else shape[axis]
    scale = draw(st.just([]) | st.lists(positive, min_size=count, max_size=count))
    quant = QParams(tuple(scale), draw(st.integers(dtype.min, dtype.max)), axis)
    x = Tensor("x", TensorType(dtype, shape, draw(st.sampled_from([None, quant]))))
    return Graph("m", (x,), (x,), ())
