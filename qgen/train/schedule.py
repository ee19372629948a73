"""Learning rates over a training run, and the paper's optimizers (Appendix D)."""

from __future__ import annotations

import qgen.train.needs_torch  # noqa: F401

import math
from collections.abc import Callable, Iterable

import torch
from torch.optim import SGD, Adagrad, Adam, Optimizer, RMSprop

# (epochs done, with a fraction; all epochs) -> factor of the learning rate.
Schedule = Callable[[float, int], float]
# (parameters, learning rate) -> optimizer.
Optimizers = Callable[[Iterable[torch.nn.Parameter], float], Optimizer]


def constant(done: float, epochs: int) -> float:
    return 1.0


def cosine(done: float, epochs: int) -> float:
    """From 1 down to 0 along half a wave."""
    return (1 + math.cos(math.pi * min(done / epochs, 1.0))) / 2


def staircase(factor: float, every: float) -> Schedule:
    """Times `factor` after every `every` epochs: 0.1 every 30 (D.1), 0.94 every 2 (D.2)."""
    return lambda done, epochs: factor ** math.floor(done / every)


def momentum(decay: float = 0.0) -> Optimizers:
    """Momentum 0.9 (D.1) with weight decay."""
    return lambda parameters, rate: SGD(parameters, rate, momentum=0.9, weight_decay=decay)


def rmsprop(epsilon: float = 1.0) -> Optimizers:
    """RMSProp with momentum 0.9, decay 0.9 and epsilon 1.0 (D.2)."""
    return lambda parameters, rate: RMSprop(parameters, rate, alpha=0.9, eps=epsilon, momentum=0.9)


def adagrad(parameters: Iterable[torch.nn.Parameter], rate: float) -> Optimizer:
    """Adagrad (D.4)."""
    return Adagrad(parameters, rate)


def adam(parameters: Iterable[torch.nn.Parameter], rate: float) -> Optimizer:
    """Adam, which needs the fewest steps; the paper does not use it."""
    return Adam(parameters, rate)
