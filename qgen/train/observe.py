"""Ranges of activations: exponential moving averages of what was seen (section 3.1)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from qgen.errors import QgenError
from qgen.ir.numerics import nudge
from qgen.ir.types import DType, QParams
from qgen.train import sync

STORED = DType.I8  # the type of exported activations and weights


class Observer(nn.Module):
    """Moving averages of the smallest and largest value at one place of the network.

    The first batch sets them, so that nothing has to be unlearned. `steps` counts batches.
    """

    low: Tensor
    high: Tensor
    steps: Tensor

    def __init__(self, path: str, smoothing: float) -> None:
        super().__init__()
        self.path = path
        self.smoothing = smoothing
        self.register_buffer("low", torch.zeros((), dtype=torch.float64))
        self.register_buffer("high", torch.zeros((), dtype=torch.float64))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> None:
        """Take in one batch. Raises QgenError for NaN and infinity."""
        low, high = sync.widest(*torch.aminmax(x.detach()))
        a, b = float(low), float(high)
        if not (math.isfinite(a) and math.isfinite(b)):
            kind = "NaN" if math.isnan(a) or math.isnan(b) else "infinity"
            raise QgenError(
                f"{kind} in the activations of '{self.path}'",
                hint="a smaller learning rate often helps",
            )
        keep = self.smoothing if self.seen else 0.0
        self.low.mul_(keep).add_((1.0 - keep) * a)
        self.high.mul_(keep).add_((1.0 - keep) * b)
        self.steps.add_(1)

    @property
    def seen(self) -> bool:
        return int(self.steps) > 0


class Range:
    """The parameters of one or more places that must share them, as around a concat (A.3).

    The range of several places is the smallest that holds each of theirs.
    """

    def __init__(self, observers: Iterable[Observer], bits: int, fixed: QParams | None) -> None:
        self.observers: Sequence[Observer] = tuple(observers)
        self.bits = bits
        self.fixed = fixed

    def params(self) -> QParams | None:
        """Scale and zero point, eq. (13); None while nothing but zeros was seen, or nothing."""
        if self.fixed:
            return self.fixed
        seen = [o for o in self.observers if o.seen]
        low = min((float(o.low) for o in seen), default=0.0)
        high = max((float(o.high) for o in seen), default=0.0)
        if low >= 0.0 and high <= 0.0:
            return None
        scale, zero = nudge(low, high, QParams((), 0, None, self.bits).limits(STORED))
        return QParams((scale,), zero, bits=self.bits)

    def checked(self) -> QParams:
        """`params`, or the QgenError that says why there are none."""
        params = self.params()
        if params is not None:
            return params
        path = self.observers[0].path
        if not any(o.seen for o in self.observers):
            raise QgenError(
                f"no range was seen at '{path}'", hint="train, or call calibrate, before export"
            )
        raise QgenError(
            f"all activations of '{path}' are zero: a dead range has no scale",
            hint="is its ReLU dead?",
        )
