"""Train the digits model, quantize it and write the files of this folder.

Run from the project's folder: ``python -m examples.digits.train``. It takes some ten seconds. All
seeds are fixed: on one machine every run writes the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from examples.digits.data import Array, Split, as_input, load
from examples.digits.network import Adam, Layer, Network, cross_entropy_gradient
from qgen.frontend.printer import save
from qgen.ir.graph import Graph
from qgen.ir.interp import run
from qgen.ir.op import Op
from qgen.ir.ops.add import Add
from qgen.ir.ops.average_pool2d import AveragePool2D
from qgen.ir.ops.conv2d import Conv2D
from qgen.ir.ops.depthwise_conv2d import DepthwiseConv2D
from qgen.ir.ops.fully_connected import FullyConnected
from qgen.ir.ops.softmax import Softmax
from qgen.ir.types import Activation, DType, Padding, QParams, Tensor, TensorType
from qgen.passes.legalize import legalize

FOLDER = Path(__file__).parent
EPOCHS = 80
BATCH = 32
PEAK_RATE = 0.005
SMOOTHING = 0.1
SAMPLES_PER_DIGIT = 2


# -- training in floating point ------------------------------------------------------------------


def train(data: Split, rng: np.random.Generator) -> Network:
    """Adam with a cosine schedule; half of the images are moved by up to one pixel."""
    net = Network(rng)
    adam = Adam(net.layers)
    images = data.images / 255.0
    batches = len(images) // BATCH
    for step in range(EPOCHS * batches):
        if step % batches == 0:
            order = rng.permutation(len(images))
        chosen = order[step % batches * BATCH :][:BATCH]
        activations = net.forward(jitter(images[chosen], rng))
        gradient = cross_entropy_gradient(activations["logits"], data.labels[chosen], SMOOTHING)
        net.backward(activations, gradient)
        adam.step(PEAK_RATE * (1 + np.cos(np.pi * step / (EPOCHS * batches))) / 2)
    return net


def jitter(images: Array, rng: np.random.Generator) -> Array:
    """Move every other image by -1, 0 or 1 pixels in both directions, filling with black."""
    moves = rng.integers(-1, 2, (len(images), 2))
    moves[rng.random(len(images)) < 0.5] = 0
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    height, width = images.shape[1:3]
    return np.stack(
        [
            image[1 + dy :, 1 + dx :][:height, :width]
            for image, (dy, dx) in zip(padded, moves.tolist(), strict=True)
        ]
    )


def float_accuracy(net: Network, data: Split) -> float:
    logits = net.forward(data.images / 255.0)["logits"]
    return float((logits.argmax(axis=1) == data.labels).mean())


# -- quantization --------------------------------------------------------------------------------


def activation_params(values: Array) -> QParams:
    """Asymmetric i8 parameters of the observed range, nudged so that 0 is exact, eq. (13)."""
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    scale = float(np.float32((high - low) / 255))
    return QParams((scale,), int(np.clip(np.rint(-128 - low / scale), -128, 127)))


def weight_params(weights: Array, axis: int) -> QParams:
    """Symmetric i8 parameters, one scale per output channel; -128 does not occur."""
    others = tuple(i for i in range(weights.ndim) if i != axis)
    scales = np.abs(weights).max(axis=others) / 127
    return QParams(tuple(np.float32(scales).tolist()), 0, axis)


def quantize(net: Network, activations: Mapping[str, Array], batch: int = 1) -> Graph:
    """The int8 model of `net`, its ranges taken from `activations` (names to values)."""
    image = Tensor("image", TensorType(DType.I8, (batch, 8, 8, 1), QParams((1 / 255,), -128)))
    ops: list[Op] = []

    def result(name: str, shape: tuple[int, ...], quant: QParams | None = None) -> Tensor:
        quant = quant or activation_params(activations[name])
        return Tensor(name, TensorType(DType.I8, (batch, *shape), quant))

    def constants(name: str, layer: Layer, x: Tensor, axis: int = 0) -> dict[str, Tensor]:
        quant = weight_params(layer.w, axis)
        scales = np.array(quant.scale)
        along = [-1 if i == axis else 1 for i in range(layer.w.ndim)]
        w = np.clip(np.rint(layer.w / scales.reshape(along)), -127, 127).astype(np.int8)
        # Eq. (11): the bias has the scale of the accumulator.
        b = np.rint(layer.b / (x.type.scale * scales)).astype(np.int32)
        return {
            "w": Tensor(f"{name}_w", TensorType(DType.I8, w.shape, quant), w),
            "b": Tensor(f"{name}_b", TensorType(DType.I32, b.shape), b),
        }

    def add(op: Op) -> Tensor:
        ops.append(op)
        return op.out

    stem = add(
        Conv2D(
            x=image,
            **constants("stem", net.stem, image),
            padding=Padding.SAME,
            activation=Activation.RELU,
            out=result("stem", (8, 8, 16)),
        )
    )
    down = add(
        DepthwiseConv2D(
            x=stem,
            **constants("down", net.down, stem, axis=3),
            stride=(2, 2),
            padding=Padding.SAME,
            activation=Activation.RELU,
            out=result("down", (4, 4, 16)),
        )
    )
    expand = add(
        Conv2D(
            x=down,
            **constants("expand", net.expand, down),
            activation=Activation.RELU,
            out=result("expand", (4, 4, 32)),
        )
    )
    branch = add(
        Conv2D(
            x=expand,
            **constants("branch", net.branch, expand),
            out=result("branch", (4, 4, 32)),
        )
    )
    total = add(Add(a=expand, b=branch, activation=Activation.RELU, out=result("sum", (4, 4, 32))))
    pool = add(
        AveragePool2D(
            x=total,
            kernel=(2, 2),
            stride=(2, 2),
            # The mean of values lies in their range: pooling keeps the parameters.
            out=result("pool", (2, 2, 32), total.type.quant),
        )
    )
    logits = add(
        FullyConnected(x=pool, **constants("logits", net.logits, pool), out=result("logits", (10,)))
    )
    probabilities = add(
        Softmax(x=logits, out=result("probabilities", (10,), QParams((1 / 256,), -128)))
    )
    return Graph("digits", (image,), (probabilities,), tuple(ops))


def golden_accuracy(graph: Graph, data: Split) -> float:
    """Accuracy of the golden interpreter; the batch of `graph` is all of `data`."""
    (probabilities,) = run(legalize(graph), [as_input(data.images)])
    return float((probabilities.argmax(axis=1) == data.labels).mean())


# -- files ---------------------------------------------------------------------------------------


def c_samples(images: Array, labels: Array) -> str:
    """Model inputs and labels as a C header."""
    lines = [
        "/* Held-out images and their labels, written by train.py. */",
        "#ifndef SAMPLES_H",
        "#define SAMPLES_H",
        "",
        "#include <stdint.h>",
        "",
        f"enum {{ SAMPLES = {len(images)} }};",
        "",
        f"static const int8_t sample_image[{len(images)}][{images[0].size}] = {{",
    ]
    for image in images:
        rows = [", ".join(f"{v:4d}" for v in row) for row in image[..., 0].tolist()]
        lines += ["    {" + rows[0] + ",", *[f"     {row}," for row in rows[1:-1]]]
        lines.append(f"     {rows[-1]}}},")
    listed = ", ".join(map(str, labels.tolist()))
    lines += ["};", "", f"static const int sample_label[{len(images)}] = {{{listed}}};", ""]
    return "\n".join([*lines, "#endif", ""])


def main() -> None:
    training, held_out = load()
    net = train(training, np.random.default_rng(0))
    observed = net.forward(training.images / 255.0)
    graph = quantize(net, observed)
    save(graph, FOLDER / "digits.qg")
    chosen = [np.flatnonzero(held_out.labels == d)[:SAMPLES_PER_DIGIT] for d in range(10)]
    shipped = np.stack(chosen, axis=1).ravel()
    samples, labels = as_input(held_out.images[shipped]), held_out.labels[shipped]
    np.save(FOLDER / "samples.npy", samples)
    np.save(FOLDER / "labels.npy", labels.astype(np.uint8))
    (FOLDER / "samples.h").write_text(c_samples(samples, labels), encoding="ascii")

    whole_split = quantize(net, observed, batch=len(held_out.images))
    weights = sum(t.type.bytes for t in graph.constants)
    print(f"held-out images      {len(held_out.images)}")
    print(f"accuracy, float      {float_accuracy(net, held_out):.2%}")
    print(f"accuracy, int8       {golden_accuracy(whole_split, held_out):.2%}")
    print(f"weights and biases   {weights} bytes")


if __name__ == "__main__":
    main()
