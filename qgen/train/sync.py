"""What processes of one training run agree on: ranges and batch statistics.

Everything here is the identity in a single process.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.nn import functional as differentiable


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


def moments(x: Tensor) -> tuple[Tensor, Tensor, int]:
    """Mean and variance (divided by n) per channel of x [N, C, ...], and n, over all processes."""
    dims = [d for d in range(x.ndim) if d != 1]
    count = x.numel() // x.shape[1]
    mean = x.mean(dims)
    parts = torch.cat((mean * count, mean.new_tensor([count])))
    sums = differentiable.all_reduce(parts)
    total = sums[-1]
    mean = sums[:-1] / total
    shape = (1, -1) + (1,) * (x.ndim - 2)
    centered = (x - mean.view(shape)).square().sum(dims)
    variance = differentiable.all_reduce(centered) / total
    return mean, variance, int(total.item())


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
