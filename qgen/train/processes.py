"""Training on several processes, as torchrun starts them, and the device of this one."""

from __future__ import annotations

import qgen.train.needs_torch  # noqa: F401

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor

from qgen.errors import QgenError


def device() -> torch.device:
    """This process's GPU where there is one, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


@contextmanager
def processes() -> Iterator[int]:
    """Join the processes of torchrun while the body runs; yields this one's number.

    Does nothing without torchrun's environment. Raises QgenError where the others are not reached.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or dist.is_initialized():
        yield rank()
        return
    place = device()
    if place.type == "cuda":
        torch.cuda.set_device(place)
    try:
        dist.init_process_group("nccl" if place.type == "cuda" else "gloo")
    except (RuntimeError, ValueError) as e:
        raise QgenError(
            f"the processes do not find each other: {str(e).splitlines()[0]}",
            hint="start them with torchrun --nproc-per-node N",
        ) from e
    try:
        yield rank()
    finally:
        dist.destroy_process_group()


def rank() -> int:
    """Number of this process; 0 is the one that prints and writes."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def mean(total: float, count: float, place: torch.device) -> float:
    """Sum of `total` over sum of `count`, over all processes; NaN for none."""
    if dist.is_available() and dist.is_initialized():
        both: Tensor = torch.tensor([total, count], dtype=torch.float64, device=place)
        dist.all_reduce(both)
        total, count = both.tolist()
    return total / count if count else float("nan")
