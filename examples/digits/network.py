"""A small convnet in numpy, forward and backward by hand.

Activations are NHWC, weights are laid out as in the model file: conv2d [out, kh, kw, in],
depthwise [1, kh, kw, channels], dense [out, in].
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from qgen.ir.types import Padding
from qgen.ir.windows import Window, window

Array = npt.NDArray[Any]


class Layer:
    """Weights `w`, bias `b`, and their gradients `dw`, `db` after `backward`."""

    def __init__(self, rng: np.random.Generator, shape: tuple[int, ...], channels: int, fan: int):
        self.w: Array = rng.normal(0.0, np.sqrt(2.0 / fan), shape)
        self.b: Array = np.zeros(channels)
        self.dw = np.zeros_like(self.w)
        self.db = np.zeros_like(self.b)


class Conv(Layer):
    """kernel x kernel convolution with padding `same` and stride 1."""

    def __init__(self, rng: np.random.Generator, inputs: int, outputs: int, kernel: int):
        super().__init__(rng, (outputs, kernel, kernel, inputs), outputs, inputs * kernel**2)

    def forward(self, x: Array) -> Array:
        o, kh, kw, _ = self.w.shape
        self.shape = x.shape
        self.window = window(x.shape, (kh, kw), (1, 1), (1, 1), Padding.SAME)
        patches = self.window.patches(x, 0.0)
        self.columns = patches.reshape(-1, self.w[0].size)
        return (self.columns @ self.w.reshape(o, -1).T).reshape(*patches.shape[:3], o) + self.b

    def backward(self, dy: Array) -> Array:
        rows = dy.reshape(-1, len(self.b))
        self.dw = (rows.T @ self.columns).reshape(self.w.shape)
        self.db = rows.sum(axis=0)
        columns = rows @ self.w.reshape(len(self.b), -1)
        return scatter(columns.reshape(*dy.shape[:3], *self.w.shape[1:]), self.window, self.shape)


class Depthwise(Layer):
    """One kernel x kernel filter per channel with padding `same`."""

    def __init__(self, rng: np.random.Generator, channels: int, kernel: int, stride: int):
        super().__init__(rng, (1, kernel, kernel, channels), channels, kernel**2)
        self.stride = (stride, stride)

    def forward(self, x: Array) -> Array:
        kernel = (self.w.shape[1], self.w.shape[2])
        self.shape = x.shape
        self.window = window(x.shape, kernel, self.stride, (1, 1), Padding.SAME)
        self.patches = self.window.patches(x, 0.0)
        return (self.patches * self.w[0]).sum(axis=(3, 4)) + self.b

    def backward(self, dy: Array) -> Array:
        spread = dy[:, :, :, None, None, :]
        self.dw = (self.patches * spread).sum(axis=(0, 1, 2))[None]
        self.db = dy.sum(axis=(0, 1, 2))
        return scatter(spread * self.w[0], self.window, self.shape)


class Dense(Layer):
    """Fully connected."""

    def __init__(self, rng: np.random.Generator, inputs: int, outputs: int):
        super().__init__(rng, (outputs, inputs), outputs, inputs)

    def forward(self, x: Array) -> Array:
        self.x = x
        return x @ self.w.T + self.b

    def backward(self, dy: Array) -> Array:
        self.dw = dy.T @ self.x
        self.db = dy.sum(axis=0)
        return dy @ self.w


def scatter(patches: Array, win: Window, shape: tuple[int, ...]) -> Array:
    """Add patches [N, OH, OW, KH, KW, C] up into an image of `shape`: the adjoint of im2col."""
    n, h, w, c = shape
    top, bottom, left, right = win.pads
    image = np.zeros((n, h + top + bottom, w + left + right, c))
    _, oh, ow, kernel_h, kernel_w, _ = patches.shape
    sh, sw = win.h.stride, win.w.stride
    for i in range(kernel_h):
        for j in range(kernel_w):
            image[:, i : i + sh * oh : sh, j : j + sw * ow : sw] += patches[:, :, :, i, j]
    return image[:, top : top + h, left : left + w]


def relu(x: Array) -> Array:
    return np.maximum(x, 0.0)


class Network:
    """conv 3x3 - depthwise 3x3 / 2 - pointwise - (+ pointwise branch) - average pool - dense."""

    def __init__(self, rng: np.random.Generator):
        self.stem = Conv(rng, 1, 16, 3)
        self.down = Depthwise(rng, 16, 3, stride=2)
        self.expand = Conv(rng, 16, 32, 1)
        self.branch = Conv(rng, 32, 32, 1)
        self.logits = Dense(rng, 128, 10)

    @property
    def layers(self) -> list[Layer]:
        return [self.stem, self.down, self.expand, self.branch, self.logits]

    def forward(self, image: Array) -> dict[str, Array]:
        """All activations by name, for images [N, 8, 8, 1] with values from 0 to 1."""
        a = {"image": image}
        a["stem"] = relu(self.stem.forward(a["image"]))
        a["down"] = relu(self.down.forward(a["stem"]))
        a["expand"] = relu(self.expand.forward(a["down"]))
        a["branch"] = self.branch.forward(a["expand"])
        a["sum"] = relu(a["expand"] + a["branch"])
        n, h, w, c = a["sum"].shape
        a["pool"] = a["sum"].reshape(n, h // 2, 2, w // 2, 2, c).mean(axis=(2, 4))
        a["logits"] = self.logits.forward(a["pool"].reshape(n, -1))
        return a

    def backward(self, a: dict[str, Array], dlogits: Array) -> None:
        """Gradients of all layers from that of the logits; `a` is what `forward` returned."""
        dpool = self.logits.backward(dlogits).reshape(a["pool"].shape)
        dsum = dpool.repeat(2, axis=1).repeat(2, axis=2) / 4 * (a["sum"] > 0)
        dexpand = (dsum + self.branch.backward(dsum)) * (a["expand"] > 0)
        ddown = self.expand.backward(dexpand) * (a["down"] > 0)
        dstem = self.down.backward(ddown) * (a["stem"] > 0)
        self.stem.backward(dstem)


def cross_entropy_gradient(logits: Array, labels: Array, smoothing: float) -> Array:
    """d(mean cross entropy) / d(logits) with smoothed labels."""
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    target = np.eye(logits.shape[1])[labels] * (1 - smoothing) + smoothing / logits.shape[1]
    return (e / e.sum(axis=1, keepdims=True) - target) / len(labels)


class Adam:
    """Adam over all weights and biases of a network."""

    def __init__(self, layers: list[Layer], beta1: float = 0.9, beta2: float = 0.999):
        self.layers = layers
        self.betas = (beta1, beta2)
        self.steps = 0
        self.moments = [np.zeros((2, *p.shape)) for layer in layers for p in (layer.w, layer.b)]

    def step(self, rate: float) -> None:
        self.steps += 1
        beta1, beta2 = self.betas
        parameters = [p for layer in self.layers for p in (layer.w, layer.b)]
        gradients = [g for layer in self.layers for g in (layer.dw, layer.db)]
        for p, g, (m, v) in zip(parameters, gradients, self.moments, strict=True):
            m += (1 - beta1) * (g - m)
            v += (1 - beta2) * (g * g - v)
            correction = np.sqrt(1 - beta2**self.steps) / (1 - beta1**self.steps)
            p -= rate * correction * m / (np.sqrt(v) + 1e-8)
