"""What processes of one training run agree on: ranges and batch statistics.

Everything here is the identity in a single process.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


def distributed() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def widest(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """The smallest `low` and the largest `high` of all processes; NaN anywhere stays NaN."""
    if not distributed():
        return low, high
    both = torch.stack((-low, high))
    # MAX may drop a NaN, a sum of flags does not.
    broken = torch.isnan(both).to(both.dtype)
    dist.all_reduce(both, dist.ReduceOp.MAX)
    dist.all_reduce(broken, dist.ReduceOp.SUM)
    both = both.masked_fill(broken > 0, float("nan"))
    return -both[0], both[1]


class _Sum(torch.autograd.Function):
    """The sum over all processes. Each has a loss of its own: their gradients add up too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Tensor:
        total: Tensor = grads[0].clone()
        dist.all_reduce(total)
        return total


def total(x: Tensor) -> Tensor:
    """Sum of x over all processes, with gradients."""
    apply: Any = _Sum.apply  # typed in some releases of torch only
    result: Tensor = apply(x)
    return result


def moments(x: Tensor) -> tuple[Tensor, Tensor, int]:
    """Mean and variance (divided by n) per channel of x [N, C, ...], and n, over all processes."""
    dims = [d for d in range(x.ndim) if d != 1]
    count = x.numel() // x.shape[1]
    mean = x.mean(dims)
    parts = torch.cat((mean * count, mean.new_tensor([count])))
    sums = total(parts)
    mean = sums[:-1] / sums[-1]
    shape = (1, -1) + (1,) * (x.ndim - 2)
    centered = (x - mean.view(shape)).square().sum(dims)
    variance = total(centered) / sums[-1]
    return mean, variance, int(sums[-1].item())


def batch_norm(
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    gamma: Tensor,
    beta: Tensor,
    rate: float,
    eps: float,
) -> tuple[Tensor, Tensor]:
    """Batch norm of x [N, C, ...] with the statistics of the batches of all processes.

    `mean` and `variance` are moving statistics; they move by `rate` towards those of the batch,
    the variance divided by n - 1, as torch does it. Returns the result and, without gradient, the
    standard deviation of the batch (with eps) per channel.
    """
    if not distributed():
        y, _, inverse = torch.native_batch_norm(x, gamma, beta, mean, variance, True, rate, eps)
        return y, inverse.reciprocal()
    m, v, count = moments(x)
    deviation = torch.sqrt(v + eps)
    shape = (1, -1) + (1,) * (x.ndim - 2)
    y = (x - m.view(shape)) * (gamma / deviation).view(shape) + beta.view(shape)
    with torch.no_grad():
        mean.lerp_(m, rate)
        variance.lerp_(v * (count / max(count - 1, 1)), rate)
    return y, deviation.detach()


@contextmanager
def synchronized(model: nn.Module) -> Iterator[None]:
    """While the body runs, batch norm of a float model has the statistics of all processes.

    Folded batch norm of training graphs has them anyhow. PyTorch's SyncBatchNorm needs GPUs.
    """
    norms = [m for m in model.modules() if isinstance(m, BATCH_NORMS)] if distributed() else []
    for norm in norms:
        norm.forward = partial(_forward, norm)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for norm in norms:
            del norm.forward


BATCH_NORMS = nn.BatchNorm1d | nn.BatchNorm2d


def _forward(norm: nn.BatchNorm1d | nn.BatchNorm2d, x: Tensor) -> Tensor:
    """Batch norm of x [N, C, ...] as the module computes it."""
    if not norm.training or norm.running_mean is None or norm.running_var is None:
        return type(norm).forward(norm, x)
    rate = norm.momentum
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
        if rate is None:
            rate = 1.0 / float(norm.num_batches_tracked)
    gamma = torch.ones_like(norm.running_var) if norm.weight is None else norm.weight
    beta = torch.zeros_like(norm.running_var) if norm.bias is None else norm.bias
    mean, variance = norm.running_mean, norm.running_var
    return batch_norm(x, mean, variance, gamma, beta, rate or 0.0, norm.eps)[0]
