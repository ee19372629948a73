"""Tables 4.7 and 4.8: face attributes and age over weight and activation bits."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, smooth_l1_loss

from examples.paper.accuracy import outputs
from examples.paper.command import Experiment, Options, change, percent, plot
from examples.paper.phases import Task, float_phase
from qgen.ir.graph import Graph
from qgen.train import QatConfig
from qgen.train.data import Faces
from qgen.train.data.faces import ATTRIBUTES
from qgen.train.detection import average_precision
from qgen.train.models import AGE_UNIT, FaceAttributes
from qgen.train.models.mobilenet_v1 import SMALL

BITS = (8, 7, 6, 5, 4)
PIXELS = 32
TRAINING, TEST = 2048, 512
YEARS = 5.0  # an age is right if it is off by no more
MULTIPLIER = 0.5


def loss(found: tuple[Tensor, Tensor], wanted: tuple[Tensor, Tensor]) -> Tensor:
    attributes = binary_cross_entropy_with_logits(found[0], wanted[0])
    return attributes + smooth_l1_loss(found[1], wanted[1] / AGE_UNIT, beta=0.1)


def hits(found: tuple[Tensor, Tensor], wanted: tuple[Tensor, Tensor]) -> Tensor:
    """Part of the attributes that are right, per face."""
    return ((found[0] > 0).float() == wanted[0]).float().mean(dim=1)


def measure(network: torch.nn.Module | Graph, task: Task) -> tuple[float, float]:
    """Mean average precision of the attributes; part of the ages within `YEARS`."""
    pairs: list[Any] = outputs(network, task)
    logits = torch.cat([found[0].cpu() for found, _ in pairs])
    there = torch.cat([wanted[0] for _, wanted in pairs]) > 0
    age = torch.cat([found[1].cpu() for found, _ in pairs]) * AGE_UNIT
    true = torch.cat([wanted[1] for _, wanted in pairs])
    precisions = []
    for i in range(len(ATTRIBUTES)):
        order = torch.argsort(logits[:, i], descending=True, stable=True)
        precisions.append(average_precision(there[order, i].numpy(), int(there[:, i].sum())))
    return float(np.mean(precisions)), float(((age - true).abs() <= YEARS).float().mean())


def run(options: Options) -> None:
    training, test = Faces(TRAINING, PIXELS, train=True), Faces(TEST, PIXELS, seed=1)
    task = Task(training, test, 3, 0, PIXELS, loss=loss, metric=hits, rate=0.01, second=1 / 8)
    if options.quick:
        task = task.quick()
    bits = (8, 4) if options.quick else BITS
    floats: list[tuple[float, float]] = []
    found: dict[tuple[int, int], list[tuple[float, float]]] = {}
    for seed in range(options.seeds):
        start = float_phase(
            lambda: FaceAttributes(MULTIPLIER, len(ATTRIBUTES), layout=SMALL),
            task, options, seed, "faces",
        )  # fmt: skip
        floats.append(measure(start.float(), task))
        for w in bits:
            for a in bits:
                graph = start.quantized(QatConfig(weight_bits=w, activation_bits=a))
                found.setdefault((w, a), []).append(measure(graph, task))
    rows: list[list[str]] = []
    series: dict[str, tuple[list[float], list[float]]] = {}
    for i, what in enumerate(("attributes, average precision", "age within 5 years")):
        reference = [f[i] for f in floats]
        rows.append([f"{what}: float {percent(reference)} %", *[""] * len(bits)])
        for w in bits:
            cells = [[f[i] for f in found[w, a]] for a in bits]
            rows.append([f"{w} bits of weights", *(change(c, reference) for c in cells)])
            change_of = [100 * (float(np.mean(c)) / float(np.mean(reference)) - 1) for c in cells]
            if i == 0:
                series[f"{w} bits of weights"] = (list(bits), change_of)
    plot(
        options, series, x="bits of activations", y="average precision relative to float, %",
        title="Table 4.7: face attributes", ticks={b: str(b) for b in bits},
    )  # fmt: skip
    EXPERIMENT.show(["", *(f"{a} bits of activations" for a in bits)], rows, options)


EXPERIMENT = Experiment(
    name="table_4_7",
    title="Tables 4.7, 4.8: face attributes relative to float, over bit depths",
    description="Train the face-attribute classifier in float and with simulated quantization of\n"
    "weights and activations to 8 ... 4 bits each, and show what precision is lost.",
    differs=(
        "Data: 2,048 drawn faces of 32 x 32 pixels with 5 attributes and an age instead of"
        " photographs of 128 x 128, which are private to the authors.",
        "Network: depth multiplier 50 % of a stem and four separable blocks: faces of"
        " 32 pixels have no use for thirteen.",
        "Optimizer: Adam at 0.01 with a cosine schedule instead of Adagrad at 0.1 for 20 million"
        " steps, to end in minutes; one process instead of 12.",
        "Each of the 25 settings starts from the same float network and trains for an eighth of its"
        " epochs, not from scratch; batch norm is frozen for the last 40 % of that.",
        "Category precision is average precision over recall, since its definition is not given.",
    ),
    run=run,
    epochs=24,
)

if __name__ == "__main__":
    sys.exit(EXPERIMENT.main())
