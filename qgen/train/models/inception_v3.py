"""Inception v3 (Szegedy et al. 2016) at any width and depth; paper section 4.1.2.

Modules keep the published names: A at 35 x 35 elements, B reduces, C at 17 x 17, D reduces, E at
8 x 8. Every branch ends in one concatenation, whose operands share one range (A.3).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from qgen.train.models.blocks import Classifier, conv, initialize, scaled

POOLED = (32, 64, 64)  # channels of the pooling branch of the A modules
FACTORED = (128, 160, 160, 192)  # channels inside the 7x7 branches of the C modules
LEAST = 4  # channels of a scaled branch


class Width:
    """Scales published numbers of channels, and builds convolutions of one activation."""

    def __init__(self, multiplier: float, act: str) -> None:
        self.multiplier = multiplier
        self.act = act

    def __call__(self, channels: int) -> int:
        return scaled(channels, self.multiplier, LEAST)

    def chain(
        self, inputs: int, *layers: tuple[int, int | tuple[int, int]], reduce: bool = False
    ) -> nn.Sequential:
        """Convolutions of (published channels, kernel); with `reduce` the last one halves."""
        built: list[nn.Module] = []
        for i, (channels, kernel) in enumerate(layers):
            last = reduce and i == len(layers) - 1
            stride = 2 if last else 1
            built.append(conv(inputs, self(channels), kernel, self.act, stride=stride, valid=last))
            inputs = self(channels)
        return nn.Sequential(*built)


class Pooled(nn.Sequential):
    """Average pool 3x3 (padding does not count, as in integer inference) and a 1x1 convolution."""

    def __init__(self, width: Width, inputs: int, channels: int) -> None:
        pool = nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
        super().__init__(pool, width.chain(inputs, (channels, 1)))


class Branches(nn.Module):
    """Concatenation of all branches of the same input."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


class Forked(nn.Module):
    """A module E: two of its branches end in a 1x3 and a 3x1 convolution side by side."""

    def __init__(self, width: Width, inputs: int) -> None:
        super().__init__()
        self.point = width.chain(inputs, (320, 1))
        self.stem = width.chain(inputs, (384, 1))
        self.deep_stem = width.chain(inputs, (448, 1), (384, 3))
        forks = [width.chain(width(384), (384, k)) for k in ((1, 3), (3, 1), (1, 3), (3, 1))]
        self.wide, self.tall, self.deep_wide, self.deep_tall = forks
        self.pooled = Pooled(width, inputs, 192)

    def forward(self, x: Tensor) -> Tensor:
        stem, deep = self.stem(x), self.deep_stem(x)
        parts = [self.point(x), self.wide(stem), self.tall(stem)]
        parts += [self.deep_wide(deep), self.deep_tall(deep), self.pooled(x)]
        return torch.cat(parts, 1)


def module_a(width: Width, inputs: int, pooled: int) -> tuple[nn.Module, int]:
    return Branches(
        width.chain(inputs, (64, 1)),
        width.chain(inputs, (48, 1), (64, 5)),
        width.chain(inputs, (64, 1), (96, 3), (96, 3)),
        Pooled(width, inputs, pooled),
    ), width(64) * 2 + width(96) + width(pooled)


def module_b(width: Width, inputs: int) -> tuple[nn.Module, int]:
    return Branches(
        width.chain(inputs, (384, 3), reduce=True),
        width.chain(inputs, (64, 1), (96, 3), (96, 3), reduce=True),
        nn.MaxPool2d(3, stride=2),
    ), width(384) + width(96) + inputs


def module_c(width: Width, inputs: int, inner: int) -> tuple[nn.Module, int]:
    wide, tall, c = (1, 7), (7, 1), inner
    return Branches(
        width.chain(inputs, (192, 1)),
        width.chain(inputs, (c, 1), (c, wide), (192, tall)),
        width.chain(inputs, (c, 1), (c, tall), (c, wide), (c, tall), (192, wide)),
        Pooled(width, inputs, 192),
    ), 4 * width(192)


def module_d(width: Width, inputs: int) -> tuple[nn.Module, int]:
    return Branches(
        width.chain(inputs, (192, 1), (320, 3), reduce=True),
        width.chain(inputs, (192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3), reduce=True),
        nn.MaxPool2d(3, stride=2),
    ), width(320) + width(192) + inputs


def module_e(width: Width, inputs: int) -> tuple[nn.Module, int]:
    return Forked(width, inputs), width(320) + 4 * width(384) + width(192)


class InceptionV3(nn.Module):
    """Images [N, channels, H, W] to logits [N, classes].

    Args:
        multiplier: of all numbers of channels.
        modules: how many modules A, C and E there are, published 3, 4, 2; with a B between A and
            C, and a D between C and E.
        small: a stem of one convolution that keeps the size, for images of some 32 pixels. The
            published stem needs 75 pixels.

    The auxiliary classifier is left out: it serves training alone, and helps little with batch
    norm.
    """

    def __init__(
        self,
        multiplier: float = 1.0,
        classes: int = 1000,
        *,
        modules: Sequence[int] = (3, 4, 2),
        channels: int = 3,
        activation: str = "relu6",
        small: bool = False,
    ) -> None:
        super().__init__()
        width = Width(multiplier, activation)
        a, c, e = modules
        if small:
            self.stem: nn.Module = width.chain(channels, (32, 3))
            inputs = width(32)
        else:
            self.stem = nn.Sequential(
                conv(channels, width(32), 3, activation, stride=2, valid=True),
                conv(width(32), width(32), 3, activation, valid=True),
                conv(width(32), width(64), 3, activation),
                nn.MaxPool2d(3, stride=2),
                conv(width(64), width(80), 1, activation),
                conv(width(80), width(192), 3, activation, valid=True),
                nn.MaxPool2d(3, stride=2),
            )
            inputs = width(192)
        built: list[nn.Module] = []

        def add(module: tuple[nn.Module, int]) -> int:
            built.append(module[0])
            return module[1]

        for i in range(a):
            inputs = add(module_a(width, inputs, POOLED[min(i, len(POOLED) - 1)]))
        inputs = add(module_b(width, inputs))
        for i in range(c):
            inputs = add(module_c(width, inputs, FACTORED[min(i, len(FACTORED) - 1)]))
        inputs = add(module_d(width, inputs))
        for _ in range(e):
            inputs = add(module_e(width, inputs))
        self.mixed = nn.Sequential(*built)
        self.head = Classifier(inputs, classes)
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.mixed(self.stem(x)))
        return logits
