"""Networks and data of these tests."""

from __future__ import annotations

from typing import NamedTuple

import torch
from sklearn.datasets import load_digits
from torch import Tensor, fx, nn
from torch.nn import functional


class Digits(NamedTuple):
    """scikit-learn's 8 x 8 digits, values in [0, 1]."""

    images: Tensor
    labels: Tensor
    test_images: Tensor
    test_labels: Tensor


def digits() -> Digits:
    data = load_digits()
    images = torch.tensor(data.images[:, None] / 16.0, dtype=torch.float32)
    labels = torch.tensor(data.target)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    images, labels = images[order], labels[order]
    return Digits(images[:1437], labels[:1437], images[1437:], labels[1437:])


def separable(width: int = 8) -> nn.Sequential:
    """Convolution and depthwise convolution with batch norm and relu6, then a dense layer."""
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU6(),
        nn.Conv2d(width, width, 3, stride=2, padding=1, groups=width, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU6(),
        nn.Flatten(),
        nn.Linear(width * 16, 10),
    )


class Residual(nn.Module):
    """Bypass add, concat with a pooled branch, both kinds of average, dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()
        )
        self.left = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8))
        self.right = nn.Conv2d(8, 8, 1)
        self.pool = nn.AvgPool2d(3, 2, 1, count_include_pad=False)
        self.wide = nn.Sequential(
            nn.Conv2d(8, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU6()
        )
        self.drop = nn.Dropout(0.1)
        self.head = nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = functional.relu(self.left(x) + x + self.right(x))
        x = torch.cat((self.pool(x), self.wide(x), functional.max_pool2d(x, 2)), 1)
        return self.head(self.drop(x.mean([2, 3])))


def train(
    graph: nn.Module, data: Digits, epochs: int, rate: float = 0.01, batch: int = 64, seed: int = 0
) -> None:
    """Cross entropy and Adam, the rate falling to nothing; leaves `graph` in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(graph.parameters(), rate)
    steps = epochs * -(-len(data.images) // batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    graph.train()
    for _ in range(epochs):
        for index in torch.randperm(len(data.images), generator=generator).split(batch):
            optimizer.zero_grad()
            loss = functional.cross_entropy(graph(data.images[index]), data.labels[index])
            loss.backward()
            optimizer.step()
            schedule.step()
    graph.eval()


def accuracy(model: nn.Module | fx.GraphModule, data: Digits) -> float:
    """Percent of test images that are classified right."""
    with torch.no_grad():
        right = model(data.test_images).argmax(1) == data.test_labels
    return 100.0 * right.float().mean().item()
