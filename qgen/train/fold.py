"""Convolutions and dense layers with batch norm folded into quantized weights (section 3.2)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from qgen.errors import QgenError
from qgen.ir.types import Activation
from qgen.train import sync
from qgen.train.config import QatConfig, Statistics
from qgen.train.fake_quant import WeightQuantizer

Norm = nn.BatchNorm1d | nn.BatchNorm2d
TINY = 1e-6  # stands in for a folding factor of 0, which cannot be divided by


@dataclass(frozen=True)
class Geometry:
    """What a convolution is beside its weights."""

    stride: tuple[int, int]
    padding: tuple[int, int, int, int]  # top, bottom, left, right
    dilation: tuple[int, int]
    groups: int

    def convolve(self, x: Tensor, w: Tensor) -> Tensor:
        top, bottom, left, right = self.padding
        padding = (top, left)
        if (top, left) != (bottom, right):
            x, padding = functional.pad(x, (left, right, top, bottom)), (0, 0)
        return functional.conv2d(x, w, None, self.stride, padding, self.dilation, self.groups)


def activate(x: Tensor, activation: Activation) -> Tensor:
    """The clamp of a fused activation on real values."""
    low, high = activation.real_range
    if low is None:
        return x
    return functional.relu(x) if high is None else functional.hardtanh(x, low, high)


class _Fold(NamedTuple):
    """Per channel: moving variance, gamma, beta, and gamma / sqrt(EMA(var) + eps), eq. (14)."""

    variance: Tensor
    gamma: Tensor
    beta: Tensor
    factor: Tensor

    @staticmethod
    def of(norm: Norm) -> _Fold:
        assert norm.running_var is not None
        # A copy: the moving variance changes in the same step, after it was used.
        variance = norm.running_var.clone()
        gamma = torch.ones_like(variance) if norm.weight is None else norm.weight
        beta = torch.zeros_like(variance) if norm.bias is None else norm.bias
        return _Fold(variance, gamma, beta, gamma / torch.sqrt(variance + norm.eps))


class Folded(nn.Module):
    """A convolution (or a matrix product, without `geometry`), batch norm and activation in one.

    In training mode, until `freeze`, batch norm normalizes with the statistics of the batch while
    the weights are folded with the moving variance, eq. (14):

        y = (w_fold * x) * sigma_EMA / sigma_B + beta - gamma * mu_B / sigma_B

    The quotient of the deviations undoes what the fold has divided by, so weights are quantized as
    inference will have them and do not jump from batch to batch. Frozen, or in evaluation mode,

        y = w_fold * x + beta - gamma * mu_EMA / sigma_EMA

    Shapes: x [N, C, H, W] or [..., C].
    """

    frozen: Tensor

    def __init__(
        self,
        path: str,
        module: nn.Conv2d | nn.Linear,
        geometry: Geometry | None,
        norm: Norm | None,
        activation: Activation,
        config: QatConfig,
    ) -> None:
        super().__init__()
        self.path = path
        self.weight = module.weight
        self.bias = module.bias
        self.geometry = geometry
        self.norm = norm
        self.activation = activation
        self.statistics = config.statistics
        self.quantizer = WeightQuantizer(path, config)
        self.quantize = True
        self.register_buffer("frozen", torch.tensor(False))
        if norm is not None and norm.running_var is None:
            raise QgenError(
                f"the batch norm behind '{path}' keeps no running statistics",
                hint="set track_running_stats",
            )

    def forward(self, x: Tensor) -> Tensor:
        if self.norm is not None and self.training and not self.frozen:
            y = self._with_batch_statistics(x, self.norm)
        else:
            w, b = self.folded()
            y = self._product(x, self._fake(w))
            y = y if b is None else y + self._along(b, y)
        return activate(y, self.activation)

    def folded(self) -> tuple[Tensor, Tensor | None]:
        """Weights and bias of inference, real-valued, from moving statistics."""
        if self.norm is None:
            return self.weight, self.bias
        fold = _Fold.of(self.norm)
        return self._scaled(fold.factor), fold.beta - self._moving_mean(self.norm) * fold.factor

    def _with_batch_statistics(self, x: Tensor, norm: Norm) -> Tensor:
        fold = _Fold.of(norm)
        # The factor is a number here: what it contributes to gradients is rounding noise.
        factor = fold.factor.detach()
        factor = torch.where(factor.abs() < TINY, TINY, factor)
        fine = self._scaled(factor)
        coarse = self._fake(fine)
        if self.statistics is Statistics.FLOAT:
            y, deviation = self._normalized(self._product(x, self.weight), norm, fold)
            # The effect of rounding alone, a constant: the gradient of weights is that of y.
            moving = torch.sqrt(fold.variance + norm.eps)
            lost = self._times((coarse - fine).detach(), moving / deviation)
            return y + self._product(x, lost)
        # Where all weights of a channel round to 0, their gradient would be as large as eps is
        # small; it gets the size that the moving variance gives it.
        dead = coarse.detach().reshape(len(coarse), -1).abs().amax(1) == 0.0
        eps = torch.where(dead, math.sqrt(norm.eps) * (fold.variance + norm.eps).rsqrt(), 1.0)
        c = self._product(x, self._times(coarse, eps / factor))
        return self._normalized(c, norm, fold)[0]

    def _normalized(self, c: Tensor, norm: Norm, fold: _Fold) -> tuple[Tensor, Tensor]:
        """Batch norm of a product without its bias, which batch norm would take out again.

        Returns the result and the deviation of the batch. A channel without any variance, because
        its weights or its inputs have all become 0, keeps its moving variance: it has a constant
        result in any case, but a variance of 0 would widen its folded weights beyond all others
        and with them the range of the whole tensor.
        """
        assert norm.running_var is not None and norm.running_mean is not None
        rate = norm.momentum
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked.add_(1)
            if rate is None:
                rate = 1.0 / float(norm.num_batches_tracked)
        # Copies: autograd does not like what it has seen to change.
        mean, variance = self._moving_mean(norm).detach(), fold.variance.clone()
        # A bias in front of batch norm changes nothing, but has a gradient: 0. Processes that train
        # together wait for the gradients of all parameters.
        beta = fold.beta if self.bias is None else fold.beta + 0.0 * self.bias
        y, deviation = sync.batch_norm(c, mean, variance, fold.gamma, beta, rate or 0.0, norm.eps)
        with torch.no_grad():
            constant = deviation.square() <= norm.eps * 1.0001
            norm.running_var.copy_(torch.where(constant, fold.variance, variance))
            norm.running_mean.copy_(mean if self.bias is None else mean + self.bias)
        return y, deviation

    def _moving_mean(self, norm: Norm) -> Tensor:
        """Of the product without its bias. A copy, since the buffer changes in the same step."""
        assert norm.running_mean is not None
        return norm.running_mean.clone() if self.bias is None else norm.running_mean - self.bias

    def _times(self, w: Tensor, factor: Tensor) -> Tensor:
        return w * factor.view(-1, *(1,) * (w.ndim - 1))

    def _scaled(self, factor: Tensor) -> Tensor:
        return self._times(self.weight, factor)

    def _fake(self, w: Tensor) -> Tensor:
        return self.quantizer.fake(w) if self.quantize else w

    def _product(self, x: Tensor, w: Tensor) -> Tensor:
        return self.geometry.convolve(x, w) if self.geometry else functional.linear(x, w)

    def _along(self, values: Tensor, y: Tensor) -> Tensor:
        """Per-channel values so that they broadcast against y."""
        return values.view(1, -1, *(1,) * (y.ndim - 2)) if self.geometry else values

    def extra_repr(self) -> str:
        return f"{self.path}, activation={self.activation.value}"

    def integer_parts(self) -> tuple[Any, Any, int, Tensor | None]:
        """Quantized weights, scales, zero point, and the bias as it is in real numbers."""
        w, b = self.folded()
        q, scales, zero = self.quantizer.integers(w)
        return q, scales, zero, b
