"""Table 4.3: Inception v3 in float, 8 and 7 bits, with ReLU6 and with ReLU."""

from __future__ import annotations

import sys

import numpy as np

from examples.paper.accuracy import top
from examples.paper.command import Experiment, Options, percent, plot
from examples.paper.phases import Task, classification, float_phase
from qgen.train import QatConfig
from qgen.train.models import InceptionV3

ACTIVATIONS = {"ReLU6": "relu6", "ReLU": "relu"}
TYPES = {"floats": 0, "8 bits": 8, "7 bits": 7}
MULTIPLIER = 0.08  # of all widths of the small network


def build(act: str, task: Task, options: Options) -> InceptionV3:
    if options.data is not None:
        return InceptionV3(1.0, task.classes, activation=act)
    return InceptionV3(
        MULTIPLIER, task.classes, modules=(1, 1, 1), channels=task.channels, activation=act,
        small=True,
    )  # fmt: skip


def run(options: Options) -> None:
    task = classification(options, small=16, full=299)
    rows: list[list[str]] = []
    series: dict[str, tuple[list[float], list[float]]] = {}
    for shown, act in list(ACTIVATIONS.items())[: 1 if options.quick else 2]:
        first: dict[str, list[float]] = {name: [] for name in TYPES}
        fifth: dict[str, list[float]] = {name: [] for name in TYPES}
        for seed in range(options.seeds):
            start = float_phase(
                lambda a=act: build(a, task, options),
                task,
                options,
                seed,
                f"inception-{act}",  # type: ignore[misc]
            )
            for name, bits in TYPES.items():
                config = QatConfig(weight_bits=bits or 8, activation_bits=bits or 8)
                network = start.quantized(config) if bits else start.float()
                first[name].append(top(network, task))
                fifth[name].append(top(network, task, 5))
        rows += [[shown, n, percent(first[n]), percent(fifth[n])] for n in TYPES]
        means = [100 * float(np.mean(first[n])) for n in TYPES]
        series[shown] = (list(range(len(TYPES))), means)
    plot(
        options, series, x="type", y="accuracy, %", title=EXPERIMENT.title,
        ticks=dict(enumerate(TYPES)),
    )  # fmt: skip
    EXPERIMENT.show(["Act.", "type", "accuracy, %", "recall 5, %"], rows, options)


EXPERIMENT = Experiment(
    name="table_4_3",
    title="Table 4.3: Inception v3, float against 8 and 7 bits",
    description="Train Inception v3 with ReLU6 and with ReLU, in float and with simulated\n"
    "quantization to 8 and to 7 bits, and compare accuracies.",
    differs=(
        "Data: scikit-learn's digits at 16 x 16 pixels instead of ImageNet at 299, which would"
        " take weeks here; --data trains on ImageNet-style folders. Recall 5 is among 10 classes.",
        "Network: one module A, C and E each (3, 4, 2 published) of 8 % of the width, and a stem of"
        " one convolution, to keep some pixels of so small an image.",
        "Optimizer: Adam at 0.003 with a cosine schedule instead of RMSProp at 0.045, and no"
        " moving average of weights, to end in a minute; one process instead of 50.",
        "Augmentation: moves by up to 2 pixels instead of crops, mirroring and colours, which"
        " change what digit it is or do not exist in grey.",
        "Quantization starts after a float phase; batch norm is frozen for the last 40 % of the"
        " second phase.",
    ),
    run=run,
    epochs=5,
    data="train on the ImageNet-style folders DIR/train and DIR/val at 299 pixels",
)

if __name__ == "__main__":
    sys.exit(EXPERIMENT.main())
