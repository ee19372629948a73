"""fully_connected: y = requantize(x * w^T + b), the matrix product of eq. (7)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from qgen.errors import QgenError
from qgen.ir.linear import Linear
from qgen.ir.numerics import exact_multiplier
from qgen.ir.op import Cost, Env, register
from qgen.ir.types import Array, Rounding


@register
@dataclass(frozen=True, eq=False, kw_only=True)
class FullyConnected(Linear):
    """Every row of x against every row of w.

    Shapes: x [..., K] or any shape whose size is a multiple of K; w [O, K]; b [O]; result [M, O],
    or [..., O] with `keep_dims`. `requant` replaces the model's rounding for this op: LiteRT's
    reference rounds here once, in double, where its other ops round twice (NEAREST, (Q4)).
    Source: paper section 2.3; TFLite FULLY_CONNECTED.
    """

    NAME = "fully_connected"

    keep_dims: bool = False
    requant: Rounding | None = None

    def check(self) -> None:
        if len(self.w.shape) != 2:
            raise QgenError(f"weights must be [out, in], got {list(self.w.shape)}")
        super().check()
        depth = self.w.shape[1]
        if self.x.type.elements % depth or (self.keep_dims and self.x.shape[-1] != depth):
            raise QgenError(f"weights expect rows of {depth}, x is {list(self.x.shape)}")

    def legalize(self) -> FullyConnected:
        op = super().legalize()
        if self.requant is not Rounding.NEAREST:
            return op
        bound, w = self.bounds(), self.w.type.quant
        reals = [self.x.type.scale * s / self.out.type.scale for s in w.scale] if w else []
        exact = [exact_multiplier(real, bound.low, bound.high) for real in reals]
        return op.replace(
            m0=self.per_channel("m0", [m.m0 for m, _ in exact]),
            shift=self.per_channel("shift", [m.shift for m, _ in exact]),
            m1=self.per_channel("m1", [low for _, low in exact]),
        )

    def rounding(self, model: Rounding) -> Rounding:
        return self.requant or model

    @property
    def rows(self) -> int:
        """M, the number of rows of x."""
        return self.x.type.elements // self.w.shape[1]

    def infer(self) -> tuple[int, ...]:
        head = self.x.shape[:-1] if self.keep_dims else (self.rows,)
        return (*head, self.channels)

    def eval(self, env: Env) -> Array:
        return self.finish(self.matmul(env(self.x).reshape(self.rows, -1), env), env)

    def cost(self) -> Cost:
        return Cost(macs=self.rows * math.prod(self.w.shape))

    def adversarial(self, rng: np.random.Generator) -> list[Array]:
        """Every row of x set to the extreme of one channel's signs."""
        low, high = self.x.dtype.min, self.x.dtype.max
        inputs = []
        for channel in self.widest_channels(2):
            for sign in (1, -1):
                row = np.where(self.centered_weights()[channel] * sign > 0, high, low)
                inputs.append(self.show(row, rng))
        return inputs

    def show(self, patch: Array, rng: np.random.Generator) -> Array:
        x = np.broadcast_to(patch, (self.rows, patch.size)).reshape(self.x.shape)
        return x.astype(self.x.dtype.numpy)
