"""What simulated quantization costs: processor time of a training step, beside the float network.

``python -m benchmarks.training [--steps N]``. Networks take turns at every step, and the fastest
step of each counts, since a busy machine only ever slows one down.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from qgen.train import QatConfig, Statistics, create_training_graph

CONFIGS = {
    "per tensor": QatConfig(),
    "per channel": QatConfig(per_channel=True),
    "two convolutions": QatConfig(statistics=Statistics.FLOAT),
}
BATCH = 32


def block(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs), nn.ReLU6()]


def separable(width: int = 16) -> nn.Module:
    """The beginning of a MobileNet, for images of 3 channels."""
    layers = block(3, width, 3, 2)
    for inputs, outputs, stride in ((1, 2, 1), (2, 4, 2), (4, 4, 1), (4, 8, 2), (8, 8, 1)):
        layers += block(inputs * width, inputs * width, 3, stride, inputs * width)
        layers += block(inputs * width, outputs * width, 1)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8 * width, 10))


def plain(width: int = 16) -> nn.Module:
    """Convolutions of 3 x 3."""
    layers = [*block(3, width, 3), *block(width, width, 3), *block(width, 2 * width, 3, 2)]
    layers += block(2 * width, 2 * width, 3)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * width, 10))


def step(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, labels: Tensor) -> float:
    """Seconds of processor time for one step."""
    start = time.process_time()
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(x), labels).backward()
    optimizer.step()
    return time.process_time() - start


def measure(model: nn.Module, size: int, steps: int) -> dict[str, float]:
    """The fastest step of `model` as it is ("float") and of its training graphs, in seconds."""
    x, labels = torch.rand(BATCH, 3, size, size), torch.randint(10, (BATCH,))
    models: dict[str, nn.Module] = {"float": model.train()}
    for name, config in CONFIGS.items():
        models[name] = create_training_graph(model, x, config).train()
    optimizers = {name: torch.optim.SGD(m.parameters(), 0.01) for name, m in models.items()}
    best = dict.fromkeys(models, float("inf"))
    for _ in range(steps):
        for name, m in models.items():
            best[name] = min(best[name], step(m, optimizers[name], x, labels))
    return best


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__)
    parser.add_argument("--steps", type=int, default=10, metavar="N", help="default: 10")
    steps = parser.parse_args(words).steps
    torch.set_num_threads(1)
    torch.manual_seed(0)
    for name, model, size in (("separable", separable(), 96), ("plain", plain(), 32)):
        best = measure(model, size, steps)
        for kind, seconds in best.items():
            ratio = seconds / best["float"]
            print(f"{name:10} {kind:17} {seconds * 1e3:7.1f} ms  {ratio:.2f} x float")
    return 0


if __name__ == "__main__":
    sys.exit(main())
