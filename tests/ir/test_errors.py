"""Everything that types, ops, graphs and stages refuse: each `raise` of qgen/ir is reached here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from qgen.errors import Loc, QgenError
from qgen.ir import interp, numerics
from qgen.ir.graph import Graph
from qgen.ir.op import Op
from qgen.ir.ops.add import Add
from qgen.ir.ops.clamp import Clamp
from qgen.ir.ops.concat import Concat
from qgen.ir.ops.conv2d import Conv2D
from qgen.ir.ops.depthwise_conv2d import DepthwiseConv2D
from qgen.ir.ops.fully_connected import FullyConnected
from qgen.ir.ops.logistic import Logistic
from qgen.ir.ops.lookup import Lookup
from qgen.ir.ops.max_pool2d import MaxPool2D
from qgen.ir.ops.mean import Mean
from qgen.ir.ops.pad import Pad
from qgen.ir.ops.quantize import Quantize
from qgen.ir.ops.reshape import Reshape
from qgen.ir.ops.resize_bilinear import ResizeBilinear
from qgen.ir.ops.resize_nearest import ResizeNearest
from qgen.ir.ops.slice import Slice
from qgen.ir.ops.softmax import Softmax
from qgen.ir.types import Activation, DType, QParams, Tensor, TensorType
from qgen.ir.verify import Stage, verify
from qgen.ir.windows import Pads
from qgen.passes.legalize import legalize
from tests.ir.raising import raise_statements, reached

HERE = Loc("model.qg", 3, 7)


def q(scale: float = 0.5, zero: int = 0) -> QParams:
    return QParams((scale,), zero)


HALF = q()


def t(
    name: str, *shape: int, kind: DType = DType.I8, quant: QParams | None = HALF, data: Any = None
) -> Tensor:
    if data is not None:
        data = np.full(shape, data, kind.numpy)
    return Tensor(name, TensorType(kind, shape, quant), data, HERE)


X = t("x", 1, 4, 4, 3)
IMAGE = t("y", 1, 4, 4, 3)
I32 = DType.I32


def conv(**changes: Any) -> Conv2D:
    fields: dict[str, Any] = {
        "x": X, "w": t("w", 2, 1, 1, 3, data=1), "out": t("y", 1, 4, 4, 2), "loc": HERE,
    }  # fmt: skip
    return Conv2D(**(fields | changes))


def depthwise(**changes: Any) -> DepthwiseConv2D:
    fields: dict[str, Any] = {"x": X, "w": t("w", 1, 1, 1, 3, data=1), "out": IMAGE}
    return DepthwiseConv2D(**(fields | changes))


def dense(**changes: Any) -> FullyConnected:
    fields: dict[str, Any] = {"x": X, "w": t("w", 2, 3, data=1), "out": t("y", 16, 2)}
    return FullyConnected(**(fields | changes))


def pool(**changes: Any) -> MaxPool2D:
    fields: dict[str, Any] = {"x": X, "kernel": (2, 2), "out": t("y", 1, 3, 3, 3)}
    return MaxPool2D(**(fields | changes))


def resize(**changes: Any) -> ResizeNearest:
    return ResizeNearest(**({"x": X, "out": t("y", 1, 8, 8, 3)} | changes))


def part(**changes: Any) -> Slice:
    fields: dict[str, Any] = {"x": X, "begin": (0, 1, 0, 0), "out": t("y", 1, 2, 4, 3)}
    return Slice(**(fields | changes))


def clamp(x: Tensor = X, out: Tensor = IMAGE, **fields: Any) -> Clamp:
    return Clamp(x=x, out=out, **fields)


def graph(*ops: Op, inputs: Any = (X,), outputs: Any = None, name: str = "g") -> Graph:
    return Graph(name, inputs, (ops[-1].out,) if outputs is None else outputs, ops)


def chain() -> Graph:
    """Two clamps: the tensor between them is neither input nor output."""
    first = clamp(out=t("middle", 1, 4, 4, 3))
    return graph(first, clamp(first.out))


def integer_clamp(**changes: Any) -> Graph:
    return legalize(graph(clamp())).replace(
        ops=(legalize(graph(clamp())).ops[0].replace(**changes),)
    )


def overflowing() -> Op:
    """An accumulator whose bias takes it past 2**31."""
    b = t("b", 2, kind=I32, data=2**31 - 1, quant=None)
    return conv(b=b)


def with_scale_inside() -> Graph:
    model = chain()
    return model.replace(ops=tuple(op.legalize() for op in model.ops))


wide = t("wide", 1, 4, 4, 3, kind=DType.I16)
table = t("table", 256, quant=None, data=1)
sigmoid_out = t("y", 1, 4, 4, 3, quant=q(1 / 256, -128))
soft = t("y", 1, 4, 4, 3, quant=q(1 / 256, -128))

BAD: list[tuple[str, Callable[[], object]]] = [
    # types
    ("scale nan is not a positive number", lambda: q(float("nan"))),
    (r"scale -1\.0 is not a positive number", lambda: q(-1.0)),
    ("scale 1e-60 is outside the range of single precision", lambda: q(1e-60)),
    ("2 scales but no axis", lambda: QParams((0.5, 0.5))),
    (r"shape \[1, 0\] has a dimension that is not positive", lambda: t("x", 1, 0)),
    (r"shape \[65536, 65536\] has more bytes than an int32", lambda: t("x", 65536, 65536)),
    (r"zero point 128 is outside i8 \[-128, 127\]", lambda: t("x", 1, quant=q(1.0, 128))),
    (
        r"quantization axis 1 does not exist in \[2\]",
        lambda: t("x", 2, quant=QParams((1.0,), 0, 1)),
    ),
    ("3 scales for 2 slices along axis 0", lambda: t("x", 2, quant=QParams((1.0,) * 3, 0, 0))),
    ("a bit depth of 3 is not one of 4 to 8", lambda: QParams((1.0,), bits=3)),
    (
        r"zero point 16 is outside u8 \[0, 15\]",
        lambda: t("x", 1, kind=DType.U8, quant=QParams((1.0,), 16, bits=4)),
    ),
    ("i32 cannot have 7 bits", lambda: t("x", 1, kind=I32, quant=QParams((1.0,), bits=7))),
    ("a per-tensor scale is needed here", lambda: t("x", 2, quant=None).type.scale),
    (
        r"model.qg:3:7: constant 'c' holds int32\[2\], its type says i8\[3\]",
        lambda: Tensor("c", TensorType(DType.I8, (3,)), np.zeros(2, np.int32), HERE),
    ),
    ("model.qg:3:7: 'x' must be a constant", lambda: X.const),
    # numerics; more in tests/ops/test_golden_properties.py
    ("multiplier -1 is not a non-negative number", lambda: numerics.quantize_multiplier(-1)),
    (r"too large \(check the scales around this op\)", lambda: numerics.quantize_multiplier(2e9)),
    ("that double precision cannot tell", lambda: numerics.exact_multiplier(0.5 / 3, -9, 9)),
    (
        "activation relu leaves no value of scale 1.0, zero 300",
        lambda: numerics.activation_range(Activation.RELU, q(1.0, 300), DType.U8),
    ),
    (r"range \[0.0, 0.0\] has no scale", lambda: numerics.nudge(0.0, 0.0, (-128, 127))),
    (r"range \[0.0, inf\] has no scale", lambda: numerics.nudge(1.0, np.inf, (-128, 127))),
    # windows
    (
        r"conv2d 'y': input must be \[batch, height, width, channels\], got \[4, 3\]",
        lambda: conv(x=t("x", 4, 3)),
    ),
    ("kernel, stride and dilation must be at least 1", lambda: conv(stride=(0, 1))),
    ("does not fit into 4 elements", lambda: conv(w=t("w", 2, 5, 1, 3, data=1))),
    (r"padding \(0, -1, 0, 0\) is negative", lambda: conv(padding=Pads(0, -1, 0, 0))),
    # linear ops
    (
        "model.qg:3:7: conv2d 'y': needs u8 or i8 input and weights, got i16 and i8",
        lambda: conv(x=wide),
    ),
    ("weights 'w' must be a constant", lambda: conv(w=t("w", 2, 1, 1, 3))),
    (
        "weights are quantized along axis 3, not along 0",
        lambda: conv(w=t("w", 2, 1, 1, 3, data=1, quant=QParams((1.0,) * 3, 0, 3))),
    ),
    ("bias 'b' must be a constant", lambda: conv(b=t("b", 2, kind=I32))),
    (r"bias must be i32\[2\], got i8\[2\]", lambda: conv(b=t("b", 2, data=1))),
    (r"m0 must be i32\[2\], got i32\[3\]", lambda: conv(m0=t("m0", 3, kind=I32, data=1))),
    (
        "input, weights and output need quantization parameters",
        lambda: conv(w=t("w", 2, 1, 1, 3, data=1, quant=None)).legalize(),
    ),
    (r"weights must be \[out, kh, kw, in\], got \[2, 3\]", lambda: conv(w=t("w", 2, 3, data=1))),
    (
        "weights expect 5 input channels, x has 3",
        lambda: conv(w=t("w", 2, 1, 1, 5, data=1)),
    ),
    (
        r"weights must be \[1, kh, kw, channels\], got \[2, 1, 1, 3\]",
        lambda: depthwise(w=t("w", 2, 1, 1, 3, data=1)),
    ),
    (
        "4 output channels are no multiple of 3 inputs",
        lambda: depthwise(w=t("w", 1, 1, 1, 4, data=1)),
    ),
    (r"weights must be \[out, in\], got \[2\]", lambda: dense(w=t("w", 2, data=1))),
    (r"weights expect rows of 5, x is \[1, 4, 4, 3\]", lambda: dense(w=t("w", 2, 5, data=1))),
    (
        r"weights expect rows of 6, x is",
        lambda: dense(w=t("w", 2, 6, data=1), keep_dims=True),
    ),
    # element-wise ops
    ("needs u8 or i8 operands, got i16 and i8", lambda: Add(a=wide, b=X, out=IMAGE)),
    (r"\[1, 4, 4, 3\] and \[5\] do not broadcast", lambda: Add(a=X, b=t("b", 5), out=IMAGE)),
    ("clamp 'y': needs u8 or i8 input, got i16", lambda: clamp(wide)),
    ("needs u8 or i8 on both sides, got i16 and i8", lambda: Quantize(x=wide, out=IMAGE)),
    ("lookup 'y': needs u8 or i8 on both sides", lambda: Lookup(x=wide, table=table, out=IMAGE)),
    (
        "table must be a constant of 256 values",
        lambda: Lookup(x=X, table=t("table", 9, data=1), out=IMAGE),
    ),
    (
        "table must be u8 like the result",
        lambda: Lookup(x=X, table=table, out=t("y", 1, 4, 4, 3, kind=DType.U8)),
    ),
    ("logistic 'y': needs u8 or i8 on both sides", lambda: Logistic(x=wide, out=sigmoid_out)),
    (
        "the result must have scale 0.00390625 and zero point -128",
        lambda: Logistic(x=X, out=IMAGE),
    ),
    ("softmax 'y': needs u8 or i8 input, got i16", lambda: Softmax(x=wide, out=soft)),
    ("must have scale 0.00390625 and zero point -128", lambda: Softmax(x=X, out=IMAGE)),
    (
        r"rows of \[4096\] exceed 4095 elements",
        lambda: Softmax(x=t("x", 4096), out=t("y", 4096, quant=q(1 / 256, -128))),
    ),
    # pooling and reduction
    ("max_pool2d 'y': needs u8 or i8 input, got i16", lambda: pool(x=wide)),
    (
        "input and output must have the same scale and zero point",
        lambda: pool(out=t("y", 1, 3, 3, 3, quant=q(0.25))),
    ),
    ("a window lies in the padding alone", lambda: pool(padding=Pads(2, 0, 0, 0))),
    (
        "output needs quantization parameters",
        lambda: pool(
            x=t("x", 1, 4, 4, 3, quant=None), out=t("y", 1, 3, 3, 3, quant=None)
        ).legalize(),
    ),
    ("mean 'y': needs u8 or i8 on both sides", lambda: Mean(x=wide, axes=(1,), out=IMAGE)),
    (r"axes \[4\] are not ascending axes of rank 4", lambda: Mean(x=X, axes=(4,), out=IMAGE)),
    # resizing
    ("resize_nearest 'y': needs u8 or i8 input, got i16", lambda: resize(x=wide)),
    (
        "resize_nearest 'y': input and output must have the same type and quantization",
        lambda: resize(out=t("y", 1, 8, 8, 3, quant=q(0.25))),
    ),
    (r"needs \[N, H, W, C\], got \[4, 3\]", lambda: resize(x=t("x", 4, 3))),
    (
        "align_corners and half_pixel_centers exclude each other",
        lambda: resize(align_corners=True, half_pixel_centers=True),
    ),
    (
        r"u8 from 4x4 to 7x8 has weights that are no short binary fractions \(quantize the model",
        lambda: ResizeBilinear(
            x=t("x", 1, 4, 4, 3, kind=DType.U8), out=t("y", 1, 7, 8, 3, kind=DType.U8)
        ),
    ),
    # data movement
    (
        "slice 'y': input and output must have the same type and quantization",
        lambda: part(out=t("y", 1, 4, 4, 3, quant=q(0.25))),
    ),
    (
        r"\[1, 2, 4, 3\] from \[0, 3, 0, 0\] on does not lie inside \[1, 4, 4, 3\]",
        lambda: part(begin=(0, 3, 0, 0)),
    ),
    ("concat 'y': needs at least one operand", lambda: Concat(x=(), axis=0, out=IMAGE)),
    (r"axis 4 does not exist in \[1, 4, 4, 3\]", lambda: Concat(x=(X,), axis=4, out=IMAGE)),
    (
        r"operand 'a' differs from the result .*\(put a quantize op in front of it\)",
        lambda: Concat(x=(X, t("a", 1, 4, 4, 3, quant=q(0.25))), axis=3, out=IMAGE),
    ),
    (
        r"operand 'a' \[1, 4, 5, 3\] does not line up",
        lambda: Concat(x=(X, t("a", 1, 4, 5, 3)), axis=3, out=IMAGE),
    ),
    (
        "pad 'y': input and output must have the same type and quantization",
        lambda: Pad(x=X, amounts=((0, 0),) * 4, out=t("y", 1, 4, 4, 3, quant=q(0.25))),
    ),
    (r"amounts \(\(0, 0\),\) do not fit", lambda: Pad(x=X, amounts=((0, 0),), out=IMAGE)),
    (r"amounts .* do not fit", lambda: Pad(x=X, amounts=((0, -1),) * 4, out=IMAGE)),
    (
        "value 200 is outside i8",
        lambda: Pad(x=X, amounts=((0, 0),) * 4, value=200, out=IMAGE),
    ),
    (
        "reshape 'y': input and output must have the same type and quantization",
        lambda: Reshape(x=X, out=t("y", 48, kind=DType.U8)),
    ),
    (r"cannot turn \[1, 4, 4, 3\] into \[47\]", lambda: Reshape(x=X, out=t("y", 47))),
    # any op
    (
        r"model.qg:3:7: conv2d 'y' yields \[1, 4, 4, 2\], but its type says \[1, 4, 4, 3\]",
        lambda: conv(out=IMAGE),
    ),
    # graphs
    (
        r"tensor name 'a b' is not an identifier \(use letters, digits and _\)",
        lambda: graph(clamp(t("a b", 1, 4, 4, 3)), inputs=(t("a b", 1, 4, 4, 3),)),
    ),
    ("'while' is a keyword of C or C", lambda: graph(clamp(), name="while")),
    ("model name 'UINT8_MAX' is a macro of C", lambda: graph(clamp(), name="UINT8_MAX")),
    ("model name 'stdint' is that of a C header", lambda: graph(clamp(), name="stdint")),
    (r"name 'mmmmm.*' has 101 letters, at most 100", lambda: graph(clamp(), name="m" * 101)),
    ("model name 'a.b' contains a dot", lambda: graph(clamp(), name="a.b")),
    (r"'x' is defined twice \(rename one\)", lambda: graph(clamp(), inputs=(X, t("x", 1)))),
    ("'x' is defined twice", lambda: graph(clamp(out=t("x", 1, 4, 4, 3)))),
    ("'w' is defined twice", lambda: graph(conv(), inputs=(X, t("w", 1)))),
    ("'x' is used before it is computed", lambda: graph(clamp(), inputs=(t("z", 1),))),
    ("model 'g' has no input", lambda: graph(inputs=(), outputs=())),
    ("model 'g' has no output", lambda: graph(clamp(), outputs=())),
    ("output 'z' is not computed", lambda: graph(clamp(), outputs=(t("z", 1),))),
    ("a tensor is listed as output twice", lambda: graph(clamp(), outputs=(X, X))),
    # interpreter
    ("'g' takes 1 inputs, got 0", lambda: interp.run(graph(clamp()), [])),
    (
        r"input 'x' is i8\[1, 4, 4, 3\], got uint8\[2\]",
        lambda: interp.run(graph(clamp()), [np.zeros(2, np.uint8)]),
    ),
    # stages
    (
        r"model.qg:3:7: 'y' has no scale \(add quant\(scale=..., ...\)\)",
        lambda: verify(graph(clamp(out=t("y", 1, 4, 4, 3, quant=None))), Stage.QUANTIZED),
    ),
    (
        "quantize 'y' cannot limit its result to 5 bits",
        lambda: verify(
            graph(Quantize(x=X, out=t("y", 1, 4, 4, 3, quant=QParams((0.5,), bits=5)))),
            Stage.QUANTIZED,
        ),
    ),
    ("clamp 'y' is legalized already", lambda: verify(legalize(graph(clamp())), Stage.QUANTIZED)),
    ("clamp 'y' has no clamp", lambda: verify(graph(clamp()), Stage.INTEGER)),
    ("clamp 'y' has no m_y", lambda: verify(integer_clamp(m_y=None), Stage.INTEGER)),
    (
        "clamp 'y' still has activation",
        lambda: verify(integer_clamp(activation=Activation.RELU), Stage.INTEGER),
    ),
    (
        "'middle' still has a scale after legalization",
        lambda: verify(with_scale_inside(), Stage.INTEGER),
    ),
    (
        r"model.qg:3:7: conv2d 'y' can overflow its int32 accumulator: \[2147483263, 2147484028\]",
        lambda: legalize(graph(overflowing())),
    ),
    # an error of `legalize` gets the place of its op
    (
        r"model.qg:3:7: multiplier .* is too large",
        lambda: legalize(graph(conv(out=t("y", 1, 4, 4, 2, quant=q(1e-30))))),
    ),
]


@pytest.mark.parametrize(("message", "bad"), BAD, ids=[m[:40] for m, _ in BAD])
def test_refuses(message: str, bad: Callable[[], object]) -> None:
    with pytest.raises(QgenError, match=message) as caught:
        bad()
    assert "\n" not in str(caught.value)


def test_every_raise_is_reached() -> None:
    places = raise_statements("qgen/ir", "qgen/passes")
    assert len(places) > 60
    seen = set().union(*(reached(bad) for _, bad in BAD))
    missing = {f"{file}:{line}": text for (file, line), text in places.items()
               if (file, line) not in seen}  # fmt: skip
    assert not missing
