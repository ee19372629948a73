"""Work of kernels: counted it predicts instructions, timed by a core it selects."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from qgen.ir.graph import Graph
from qgen.ir.ops.conv2d import Conv2D
from qgen.ir.types import DType, QParams, Rounding, Tensor, TensorType
from qgen.lower import Lowered, lower
from qgen.targets import machine
from qgen.targets.spec import KernelSpec, Target
from qgen.targets.work import Part, Work
from qgen.verify.compare import verify_lowered
from tests.targets.test_spec import a_clamp, row
from tests.targets.test_spec import machine as toy


def clock(lines: tuple[str, ...], rounds: float) -> float:
    """Ten cycles a line, half of that in a loop."""
    return len(lines) * (5.0 if rounds else 10.0)


def test_counted_and_timed() -> None:
    work = Work((Part(("a", "b"), 3), Part(("c",), 4, rounds=2)), around=5)
    assert work.instructions == 5 + 2 * 3 + 4
    assert work.cycles(clock) == 10 * 5 + 20 * 3 + 5 * 4
    twice = work.times(2, around=1) + Work((), 7)
    assert twice.instructions == 2 * 16 + 7
    assert twice.cycles(clock) == 2 * (130 + 10) + 70


def working(name: str, work: Work) -> KernelSpec:
    return replace(row(name), work=lambda op, rounding: work)


def chosen(target: Target, *, timed: bool) -> str:
    return target.select(a_clamp(), Rounding.GEMMLOWP, clock if timed else None).name


def test_counts_steer_where_no_core_is_chosen() -> None:
    few, fast = Work((Part(("a",) * 9, 1),), 0), Work((Part(("a",) * 10, 1, rounds=9),), 0)
    both = toy(working("few", few), working("fast", fast))
    assert chosen(both, timed=False) == "few" and chosen(both, timed=True) == "fast"
    # One of which nothing but a count is known: counts are all that compares.
    counted = replace(row("counted"), cost=lambda op, rounding: 9.5)
    mixed = toy(working("few", few), working("fast", fast), counted)
    assert chosen(mixed, timed=True) == "few"
    # A row that predicts nothing is a fallback.
    last = toy(working("few", few), row("rest"), working("fast", fast))
    assert chosen(last, timed=True) == "few"


def pointwise(depth: int, channels: int, cpu: str | None) -> Lowered:
    """12 x 12 pixels of `depth` channels."""
    rng = np.random.default_rng(0)
    w = rng.integers(-40, 41, (channels, 1, 1, depth)).astype(np.int8)
    op = Conv2D(
        x=Tensor("x", TensorType(DType.I8, (1, 12, 12, depth), QParams((0.5,), 3))),
        w=Tensor("w", TensorType(DType.I8, w.shape, QParams((0.01,), 0)), w),
        out=Tensor("y", TensorType(DType.I8, (1, 12, 12, channels), QParams((0.9,), -5))),
    )
    target, core = machine("aarch64", cpu)
    return lower(Graph("p", tuple(op.inputs()), (op.out,), (op,)), target, core)


# MLA by element takes the multiplier of cortex-a72 twice; four rows wait on cortex-a53.
@pytest.mark.parametrize(
    ("depth", "cpu", "kernel"),
    [
        (16, None, "7x8k8"),
        (16, "cortex-a72", "4x4c32"),
        (128, None, "4x4c32"),
        (128, "cortex-a72", "4x4c32"),
        (128, "cortex-a53", "3x4c32"),
    ],
)
def test_cores_judge(depth: int, cpu: str | None, kernel: str) -> None:
    lowered = pointwise(depth, 32, cpu)
    (step,) = lowered.steps
    assert step.spec.name.endswith(kernel)
    # What is printed beside the kernel stays a number of instructions.
    assert step.spec.work and step.predicted
    work = step.spec.work(step.op, lowered.graph.rounding)
    assert step.predicted == round(work.instructions)
    assert verify_lowered(lowered, inputs=3, timeout=60).equal
