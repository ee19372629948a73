"""The training loop, for float models and training graphs alike.

Every epoch seeds PyTorch's generators anew from the seed of the run and its own number: a run that
was resumed has drawn the same samples, crops and dropouts as one that was not.
"""

from __future__ import annotations

import qgen.train.needs_torch  # noqa: F401

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler

from qgen.errors import QgenError
from qgen.train import checkpoint, sync
from qgen.train.processes import device, mean, rank
from qgen.train.schedule import Optimizers, Schedule, adam, cosine

Loss = Callable[[Any, Any], Tensor]
# Outputs and targets of a batch -> values [N] whose mean is shown.
Metric = Callable[[Any, Any], Tensor]
EpochHook = Callable[[int, nn.Module], None]
SEED_STEP = 1_000_003  # epochs of neighbouring seeds do not meet
RANK_STEP = 1_000_000_007


def hits(outputs: Tensor, labels: Tensor) -> Tensor:
    """1.0 for each sample whose largest logit is that of its label."""
    return (outputs.argmax(dim=1) == labels).float()


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train.

    Attributes:
        epochs: passes over the data.
        rate: learning rate, times `schedule` at each step.
        optimizer: builds it from parameters and learning rate.
        loss: of outputs and targets of a batch.
        metric: shown in the progress bar and kept in the history; None for none.
        seed: of the order of samples, crops and dropout. Weights are drawn when the model is made.
        at_epoch: called with (epoch, model) as each epoch starts, from 0 or where a run resumes, in
            training mode; freezes batch norm, for one.
    """

    epochs: int
    rate: float = 1e-3
    schedule: Schedule = cosine
    optimizer: Optimizers = adam
    loss: Loss = cross_entropy
    metric: Metric | None = hits
    seed: int = 0
    at_epoch: EpochHook | None = None

    def __post_init__(self) -> None:
        if self.epochs < 0:
            raise QgenError(f"cannot train for {self.epochs} epochs")
        if not (math.isfinite(self.rate) and self.rate > 0):
            raise QgenError(f"learning rate {self.rate} is not positive")


def fit(
    model: nn.Module,
    loader: DataLoader[Any],
    recipe: Recipe,
    *,
    folder: Path | str | None = None,
    resume: bool = False,
    title: str = "",
) -> list[dict[str, float]]:
    """Train `model` in place; the history: loss, metric and rate of each epoch.

    Runs on the GPU where there is one. Under torchrun (see `processes`) gradients are averaged and
    process 0 alone prints and writes. On a terminal a bar shows loss and accuracy; a pipe stays
    quiet.

    Args:
        folder: for the checkpoint, written after every epoch.
        resume: go on from the checkpoint in `folder`, if there is one; the end is the same as
            that of an uninterrupted run.
        title: of the progress bar.

    Raises QgenError where the loss or, in a training graph, an activation is not finite; the
    last checkpoint stays.
    """
    if resume and folder is None:
        raise QgenError("cannot resume without a folder of checkpoints")
    place = device()
    model.to(place).train()
    optimizer = recipe.optimizer(model.parameters(), recipe.rate)
    keep = Path(folder) if folder is not None else None
    history = checkpoint.load(keep, model, optimizer) if keep and resume else []
    if mean(len(history), 1, place) != len(history):
        raise QgenError("the processes see different checkpoints", hint="share the folder")
    shared: nn.Module = model
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        shared = DistributedDataParallel(model)
    bars = _Bar(title, len(history), recipe.epochs, len(loader))
    with sync.synchronized(model), bars as bar:
        for epoch in range(len(history), recipe.epochs):
            _seed(recipe.seed, epoch, loader)
            model.train()
            if recipe.at_epoch:
                recipe.at_epoch(epoch, model)
            try:
                history.append(_epoch(shared, loader, recipe, optimizer, epoch, place, bar))
            except QgenError as e:
                kept = f"the checkpoint of epoch {epoch} is kept" if keep and epoch else ""
                hint = "; ".join(filter(None, (e.hint, kept)))
                raise QgenError(f"epoch {epoch + 1}: {e.message}", e.loc, hint=hint) from e
            if keep and rank() == 0:
                checkpoint.save(keep, model, optimizer, history)
    return history


@torch.no_grad()
def evaluate(model: nn.Module, loader: DataLoader[Any], metric: Metric = hits) -> float:
    """Mean of the metric over all samples, in evaluation mode; the model's mode is restored."""
    place = device()
    training = model.training
    model.to(place).eval()
    total, count = 0.0, 0
    for images, targets in loader:
        values = metric(model(images.to(place)), moved(targets, place))
        total += float(values.sum())
        count += len(values)
    model.train(training)
    return total / count if count else float("nan")


