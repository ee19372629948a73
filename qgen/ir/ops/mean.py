"""mean: average over any set of axes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qgen.errors import QgenError
from qgen.ir.linear import EIGHT_BIT
from qgen.ir.numerics import (
    Multiplier,
    divide_multiplier,
    quantize_multiplier,
    requantize,
    saturate,
)
from qgen.ir.op import Bound, Cost, Env, Op, register
from qgen.ir.types import Array, Tensor


@register
@dataclass(frozen=True, eq=False, kw_only=True)
class Mean(Op):
    """y = sat(Z_y + M * sum(x - Z_x)) with M = (S_x / S_y) / N over the N elements of `axes`.

    The division by N is folded into the integer multiplier after S_x / S_y has been quantized
    (Q7a), so m_y.m0 may lie below 2**30. `axes` are sorted and not negative;
    the result drops them, or has them as 1 with `keep_dims`. Source: TFLite MEAN.
    """

    NAME = "mean"
    INTEGER: ClassVar[tuple[str, ...]] = ("m_y",)

    x: Tensor
    axes: tuple[int, ...]
    keep_dims: bool = False
    m_y: Multiplier | None = None

    @property
    def count(self) -> int:
        """N, the number of elements in each average."""
        return math.prod(self.x.shape[a] for a in self.axes)

    def check(self) -> None:
        if self.x.dtype not in EIGHT_BIT or self.out.dtype not in EIGHT_BIT:
            raise QgenError("needs u8 or i8 on both sides")
        rank = len(self.x.shape)
        ascending = tuple(sorted(set(self.axes))) == self.axes
        if not self.axes or not ascending or not (self.axes[0] >= 0 and self.axes[-1] < rank):
            raise QgenError(f"axes {list(self.axes)} are not ascending axes of rank {rank}")

    def infer(self) -> tuple[int, ...]:
        reduced = [1 if i in self.axes else d for i, d in enumerate(self.x.shape)]
        return tuple(d for i, d in enumerate(reduced) if self.keep_dims or i not in self.axes)

    def channelwise(self) -> tuple[Tensor, ...]:
        return () if len(self.x.shape) - 1 in self.axes else (self.x,)

    def legalize(self) -> Mean:
        ratio = quantize_multiplier(self.x.type.scale / self.out.type.scale)
        return self.replace(m_y=divide_multiplier(ratio, self.count))

    def eval(self, env: Env) -> Array:
        assert self.m_y
        total = env(self.x).sum(axis=self.axes, dtype=np.int64) - self.count * self.x.zero
        y = requantize(total, *self.m_y, env.rounding) + self.out.zero
        kind = self.out.dtype
        return saturate(y, kind.min, kind.max, kind).reshape(self.out.shape)

    def bounds(self) -> Bound:
        low, high = self.x.dtype.min - self.x.zero, self.x.dtype.max - self.x.zero
        return Bound(self.count * low, self.count * high)

    def cost(self) -> Cost:
        return Cost(elementwise=self.x.type.elements)

    def adversarial(self, rng: np.random.Generator) -> list[Array]:
        """Every element at one end of its type: the sums reach their bounds."""
        kind = self.x.dtype
        return [np.full(self.x.shape, end, kind.numpy) for end in (kind.min, kind.max)]
