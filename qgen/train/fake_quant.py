"""Simulated quantization, eq. (12), with straight-through gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from qgen.errors import QgenError
from qgen.ir.numerics import Elementary, float32, nudge, round_all
from qgen.train.config import QatConfig
from qgen.train.observe import STORED, Observer, Range

XP: Elementary = torch  # type: ignore[assignment]


class _StraightThrough(torch.autograd.Function):
    """Rounds forward; backward it is the identity inside the range and 0 outside.

    What rounds to the first or last level counts as inside.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Any, low: int, high: int) -> Tensor:
        steps = x / scale
        ctx.save_for_backward(steps)
        ctx.ends = (low - 0.5, high + 0.5)
        rounded: Tensor = round_all(torch.clip(steps, low, high), XP)
        return rounded.mul_(scale)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        (steps,) = ctx.saved_tensors
        # The gradient of a clamp, in one pass.
        return torch.ops.aten.hardtanh_backward(grads[0], steps, *ctx.ends), None, None, None


def fake_quantize(x: Tensor, scale: Any, zero: int, levels: tuple[int, int]) -> Tensor:
    """q(r; a, b, n) of eq. (12) with a = S (low - Z), b = S (high - Z).

    `scale` is a number, or a tensor that broadcasts against x.
    """
    apply: Any = _StraightThrough.apply  # typed in some releases of torch only
    out: Tensor = apply(x, scale, levels[0] - zero, levels[1] - zero)
    return out


class FakeQuantize(nn.Module):
    """The place behind an operation where inference would round its result to few bits.

    In training mode it observes; it quantizes once `delay` batches have been seen. A place without
    an observer of its own only rounds, to the range of others.
    """

    def __init__(self, path: str, config: QatConfig, observes: bool = True) -> None:
        super().__init__()
        self.path = path
        self.delay = config.delay
        self.observer = Observer(path, config.smoothing) if observes else None
        own = [self.observer] if self.observer else []
        self.range = Range(own, config.activation_bits, None)
        self.observe = True
        self.quantize = True

    def forward(self, x: Tensor) -> Tensor:
        if self.training and self.observe and self.observer is not None:
            self.observer(x)
        if not self.quantize or self.waits:
            return x
        params = self.range.params()
        if params is None:
            return x
        return fake_quantize(x, params.scale[0], params.zero, params.limits(STORED))

    @property
    def waits(self) -> bool:
        """Whether quantization is still off at the start of training."""
        return any(int(o.steps) <= self.delay for o in self.range.observers) and self.delay > 0


class WeightQuantizer:
    """Scale and zero point of weights from their smallest and largest value (section 3.1)."""

    def __init__(self, path: str, config: QatConfig) -> None:
        self.path = path
        self.bits = config.weight_bits
        self.levels = config.weight_levels
        self.per_channel = config.per_channel
        self.symmetric = config.symmetric

    def params(self, w: Tensor) -> tuple[np.ndarray[Any, Any], int] | None:
        """Scales float32 [1] or [O] of weights [O, ...] and their zero point; None if all are 0."""
        w = w.detach()
        if self.per_channel:
            widest = w.abs().reshape(w.shape[0], -1).amax(1).double().cpu().numpy()
            self._finite(float(widest.max()))
            # A channel of zeros is exact in any scale.
            widest = np.where(widest > 0.0, widest, widest.max())
            scales = (widest / self.levels[1]).astype(np.float32)
            return (scales, 0) if scales.min() > 0.0 else None
        low, high = (float(v) for v in torch.aminmax(w))
        self._finite(low - high)
        if self.symmetric:
            high = max(-low, high)
            low = -high
        if float32((max(high, 0.0) - min(low, 0.0)) / (2 * self.levels[1])) == 0.0:
            return None
        scale, zero = nudge(low, high, self.levels)
        return np.array([scale], np.float32), zero

    def _finite(self, value: float) -> None:
        if not np.isfinite(value):
            raise QgenError(f"NaN or infinity in the weights of '{self.path}'")

    def fake(self, w: Tensor) -> Tensor:
        """The weights as inference sees them."""
        params = self.params(w)
        if params is None:
            return w
        scales, zero = params
        return fake_quantize(w, self.spread(scales, w), zero, self.levels)

    def spread(self, scales: np.ndarray[Any, Any], w: Tensor) -> Any:
        """Scales as a number or a tensor that broadcasts against w."""
        if len(scales) == 1:
            return float(scales[0])
        return torch.from_numpy(scales).to(w).view(-1, *(1,) * (w.ndim - 1))

    def integers(self, w: Tensor) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], int]:
        """Quantized weights int8 in the shape of w, scales and zero point.

        Raises QgenError where all weights are zero.
        """
        params = self.params(w)
        if params is None:
            raise QgenError(f"all weights of '{self.path}' are zero: a dead range has no scale")
        scales, zero = params
        spread = scales.reshape(-1, *(1,) * (w.ndim - 1))
        # Single precision, as `fake` computes it.
        steps = w.detach().float().cpu().numpy() / spread
        clamped = np.clip(steps, self.levels[0] - zero, self.levels[1] - zero)
        return (round_all(clamped, np) + zero).astype(np.int8), scales, zero
