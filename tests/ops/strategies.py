"""Random ops: one drawn seed gives one op with everything that a kernel might get wrong.

Each function of `OPS` draws shapes, types, scales, zero points and constants of one op. `program`
puts many of them side by side into one graph, so that one compilation tests them all.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from qgen.errors import Loc
from qgen.ir.graph import Graph
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
from qgen.ir.ops.mul import Mul
from qgen.ir.ops.pad import Pad
from qgen.ir.ops.quantize import Quantize
from qgen.ir.ops.reshape import Reshape
from qgen.ir.ops.slice import Slice
from qgen.ir.ops.softmax import Softmax
from qgen.ir.ops.sub import Sub
from qgen.ir.ops.tanh import Tanh
from qgen.ir.sigmoid import Method
from qgen.ir.types import DType, Padding, QParams, Rounding, Tensor, TensorType
from tests.ops.building import KERNELS, built, result, window
from tests.ops.draw import (
    Draw,
    first_layer,
    pixel,
    pointwise,
    regular,
    residual,
    scaled,
    weight_values,
)
from tests.ops.image_strategies import mean, pool, resize_bilinear, resize_nearest

# -- linear ops ----------------------------------------------------------------------------------


def _linear(d: Draw, x: Tensor, shape: tuple[int, ...], axis: int) -> dict[str, Any]:
    """w, b and a scale of the result that spreads it over its type, or saturates it."""
    # Everything at once: weights that leave int8 and an int16 lane, a multiplier above 1.
    hard = d.chance(0.15)
    kind = DType.U8 if hard else d.like(x.dtype)
    zero = d.zero(kind) if kind is DType.U8 or d.chance(0.1) else 0
    channels = shape[axis]
    per_channel = d.chance(0.5)
    scales = tuple(d.log(-10, -4) for _ in range(channels if per_channel else 1))
    data = weight_values(d, kind, zero, shape, axis)
    if hard:
        zero = d.choose((0, 127, 255))
        data = d.rng.choice(np.array((0, 255), np.uint8), shape, p=(0.7, 0.3))
    w = d.constant("w", data, QParams(scales, zero, axis if per_channel else None))
    depth = data.size / channels
    typical = max(1.0, 70.0 * float(np.abs(data - float(zero)).mean()) * depth**0.5)
    style = d.integer(0, 9)
    # Two multipliers in ten are above 1, one leaves nothing; most spread the result.
    multiplier = (
        d.log(0, 7) if style < 2 or hard else d.log(-40, -20) if style == 2 else 60 / typical
    )
    scale = x.type.scale * float(np.median(scales)) / multiplier
    fields: dict[str, Any] = {"w": w, "activation": d.activation()}
    if d.chance(0.85):
        reach = 2**30 if d.chance(0.1) else int(typical) + 1
        b = d.rng.integers(-reach, reach, (channels,), np.int32, endpoint=True)
        fields["b"] = d.constant("b", b, QParams((1.0,), 0))
    return fields | {"scale": d.single(min(max(scale, 2.0**-120), 2.0**120))}


def conv2d(d: Draw) -> Op:
    style = d.integer(0, 9)
    if style < 6:
        kernel, attributes, shape, channels = (pixel, pointwise, first_layer)[style // 2](d)
    elif style == 6:
        kernel, attributes, shape, channels = residual(d)
    else:
        usual = d.chance(0.3)
        kernel, attributes, size, c = regular(d) if usual else (*window(d, 3), d.channels())
        shape, channels = (d.integer(1, 2), *size, c), d.channels()
    x = d.tensor("x", d.dtype(), shape)
    fields = _linear(d, x, (channels, *kernel, x.shape[3]), 0)
    return built(Conv2D, d, d.like(x.dtype), fields.pop("scale"), x=x, **fields, **attributes)


def depthwise_conv2d(d: Draw) -> Op:
    # The last has more taps than are worth unrolling.
    kernel, attributes, size = window(d, 3, (*KERNELS, (3, 3), (3, 3), (10, 8), (12, 11)))
    channels, multiplier = d.channels(), d.choose((1, 1, 1, 2, 3, 8))
    if d.chance(0.2):
        # As in MobileNets: kernels of their own pay from some size on.
        kernel, size = (3, 3), (d.integer(5, 14), d.integer(9, 21))
        stride = d.choose(((1, 1), (2, 2), (2, 2)))
        attributes = {"stride": stride, "dilation": (1, 1), "padding": Padding.SAME}
        channels, multiplier = d.choose((16, 32, 40)), 1
    x = d.tensor("x", d.dtype(), (d.integer(1, 2), *size, channels))
    fields = _linear(d, x, (1, *kernel, x.shape[3] * multiplier), 3)
    return built(
        DepthwiseConv2D, d, d.like(x.dtype), fields.pop("scale"), x=x, **fields, **attributes
    )


def fully_connected(d: Draw) -> Op:
    long = d.chance(0.25)
    depth = d.long() if long else d.channels() * d.choose((1, 1, 2, 4))
    rows = d.choose(((1,), (1,), (2,), (3,), (4,), (5,), (9,), (2, 3)))
    keep_dims = d.chance(0.3)
    shape = (*rows, depth) if keep_dims or d.chance(0.6) else (*rows, 1, depth, 1)
    x = d.tensor("x", d.dtype(), shape)
    channels = d.choose((8, 9, 16, 21)) if long else d.channels()
    fields = _linear(d, x, (channels, depth), 0)
    requant = d.choose((None, None, *Rounding))
    if requant is Rounding.NEAREST and d.exact:
        # The multiplier falls short of a power of two by less than M0 holds: nearly a tie.
        x, fields["w"] = scaled(x, 1 + 2.0**-20), scaled(fields["w"], 1 - 2.0**-20)
    if requant is Rounding.NEAREST and "b" in fields:
        # The proof of the exact multiplier takes an accumulator that a double can tell apart.
        b = np.clip(fields["b"].const, -(2**24), 2**24).astype(np.int32)
        fields["b"] = replace(fields["b"], data=b)
    return built(
        FullyConnected, d, d.like(x.dtype), fields.pop("scale"),
        x=x, keep_dims=keep_dims, requant=requant, **fields,
    )  # fmt: skip


# -- element-wise ops ----------------------------------------------------------------------------


def _binary_operands(d: Draw) -> tuple[Tensor, Tensor]:
    shape = d.shape()
    style = d.integer(0, 5)
    other = shape
    if style == 0:
        other = tuple(1 if d.chance(0.5) else n for n in shape)
    elif style == 1:
        other = shape[d.integer(0, len(shape) - 1) :]
    elif style == 2:
        other = d.choose(((1,), (), (1,) * len(shape)))
    kind = d.dtype()
    a = d.operand("a", kind, shape, 0.1)
    if style == 5 and a.data is None:
        return a, a
    b = d.operand("b", d.like(kind), other, 0.3 if a.data is None else 0.0)
    return (a, b) if d.chance(0.5) else (b, a)


def _sum(cls: type[Op]) -> Callable[[Draw], Op]:
    def draw(d: Draw) -> Op:
        a, b = _binary_operands(d)
        widest = max(a.type.scale, b.type.scale)
        # Now and then a result so fine that its multiplier passes 1 and left shifts wrap.
        scale = widest * (d.log(-24, -18) if d.chance(0.1) else d.log(-3, 3))
        return built(cls, d, d.like(a.dtype), scale, a=a, b=b, activation=d.activation())

    return draw


def mul(d: Draw) -> Op:
    a, b = _binary_operands(d)
    spread = d.log(-18, 2) if d.chance(0.2) else d.log(4, 10)
    scale = a.type.scale * b.type.scale * spread
    return built(Mul, d, d.like(a.dtype), scale, a=a, b=b, activation=d.activation())


def _ratio(d: Draw) -> float:
    """S_y / S_x from one that saturates everything to one that leaves nothing."""
    return d.log(-20, 40) if d.chance(0.2) else d.log(-3, 3)


def clamp(d: Draw) -> Op:
    x = d.tensor("x", d.dtype(), d.shape())
    scale = x.type.scale * _ratio(d)
    return built(Clamp, d, d.like(x.dtype), scale, x=x, activation=d.activation())


def quantize(d: Draw) -> Op:
    x = d.tensor("x", d.dtype(), d.shape())
    return built(Quantize, d, d.dtype(), x.type.scale * _ratio(d), x=x)


def lookup(d: Draw) -> Op:
    x, kind = d.tensor("x", d.dtype(), d.shape()), d.dtype()
    table = d.constant("table", d.values(kind, (256,)))
    return Lookup(x=x, table=table, out=result(d, kind, x.shape, 0.5), loc=d.loc)


def _sigmoid(cls: type[Any]) -> Callable[[Draw], Op]:
    def draw(d: Draw) -> Op:
        kind = d.dtype()
        quant = QParams((d.log(-40, 2.9) if d.chance(0.2) else d.log(-9, 0),), d.zero(kind))
        x = d.tensor("x", kind, d.shape(), quant)
        y = d.like(kind)
        fixed = QParams((2.0**-cls.OUTPUT_BITS,), cls.UNSIGNED_ZERO + y.min)
        method = Method.TABLE if d.chance(0.1) else Method.FIXED_POINT
        out = d.tensor("y", y, x.shape, fixed if method is Method.FIXED_POINT else None)
        return cls(x=x, method=method, out=out, loc=d.loc)

    return draw


def softmax(d: Draw) -> Op:
    kind = d.dtype()
    shape = d.choose((d.shape(), d.shape(), (1, 300), (2, 1), (1, 4095)))
    quant = QParams((d.log(-40, 2) if d.chance(0.2) else d.log(-8, 0),), d.zero(kind))
    x, y = d.tensor("x", kind, shape, quant), d.like(kind)
    out = d.tensor("y", y, shape, QParams((1 / 256,), y.min))
    return Softmax(x=x, beta=d.choose((1.0, 1.0, 0.25, 3.0)), out=out, loc=d.loc)


# -- data movement -------------------------------------------------------------------------------


def pad(d: Draw) -> Op:
    x = d.tensor("x", d.dtype(), d.shape())
    some = d.choose((0.2, 0.5, 1.0))
    amounts = tuple(
        (d.integer(0, 3), d.integer(0, 3)) if d.chance(some) else (0, 0) for _ in x.shape
    )
    value = d.integer(x.dtype.min, x.dtype.max) if d.chance(0.5) else None
    return built(Pad, d, x.dtype, None, x=x, amounts=amounts, value=value)


def reshape(d: Draw) -> Op:
    x = d.tensor("x", d.dtype(), d.shape())
    shape = d.choose(((x.type.elements,), x.shape[::-1], (1, *x.shape), (x.type.elements, 1, 1)))
    return Reshape(x=x, out=d.tensor("y", x.dtype, shape, x.type.quant), loc=d.loc)


def slice_(d: Draw) -> Op:
    x = d.tensor("x", d.dtype(), d.shape())
    sizes = tuple(n if d.chance(0.5) else d.integer(1, n) for n in x.shape)
    begin = tuple(d.integer(0, n - m) for n, m in zip(x.shape, sizes, strict=True))
    return Slice(x=x, begin=begin, out=d.tensor("y", x.dtype, sizes, x.type.quant), loc=d.loc)


def concat(d: Draw) -> Op:
    first = d.tensor("x0", d.dtype(), d.shape())
    axis = d.integer(0, len(first.shape) - 1)
    parts = [first]
    for i in range(1, d.integer(1, 4)):
        shape = (*first.shape[:axis], d.integer(1, 20), *first.shape[axis + 1 :])
        if d.chance(0.2):
            parts.append(d.constant(f"x{i}", d.values(first.dtype, shape), first.type.quant))
        elif d.chance(0.2):
            parts.append(first)
        else:
            parts.append(d.tensor(f"x{i}", first.dtype, shape, first.type.quant))
    d.rng.shuffle(parts)  # type: ignore[arg-type]
    shape = list(first.shape)
    shape[axis] = sum(t.shape[axis] for t in parts)
    out = d.tensor("y", first.dtype, tuple(shape), first.type.quant)
    return Concat(x=tuple(parts), axis=axis, out=out, loc=d.loc)


OPS: dict[str, Callable[[Draw], Op]] = {
    "add": _sum(Add),
    "average_pool2d": pool(AveragePool2D),
    "clamp": clamp,
    "concat": concat,
    "conv2d": conv2d,
    "depthwise_conv2d": depthwise_conv2d,
    "fully_connected": fully_connected,
    "logistic": _sigmoid(Logistic),
    "lookup": lookup,
    "max_pool2d": pool(MaxPool2D),
    "mean": mean,
    "mul": mul,
    "pad": pad,
    "quantize": quantize,
    "reshape": reshape,
    "resize_bilinear": resize_bilinear,
    "resize_nearest": resize_nearest,
    "slice": slice_,
    "softmax": softmax,
    "sub": _sum(Sub),
    "tanh": _sigmoid(Tanh),
}


# -- programs ------------------------------------------------------------------------------------


def _inner(d: Draw, op: Op) -> tuple[list[Tensor], list[Op], Tensor]:
    """(graph inputs, ops, graph output) around `op`.

    Tensors of the caller keep their type; only inner uint8 tensors are stored as int8. So now and
    then a quantize op stands between the caller and the op.
    """
    inputs, before = [], []
    inside = d.chance(0.3)
    for t in dict.fromkeys(op.inputs()):
        if inside or d.chance(0.2):
            quant = QParams((t.type.scale * d.log(-2, 2),), d.zero(t.dtype))
            caller = Tensor(f"{t.name}_in", t.type.with_quant(quant), None, d.loc)
            before.append(Quantize(x=caller, out=t, loc=d.loc))
            inputs.append(caller)
        else:
            inputs.append(t)
    if not (inside or d.chance(0.2)):
        return inputs, [*before, op], op.out
    kind = d.dtype()
    scale = op.out.type.scale * d.log(-1, 1)
    quant = QParams((min(max(scale, 2.0**-126), 2.0**126),), d.zero(kind))
    y = Tensor(f"{op.name}_out", TensorType(kind, op.out.shape, quant), None, d.loc)
    return inputs, [*before, op, Quantize(x=op.out, out=y, loc=d.loc)], y


def base_seed() -> int:
    """Set QGEN_SEED to test other random ops than those of every day."""
    return int(os.environ.get("QGEN_SEED", "0"))


def one(name: str, seed: int, case: int = 0) -> Op:
    """One random op, alone."""
    loc = Loc(f"QGEN_SEED={seed}", item=f"case {case}")
    return OPS[name](Draw([seed, list(OPS).index(name), case], f"{name}_{case}", loc))


def program(name: str, rounding: Rounding, count: int, seed: int | None = None) -> Graph:
    """`count` random ops side by side, each on inputs of its own."""
    seed = base_seed() if seed is None else seed
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []
    ops: list[Op] = []
    for case in range(count):
        loc = Loc(f"QGEN_SEED={seed}", item=f"case {case}")
        # Another rounding tests other ops.
        key = [seed, list(OPS).index(name), list(Rounding).index(rounding), case]
        d = Draw(key, f"{name}_{case}", loc)
        more_inputs, more_ops, output = _inner(d, OPS[name](d))
        inputs += more_inputs
        ops += more_ops
        outputs.append(output)
    return Graph(f"{name}_{rounding.value}", tuple(inputs), tuple(outputs), tuple(ops), rounding)
