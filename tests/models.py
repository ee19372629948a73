"""Small models that several tests use."""

from __future__ import annotations

from functools import cache

import numpy as np

from qgen.ir.graph import Graph
from qgen.ir.op import registry
from qgen.ir.types import Array, DType, Padding, QParams, Tensor, TensorType

OPS = registry()


def tensor(name: str, shape: tuple[int, ...], scale: float = 0.05, zero: int = 128) -> Tensor:
    return Tensor(name, TensorType(DType.U8, shape, QParams((scale,), zero)))


def weights(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> Tensor:
    data: Array = rng.integers(0, 256, shape, np.uint8)
    return Tensor(name, TensorType(DType.U8, shape, QParams((0.02,), 120)), data)


def bias(name: str, count: int, scale: float, rng: np.random.Generator) -> Tensor:
    data: Array = rng.integers(-500, 500, (count,), np.int32)
    return Tensor(name, TensorType(DType.I32, (count,), QParams((scale,), 0)), data)


@cache
def tiny(name: str = "tiny") -> Graph:
    """Two convolutions, their sum, a reshape; the first result is u8 in the model, i8 in C."""
    rng = np.random.default_rng(1)
    x = tensor("image", (1, 8, 8, 3))
    c1 = OPS["conv2d"](
        x=x, w=weights("w1", (8, 3, 3, 3), rng), b=bias("b1", 8, 0.001, rng),
        padding=Padding.SAME, out=tensor("c1", (1, 8, 8, 8), 0.1, 100),
    )  # fmt: skip
    c2 = OPS["conv2d"](
        x=c1.out, w=weights("w2", (8, 1, 1, 8), rng), out=tensor("c2", (1, 8, 8, 8), 0.1, 100)
    )
    total = OPS["add"](a=c1.out, b=c2.out, out=tensor("total", (1, 8, 8, 8), 0.2, 90))
    flat = OPS["reshape"](x=total.out, out=tensor("flat", (1, 512), 0.2, 90))
    return Graph(name, (x,), (flat.out,), (c1, c2, total, flat))


@cache
def forked(name: str = "forked") -> Graph:
    """Two inputs; three outputs, of which one is an input and one is used by another op."""
    a, b = tensor("left", (1, 4, 5), 0.1), tensor("right", (1, 4, 5), 0.2, 7)
    total = OPS["add"](a=a, b=b, out=tensor("total", (1, 4, 5), 0.3, 60))
    top = OPS["clamp"](x=total.out, out=tensor("top", (1, 4, 5), 0.3, 60))
    return Graph(name, (a, b), (total.out, top.out, a), (total, top))
