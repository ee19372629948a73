"""Random models of pooling, reduction and the operators that move values."""

from __future__ import annotations

import math

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tests.oracle.builder import Tensor, build, constant
from tests.oracle.draw import (
    activation,
    dtype8,
    integer,
    limits,
    moments,
    output_params,
    quantized,
    values,
)


def _pool(rng: np.random.Generator, op: str) -> bytes:
    kernel, stride = ((integer(rng, 1, 5), integer(rng, 1, 5)) for _ in range(2))
    stride = tuple(min(s, 3) for s in stride)
    same = rng.random() < 0.5
    sizes = [integer(rng, 1 if same else k, k + 9) for k in kernel]
    out = [
        -(-n // s) if same else (n - k) // s + 1
        for n, k, s in zip(sizes, kernel, stride, strict=True)
    ]
    batch, depth = integer(rng, 1, 2), integer(rng, 1, 20)
    source = quantized(rng, dtype8(rng), (batch, *sizes, depth))
    options = schema.Pool2DOptionsT()
    options.padding = schema.Padding.SAME if same else schema.Padding.VALID
    options.filterHeight, options.filterWidth = kernel
    options.strideH, options.strideW = stride
    # The largest of n uniform values lies at n / (n + 1) of the range.
    area = kernel[0] * kernel[1] if op == "MAX_POOL_2D" else 1
    options.fusedActivationFunction = activation(
        rng, source.dtype, source.scale[0], source.zero, area / (area + 1)
    )
    output = Tensor((batch, *out, depth), source.dtype, source.scale, source.zero)
    return build(op, options, [source], [output])


def random_average_pool_2d(rng: np.random.Generator) -> bytes:
    return _pool(rng, "AVERAGE_POOL_2D")


def random_max_pool_2d(rng: np.random.Generator) -> bytes:
    return _pool(rng, "MAX_POOL_2D")


def random_mean(rng: np.random.Generator) -> bytes:
    dtype, rank = dtype8(rng), integer(rng, 2, 4)
    shape = tuple(integer(rng, 1, 9) for _ in range(rank))
    axes = rng.permutation(rank)[: integer(rng, 1, rank)]
    if rank == 4 and rng.random() < 0.4:
        # The case of a global average pool, which has kernels of its own.
        axes = np.array([1, 2])[:: integer(rng, 0, 1) * 2 - 1]
    keep = bool(rng.random() < 0.5)
    out_shape = tuple(1 if i in axes else d for i, d in enumerate(shape) if keep or i not in axes)
    source = quantized(rng, dtype, shape)
    mean, variance = moments(source)
    scale, zero = source.scale[0], source.zero
    if rng.random() < 0.75:
        count = math.prod(shape[i] for i in axes)
        scale, zero = output_params(rng, dtype, mean, variance / count)
    named = np.array([a - rank if rng.random() < 0.3 else a for a in axes], np.int32)
    options = schema.ReducerOptionsT()
    options.keepDims = keep
    return build(
        "MEAN", options, [source, constant(named)], [Tensor(out_shape, dtype, (scale,), zero)]
    )


def _pad(rng: np.random.Generator, op: str) -> bytes:
    rank = integer(rng, 1, 4)
    source = quantized(rng, dtype8(rng), tuple(integer(rng, 1, 6) for _ in range(rank)))
    amounts = rng.integers(0, 4, (rank, 2)).astype(np.int32)
    shape = tuple(int(d + a.sum()) for d, a in zip(source.shape, amounts, strict=True))
    inputs = [source, constant(amounts)]
    if op == "PADV2":
        inputs.append(constant(values(rng, source.dtype, (1,)), source.scale, source.zero))
    options = schema.PadOptionsT() if op == "PAD" else schema.PadV2OptionsT()
    return build(op, options, inputs, [Tensor(shape, source.dtype, source.scale, source.zero)])


def random_pad(rng: np.random.Generator) -> bytes:
    return _pad(rng, "PAD")


def random_padv2(rng: np.random.Generator) -> bytes:
    return _pad(rng, "PADV2")


def _size(rng: np.random.Generator, size: int, *, aligned: bool, binary: bool) -> int:
    """A new size; with `binary` one whose weights are short binary fractions."""
    if not binary:
        return integer(rng, 1, 24)
    factor = 1 << integer(rng, 0, 3)
    if aligned:
        return (size - 1) * factor + 1
    return size * factor if rng.random() < 0.7 or size % factor else size // factor


def _resize(rng: np.random.Generator, op: str) -> bytes:
    aligned, centers = rng.permutation([[True, False], [False, True], [False, False]])[0]
    dtype = dtype8(rng)
    # uint8 is interpolated in single precision.
    binary = op == "RESIZE_BILINEAR" and dtype == "u1"
    sizes = [integer(rng, 1, 12) for _ in range(2)]
    out = [_size(rng, n, aligned=aligned, binary=binary) for n in sizes]
    batch, depth = integer(rng, 1, 2), integer(rng, 1, 20)
    source = quantized(rng, dtype, (batch, *sizes, depth))
    options = (
        schema.ResizeBilinearOptionsT()
        if op == "RESIZE_BILINEAR"
        else schema.ResizeNearestNeighborOptionsT()
    )
    options.alignCorners, options.halfPixelCenters = bool(aligned), bool(centers)
    output = Tensor((batch, *out, depth), source.dtype, source.scale, source.zero)
    return build(op, options, [source, constant(np.array(out, np.int32))], [output])


def random_resize_bilinear(rng: np.random.Generator) -> bytes:
    return _resize(rng, "RESIZE_BILINEAR")


def random_resize_nearest_neighbor(rng: np.random.Generator) -> bytes:
    return _resize(rng, "RESIZE_NEAREST_NEIGHBOR")


def random_slice(rng: np.random.Generator) -> bytes:
    """A box, sometimes to the end of a dimension, which -1 says."""
    shape = tuple(integer(rng, 1, 8) for _ in range(integer(rng, 1, 4)))
    source = quantized(rng, dtype8(rng), shape)
    begin = [integer(rng, 0, n - 1) for n in shape]
    size = [integer(rng, 1, n - b) for n, b in zip(shape, begin, strict=True)]
    named = [-1 if b + m == n and rng.random() < 0.5 else m
             for n, b, m in zip(shape, begin, size, strict=True)]  # fmt: skip
    inputs = [source, *(constant(np.array(v, np.int32)) for v in (begin, named))]
    output = Tensor(tuple(size), source.dtype, source.scale, source.zero)
    return build("SLICE", schema.SliceOptionsT(), inputs, [output])


def random_reshape(rng: np.random.Generator) -> bytes:
    """The new shape in the second input, in the options, or in both; sometimes with one -1."""
    source = quantized(
        rng, dtype8(rng), tuple(integer(rng, 1, 6) for _ in range(integer(rng, 1, 4)))
    )
    left, shape = math.prod(source.shape), []
    for _ in range(integer(rng, 0, 3)):
        shape.append(int(rng.choice([d for d in range(1, left + 1) if left % d == 0])))
        left //= shape[-1]
    shape.insert(integer(rng, 0, len(shape)), left)
    named = np.array(shape, np.int32)
    if rng.random() < 0.3:
        named[integer(rng, 0, len(shape) - 1)] = -1
    where = rng.choice(["input", "options", "both"])
    options = None
    if where != "input":
        options = schema.ReshapeOptionsT()
        options.newShape = named.tolist()
    inputs = [source] if where == "options" else [source, constant(named)]
    output = Tensor(tuple(shape), source.dtype, source.scale, source.zero)
    return build("RESHAPE", options, inputs, [output])


def random_concatenation(rng: np.random.Generator) -> bytes:
    """Equal parameters, or (uint8 only, as the reference kernels demand) different ones."""
    dtype, rank = dtype8(rng), integer(rng, 1, 4)
    axis, count = integer(rng, 0, rank - 1), integer(rng, 1, 5)
    shape = [integer(rng, 1, 6) for _ in range(rank)]
    output = quantized(rng, dtype, ())
    mixed = dtype == "u1" and rng.random() < 0.6
    inputs = []
    for _ in range(count):
        shape[axis] = integer(rng, 1, 6)
        scale, zero = output.scale, output.zero
        if mixed and rng.random() < 0.8:
            scale = (np.float32(scale[0] * rng.uniform(0.3, 3)).item(),)
            zero = integer(rng, *limits(dtype))
        data = values(rng, dtype, tuple(shape)) if inputs and rng.random() < 0.15 else None
        inputs.append(Tensor(tuple(shape), dtype, scale, zero, 0, data))
    shape[axis] = sum(t.shape[axis] for t in inputs)
    options = schema.ConcatenationOptionsT()
    options.axis = axis - rank if rng.random() < 0.4 else axis
    made = Tensor(tuple(shape), dtype, output.scale, output.zero)
    return build("CONCATENATION", options, inputs, [made])
