"""One importer per TFLite operator: a `Site` becomes ops of the IR."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from qgen.errors import QgenError
from qgen.frontend.tables import Tables
from qgen.frontend.tflite.site import Site
from qgen.ir.elementwise import Binary
from qgen.ir.numerics import affine_table, float32
from qgen.ir.op import Op
from qgen.ir.ops.add import Add
from qgen.ir.ops.average_pool2d import AveragePool2D
from qgen.ir.ops.clamp import Clamp
from qgen.ir.ops.concat import Concat
from qgen.ir.ops.conv2d import Conv2D
from qgen.ir.ops.depthwise_conv2d import DepthwiseConv2D
from qgen.ir.ops.fully_connected import FullyConnected
from qgen.ir.ops.logistic import Logistic
from qgen.ir.ops.lookup import Lookup
from qgen.ir.ops.max_pool2d import MaxPool2D
from qgen.ir.ops.mean import Mean
from qgen.ir.ops.mul import Mul
from qgen.ir.ops.pad import Pad
from qgen.ir.ops.quantize import Quantize
from qgen.ir.ops.reshape import Reshape
from qgen.ir.ops.resize_bilinear import ResizeBilinear
from qgen.ir.ops.resize_nearest import ResizeNearest
from qgen.ir.ops.slice import Slice
from qgen.ir.ops.softmax import Softmax
from qgen.ir.ops.sub import Sub
from qgen.ir.ops.tanh import Tanh
from qgen.ir.pool import Pool
from qgen.ir.resize import Resize
from qgen.ir.sigmoid import Method, Sigmoid
from qgen.ir.types import Activation, QParams, Rounding, Tensor, TensorType

Import = Callable[[Site], list[Op]]


def _conv(op: type[Conv2D] | type[DepthwiseConv2D]) -> Import:
    def build(s: Site) -> list[Op]:
        return [
            op(
                x=s.input(0),
                w=s.input(1),
                b=_bias(s),
                stride=s.pair("StrideH", "StrideW"),
                dilation=s.pair("DilationHFactor", "DilationWFactor"),
                padding=s.padding,
                activation=s.activation,
                out=s.out,
                loc=s.loc,
            )
        ]

    return build


def _fully_connected(s: Site) -> list[Op]:
    if s.option("WeightsFormat"):
        raise QgenError("shuffled weights are not supported")
    return [
        FullyConnected(
            x=s.input(0),
            w=s.input(1),
            b=_bias(s),
            keep_dims=bool(s.option("KeepNumDims")),
            # LiteRT's reference kernel multiplies by M in double precision and rounds once.
            requant=Rounding.NEAREST,
            activation=s.activation,
            out=s.out,
            loc=s.loc,
        )
    ]


def _bias(s: Site) -> Tensor | None:
    """The bias; its stored scale must be S_x * S_w, eq. (11), within TFLite's own tolerance."""
    b = s.optional(2)
    if b is None:
        return None
    stored = s.tensors.raw.tensors[s.op.inputs[2]].scale
    x, w, y = (t.type.quant for t in (s.input(0), s.input(1), s.out))
    if len(stored) == 1 and x and w and y and not w.per_channel:
        product = x.scale[0] * w.scale[0]
        if not abs(product - stored[0]) <= 0.02 * y.scale[0]:
            raise QgenError(
                f"bias scale {stored[0]:g} is not input scale times weight scale, {product:g}"
            )
    return b


def _binary(op: type[Binary]) -> Import:
    def build(s: Site) -> list[Op]:
        a, b = s.input(0), s.input(1)
        return [op(a=a, b=b, activation=s.activation, out=s.out, loc=s.loc)]

    return build


def _pool(op: type[Pool]) -> Import:
    def build(s: Site) -> list[Op]:
        return [
            op(
                x=s.input(0),
                kernel=s.pair("FilterHeight", "FilterWidth"),
                stride=s.pair("StrideH", "StrideW"),
                padding=s.padding,
                activation=s.activation,
                out=s.out,
                loc=s.loc,
            )
        ]

    return build


def _mean(s: Site) -> list[Op]:
    x, rank = s.input(0), len(s.input(0).shape)
    axes = [int(a) for a in s.integers(1).ravel()]
    if any(not -rank <= a < rank for a in axes):
        raise QgenError(f"axes {axes} do not exist in {list(x.shape)}")
    unique = tuple(sorted({a % rank for a in axes}))
    return [Mean(x=x, axes=unique, keep_dims=bool(s.option("KeepDims")), out=s.out, loc=s.loc)]


def _pad(s: Site) -> list[Op]:
    amounts = s.integers(1)
    if amounts.ndim != 2 or amounts.shape[1] != 2:
        raise QgenError(f"paddings must be [rank, 2], got {list(amounts.shape)}")
    pairs = tuple((int(before), int(after)) for before, after in amounts)
    return [Pad(x=s.input(0), amounts=pairs, value=_pad_value(s), out=s.out, loc=s.loc)]


def _pad_value(s: Site) -> int | None:
    value = s.optional(2)
    if value is None:
        return None
    if value.const.size != 1 or value.type.quant != s.out.type.quant:
        raise QgenError("the padding value must be one value quantized like the output")
    return int(value.const.item())


def _slice(s: Site) -> list[Op]:
    begin, size = (tuple(int(v) for v in s.integers(i).ravel()) for i in (1, 2))
    x, y = s.input(0).shape, s.out.shape
    if len(begin) != len(x) or len(size) != len(x):
        raise QgenError(f"begin {list(begin)} and size {list(size)} do not fit {list(x)}")
    # -1 stands for all that is left.
    found = tuple(n - b if m == -1 else m for n, b, m in zip(x, begin, size, strict=True))
    if found != y:
        raise QgenError(f"size {list(size)} is not that of the result, {list(y)}")
    return [Slice(x=s.input(0), begin=begin, out=s.out, loc=s.loc)]


