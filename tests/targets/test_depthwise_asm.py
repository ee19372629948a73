"""The 3 x 3 depthwise kernels: every form and every kind of pattern, against golden."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from qgen.ir.graph import Graph
from qgen.ir.ops.depthwise_conv2d import DepthwiseConv2D
from qgen.ir.types import Activation, Array, DType, QParams, Rounding, Tensor, TensorType
from qgen.ir.windows import Pads
from qgen.lower import Lowered, lower
from qgen.targets import target
from qgen.targets.depthwise_asm import Form
from qgen.targets.spec import Target
from qgen.verify.compare import verify_lowered

FORMS = [
    Form(stride, lanes, left, right, odd)
    for stride, lanes in itertools.product((1, 2), (8, 16))
    for left, right, odd in itertools.product((False, True), repeat=3)
]
# Spread of the weights: all taps in one run; a few runs; runs of two; weights that leave int8.
Shape = tuple[int, int]
SPREADS = (6.0, 25.0, 70.0, 160.0)


def size(form: Form, rng: np.random.Generator) -> tuple[Shape, Shape, Pads]:
    """Image, result and padding of an op that has `form`."""
    columns = int(rng.choice([1, 3, 5] if form.odd else [2, 4, 6]))
    rows, top, bottom = int(rng.integers(1, 4)), int(rng.integers(2)), int(rng.integers(2))
    pads = Pads(top, bottom, int(form.left), int(form.right))
    height = (rows - 1) * form.stride + 3 - top - bottom
    width = (columns - 1) * form.stride + 3 - form.left - form.right
    return (height, width), (rows, columns), pads


def weights(spread: float, shape: tuple[int, ...], rng: np.random.Generator) -> tuple[Array, int]:
    """u8 weights and their zero point, which is far from the middle where they leave int8."""
    zero = 40 if spread > 128 else 128
    near = zero + rng.normal(0, spread, shape)
    return np.clip(np.round(near), 0, 255).astype(np.uint8), zero


def built(
    index: int,
    shapes: tuple[Shape, Shape, Shape],
    channels: int,
    rng: np.random.Generator,
    **fields: Any,
) -> DepthwiseConv2D:
    """An op of some kernel, image and result; `index` chooses weights, scales and clamp."""
    kernel, image, result = shapes
    spread = SPREADS[index % len(SPREADS)]
    data, zero = weights(spread, (1, *kernel, channels), rng)
    scales = (0.02,) if index % 3 else tuple(rng.uniform(0.001, 0.05, channels).tolist())
    w = TensorType(DType.U8, data.shape, QParams(scales, zero, None if index % 3 else 3))
    batch = 1 + index % 2
    x = TensorType(
        DType.I8, (batch, *image, channels), QParams((0.5,), int(rng.integers(-128, 128)))
    )
    b = rng.integers(-2000, 2000, channels, np.int32)
    # Scales that put most results inside the range, on both sides of the zero point.
    scale = 0.5 * float(np.median(scales)) * max(spread, 8.0) * (kernel[0] * kernel[1]) ** 0.5
    out = QParams((scale,), int(rng.choice([-128, -128, -5, 90])))
    return DepthwiseConv2D(
        x=Tensor(f"x{index}", x),
        w=Tensor(f"w{index}", w, data),
        b=Tensor(f"b{index}", TensorType(DType.I32, (channels,), None), b),
        out=Tensor(f"y{index}", TensorType(DType.I8, (batch, *result, channels), out)),
        activation=(Activation.NONE, Activation.RELU, Activation.RELU6)[index // 4 % 3],
        **fields,
    )


def depthwise(index: int, form: Form, rng: np.random.Generator) -> DepthwiseConv2D:
    """An op of `form`."""
    image, result, pads = size(form, rng)
    spread = SPREADS[index % len(SPREADS)]
    channels = form.lanes + int(rng.choice([0, 0, 3, 7])) + 32 * (spread == 25.0) * (form.lanes > 8)
    stride = (form.stride, form.stride)
    return built(index, ((3, 3), image, result), channels, rng, stride=stride, padding=pads)


def weighty(index: int, form: Form, zero: int = 40) -> DepthwiseConv2D:
    """An op of `form` with 12 blocks, of which the last has weights that leave int8."""
    rng = np.random.default_rng(index)
    image, result, pads = size(form, rng)
    stride = (form.stride, form.stride)
    op = built(4 * index, ((3, 3), image, result), 192, rng, stride=stride, padding=pads)
    quant = op.w.type.quant
    assert quant is not None
    data = np.clip(op.w.const.astype(np.int64) - op.w.zero + zero, 0, 255).astype(np.uint8)
    data[..., -16:] = rng.integers(0, 256, data[..., -16:].shape)
    w = replace(op.w, type=op.w.type.with_quant(replace(quant, zero=zero)), data=data)
    return replace(op, w=w)


def graph(rounding: Rounding, ops: Sequence[DepthwiseConv2D]) -> Graph:
    inputs, outputs = tuple(o.x for o in ops), tuple(o.out for o in ops)
    return Graph(f"depthwise_{rounding.value}", inputs, outputs, tuple(ops), rounding)


def lowered(rounding: Rounding, machine: Target, forms: Sequence[Form]) -> Lowered:
    """Two ops of each form, which together meet all spreads."""
    rng = np.random.default_rng(list(Rounding).index(rounding))
    ops = [depthwise(i, form, rng) for i, form in enumerate((*forms, *forms[::-1]))]
    return lower(graph(rounding, ops), machine)


def alone(name: str, kernel: str) -> Target:
    """A target whose only row for depthwise_conv2d is `kernel`."""
    machine = target(name)
    rows = [r for r in machine.kernels if r.op != "depthwise_conv2d" or r.name.endswith(kernel)]
    return replace(machine, kernels=tuple(rows))


def verified(model: Lowered) -> list[Any]:
    """The programs of a model that was found equal to golden."""
    verdict = verify_lowered(model, inputs=7, seed=1, timeout=120)
    assert verdict.equal, str(verdict)
    helpers = (h for step in model.steps for h in step.prepared.helpers)
    return [h.vars["program"] for h in helpers if "program" in h.vars]


@pytest.mark.parametrize("rounding", Rounding)
def test_every_form_of_smull_equals_golden(rounding: Rounding) -> None:
    found = verified(lowered(rounding, alone("aarch64", "neon_3x3"), FORMS))
    assert {p.form for p in found} == set(FORMS)
    assert {min(len(p.pattern.runs), 5) for p in found} == {1, 2, 3, 4, 5}
    assert {len(p.pattern.order) > 9 for p in found} == {True, False}
    assert {p.uniform for p in found} == {True, False}
    # Weights that find no register of their own are read again at each tap.
    assert {"weight" in p.regs.vector for p in found} == {True, False}


@pytest.mark.parametrize(("stride", "kernel"), [(1, "neondot_3x3"), (2, "neondot_3x3s2")])
@pytest.mark.parametrize("rounding", Rounding)
def test_every_form_of_sdot_equals_golden(rounding: Rounding, stride: int, kernel: str) -> None:
    forms = [f for f in FORMS if f.stride == stride]
    found = verified(lowered(rounding, alone("aarch64+dotprod", kernel), forms))
    assert {p.form for p in found} == set(forms)
    assert {len(p.pattern.order) > 3 for p in found} == {True, False}
    assert {p.uniform for p in found} == {True, False}


@pytest.mark.parametrize(("stride", "kernel"), [(1, "neondot_3x3"), (2, "neondot_3x3s2")])
def test_vectors_without_weights_equal_golden(stride: int, kernel: str) -> None:
    """Channels 12 to 15 have none, as after `dead_last`; some others only where int8 is left."""
    ops = []
    for index, form in enumerate(f for f in FORMS if f.stride == stride and f.lanes == 16):
        rng = np.random.default_rng(index)
        image, result, pads = size(form, rng)
        op = built(
            4 * index + 1, ((3, 3), image, result), 16, rng,
            stride=(stride, stride), padding=pads,
        )  # fmt: skip
        data = op.w.const.copy()
        data[..., 12:] = op.w.zero
        data[0, 0, 0, 5] = 255 if index % 2 else data[0, 0, 0, 5]
        quant = QParams((0.02,), op.w.zero)
        w = replace(op.w, data=data, type=replace(op.w.type, quant=quant))
        zero = QParams((op.out.type.scale,), -128)
        out = replace(op.out, type=replace(op.out.type, quant=zero))
        ops.append(op.replace(w=w, out=out, activation=Activation.RELU))
    found = verified(lower(graph(Rounding.GEMMLOWP, ops), alone("aarch64+dotprod", kernel)))
    assert all(p.pattern.vectors for p in found)
    assert any(p.pattern.zeros for p in found) == (stride == 1)


def window(index: int, rng: np.random.Generator) -> DepthwiseConv2D:
    """5 x 5 and others, with strides, dilations and any padding."""
    kernel = ((5, 5), (5, 5), (3, 3), (4, 6), (1, 4), (2, 5))[index % 6]
    stride = (1 + index % 2, 1 + index // 2 % 2) if index % 6 else (3, 3)
    dilation = (1 + index % 2, 1 + index // 3 % 2) if kernel == (3, 3) else (1, 1)
    extent = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    pads = Pads(*(int(rng.integers(e)) for e in (extent[0], extent[0], extent[1], extent[1])))
    sides = (pads.top, pads.bottom), (pads.left, pads.right)
    size = [max(1, e - sum(p)) + int(rng.integers(14)) for e, p in zip(extent, sides, strict=True)]
    out = [
        (n + sum(p) - e) // s + 1 for n, e, p, s in zip(size, extent, sides, stride, strict=True)
    ]
    return built(
        index,
        (kernel, (size[0], size[1]), (out[0], out[1])),
        int(rng.choice([8, 13, 16, 24, 40])),
        rng,
        stride=stride,
        dilation=dilation,
        padding=pads,
    )


@pytest.mark.parametrize("rounding", Rounding)
def test_windows_equal_golden(rounding: Rounding) -> None:
    rng = np.random.default_rng(list(Rounding).index(rounding))
    ops = tuple(window(i, rng) for i in range(48))
    found = verified(lower(graph(rounding, ops), alone("aarch64", "neon_window")))
    assert len(found) == len(ops)
    assert {p.outputs for p in found} == {1, 2, 4}
    assert {p.lanes for p in found} == {8, 16}
    assert {p.uniform for p in found} == {True, False}
    assert {len(p.pattern.runs) > 1 for p in found} == {True, False}
    assert {len(p.pattern.order) > p.kernel[0] * p.kernel[1] for p in found} == {True, False}
