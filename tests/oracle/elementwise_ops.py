"""Random models of the operators that work value by value."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tests.oracle.builder import Tensor, build
from tests.oracle.draw import (
    activation,
    dtype8,
    integer,
    limits,
    log_uniform,
    moments,
    output_params,
    quantized,
    values,
)

Draw = Callable[[np.random.Generator], bytes]


def _shape(rng: np.random.Generator, low: int = 1, high: int = 4) -> tuple[int, ...]:
    rank = integer(rng, low, high)
    return tuple(integer(rng, 1, 6 if i < rank - 1 else 20) for i in range(rank))


def _shapes(rng: np.random.Generator) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Two shapes that broadcast: equal, a scalar, fewer dimensions, or dimensions of 1."""
    full = _shape(rng)
    kind = rng.choice(["equal", "scalar", "trailing", "ones", "both"])
    other = full
    if kind == "scalar":
        other = () if rng.random() < 0.5 else (1,)
    elif kind == "trailing":
        other = full[integer(rng, 0, len(full) - 1) :]
    elif kind != "equal":
        other = tuple(1 if rng.random() < 0.5 else d for d in full)
    if kind == "both":
        # Each side may be the one that is stretched, in different dimensions.
        pairs = zip(full, other, strict=True)
        full = tuple(1 if o == d and rng.random() < 0.5 else d for d, o in pairs)
    return (full, other) if rng.random() < 0.5 else (other, full)


def _binary(op: str, options: type) -> Draw:
    def draw(rng: np.random.Generator) -> bytes:
        dtype = dtype8(rng)
        operands = [quantized(rng, dtype, shape) for shape in _shapes(rng)]
        if rng.random() < 0.3:
            side = integer(rng, 0, 1)
            old = operands[side]
            data = values(rng, dtype, old.shape)
            if rng.random() < 0.5:
                # A constant close to its zero point: multipliers above 1 become possible.
                near = old.zero + rng.integers(-2, 3, old.shape)
                data = np.asarray(np.clip(near, *limits(dtype)), dtype)
            operands[side] = Tensor(old.shape, dtype, old.scale, old.zero, 0, data)
        (mean_a, var_a), (mean_b, var_b) = (moments(t) for t in operands)
        if op == "MUL":
            mean = mean_a * mean_b
            variance = (var_a + mean_a**2) * (var_b + mean_b**2) - mean**2
        else:
            mean = mean_a + mean_b if op == "ADD" else mean_a - mean_b
            variance = var_a + var_b
        scale, zero = output_params(rng, dtype, mean, variance)
        shape = np.broadcast_shapes(*(t.shape for t in operands))
        made = options()
        made.fusedActivationFunction = activation(rng, dtype, scale, zero)
        return build(op, made, operands, [Tensor(shape, dtype, (scale,), zero)])

    return draw


random_add = _binary("ADD", schema.AddOptionsT)
random_sub = _binary("SUB", schema.SubOptionsT)
random_mul = _binary("MUL", schema.MulOptionsT)


def _clamp(op: str, bottom: float, top: float) -> Draw:
    def draw(rng: np.random.Generator) -> bytes:
        dtype = dtype8(rng)
        low, high = limits(dtype)
        while True:
            source = quantized(rng, dtype, _shape(rng))
            scale, zero = output_params(rng, dtype, *moments(source))
            # Redraw where the clamp would leave next to nothing.
            if min(high, zero + top / scale) - max(low, zero + bottom / scale) >= 16:
                return build(op, None, [source], [Tensor(source.shape, dtype, (scale,), zero)])

    return draw


random_relu = _clamp("RELU", 0.0, math.inf)
random_relu6 = _clamp("RELU6", 0.0, 6.0)
random_relu_n1_to_1 = _clamp("RELU_N1_TO_1", -1.0, 1.0)


def _curve(op: str, scale: float, zeros: dict[str, int]) -> Draw:
    def draw(rng: np.random.Generator) -> bytes:
        dtype = dtype8(rng)
        low, high = limits(dtype)
        # From nearly linear to nearly a step; rarely the input sees one side of it only.
        zero = integer(rng, low, high) if rng.random() < 0.3 else integer(rng, low + 80, high - 80)
        source = Tensor(_shape(rng), dtype, (log_uniform(rng, 0.002, 0.5),), zero)
        return build(op, None, [source], [Tensor(source.shape, dtype, (scale,), zeros[dtype])])

    return draw


random_logistic = _curve("LOGISTIC", 1 / 256, {"u1": 0, "i1": -128})
random_tanh = _curve("TANH", 1 / 128, {"u1": 128, "i1": 0})


def random_quantize(rng: np.random.Generator) -> bytes:
    """Requantize from either 8-bit type to either."""
    source = quantized(rng, dtype8(rng), _shape(rng))
    dtype = dtype8(rng)
    scale, zero = output_params(rng, dtype, *moments(source))
    output = Tensor(source.shape, dtype, (scale,), zero)
    return build("QUANTIZE", schema.QuantizeOptionsT(), [source], [output])


def random_softmax(rng: np.random.Generator) -> bytes:
    dtype = dtype8(rng)
    shape = (*_shape(rng, 0, 3), integer(rng, 2, 40))
    # Scales up to a half: beyond it every row is one-hot.
    low, high = limits(dtype)
    source = Tensor(shape, dtype, (log_uniform(rng, 0.002, 0.5),), integer(rng, low, high))
    options = schema.SoftmaxOptionsT()
    options.beta = 1.0 if rng.random() < 0.5 else log_uniform(rng, 0.2, 5.0)
    output = Tensor(shape, dtype, (1 / 256,), 0 if dtype == "u1" else -128)
    return build("SOFTMAX", options, [source], [output])
