"""Table 4.1: float against int8 accuracy of ResNets of three depths."""

from __future__ import annotations

import sys

import numpy as np

from examples.paper.accuracy import top
from examples.paper.command import Experiment, Options, percent, plot
from examples.paper.phases import Task, classification, float_phase
from qgen.train import QatConfig
from qgen.train.models import ResNet, resnet, small_resnet

SMALL, FULL = (8, 14, 20), (50, 100, 150)
WIDTH = 8  # channels of the first stage of a small network


def build(depth: int, task: Task) -> ResNet:
    if depth in FULL:
        return resnet(depth, task.classes)
    return small_resnet(depth, task.classes, width=WIDTH, channels=task.channels)


def run(options: Options) -> None:
    task = classification(options, small=16, full=224)
    depths = (SMALL if options.data is None else FULL)[: 1 if options.quick else 3]
    found: dict[str, list[list[float]]] = {"float": [], "int8": []}
    for depth in depths:
        runs: dict[str, list[float]] = {name: [] for name in found}
        for seed in range(options.seeds):
            start = float_phase(
                lambda d=depth: build(d, task), task, options, seed, f"resnet{depth}"
            )  # type: ignore[misc]
            runs["float"].append(top(start.float(), task))
            runs["int8"].append(top(start.quantized(QatConfig()), task))
        for name, values in runs.items():
            found[name].append(values)
    names = {"float": "Floating-point accuracy, %", "int8": "Integer-quantized accuracy, %"}
    plot(
        options,
        {name: (depths, [100 * float(np.mean(v)) for v in found[name]]) for name in found},
        x="ResNet depth", y="accuracy, %", title=EXPERIMENT.title,
        ticks={d: str(d) for d in depths},
    )  # fmt: skip
    rows = [[names[name], *(percent(v) for v in found[name])] for name in found]
    EXPERIMENT.show(["ResNet depth", *map(str, depths)], rows, options)


EXPERIMENT = Experiment(
    name="table_4_1",
    title="Table 4.1: ResNet, float against integer-only accuracy",
    description="Train ResNets of three depths in float and with simulated 8-bit quantization,\n"
    "and compare the float network with the integer-only one, run by golden.",
    differs=(
        "Data: scikit-learn's digits at 16 x 16 pixels instead of ImageNet at 224, which would"
        " take weeks here; --data trains on ImageNet-style folders.",
        "Networks: depths 8, 14, 20 of basic blocks and 8 to 32 channels instead of 50, 100, 150:"
        " images of 16 pixels have no use for more.",
        "Optimizer: Adam at 0.003 with a cosine schedule instead of momentum at 0.00001 with"
        " steps, to end in seconds; one process instead of 50 asynchronous workers.",
        "Delay: a float phase of its own, the second half as long, instead of 500,000 steps; batch"
        " norm is frozen for the last 40 % of the second.",
    ),
    run=run,
    epochs=8,
    data="train on the ImageNet-style folders DIR/train and DIR/val at 224 pixels",
)

if __name__ == "__main__":
    sys.exit(EXPERIMENT.main())
