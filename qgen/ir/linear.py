"""What conv2d, depthwise_conv2d and fully_connected share: an int32 accumulator, then (7).

    y = clamp(Z_y + M * (sum((x - Z_x) * (w - Z_w)) + b))        (Q5)

with one multiplier M = S_x * S_w / S_y per tensor or per output channel, eq. (5).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np

from qgen.errors import QgenError
from qgen.ir.numerics import (
    Multiplier,
    activation_range,
    float32,
    quantize_multiplier,
    requantize,
    saturate,
)
from qgen.ir.op import Bound, Env, Op
from qgen.ir.types import Activation, Array, DType, Rounding, Tensor, TensorType

EIGHT_BIT = (DType.U8, DType.I8)
LinearT = TypeVar("LinearT", bound="Linear")


@dataclass(frozen=True, eq=False, kw_only=True)
class Linear(Op):
    """Base of the ops that multiply by constant weights.

    Operands: x activations; w weights; b bias i32[channels] with scale S_x * S_w and zero 0,
    eq. (11). After `legalize`: m0 i32[channels], shift i32[channels] (eq. (6); positive is left)
    and clamp, the inclusive output range.
    """

    INTEGER: ClassVar[tuple[str, ...]] = ("m0", "shift", "clamp")
    REAL: ClassVar[tuple[str, ...]] = ("activation",)
    CHANNEL_AXIS: ClassVar[int] = 0

    x: Tensor
    w: Tensor
    b: Tensor | None = None
    m0: Tensor | None = None
    shift: Tensor | None = None
    m1: Tensor | None = None
    activation: Activation = Activation.NONE
    clamp: tuple[int, int] | None = None

    @property
    def channels(self) -> int:
        """Number of output channels."""
        return self.w.shape[self.CHANNEL_AXIS]

    def check(self) -> None:
        if self.x.dtype not in EIGHT_BIT or self.w.dtype not in EIGHT_BIT:
            raise QgenError(
                f"needs u8 or i8 input and weights, got {self.x.dtype.value} and "
                f"{self.w.dtype.value}"
            )
        if self.w.data is None:
            raise QgenError(f"weights '{self.w.name}' must be a constant")
        q = self.w.type.quant
        axis = self.CHANNEL_AXIS % len(self.w.shape)
        if q and q.axis is not None and q.axis != axis:
            raise QgenError(f"weights are quantized along axis {q.axis}, not along {axis}")
        parts = {"bias": self.b, "m0": self.m0, "shift": self.shift, "m1": self.m1}
        for what, t in parts.items():
            if t is None:
                continue
            if t.data is None:
                raise QgenError(f"{what} '{t.name}' must be a constant")
            if t.dtype is not DType.I32 or t.shape != (self.channels,):
                raise QgenError(
                    f"{what} must be i32[{self.channels}], got {t.dtype.value}{list(t.shape)}"
                )

    def legalize(self: LinearT) -> LinearT:
        x, w, y = self.x.type, self.w.type, self.out.type
        if not (x.quant and w.quant and y.quant):
            raise QgenError("input, weights and output need quantization parameters", self.loc)
        multipliers = [self.multiplier(s) for s in w.quant.scale]
        return self.replace(
            m0=self.per_channel("m0", [m.m0 for m in multipliers]),
            shift=self.per_channel("shift", [m.shift for m in multipliers]),
            clamp=activation_range(self.activation, y.quant, y.dtype),
            activation=Activation.NONE,
        )

    def per_channel(self, name: str, values: list[int]) -> Tensor:
        """A constant i32[channels] beside the weights; one value serves all channels."""
        data = np.resize(np.array(values, np.int32), self.channels)
        kind = TensorType(DType.I32, (self.channels,))
        return Tensor(f"{self.out.name}.{name}", kind, data, self.loc)

    def multiplier(self, w_scale: float) -> Multiplier:
        """M of eq. (5) for one scale of the weights.

        TFLite rounds S_x * S_w to single precision first where the type is uint8.
        """
        product = self.x.type.scale * w_scale
        if self.x.dtype is DType.U8:
            product = float32(product)
        return quantize_multiplier(product / self.out.type.scale)

    def rounding(self, model: Rounding) -> Rounding:
        """How the result rounds: as the model says, unless the op says otherwise."""
        return model

    def centered_weights(self) -> Array:
        """w - Z_w as int32, in the shape of the weights."""
        return self.w.const.astype(np.int32) - self.w.zero

    def weight_matrix(self) -> Array:
        """w - Z_w as int32 [K, channels]: the right factor of eq. (9)."""
        w = np.moveaxis(self.centered_weights(), self.CHANNEL_AXIS, -1)
        return w.reshape(-1, self.channels)

    def input_range(self) -> tuple[int, int]:
        """Range of x - Z_x."""
        return self.x.dtype.min - self.x.zero, self.x.dtype.max - self.x.zero

    def bias(self) -> Array:
        return self.b.const if self.b is not None else np.zeros(self.channels, np.int32)

    def finish(self, acc: Array, env: Env) -> Array:
        """Bias, requantization, zero point and clamp of int accumulators [..., channels]."""
        assert self.m0 is not None and self.shift is not None and self.clamp is not None
        acc = acc.astype(np.int64) + self.bias()
        low = self.m1.const if self.m1 else 0
        rounding = self.rounding(env.rounding)
        y = requantize(acc, self.m0.const, self.shift.const, rounding, low) + self.out.zero
        return saturate(y, *self.clamp, self.out.dtype).reshape(self.out.shape)

    def matmul(self, patches: Array, env: Env) -> Array:
        """Exact product of x [..., K] (raw, not centered) and the weight matrix, int64.

        Floating-point BLAS is exact as long as every partial sum fits the mantissa; the bound on
        the accumulator chooses single or double precision.
        """
        weights = self.weight_matrix()
        widest = np.abs(weights).sum(axis=0).max() * max(map(abs, self.input_range()))
        kind: type[np.floating[Any]] = np.float32 if widest < 2**24 else np.float64
        x: Array = patches.astype(kind) - kind(self.x.zero)
        product: Array = x @ weights.astype(kind)
        return product.astype(np.int64)

    def bounds(self) -> Bound:
        low, high = self.input_range()
        w = self.weight_matrix().astype(np.int64)
        positive, negative = np.maximum(w, 0).sum(0), np.minimum(w, 0).sum(0)
        bias = self.bias().astype(np.int64)
        return Bound(
            int((positive * low + negative * high + bias).min()),
            int((positive * high + negative * low + bias).max()),
        )

    def adversarial(self, rng: np.random.Generator) -> list[Array]:
        """Inputs x that drive accumulators to the bound; see `extremes`."""
        raise NotImplementedError(type(self).__name__)

    def show(self, patch: Array, rng: np.random.Generator) -> Array:
        """A value of x of which some output sees `patch` [K]; the rest is random or the same."""
        raise NotImplementedError(type(self).__name__)

    def widest_channels(self, count: int) -> list[int]:
        """Output channels with the largest sum of |w - Z_w|, where the bound is reached."""
        order = np.argsort(-np.abs(self.weight_matrix()).sum(axis=0), kind="stable")
        return [int(c) for c in order[:count]]
