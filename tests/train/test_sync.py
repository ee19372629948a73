"""Two processes train what one would with the doubled batch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from qgen.errors import QgenError
from qgen.train import QatConfig, Statistics, create_training_graph
from qgen.train.observe import Observer
from tests.train.nets import separable

STEPS = 4
HALF = 8


def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(11)
    x = torch.randn(STEPS, 2, HALF, 1, 8, 8, generator=generator)
    return x, torch.randint(10, (STEPS, 2, HALF), generator=generator)


def steps(model: nn.Module, parts: slice) -> None:
    """Train on the halves of every batch that `parts` chooses."""
    x, y = data()
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    for i in range(STEPS):
        optimizer.zero_grad()
        result = model(x[i, parts].flatten(0, 1))
        nn.functional.cross_entropy(result, y[i, parts].flatten()).backward()
        optimizer.step()


def graph(statistics: Statistics) -> nn.Module:
    torch.manual_seed(2)
    network = separable()
    network[0] = nn.Conv2d(1, 8, 3, padding=1)  # its bias is lost in batch norm
    config = QatConfig(smoothing=0.5, statistics=statistics)
    return create_training_graph(network, torch.zeros(2, 1, 8, 8), config).train()


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    store = dist.FileStore(os.path.join(folder, "store"), 2)  # noqa: PTH118
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
    for statistics in Statistics:
        model = graph(statistics)
        steps(DistributedDataParallel(model), slice(rank, rank + 1))
        name = f"{statistics.value}{rank}.pt"
        torch.save(model.state_dict(), os.path.join(folder, name))  # noqa: PTH118
    observed = torch.full((3,), float("nan") if rank == 1 else 1.0)
    try:
        Observer("conv", 0.9)(observed)
    except QgenError as e:
        torch.save(str(e), os.path.join(folder, f"error{rank}.pt"))  # noqa: PTH118
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What both processes have saved."""
    path = tmp_path_factory.mktemp("ranks")
    spawn: Any = mp.spawn
    spawn(work, (str(path),), nprocs=2)
    return path


@pytest.mark.parametrize("statistics", Statistics)
def test_two_processes_are_one(statistics: Statistics, folder: Path) -> None:
    """Weights, ranges and moving statistics: equal on both ranks, close to those of one process."""
    first, second = (torch.load(folder / f"{statistics.value}{rank}.pt") for rank in (0, 1))
    alone = graph(statistics)
    steps(alone, slice(0, 2))
    assert first.keys() == second.keys() == alone.state_dict().keys()
    for name, value in alone.state_dict().items():
        assert torch.equal(first[name], second[name]), name
        torch.testing.assert_close(first[name], value, rtol=1e-3, atol=1e-4, msg=name)


def test_nan_in_one_process_stops_all(folder: Path) -> None:
    for rank in (0, 1):
        assert "NaN in the activations of 'conv'" in torch.load(folder / f"error{rank}.pt")