def _reshape(s: Site) -> list[Op]:
    return [Reshape(x=s.input(0), out=s.out, loc=s.loc)]


def _resize(op: type[Resize]) -> Import:
    def build(s: Site) -> list[Op]:
        size = [int(v) for v in s.integers(1).ravel()]
        if size != list(s.out.shape[1:3]):
            raise QgenError(f"size {size} is not that of the result, {list(s.out.shape)}")
        return [
            op(
                x=s.input(0),
                align_corners=bool(s.option("AlignCorners")),
                half_pixel_centers=bool(s.option("HalfPixelCenters")),
                out=s.out,
                loc=s.loc,
            )
        ]

    return build


def _softmax(s: Site) -> list[Op]:
    return [Softmax(x=s.input(0), beta=float32(s.option("Beta")), out=s.out, loc=s.loc)]


def _quantize(s: Site) -> list[Op]:
    return [Quantize(x=s.input(0), out=s.out, loc=s.loc)]


def _clamp(activation: Activation) -> Import:
    def build(s: Site) -> list[Op]:
        return [Clamp(x=s.input(0), activation=activation, out=s.out, loc=s.loc)]

    return build


def _sigmoid(op: type[Sigmoid]) -> Import:
    """In fixed point (paper A.1) where that equals the table of TFLite's reference kernel (Q13)."""

    def build(s: Site) -> list[Op]:
        table = op(x=s.input(0), method=Method.TABLE, out=s.out, loc=s.loc)
        if s.tables is Tables.ALWAYS or not table.fits:
            return [table]
        fixed = table.replace(method=Method.FIXED_POINT)
        return [fixed if s.tables is Tables.NEVER or fixed.equals_table() else table]

    return build


def _concat(s: Site) -> list[Op]:
    """Operands with other parameters than the result go through a table first, as in TFLite."""
    if s.activation is not Activation.NONE:
        raise QgenError("a fused activation of CONCATENATION is not supported")
    ops: list[Op] = []
    operands = []
    for i, x in enumerate(s.inputs):
        same = x.type.quant == s.out.type.quant or x.dtype is not s.out.dtype
        operands.append(x if same else _rescaled(s, x, i, ops))
    rank = len(s.out.shape)
    axis = s.option("Axis") + (rank if s.option("Axis") < 0 else 0)
    return [*ops, Concat(x=tuple(operands), axis=axis, out=s.out, loc=s.loc)]


def _rescaled(s: Site, x: Tensor, position: int, ops: list[Op]) -> Tensor:
    """`x` in the parameters of the result; what computes it is appended to `ops`."""
    source, target, dtype = _per_tensor(x), _per_tensor(s.out), s.out.dtype
    table = affine_table(source, x.dtype, target, dtype)
    name = f"{s.out.name}.x{position}"
    type = x.type.with_quant(target)
    if x.data is not None:
        return Tensor(name, type, table[x.data.astype(np.int64) - x.dtype.min], x.loc)
    y = Tensor(name, type, loc=s.loc)
    entries = Tensor(f"{name}.table", TensorType(dtype, (256,)), table, s.loc)
    ops.append(Lookup(x=x, table=entries, out=y, loc=s.loc))
    return y


def _per_tensor(t: Tensor) -> QParams:
    quant = t.type.quant
    if quant is None or len(quant.scale) != 1:
        raise QgenError(f"'{t.name}' needs one scale")
    return replace(quant, axis=None)


class Importer(NamedTuple):
    """How an operator is imported, and the ops of the IR it can become."""

    build: Import
    makes: str


IMPORTERS: Mapping[str, Importer] = {
    "ADD": Importer(_binary(Add), "add"),
    "AVERAGE_POOL_2D": Importer(_pool(AveragePool2D), "average_pool2d"),
    "CONCATENATION": Importer(_concat, "concat, lookup"),
    "CONV_2D": Importer(_conv(Conv2D), "conv2d"),
    "DEPTHWISE_CONV_2D": Importer(_conv(DepthwiseConv2D), "depthwise_conv2d"),
    "EXPAND_DIMS": Importer(_reshape, "reshape"),
    "FULLY_CONNECTED": Importer(_fully_connected, "fully_connected"),
    "LOGISTIC": Importer(_sigmoid(Logistic), "logistic"),
    "MAX_POOL_2D": Importer(_pool(MaxPool2D), "max_pool2d"),
    "MEAN": Importer(_mean, "mean"),
    "MUL": Importer(_binary(Mul), "mul"),
    "PAD": Importer(_pad, "pad"),
    "PADV2": Importer(_pad, "pad"),
    "QUANTIZE": Importer(_quantize, "quantize"),
    "RELU": Importer(_clamp(Activation.RELU), "clamp"),
    "RELU6": Importer(_clamp(Activation.RELU6), "clamp"),
    "RELU_N1_TO_1": Importer(_clamp(Activation.RELU_N1_TO_1), "clamp"),
    "RESHAPE": Importer(_reshape, "reshape"),
    "RESIZE_BILINEAR": Importer(_resize(ResizeBilinear), "resize_bilinear"),
    "RESIZE_NEAREST_NEIGHBOR": Importer(_resize(ResizeNearest), "resize_nearest"),
    "SLICE": Importer(_slice, "slice"),
    "SOFTMAX": Importer(_softmax, "softmax"),
    "SQUEEZE": Importer(_reshape, "reshape"),
    "SUB": Importer(_binary(Sub), "sub"),
    "TANH": Importer(_sigmoid(Tanh), "tanh"),
}
