"""What inference computes, inside torch: the operations of an evaluation graph.

Values between operations are real, r = S (q - Z) in double precision, where all of it is exact.
Every operation recovers the integers, does what inference does and rounds as `ir/numerics.py` says;
what has no product of its own to form evaluates the definition of the IR op itself. Each also
knows the IR op that it is (`export`).
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from qgen.errors import QgenError
from qgen.ir.numerics import (
    INT32_MAX,
    INT32_MIN,
    divide_multiplier,
    divide_rounding,
    quantize_multiplier,
    requantize,
    round_all,
)
from qgen.ir.op import Env, Op
from qgen.ir.ops.add import Add
from qgen.ir.ops.clamp import Clamp
from qgen.ir.ops.fully_connected import FullyConnected
from qgen.ir.ops.logistic import Logistic
from qgen.ir.ops.mul import Mul
from qgen.ir.ops.softmax import Softmax
from qgen.ir.ops.sub import Sub
from qgen.ir.ops.tanh import Tanh
from qgen.ir.types import Activation, Array, DType, QParams, Rounding, Tensor, TensorType
from qgen.train import layers
from qgen.train.fake_quant import XP
from qgen.train.fold import Folded, Geometry
from qgen.train.observe import STORED

ROUNDINGS = (Rounding.GEMMLOWP, Rounding.SINGLE)  # of exported models
OPS: dict[str, type[Op]] = {
    "add": Add, "sub": Sub, "mul": Mul,
    "softmax": Softmax, "logistic": Logistic, "tanh": Tanh,
}  # fmt: skip


@torch.no_grad()
def centered(x: torch.Tensor, quant: QParams) -> torch.Tensor:
    """q - Z of real values, as whole numbers in double precision."""
    out: torch.Tensor = round_all(x.double() / quant.scale[0], XP)
    return out


def integers(x: torch.Tensor, quant: QParams) -> Array:
    """q of real values, int8."""
    q: Array = (centered(x, quant).cpu().numpy() + quant.zero).astype(np.int8)
    return q


def reals(q: Array, quant: QParams, like: torch.Tensor) -> torch.Tensor:
    """Real values of integers q, on the device of `like`."""
    return torch.from_numpy((q.astype(np.float64) - quant.zero) * quant.scale[0]).to(like.device)


def scalar(name: str, quant: QParams) -> Tensor:
    return Tensor(name, TensorType(STORED, (1,), quant))


class Simulated(nn.Module):
    """Base. `inputs` are the parameters of the operands, `out` those of the result."""

    rounding = ROUNDINGS[0]

    def __init__(self, path: str, inputs: tuple[QParams, ...], out: QParams) -> None:
        super().__init__()
        self.path = path
        self.inputs = inputs
        self.out = out

    def forward(self, *x: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError(type(self).__name__)


class Input(Simulated):
    """Quantizes what comes from outside, (Q1): the division in single precision."""

    def __init__(self, layer: layers.Input, out: QParams) -> None:
        super().__init__(layer.path, (), out)
        self.shape = layer.shape

    def forward(self, *x: torch.Tensor) -> torch.Tensor:
        low, high = self.out.limits(STORED)
        steps = (x[0].detach().float() / self.out.scale[0]).double()
        whole = round_all(torch.clip(steps, low - self.out.zero, high - self.out.zero), XP)
        real: torch.Tensor = whole * self.out.scale[0]
        return real


class Linear(Simulated):
    """A convolution or dense layer, eq. (7): whole numbers, multiplied in double precision.

    `weights` are int8 in torch's layout, `bias` int32 with S = S1 * S2, eq. (11).
    """

    weight: torch.Tensor

    def __init__(self, layer: Folded, x: QParams, out: QParams) -> None:
        super().__init__(layer.path, (x,), out)
        w, scales, zero, bias = layer.integer_parts()
        self.geometry: Geometry | None = layer.geometry
        self.activation = layer.activation
        self.weights: Array = w
        self.scales: Array = scales
        self.zero = zero
        self.bits = layer.quantizer.bits
        self.bias: Array | None = None
        if bias is not None:
            self.bias = self._quantized_bias(bias)
        op = self._legal(out)
        assert op.m0 is not None and op.shift is not None and op.clamp is not None
        spread = (-1, 1, 1) if self.geometry else (-1,)
        self.m0 = op.m0.const.reshape(spread)
        self.shift = op.shift.const.reshape(spread)
        self.clamp = op.clamp
        whole = torch.from_numpy(w.astype(np.float64) - zero)
        self.register_buffer("weight", whole.to(layer.weight.device))

    def weight_quant(self, axis: int | None) -> QParams:
        """Parameters of the weights; `axis` is where output channels lie."""
        per_channel = len(self.scales) > 1
        scale = tuple(float(s) for s in self.scales)
        return QParams(scale, self.zero, axis if per_channel else None, self.bits)

    def _quantized_bias(self, bias: torch.Tensor) -> Array:
        unit = self.inputs[0].scale[0] * self.scales.astype(np.float64)
        steps = round_all(bias.detach().double().cpu().numpy() / unit, np)
        if not np.all(np.isfinite(steps)):
            raise QgenError(f"NaN or infinity in the bias of '{self.path}'")
        if steps.min() < INT32_MIN or steps.max() > INT32_MAX:
            raise QgenError(f"the bias of '{self.path}' does not fit 32 bits at scale {unit.min()}")
        return np.asarray(steps, np.int32)

    def _legal(self, out: QParams) -> FullyConnected:
        """The multipliers of eq. (5), as the IR computes them for any linear op."""
        matrix = self.weights.reshape(len(self.weights), -1)
        kind = TensorType(STORED, matrix.shape, self.weight_quant(0))
        x = Tensor("x", TensorType(STORED, (1, matrix.shape[1]), self.inputs[0]))
        y = Tensor("y", TensorType(STORED, (1, len(matrix)), out))
        w = Tensor("w", kind, matrix.copy())
        return FullyConnected(x=x, w=w, out=y, activation=self.activation).legalize()

    def forward(self, *x: torch.Tensor) -> torch.Tensor:
        steps = centered(x[0], self.inputs[0])
        if self.geometry:
            product = self.geometry.convolve(steps, self.weight)
        else:
            product = functional.linear(steps, self.weight)
        acc = product.cpu().numpy().astype(np.int64)
        if self.bias is not None:
            acc = acc + self.bias.reshape(self.m0.shape)
        y = requantize(acc, self.m0, self.shift, self.rounding) + self.out.zero
        return reals(np.clip(y, *self.clamp), self.out, x[0])


class Elementwise(Simulated):
    """add, sub, mul, clamp, softmax, logistic and tanh, by the IR's definition of each.

    `dim` is the dimension of softmax.
    """

    def __init__(
        self,
        path: str,
        kind: type[Op],
        inputs: tuple[QParams, ...],
        out: QParams,
        activation: Activation = Activation.NONE,
        dim: int = -1,
    ) -> None:
        super().__init__(path, inputs, out)
        self.kind = kind
        self.attributes = {} if activation is Activation.NONE else {"activation": activation}
        self.dim = dim
        names = [name for name, _ in kind.schema().operands]
        self.tensors = [scalar(n, q) for n, q in zip(names, inputs, strict=True)]
        operands = dict(zip(names, self.tensors, strict=True))
        self.legal = self.op(operands, scalar("y", out)).legalize()

    def op(self, operands: dict[str, Tensor], out: Tensor) -> Op:
        fields: dict[str, Any] = {**operands, **self.attributes}
        return self.kind(out=out, **fields)

    def forward(self, *x: torch.Tensor) -> torch.Tensor:
        values = [integers(v, q) for v, q in zip(x, self.inputs, strict=True)]
        if self.kind is Softmax:
            values = [np.moveaxis(v, self.dim, -1) for v in values]
        env = Env(lambda t: values[self.tensors.index(t)], self.rounding)
        y = self.legal.eval(env)
        if self.kind is Softmax:
            y = np.moveaxis(y, -1, self.dim)
        return reals(y, self.out, x[0])


class AveragePool(Simulated):
    """Average of the raw values inside the image, (Q2a)."""

    def __init__(self, layer: layers.AveragePool, x: QParams) -> None:
        super().__init__(layer.path, (x,), x)
        self.kernel, self.stride, self.padding = layer.kernel, layer.stride, layer.padding

    def forward(self, *x: torch.Tensor) -> torch.Tensor:
        raw = centered(x[0], self.out) + self.out.zero
        total, count = (self._sum(v).cpu().numpy() for v in (raw, torch.ones_like(raw[:1, :1])))
        ties_away = STORED is not DType.U8
        y = divide_rounding(total.astype(np.int64), count.astype(np.int64), ties_away)
        return reals(y, self.out, x[0])

    def _sum(self, x: torch.Tensor) -> torch.Tensor:
        return functional.avg_pool2d(x, self.kernel, self.stride, self.padding, divisor_override=1)


class Mean(Simulated):
    """Average over height and width, rescaled by a multiplier, (Q7a)."""

    def __init__(self, layer: layers.Mean, x: QParams) -> None:
        super().__init__(layer.path, (x,), x)
        self.keep = layer.keep

    def forward(self, *x: torch.Tensor) -> torch.Tensor:
        total = centered(x[0], self.out).sum((2, 3), keepdim=self.keep).cpu().numpy()
        count = x[0].shape[2] * x[0].shape[3]
        m = divide_multiplier(quantize_multiplier(1.0), count)
        return reals(requantize(total, *m, self.rounding) + self.out.zero, self.out, x[0])


class Moved(Simulated):
    """What rounds nothing: concat, max pool, reshape, channels last."""

    KINDS: ClassVar[tuple[type[layers.Layer], ...]] = (
        layers.Concat,
        layers.MaxPool,
        layers.Reshape,
        layers.ChannelsLast,
    )

    def __init__(self, layer: layers.Layer, inputs: tuple[QParams, ...]) -> None:
        super().__init__(layer.path, inputs, inputs[0])
        self.layer = layer

    def forward(self, *x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.layer(*x)
        return y


def simulated(
    layer: nn.Module, inputs: tuple[QParams, ...], out: QParams, rounding: Rounding
) -> Simulated:
    """The operation of an evaluation graph for one of a training graph."""
    operation = _operation(layer, inputs, out)
    operation.rounding = rounding
    return operation


def _operation(layer: nn.Module, inputs: tuple[QParams, ...], out: QParams) -> Simulated:
    if isinstance(layer, Folded):
        return Linear(layer, inputs[0], out)
    if isinstance(layer, layers.Input):
        return Input(layer, out)
    if isinstance(layer, layers.Binary):
        kind = OPS[layer.operation]
        return Elementwise(layer.path, kind, inputs, out, layer.activation)
    if isinstance(layer, layers.Clamp):
        return Elementwise(layer.path, Clamp, inputs, out, layer.activation)
    if isinstance(layer, layers.Function):
        return Elementwise(layer.path, OPS[layer.function], inputs, out, dim=layer.dim)
    if isinstance(layer, layers.AveragePool):
        return AveragePool(layer, inputs[0])
    if isinstance(layer, layers.Mean):
        return Mean(layer, inputs[0])
    assert isinstance(layer, Moved.KINDS)
    return Moved(layer, inputs)
