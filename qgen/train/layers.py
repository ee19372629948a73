"""Operations of a training graph that have no weights; they compute on real values.

`RANGE` says what parameters the result has: OWN ones, those of the INPUT, because values are only
moved or compared, those of the INPUT to which it is ROUNDED, or FIXED ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from qgen.ir.types import Activation, QParams
from qgen.train.fold import activate


class Ranges(Enum):
    OWN = "own"
    INPUT = "input"
    ROUNDED = "rounded"
    FIXED = "fixed"


class Layer(nn.Module):
    """Base: a named operation."""

    RANGE: ClassVar[Ranges] = Ranges.INPUT

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def forward(self, *x: Tensor) -> Tensor:
        raise NotImplementedError(type(self).__name__)


class Input(Layer):
    """The network's input, quantized as the caller of inference will give it.

    `shape` is that of one example, without the batch.
    """

    RANGE = Ranges.OWN

    def __init__(self, path: str, shape: Sequence[int]) -> None:
        super().__init__(path)
        self.shape = tuple(shape)

    def forward(self, *x: Tensor) -> Tensor:
        return x[0]


class Binary(Layer):
    """Element-wise `add`, `sub` or `mul` of two tensors of one shape, then an activation (A.2)."""

    RANGE = Ranges.OWN

    def __init__(self, path: str, operation: str, activation: Activation = Activation.NONE) -> None:
        super().__init__(path)
        self.operation = operation
        self.activation = activation

    def forward(self, *x: Tensor) -> Tensor:
        a, b = x
        y = a + b if self.operation == "add" else a - b if self.operation == "sub" else a * b
        return activate(y, self.activation)


class Clamp(Layer):
    """An activation that could not be fused into the operation before it."""

    RANGE = Ranges.OWN

    def __init__(self, path: str, activation: Activation) -> None:
        super().__init__(path)
        self.activation = activation

    def forward(self, *x: Tensor) -> Tensor:
        return activate(x[0], self.activation)


class Function(Layer):
    """softmax, logistic or tanh: the scale of the result is a power of two (A.1)."""

    RANGE = Ranges.FIXED
    FIXED: ClassVar[dict[str, QParams]] = {
        "softmax": QParams((1 / 256,), -128),
        "logistic": QParams((1 / 256,), -128),
        "tanh": QParams((1 / 128,), 0),
    }

    def __init__(self, path: str, function: str, dim: int = -1) -> None:
        super().__init__(path)
        self.function = function
        self.dim = dim

    def forward(self, *x: Tensor) -> Tensor:
        if self.function == "softmax":
            return functional.softmax(x[0], self.dim)
        return torch.sigmoid(x[0]) if self.function == "logistic" else torch.tanh(x[0])


class Concat(Layer):
    """Tensors side by side along `dim`; all share one range (A.3)."""

    def __init__(self, path: str, dim: int) -> None:
        super().__init__(path)
        self.dim = dim

    def forward(self, *x: Tensor) -> Tensor:
        return torch.cat(x, self.dim)


class Pool(Layer):
    """Largest element or average (of those inside the image) of each window of x [N, C, H, W].

    `padding` is the same on both sides of height, and of width.
    """

    def __init__(
        self, path: str, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]
    ) -> None:
        super().__init__(path)
        self.kernel = (kernel[0], kernel[1])
        self.stride = (stride[0], stride[1])
        self.padding = (padding[0], padding[1])


class MaxPool(Pool):
    def forward(self, *x: Tensor) -> Tensor:
        return functional.max_pool2d(x[0], self.kernel, self.stride, self.padding)


class AveragePool(Pool):
    RANGE = Ranges.ROUNDED

    def forward(self, *x: Tensor) -> Tensor:
        return functional.avg_pool2d(
            x[0], self.kernel, self.stride, self.padding, count_include_pad=False
        )


class Mean(Layer):
    """Average over height and width of x [N, C, H, W], which stay as 1 with `keep`."""

    RANGE = Ranges.ROUNDED

    def __init__(self, path: str, keep: bool) -> None:
        super().__init__(path)
        self.keep = keep

    def forward(self, *x: Tensor) -> Tensor:
        return x[0].mean((2, 3), keepdim=self.keep)


class Reshape(Layer):
    """The same elements in another shape; `tail` is that shape without the batch."""

    def __init__(self, path: str, tail: Sequence[int]) -> None:
        super().__init__(path)
        self.tail = tuple(tail)

    def forward(self, *x: Tensor) -> Tensor:
        return x[0].reshape(x[0].shape[0], *self.tail)


class ChannelsLast(Layer):
    """[N, C, H, W] -> [N, H, W, C]: how exported images lie in memory, so it exports to nothing."""

    def forward(self, *x: Tensor) -> Tensor:
        return x[0].permute(0, 2, 3, 1)


class Dropout(Layer):
    """Zeros some elements in training; evaluation graphs are without."""

    def __init__(self, path: str, p: float, whole_channels: bool) -> None:
        super().__init__(path)
        self.p = p
        self.whole_channels = whole_channels

    def forward(self, *x: Tensor) -> Tensor:
        drop = functional.dropout2d if self.whole_channels else functional.dropout
        return drop(x[0], self.p, self.training)
