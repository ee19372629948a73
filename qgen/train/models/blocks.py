"""What the builders share: convolution with batch norm and activation, widths, initial weights."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import nn

from qgen.errors import QgenError

ACTIVATIONS: Mapping[str, type[nn.Module]] = {"relu": nn.ReLU, "relu6": nn.ReLU6}
LEAST_CHANNELS = 8  # of a scaled layer, as MobileNets have it


def activation(name: str) -> nn.Module:
    """A new module of the activation `name`. Raises QgenError for one that is not a clamp."""
    if name not in ACTIVATIONS:
        raise QgenError(f"unknown activation '{name}'", hint=f"use {' or '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]()


def scaled(channels: int, multiplier: float, least: int = LEAST_CHANNELS) -> int:
    """`channels` times the depth multiplier, to the nearest integer, but at least `least`."""
    if multiplier <= 0:
        raise QgenError(f"depth multiplier {multiplier} is not positive")
    return max(least, math.floor(channels * multiplier + 0.5))


def conv(
    inputs: int,
    outputs: int,
    kernel: int | tuple[int, int],
    act: str | None,
    *,
    stride: int = 1,
    groups: int = 1,
    valid: bool = False,
) -> nn.Sequential:
    """Convolution, batch norm and activation (none for None): one fused layer of inference.

    Odd kernels are padded by half of themselves on each side, which keeps the size at stride 1;
    `valid` pads nothing.
    """
    kh, kw = (kernel, kernel) if isinstance(kernel, int) else kernel
    padding = (0, 0) if valid else (kh // 2, kw // 2)
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, (kh, kw), stride, padding, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*layers, *([activation(act)] if act else []))


def separable(inputs: int, outputs: int, act: str, *, stride: int = 1) -> nn.Sequential:
    """Depthwise 3x3 and pointwise convolution, each with batch norm and activation (MobileNet)."""
    return nn.Sequential(
        conv(inputs, inputs, 3, act, stride=stride, groups=inputs),
        conv(inputs, outputs, 1, act),
    )


class Classifier(nn.Module):
    """Global average pool and a dense layer: [N, C, H, W] to logits [N, classes]."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.logits = nn.Linear(channels, classes)

    def forward(self, x):  # type: ignore[no-untyped-def]
        return self.logits(self.flatten(self.pool(x)))


def initialize(model: nn.Module) -> None:
    """Normal weights whose variance is 2 / fan-in (He et al. 2015), 1 / fan-in for dense layers.

    Fan-in and not fan-out, since a depthwise filter has one input channel whatever its number of
    outputs. No batch norm starts at gamma 0: folded weights would all be 0, a dead range.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
