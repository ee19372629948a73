"""Figures 1.1c and 4.1: MobileNets over depth multiplier and resolution, accuracy and cost."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np

from examples.paper.accuracy import top
from examples.paper.command import Experiment, Options, percent, plot
from examples.paper.cost import Cost, cost
from examples.paper.phases import Task, classification, float_phase
from qgen.report.units import quantity
from qgen.train import QatConfig
from qgen.train.models import MobileNetV1, mobilenet_v1

MULTIPLIERS = (0.25, 0.5, 1.0)
SMALL, FULL = (8, 12, 16), (128, 160, 192, 224)


def build(multiplier: float, task: Task) -> MobileNetV1:
    return mobilenet_v1(multiplier, task.size, task.classes, channels=task.channels)


def run(options: Options) -> None:
    sizes = SMALL if options.data is None else FULL
    multipliers = MULTIPLIERS
    if options.quick:
        sizes, multipliers = sizes[:1], multipliers[:1]
    rows: list[list[str]] = []
    series: dict[str, tuple[list[float], list[float]]] = {}
    executed = True
    for multiplier in multipliers:
        for size in sizes:
            task = replace(classification(options, small=size, full=size), rate=0.01)
            real: list[float] = []
            whole: list[float] = []
            price: Cost | None = None
            for seed in range(options.seeds):
                start = float_phase(
                    lambda m=multiplier, t=task: build(m, t), task, options, seed,  # type: ignore[misc]
                    f"mobilenet-{multiplier}-{size}",
                )  # fmt: skip
                real.append(top(start.float(), task))
                graph = start.quantized(QatConfig())
                whole.append(top(graph, task))
                price = price or cost(graph)
            assert price is not None
            executed &= price.executed
            rows.append([
                f"{multiplier:.0%}", f"{size}", quantity(price.macs),
                f"{price.instructions / 1e3:,.0f}", percent(real), percent(whole),
            ])  # fmt: skip
            for name, values in (("float", real), ("8 bits", whole)):
                xs, ys = series.setdefault(f"DM {multiplier:.0%}, {name}", ([], []))
                xs.append(price.instructions)
                ys.append(100 * float(np.mean(values)))
    unit = f"{'executed' if executed else 'predicted'} instructions"
    plot(
        options, series, x=f"{unit} of the int8 network", y="accuracy, %",
        title=EXPERIMENT.title, log=True,
    )  # fmt: skip
    columns = ["DM", "pixels", "MACs", f"{unit}, thousands", "float, %", "8 bits, %"]
    EXPERIMENT.show(columns, rows, options)


EXPERIMENT = Experiment(
    name="figure_1_1c",
    title="Figures 1.1c, 4.1: MobileNet, accuracy against cost",
    description="Train MobileNets of several depth multipliers and resolutions, in float and with\n"
    "simulated 8-bit quantization; show accuracy against the instructions of the generated C.",
    differs=(
        "Cost: executed instructions of the C that qgen generates for 64-bit Arm instead of"
        " milliseconds on a phone, since no phone is at hand. There is no float code to count:"
        " points of float networks stand above the cost of their integer twins.",
        "Data: scikit-learn's digits at 8 to 16 pixels instead of ImageNet at 96 to 224, which"
        " would take weeks here; --data trains on ImageNet-style folders.",
        "Network below 96 pixels: a stem of stride 1 and four separable blocks, not thirteen.",
        "Optimizer: Adam at 0.01 with a cosine schedule, to end in minutes; one process.",
        "Quantization starts after a float phase; batch norm is frozen for the last 40 % of the"
        " second phase.",
    ),
    run=run,
    epochs=8,
    data="train on the ImageNet-style folders DIR/train and DIR/val at 128 to 224 pixels",
)

if __name__ == "__main__":
    sys.exit(EXPERIMENT.main())
