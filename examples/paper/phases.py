"""The protocol of all experiments: a float phase, then branches of equal length from its weights.

The paper trains in float while activation quantization is delayed, then quantized to the end
(section 3.1). Here the float phase is run once per seed, and each setting branches off from it;
the float network that they are compared with trains on for as long as they do.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset

from examples.paper.command import Options
from qgen.errors import QgenError
from qgen.ir.graph import Graph
from qgen.train import (
    QatConfig,
    create_eval_graph,
    create_training_graph,
    export,
    freeze_batch_norm,
)
from qgen.train.data import Digits, ImageFolder, batches
from qgen.train.loop import Loss, Metric, Recipe, fit, hits
from qgen.train.schedule import cosine

BATCH = 32
SECOND_RATE = 0.2  # of the learning rate of the float phase
FREEZE = 0.6  # part of the second phase after which batch-norm statistics stay
QUICK = 96  # samples of a quick trial


@dataclass(frozen=True)
class Task:
    """Data and loss of an experiment; `channels`, `classes`, `size` (pixels) fix its networks.

    `rate` is the learning rate of the float phase, `second` the length of the second phase in parts
    of it.
    """

    training: Dataset[Any]
    test: Dataset[Any]
    channels: int
    classes: int
    size: int
    loss: Loss = nn.functional.cross_entropy
    metric: Metric | None = hits
    collate: Callable[[list[Any]], Any] | None = None
    rate: float = 3e-3
    second: float = 0.5

    def loader(self, *, train: bool) -> DataLoader[Any]:
        data = self.training if train else self.test
        return batches(data, BATCH if train else 128, train=train, collate=self.collate)

    @property
    def example(self) -> torch.Tensor:
        return torch.zeros(1, self.channels, self.size, self.size)

    def quick(self) -> Task:
        """The same with few samples."""
        few = range(QUICK)
        return replace(self, training=Subset(self.training, few), test=Subset(self.test, few))


def classification(options: Options, *, small: int, full: int) -> Task:
    """Digits of `small` pixels, or the user's ImageNet-style folders of `full` pixels.

    Raises QgenError where ``--data`` has no folders train and val.
    """
    if options.data is None:
        training, test = Digits(small, train=True), Digits(small, train=False)
        task = Task(training, test, 1, 10, small)
        return task.quick() if options.quick else task
    sets = [ImageFolder(options.data / part, full, train=part == "train") for part in PARTS]
    if sets[0].classes != sets[1].classes:
        raise QgenError(f"{options.data}: train and val do not have the same classes")
    return Task(sets[0], sets[1], 3, len(sets[0].classes), full)


PARTS = ("train", "val")


@dataclass(frozen=True)
class Branches:
    """A network after the float phase, from which settings branch off."""

    model: nn.Module
    task: Task
    options: Options
    seed: int
    name: str

    def float(self) -> nn.Module:
        """The network after a second phase in float."""
        model = copy.deepcopy(self.model)
        self._fit(model, "float")
        return model.eval()

    def quantized(self, config: QatConfig) -> Graph:
        """The integer network after a second phase with simulated quantization."""
        graph = create_training_graph(self.model, self.task.example, config)
        self._fit(graph, f"{config.weight_bits}x{config.activation_bits} bits")
        return export(create_eval_graph(graph.cpu()), "network")

    def _fit(self, model: nn.Module, what: str) -> None:
        epochs = max(1, round(self.task.second * self.options.epochs))

        def freeze(epoch: int, network: nn.Module) -> None:
            if epoch < FREEZE * epochs:
                return
            if isinstance(network, torch.fx.GraphModule):
                freeze_batch_norm(network)
            for module in network.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()

        recipe = replace(_recipe(self.task, epochs, self.seed, SECOND_RATE), at_epoch=freeze)
        _run(model, self.task, recipe, self.options, self.name, self.seed, what)


def float_phase(
    build: Callable[[], nn.Module], task: Task, options: Options, seed: int, name: str
) -> Branches:
    """Build with weights of `seed` and train in float."""
    torch.manual_seed(seed)
    model = build()
    recipe = _recipe(task, options.epochs, seed, 1.0)
    _run(model, task, recipe, options, name, seed, "first")
    return Branches(model.cpu(), task, options, seed, name)


def _recipe(task: Task, epochs: int, seed: int, factor: float) -> Recipe:
    return Recipe(
        epochs=epochs,
        rate=task.rate * factor,
        schedule=cosine,
        loss=task.loss,
        metric=task.metric,
        seed=seed,
    )


def _run(
    model: nn.Module, task: Task, recipe: Recipe, options: Options, name: str, seed: int, what: str
) -> None:
    folder: Path | None = options.checkpoints(name, seed, what.replace(" ", "-"))
    title = f"{name} seed {seed} {what}"
    fit(model, task.loader(train=True), recipe, folder=folder, resume=bool(folder), title=title)
