"""Measures of a network, float or integer: both are functions of real images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from examples.paper.phases import Task
from qgen.ir.graph import Graph
from qgen.train.integer import IntegerModel
from qgen.train.processes import device

Predict = Callable[[Tensor], Any]


@torch.no_grad()
def outputs(network: torch.nn.Module | Graph, task: Task) -> list[tuple[Any, Any]]:
    """(outputs, targets) of each batch of the test set; golden computes those of a graph."""
    integer = isinstance(network, Graph)
    predict: Predict = IntegerModel(network) if isinstance(network, Graph) else network
    place = torch.device("cpu") if integer else device()
    return [(predict(x.to(place)), targets) for x, targets in task.loader(train=False)]


def top(network: torch.nn.Module | Graph, task: Task, k: int = 1) -> float:
    """Part of the test images whose class is among the k largest outputs."""
    right, count = 0, 0
    for logits, labels in outputs(network, task):
        best = logits.cpu().topk(k, dim=1).indices
        right += int((best == labels[:, None]).any(dim=1).sum())
        count += len(labels)
    return right / count
