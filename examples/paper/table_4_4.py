"""Tables 4.4 and 4.5: detection in float, 8 and 7 bits over depth multipliers."""

from __future__ import annotations

import sys
from functools import cached_property

import numpy as np
import torch

from examples.paper.accuracy import outputs
from examples.paper.command import Experiment, Options, percent, plot
from examples.paper.cost import Cost, cost
from examples.paper.phases import PARTS, Task, float_phase
from qgen.ir.graph import Graph
from qgen.train import QatConfig
from qgen.train.data import CocoDetection, Shapes
from qgen.train.data.shapes import collate
from qgen.train.detection import (
    Scores,
    SsdLoss,
    anchor_boxes,
    detect,
    evaluate_detections,
    map_sizes,
)
from qgen.train.models import MobileNetSSD
from qgen.train.models.mobilenet_ssd import EXTRAS, TAPS
from qgen.train.models.mobilenet_v1 import LAYOUT, Layout

MULTIPLIERS = (1.0, 0.5, 0.25)
PIXELS, FULL_PIXELS = 32, 320
TRAINING, TEST = 1024, 256
SMALL: Layout = ((48, 2), (64, 1), (96, 2), (96, 1))
BITS = (8, 7)  # of weights and of activations
PER_CELL = {True: 3, False: 6}  # anchors, of the small detector and of the full one


class Detector:
    """The network of the experiment and its anchors, at the size of its data."""

    def __init__(self, classes: int, size: int, *, small: bool) -> None:
        self.classes = classes
        self.size = size
        self.small = small
        self.per_cell = PER_CELL[small]

    def build(self, multiplier: float) -> MobileNetSSD:
        return MobileNetSSD(
            multiplier,
            self.classes,
            anchors=self.per_cell,
            layout=SMALL if self.small else LAYOUT,
            stem_stride=1 if self.small else 2,
            taps=(2, 4) if self.small else TAPS,
            extras=() if self.small else EXTRAS,
        )

    @cached_property
    def anchors(self) -> torch.Tensor:
        with torch.no_grad():
            maps = self.build(0.25).eval()(torch.zeros(1, 3, self.size, self.size))
        if self.small:
            # Shapes are nearly square and of 0.2 to 0.5 of the picture.
            return anchor_boxes(map_sizes(maps), smallest=0.22, largest=0.4, ratios=(1.0, 0.8))
        return anchor_boxes(map_sizes(maps))

    def measure(self, network: torch.nn.Module | Graph, task: Task) -> Scores:
        found, objects = [], []
        for maps, targets in outputs(network, task):
            found += detect([m.cpu() for m in maps], self.anchors, self.per_cell)
            objects += targets
        return evaluate_detections(found, objects, self.classes)


def data(options: Options) -> tuple[Task, Detector]:
    if options.data is None:
        training, test = Shapes(TRAINING, PIXELS), Shapes(TEST, PIXELS, seed=1)
        classes, size = len(training.classes), PIXELS
    else:
        training, test = (  # type: ignore[assignment]
            CocoDetection(options.data / f"{part}.json", options.data / part, FULL_PIXELS,
                          train=part == "train")
            for part in PARTS
        )  # fmt: skip
        classes, size = len(training.classes), FULL_PIXELS
    detector = Detector(classes, size, small=options.data is None)
    loss = SsdLoss(detector.anchors, detector.per_cell)
    task = Task(
        training, test, 3, classes, size, loss=loss, metric=None, collate=collate, rate=0.01
    )
    return task.quick() if options.quick else task, detector


def run(options: Options) -> None:
    task, detector = data(options)
    rows: list[list[str]] = []
    names = ("float", *(f"{bits} bits" for bits in BITS))
    series: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in names}
    for multiplier in MULTIPLIERS[-1 if options.quick else 0 :]:
        scores: dict[str, list[Scores]] = {name: [] for name in names}
        prices: dict[str, Cost] = {}
        for seed in range(options.seeds):
            start = float_phase(
                lambda m=multiplier: detector.build(m),
                task,
                options,
                seed,
                f"ssd-{multiplier}",  # type: ignore[misc]
            )
            scores["float"].append(detector.measure(start.float(), task))
            for bits in BITS:
                graph = start.quantized(QatConfig(weight_bits=bits, activation_bits=bits))
                name = f"{bits} bits"
                scores[name].append(detector.measure(graph, task))
                if name not in prices:
                    prices[name] = cost(graph)
        for name, found in scores.items():
            instructions = "-"
            if price := prices.get(name):
                what = "" if price.executed else " predicted"
                instructions = f"{price.instructions / 1e6:.2f} M{what}"
            measures = [[getattr(s, m) for s in found] for m in MEASURES]
            rows.append([f"{multiplier:.0%}", name, *map(percent, measures), instructions])
            series[name][0].append(prices["8 bits"].instructions)
            series[name][1].append(100 * float(np.mean(measures[0])))
    plot(
        options, series, x="instructions of the int8 network", y="mAP, %",
        title=EXPERIMENT.title, log=True,
    )  # fmt: skip
    columns = ["DM", "type", "mAP, %", "AP at 0.5, %", "precision, %", "recall, %", "instructions"]
    EXPERIMENT.show(columns, rows, options)


MEASURES = ("ap", "ap50", "precision", "recall")

EXPERIMENT = Experiment(
    name="table_4_4",
    title="Tables 4.4, 4.5: MobileNet SSD, float against 8 and 7 bits",
    description="Train MobileNet SSD detectors of three depth multipliers in float and with\n"
    "simulated quantization to 8 and 7 bits; compare mAP, precision and recall, and count\n"
    "instructions.",
    differs=(
        "Data: 1,024 drawn pictures of 32 x 32 pixels with circles, squares and triangles instead"
        " of COCO and private faces at 320 x 320; --data trains on COCO-style annotations.",
        "Network: four separable blocks, of which the second and the fourth predict with 3 anchors"
        " per cell, instead of thirteen and further layers: a picture of 32 pixels has no more.",
        "Optimizer: Adam at 0.01 with a cosine schedule instead of RMSProp at 0.004 with steps, to"
        " end in minutes; no random crops of drawn pictures; one process instead of 20.",
        "Delay: a float phase of its own, the second half as long, instead of 500,000 steps; batch"
        " norm is frozen for the last 40 % of the second.",
        "Bits: 7 as well, as in Table 4.3.",
        "Cost: executed instructions of the generated C for 64-bit Arm instead of milliseconds; the"
        " float network has none. Precision counts detections of probability 0.5 or more.",
    ),
    run=run,
    epochs=12,
    data="train on DIR/train.json, DIR/val.json (COCO) with images in DIR/train and DIR/val",
)

if __name__ == "__main__":
    sys.exit(EXPERIMENT.main())
