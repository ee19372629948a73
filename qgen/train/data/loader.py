"""Batches of a data set, on one process or shared by those of torchrun."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.distributed as dist
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from qgen.errors import QgenError


def batches(
    dataset: Dataset[Any],
    batch: int,
    *,
    train: bool,
    workers: int = 0,
    collate: Callable[[list[Any]], Any] | None = None,
) -> DataLoader[Any]:
    """A loader; for training in random order and without the last, smaller batch.

    Under torchrun each process gets its own part of the training samples, so `batch` is the number
    per process; other loaders give every process everything.

    Raises QgenError for a data set with less than one batch.
    """
    count = len(dataset)  # type: ignore[arg-type]
    sampler: DistributedSampler[Any] | None = None
    if train and dist.is_available() and dist.is_initialized():
        sampler = DistributedSampler(dataset, shuffle=True, drop_last=True)
        count = len(sampler)
    if count < (batch if train else 1):
        raise QgenError(f"{count} samples are less than a batch of {batch}")
    return DataLoader(
        dataset,
        batch,
        shuffle=train and sampler is None,
        sampler=sampler,
        drop_last=train,
        num_workers=workers,
        collate_fn=collate,
        persistent_workers=False,
    )
