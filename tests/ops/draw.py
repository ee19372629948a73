"""Choices of one random op, all from one generator."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from qgen.errors import Loc
from qgen.ir.types import Activation, Array, DType, Padding, QParams, Tensor, TensorType
from qgen.ir.windows import Pads

T = TypeVar("T")
EIGHT_BIT = (DType.U8, DType.I8)
# Below, at and above the widths of vectors and blocks.
CHANNELS = (1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 19, 24, 31, 32, 33, 40)


class Draw:
    """Choices for one op, all from one generator; `prefix` starts the names of its tensors."""

    def __init__(self, seed: Sequence[int], prefix: str, loc: Loc) -> None:
        self.rng = np.random.default_rng(seed)
        self.prefix = prefix
        self.loc = loc
        # Powers of two make multipliers of one bit, whose products are full of ties.
        self.exact = self.chance(0.25)

    def chance(self, p: float) -> bool:
        return bool(self.rng.random() < p)

    def integer(self, low: int, high: int) -> int:
        """Uniform in [low, high], both included."""
        return int(self.rng.integers(low, high, endpoint=True))

    def choose(self, values: Sequence[T]) -> T:
        return values[self.integer(0, len(values) - 1)]

    def channels(self) -> int:
        return self.choose(CHANNELS) if self.chance(0.7) else self.integer(1, 40)

    def long(self) -> int:
        """Inputs of a product of many: whole steps of the matrix kernels."""
        return 32 * self.choose((1, 2, 3, 4, 4, 5, 8, 12))

    def dtype(self) -> DType:
        return self.choose(EIGHT_BIT)

    def like(self, other: DType) -> DType:
        """The same type, in one of six cases any."""
        return self.dtype() if self.chance(1 / 6) else other

    def shape(self, lowest_rank: int = 1) -> tuple[int, ...]:
        rank = self.integer(lowest_rank, 4)
        return (*(self.integer(1, 4) for _ in range(rank - 1)), self.channels())

    def log(self, low: float, high: float) -> float:
        """A single whose logarithm to base 2 is uniform in [low, high]."""
        return self.single(2.0 ** self.rng.uniform(low, high))

    def single(self, value: float) -> float:
        """`value` as a single, or the power of two below it."""
        return float(np.float32(2.0 ** math.floor(math.log2(value)) if self.exact else value))

    def zero(self, kind: DType) -> int:
        """A zero point: an end, the middle, or any."""
        middle = (kind.min + kind.max + 1) // 2
        return self.choose((kind.min, kind.max, middle, *self.values(kind, (4,)).tolist()))

    def values(self, kind: DType, shape: tuple[int, ...]) -> Array:
        return self.rng.integers(kind.min, kind.max, shape, kind.numpy, endpoint=True)

    def quant(self, kind: DType) -> QParams:
        return QParams((self.log(-9, 1),), self.zero(kind))

    def tensor(
        self, name: str, kind: DType, shape: tuple[int, ...], quant: QParams | None = None
    ) -> Tensor:
        kind_of = TensorType(kind, shape, quant or self.quant(kind))
        return Tensor(f"{self.prefix}_{name}", kind_of, None, self.loc)

    def constant(self, name: str, data: Array, quant: QParams | None = None) -> Tensor:
        kind = next(k for k in DType if k.numpy == data.dtype)
        return Tensor(f"{self.prefix}_{name}", TensorType(kind, data.shape, quant), data, self.loc)

    def operand(self, name: str, kind: DType, shape: tuple[int, ...], p: float) -> Tensor:
        """An operand that is a constant with probability `p`."""
        if self.chance(p):
            return self.constant(name, self.values(kind, shape), self.quant(kind))
        return self.tensor(name, kind, shape)

    def activation(self) -> Activation:
        return self.choose(tuple(Activation))


def weight_values(d: Draw, kind: DType, zero: int, shape: tuple[int, ...], axis: int) -> Array:
    """Weights as networks have them, and those that leave the lanes of a kernel."""
    style = d.choose((0, 0, 1, 1, 2, 3, 4))
    if style == 0:  # the pairs that overflow an int16 lane
        low = d.values(kind, shape)
        return np.where(d.rng.random(shape) < 0.8, kind.min, low).astype(kind.numpy)
    if style == 1:  # trained weights: most are near the zero point
        near = zero + d.rng.normal(0, d.choose((6, 20)), shape)
        return np.clip(np.round(near), kind.min, kind.max).astype(kind.numpy)
    if style == 2:  # one channel spans the type, the others do not
        near = np.clip(zero + d.rng.integers(-9, 10, shape), kind.min, kind.max)
        channel: list[Any] = [slice(None)] * len(shape)
        channel[axis] = d.integer(0, shape[axis] - 1)
        near[tuple(channel)] = d.values(kind, near[tuple(channel)].shape)
        return near.astype(kind.numpy)
    if style == 3:
        return d.choose((np.full(shape, kind.min), np.full(shape, kind.max))).astype(kind.numpy)
    return d.values(kind, shape)


def scaled(t: Tensor, factor: float) -> Tensor:
    """`t` with its scales multiplied."""
    assert t.type.quant
    scales = tuple(s * factor for s in t.type.quant.scale)
    return replace(t, type=t.type.with_quant(replace(t.type.quant, scale=scales)))


def regular(d: Draw) -> tuple[tuple[int, int], dict[str, Any], tuple[int, int], int]:
    """Kernel, attributes, size and channels of windows as networks have them."""
    kernel = d.choose(((1, 1), (1, 1), (3, 3), (3, 3), (2, 2)))
    step = d.choose((1, 1, 2))
    size = (d.integer(1, 5), step * d.choose((4, 8, 12, 20)))
    attributes = {"stride": (step, step), "padding": Padding.SAME}
    return kernel, attributes, size, d.choose((3, 8, 16, 16, 32))


# Kernel, attributes, shape of the input and output channels of what some kernels are made for.
Style = tuple[tuple[int, int], dict[str, Any], tuple[int, ...], int]
MANY = (8, 9, 16, 21)


def pixel(d: Draw) -> Style:
    """One pixel of many channels: one row times a matrix."""
    return (1, 1), {}, (1, 1, 1, d.long()), d.choose(MANY)


def pointwise(d: Draw) -> Style:
    """Pixels of few channels, in whole vectors."""
    shape = (d.integer(1, 2), d.integer(1, 4), d.integer(4, 9), 8 * d.integer(1, 8))
    return (1, 1), {}, shape, d.choose(MANY)


def first_layer(d: Draw) -> Style:
    """Many pixels of 1 to 4 channels."""
    kernel = d.choose(((3, 3), (3, 3), (2, 3), (5, 4), (10, 4)))
    size = (kernel[0] + d.integer(0, 7), kernel[1] + d.integer(3, 17))
    attributes = {
        "stride": (d.integer(1, 2), d.integer(1, 2)),
        "padding": d.choose((Padding.SAME, Padding.VALID, Pads(1, 1, 1, 1))),
    }
    return kernel, attributes, (d.integer(1, 2), *size, d.integer(1, 4)), d.choose(MANY)


def residual(d: Draw) -> Style:
    """3 x 3 windows one pixel apart, as residual blocks have them."""
    attributes = {"padding": d.choose((Padding.SAME, Padding.SAME, Padding.VALID))}
    shape = (d.integer(1, 2), d.integer(3, 10), d.integer(3, 10), d.choose((8, 8, 12, 16, 24)))
    return (3, 3), attributes, shape, d.choose(MANY)
