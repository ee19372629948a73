"""Random models of the operators built on a matrix product."""

from __future__ import annotations

import math

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tests.oracle.builder import Array, Tensor, build, constant
from tests.oracle.draw import (
    activation,
    dtype8,
    integer,
    limits,
    log_uniform,
    moments,
    quantized,
    single,
    values,
)


def _weights(rng: np.random.Generator, dtype: str, shape: tuple[int, ...], zero: int) -> Array:
    """Uniform weights, bell-shaped ones, or ones of few bits (which allow multipliers above 1)."""
    kind = rng.choice(["uniform", "normal", "few"])
    if kind == "uniform":
        drawn = values(rng, dtype, shape).astype(np.int64)
    else:
        sigma = rng.uniform(5, 40) if kind == "normal" else rng.uniform(0.5, 1.5)
        drawn = np.rint(rng.normal(zero, sigma, shape)).astype(np.int64)
    low, high = limits(dtype)
    # int8 weights are symmetric in the format: -128 does not occur.
    return np.clip(drawn, low + (dtype == "i1"), high).astype(dtype)


def _bias_scales(source: Tensor, weights: Tensor) -> list[float]:
    return [float(np.float32(source.scale[0]) * np.float32(s)) for s in weights.scale]


def _operands(
    rng: np.random.Generator,
    source: Tensor,
    shape: tuple[int, ...],
    axis: int,
    out_shape: tuple[int, ...],
) -> tuple[Tensor, Tensor | None, Tensor, int]:
    """Weights with output channels along `axis`, bias, output, activation for an input tensor."""
    dtype, channels = source.dtype, shape[axis]
    low, high = limits(dtype)
    weight_zero = integer(rng, low, high) if dtype == "u1" else 0
    data = _weights(rng, dtype, shape, weight_zero)
    # Statistics of the accumulator, in units of input scale * weight scale.
    (in_scale,) = source.scale
    mean_x, var_x = (m / in_scale**p for p, m in enumerate(moments(source), 1))
    depth = data.size // channels
    real = data.astype(np.float64) - weight_zero
    total = real.sum(axis=tuple(i for i in range(real.ndim) if i != axis))
    variance = depth * var_x * float((real**2).mean()) + mean_x**2 * float(total.var())
    deviation, mean = max(math.sqrt(variance), 1.0), mean_x * float(total.mean())
    spread = log_uniform(rng, 20, 100) if rng.random() < 0.875 else log_uniform(rng, 200, 1000)
    multiplier = spread / deviation
    if abs(mean) * multiplier > 120:
        multiplier = rng.uniform(60, 120) / abs(mean)
    out_scale = log_uniform(rng, 0.005, 0.3)
    zero = round((low + high) / 2 - mean * multiplier) + integer(rng, -20, 20)
    zero = min(max(zero, low), high)
    weight_scale = multiplier * out_scale / in_scale
    per_channel = dtype == "i1" and channels > 1 and rng.random() < 0.6
    scales = tuple(
        single(weight_scale * (log_uniform(rng, 0.4, 2.5) if per_channel else 1.0))
        for _ in range(channels if per_channel else 1)
    )
    weights = constant(data, scales, weight_zero, axis)
    bias = None
    if rng.random() < 0.75:
        bias_data = np.rint(rng.normal(0, deviation, channels)).astype(np.int32)
        bias = constant(bias_data, _bias_scales(source, weights))
    output = Tensor(out_shape, dtype, (out_scale,), zero)
    return weights, bias, output, activation(rng, dtype, out_scale, zero)


def _window(
    rng: np.random.Generator, kernel: tuple[int, int], dilation: tuple[int, int]
) -> tuple[list[int], list[int], tuple[int, int], int]:
    """Input sizes, output sizes, strides and padding that fit a kernel."""
    same = rng.random() < 0.5
    stride = (integer(rng, 1, 3), integer(rng, 1, 3))
    sizes, out = [], []
    for k, d, s in zip(kernel, dilation, stride, strict=True):
        extent = (k - 1) * d + 1
        size = integer(rng, 1 if same else extent, extent + 9)
        sizes.append(size)
        out.append(-(-size // s) if same else (size - extent) // s + 1)
    return sizes, out, stride, schema.Padding.SAME if same else schema.Padding.VALID


def random_conv_2d(rng: np.random.Generator) -> bytes:
    kernel = (integer(rng, 1, 5), integer(rng, 1, 5))
    dilation = (integer(rng, 1, 3), integer(rng, 1, 3)) if rng.random() < 0.4 else (1, 1)
    sizes, out, stride, padding = _window(rng, kernel, dilation)
    batch, depth, channels = integer(rng, 1, 2), integer(rng, 1, 20), integer(rng, 1, 20)
    source = quantized(rng, dtype8(rng), (batch, *sizes, depth))
    weights, bias, output, act = _operands(
        rng, source, (channels, *kernel, depth), 0, (batch, *out, channels)
    )
    options = schema.Conv2DOptionsT()
    options.padding = padding
    options.strideH, options.strideW = stride
    options.dilationHFactor, options.dilationWFactor = dilation
    options.fusedActivationFunction = act
    if bias is None:
        # LiteRT insists on a bias here.
        bias = constant(np.zeros(channels, np.int32), _bias_scales(source, weights))
    return build("CONV_2D", options, [source, weights, bias], [output])


def random_depthwise_conv_2d(rng: np.random.Generator) -> bytes:
    kernel = (integer(rng, 1, 5), integer(rng, 1, 5))
    dilation = (integer(rng, 1, 3), integer(rng, 1, 3)) if rng.random() < 0.4 else (1, 1)
    sizes, out, stride, padding = _window(rng, kernel, dilation)
    batch, depth, factor = integer(rng, 1, 2), integer(rng, 1, 20), integer(rng, 1, 4)
    source = quantized(rng, dtype8(rng), (batch, *sizes, depth))
    weights, bias, output, act = _operands(
        rng, source, (1, *kernel, depth * factor), 3, (batch, *out, depth * factor)
    )
    options = schema.DepthwiseConv2DOptionsT()
    options.padding = padding
    options.strideH, options.strideW = stride
    options.dilationHFactor, options.dilationWFactor = dilation
    options.depthMultiplier = factor
    options.fusedActivationFunction = act
    inputs = [source, weights, bias][: 3 if bias else 2]
    return build("DEPTHWISE_CONV_2D", options, inputs, [output])


def random_fully_connected(rng: np.random.Generator) -> bytes:
    rank = integer(rng, 2, 4)
    shape = (*(integer(rng, 1, 5) for _ in range(rank - 1)), integer(rng, 1, 40))
    keep = bool(rng.random() < 0.4)
    # Without keep_num_dims a row may span several of the last dimensions.
    first = rank - 1 if keep else integer(rng, 1, rank - 1)
    depth, channels = math.prod(shape[first:]), integer(rng, 1, 20)
    out_shape = (*shape[:-1], channels) if keep else (math.prod(shape[:first]), channels)
    source = quantized(rng, dtype8(rng), shape)
    weights, bias, output, act = _operands(rng, source, (channels, depth), 0, out_shape)
    options = schema.FullyConnectedOptionsT()
    options.keepNumDims = keep
    options.fusedActivationFunction = act
    # The third input may be absent altogether or given as -1.
    inputs = [source, weights, bias] if bias or rng.random() < 0.5 else [source, weights]
    return build("FULLY_CONNECTED", options, inputs, [output])