def moved(targets: Any, place: torch.device) -> Any:
    """Tensors in nested lists and tuples, on a device."""
    if isinstance(targets, Tensor):
        return targets.to(place)
    if isinstance(targets, list | tuple):
        return type(targets)(moved(t, place) for t in targets)
    return targets


def _seed(seed: int, epoch: int, loader: DataLoader[Any]) -> None:
    """Processes share the order of samples, but not what is drawn for each."""
    number = seed * SEED_STEP + epoch
    torch.manual_seed(number + rank() * RANK_STEP)
    if isinstance(loader.sampler, DistributedSampler):
        loader.sampler.set_epoch(number)


def _epoch(
    model: nn.Module,
    loader: DataLoader[Any],
    recipe: Recipe,
    optimizer: torch.optim.Optimizer,
    epoch: int,
    place: torch.device,
    bar: _Bar,
) -> dict[str, float]:
    losses, values, steps, count = 0.0, 0.0, 0, 0
    rate = recipe.rate
    for step, (images, targets) in enumerate(loader):
        rate = recipe.rate * recipe.schedule(epoch + step / len(loader), recipe.epochs)
        for group in optimizer.param_groups:
            group["lr"] = rate
        inputs, wanted = images.to(place), moved(targets, place)
        outputs = model(inputs)
        loss = recipe.loss(outputs, wanted)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise QgenError(
                f"the loss of step {step + 1} is {value}{_culprit(model, inputs)}",
                hint="a smaller learning rate often helps",
            )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses, steps = losses + value, steps + 1
        if recipe.metric:
            with torch.no_grad():
                found = recipe.metric(outputs, wanted)
            values, count = values + float(found.sum()), count + len(found)
        bar.step(epoch, losses / steps, values / count if count else None)
    result = {"loss": mean(losses, steps, place), "rate": rate}
    if recipe.metric:
        result["metric"] = mean(values, count, place)
    return result


@torch.no_grad()
def _culprit(model: nn.Module, inputs: Tensor) -> str:
    """Where values that are not finite first appear, in words."""
    if not bool(torch.isfinite(inputs).all()):
        return ": the input is not finite"
    if isinstance(model, DistributedDataParallel):
        model = model.module
    first: list[str] = []

    def watch(name: str) -> Callable[..., None]:
        def look(module: nn.Module, args: Any, output: Any) -> None:
            finite = not isinstance(output, Tensor) or bool(torch.isfinite(output).all())
            if not finite and not first:
                first.append(name)

        return look

    leaves = [(n, m) for n, m in model.named_modules() if n and not next(m.children(), None)]
    handles = [m.register_forward_hook(watch(n)) for n, m in leaves]
    try:
        model(inputs)
    finally:
        for handle in handles:
            handle.remove()
    return f": layer '{first[0]}' is the first that is not finite" if first else ""


class _Bar:
    """Progress of process 0 on stderr while it is a terminal, else silence."""

    def __init__(self, title: str, done: int, epochs: int, steps: int) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(),
        )
        shown = rank() == 0 and sys.stderr.isatty()
        self.progress = Progress(
            *columns, console=Console(stderr=True), transient=True, disable=not shown
        )
        self.title, self.done, self.epochs, self.steps = title, done, epochs, steps
        self.task: TaskID | None = None

    def __enter__(self) -> _Bar:
        self.progress.start()
        self.task = self.progress.add_task(
            self.title, total=self.epochs * self.steps, completed=self.done * self.steps, figures=""
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def step(self, epoch: int, loss: float, value: float | None) -> None:
        """One step is done; mean loss and metric of the epoch so far."""
        assert self.task is not None
        figures = f"loss {loss:.3f}" + (f"  accuracy {value:.1%}" if value is not None else "")
        self.progress.update(
            self.task,
            advance=1,
            description=f"{self.title} epoch {epoch + 1}/{self.epochs}".strip(),
            figures=figures,
        )
