"""Kernels arranged for a core compute what golden computes: instructions added, loops rotated."""

from __future__ import annotations

import shutil

import pytest

from qgen.ir.types import Rounding
from qgen.lower import lower
from qgen.targets import machine
from qgen.verify.compare import verify_lowered
from tests.ops.strategies import base_seed, program

pytestmark = pytest.mark.skipif(
    not (shutil.which("qemu-aarch64") and shutil.which("aarch64-linux-gnu-gcc")),
    reason="needs the aarch64 compiler and emulator",
)

# One core per model of timing, and another target on a core that has more.
CORES = [
    (None, "cortex-a53"),
    ("aarch64", "cortex-a55"),
    (None, "cortex-a55"),
    (None, "cortex-a510"),
    (None, "cortex-a72"),
    (None, "neoverse-n1"),
    (None, "neoverse-n2"),
]


@pytest.mark.parametrize(("target", "cpu"), CORES)
@pytest.mark.parametrize("op", ["conv2d", "fully_connected", "depthwise_conv2d"])
def test_equals_golden(op: str, target: str | None, cpu: str) -> None:
    seed = base_seed()
    chosen, core = machine(target, cpu)
    graph = program(op, Rounding.GEMMLOWP, 24, seed)
    verdict = verify_lowered(lower(graph, chosen, core), inputs=2, seed=seed, timeout=60)
    assert verdict.equal, f"QGEN_SEED={seed} {verdict}"
