"""The 3 x 3 depthwise kernels: every form and every kind of pattern, against golden."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from qgen.ir.graph import Graph
from qgen.ir.ops.depthwise_conv2d import DepthwiseConv2D
from qgen.ir.types import Activation, Array, DType, QParams, Rounding, Tensor, TensorType
from qgen.ir.windows import Pads
from qgen.lower import Lowered, lower
from qgen.targets import depthwise_3x3, target
from qgen.targets.depthwise_asm import Form, Program
from qgen.targets.depthwise_sdot_asm import SdotProgram
from qgen.targets.spec import Target
from qgen.verify.compare import verify_lowered

FORMS = [
    Form(stride, lanes, left, right, odd)
    for stride, lanes in itertools.product((1, 2), (8, 16))
    for left, right, odd in itertools.product((False, True), repeat=3)
]
# Spread of the weights: all taps in one run; a few runs; runs of two; weights that leave int8.
SPREADS = (6.0, 25.0, 70.0, 160.0)


def image(form: Form, rng: np.random.Generator) -> tuple[tuple[int, int], Pads]:
    """Height, width and padding of an op that has `form`."""
    columns = int(rng.choice([1, 3, 5] if form.odd else [2, 4, 6]))
    rows, top, bottom = int(rng.integers(1, 4)), int(rng.integers(2)), int(rng.integers(2))
    pads = Pads(top, bottom, int(form.left), int(form.right))
    size = [(n - 1) * form.stride + 3 - a - b for n, a, b in
            ((rows, top, bottom), (columns, form.left, form.right))]  # fmt: skip
    return (size[0], size[1]), pads


def weights(spread: float, channels: int, rng: np.random.Generator) -> tuple[Array, int]:
    """u8 weights and their zero point, which is far from the middle where they leave int8."""
    zero = 40 if spread > 128 else 128
    near = zero + rng.normal(0, spread, (1, 3, 3, channels))
    return np.clip(np.round(near), 0, 255).astype(np.uint8), zero


def depthwise(index: int, form: Form, rng: np.random.Generator) -> DepthwiseConv2D:
    (height, width), pads = image(form, rng)
    spread = SPREADS[index % len(SPREADS)]
    channels = form.lanes + int(rng.choice([0, 0, 3, 7])) + 32 * (spread == 25.0) * (form.lanes > 8)
    data, zero = weights(spread, channels, rng)
    scales = (0.02,) if index % 3 else tuple(rng.uniform(0.001, 0.05, channels).tolist())
    axis = None if len(scales) == 1 else 3
    w = TensorType(DType.U8, data.shape, QParams(scales, zero, axis))
    x = TensorType(
        DType.I8,
        (1 + index % 2, height, width, channels),
        QParams((0.5,), int(rng.integers(-128, 128))),
    )
    b = rng.integers(-2000, 2000, channels, np.int32)
    shape = (x.shape[0], *(
        (n + p + q - 3) // form.stride + 1
        for n, p, q in ((height, pads.top, pads.bottom), (width, pads.left, pads.right))
    ), channels)  # fmt: skip
    # Scales that put most results inside the range, on both sides of the zero point.
    scale = 0.5 * float(np.median(scales)) * max(spread, 8.0) * 3
    out = QParams((scale,), int(rng.choice([-128, -128, -5, 90])))
    return DepthwiseConv2D(
        x=Tensor(f"x{index}", x),
        w=Tensor(f"w{index}", w, data),
        b=Tensor(f"b{index}", TensorType(DType.I32, (channels,), None), b),
        out=Tensor(f"y{index}", TensorType(DType.I8, shape, out)),
        stride=(form.stride, form.stride),
        padding=pads,
        activation=(Activation.NONE, Activation.RELU, Activation.RELU6)[index // 4 % 3],
    )


def lowered(rounding: Rounding, machine: Target, forms: Sequence[Form]) -> Lowered:
    """Two ops of each form, which together meet all spreads."""
    rng = np.random.default_rng(list(Rounding).index(rounding))
    ops = [depthwise(i, form, rng) for i, form in enumerate((*forms, *forms[::-1]))]
    inputs, outputs = tuple(o.x for o in ops), tuple(o.out for o in ops)
    graph = Graph(f"forms_{rounding.value}", inputs, outputs, tuple(ops), rounding)
    return lower(graph, machine)


def programs(model: Lowered) -> list[Program]:
    return [
        h.vars["program"]
        for step in model.steps
        for h in step.prepared.helpers
        if h.name.startswith("depthwise_")
    ]


def verified(model: Lowered) -> list[Program]:
    verdict = verify_lowered(model, inputs=7, seed=1, timeout=120)
    assert verdict.equal, str(verdict)
    return programs(model)


@pytest.mark.parametrize("rounding", Rounding)
def test_every_form_of_smull_equals_golden(rounding: Rounding) -> None:
    found = verified(lowered(rounding, target("aarch64"), FORMS))
    assert {p.form for p in found} == set(FORMS)
    assert {min(len(p.pattern.runs), 5) for p in found} == {1, 2, 3, 4, 5}
    assert {len(p.pattern.order) > 9 for p in found} == {True, False}
    assert {p.uniform for p in found} == {True, False}
    # Weights that find no register of their own are read again at each tap.
    assert {"weight" in p.regs.vector for p in found} == {True, False}


@pytest.mark.parametrize("rounding", Rounding)
def test_every_form_of_sdot_equals_golden(rounding: Rounding) -> None:
    machine = target("aarch64+dotprod")
    # Without the row that is predicted to be as quick for some of them.
    rows = tuple(r for r in machine.kernels if r not in depthwise_3x3.ROWS)
    forms = [f for f in FORMS if f.stride == 1]
    found = verified(lowered(rounding, replace(machine, kernels=rows), forms))
    assert {p.form for p in found} == set(forms)
    assert {type(p) for p in found} == {SdotProgram}
    assert {len(p.pattern.order) > 3 for p in found} == {True, False}
    assert {p.uniform for p in found} == {True, False}
