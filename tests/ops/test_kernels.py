"""Every kernel row of every target against golden: many random ops, compiled as one program each.

A failure names the seed and the case; run with QGEN_SEED=<n> to test other ops.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from qgen.ir.graph import Graph
from qgen.ir.op import registry
from qgen.ir.ops.fully_connected import FullyConnected
from qgen.ir.types import DType, QParams, Rounding, Tensor, TensorType
from qgen.lower import Lowered, lower
from qgen.targets import TARGETS
from qgen.targets.spec import KernelSpec, Target
from qgen.verify.compare import verify_lowered
from tests.ops.strategies import OPS, base_seed, program

# Ops without a multiplier are the same under every rounding.
UNSCALED = {"average_pool2d", "concat", "lookup", "max_pool2d", "pad", "reshape", "slice"}
UNSCALED |= {"resize_bilinear", "resize_nearest"}
CASES = {Rounding.GEMMLOWP: 40, Rounding.SINGLE: 30, Rounding.NEAREST: 30}
# The matrix kernels have many instances, mean has many nests of loops.
MORE = {"conv2d": 20, "fully_connected": 40, "mean": 30}
PROGRAMS = [
    (name, rounding)
    for name in OPS
    for rounding in Rounding
    if rounding is Rounding.GEMMLOWP or name not in UNSCALED
]


def _rows(target: str, name: str) -> list[KernelSpec]:
    return [row for row in TARGETS[target].kernels if row.op == name]


def repeats(name: str, target: str) -> bool:
    """An earlier target has the same rows for this op, and the same compiler."""
    earlier = list(TARGETS)[: list(TARGETS).index(target)]
    compilers = TARGETS[target].toolchain.compilers
    return any(
        TARGETS[t].toolchain.compilers == compilers and _rows(t, name) == _rows(target, name)
        for t in earlier
    )


CASES_BY_TARGET = [
    (name, rounding, target)
    for target in TARGETS
    for name, rounding in PROGRAMS
    if not repeats(name, target)
]


@cache
def drawn(name: str, rounding: Rounding, seed: int) -> Graph:
    return program(name, rounding, CASES[rounding] + MORE.get(name, 0), seed)


def lowered(name: str, rounding: Rounding, target: str, seed: int) -> Lowered:
    return lower(drawn(name, rounding, seed), TARGETS[target])


def test_every_op_is_drawn() -> None:
    assert set(OPS) == set(registry())


@pytest.mark.parametrize(
    ("name", "rounding", "target"), CASES_BY_TARGET, ids=lambda v: getattr(v, "value", v)
)
def test_equals_golden(name: str, rounding: Rounding, target: str) -> None:
    seed = base_seed()
    verdict = verify_lowered(lowered(name, rounding, target, seed), inputs=7, seed=seed, timeout=60)
    assert verdict.equal, f"QGEN_SEED={seed} {verdict}"
    assert verdict.op_runs > 0


@pytest.mark.parametrize("target", ["aarch64"])
def test_rows_of_many_steps(target: str) -> None:
    """More steps than one word of flags tells of."""
    rng = np.random.default_rng(base_seed())
    w = rng.normal(0, 25, (6, 2200)).clip(-127, 127).astype(np.int8)
    op = FullyConnected(
        x=Tensor("x", TensorType(DType.I8, (5, 2200), QParams((0.5,), 3))),
        w=Tensor("w", TensorType(DType.I8, w.shape, QParams((0.01,), 0)), w),
        out=Tensor("y", TensorType(DType.I8, (5, 6), QParams((70.0,), -5))),
    )
    low = lower(Graph("deep", tuple(op.inputs()), (op.out,), (op,)), TARGETS[target])
    assert "_long" in low.steps[0].prepared.helpers[-1].name
    assert verify_lowered(low, inputs=7, seed=base_seed(), timeout=60).equal


def reachable(target: Target) -> list[KernelSpec]:
    """Rows that no earlier row without conditions hides; those of earlier targets are theirs.

    They stay in the table for what a target's own rows refuse, which may be nothing.
    """
    never = KernelSpec.__dataclass_fields__["refuses"].default
    earlier = list(TARGETS.values())[: list(TARGETS).index(target.name)]
    known = {row.name for t in earlier for row in reachable(t)}
    hidden: set[str] = set()
    rows = []
    for row in target.kernels:
        if row.op not in hidden and row.name not in known:
            rows.append(row)
        if row.refuses is never:
            hidden.add(row.op)
    return rows


@pytest.mark.parametrize("target", TARGETS)
def test_every_row_is_reached(target: str) -> None:
    used: set[str] = set()
    helpers: set[str] = set()
    for name, rounding in PROGRAMS:
        for step in lowered(name, rounding, target, 0).steps:
            if name == step.op.NAME:
                used.add(step.spec.name)
                helpers |= {h.name for h in step.prepared.helpers}
    missing = {row.name for row in reachable(TARGETS[target])} - used
    assert not missing, f"no case of tests/ops/strategies.py selects {sorted(missing)}"
    # Rows behind one that takes most ops see too few of them for every combination; what is in
    # front of them has tests of its own, tests/targets/test_panel.py.
    if not any(h.startswith(("sdot_", "smmla_")) for h in helpers):
        found = {tuple(h.split("_")) for h in helpers if h.startswith("gemm_")}
        assert not missing_instances(found), "no case needs these instances"


def missing_instances(found: set[tuple[str, ...]]) -> set[str]:
    """Instances and traits of the matrix kernels of a target that no case needs.

    All combinations of what changes the sums; of what changes their end each alone.
    """
    kernels = {h[:2] for h in found}
    arithmetic = {"alone", "sums"}
    ends = ("low", "high", "left", "single", "nearest", "unsigned", "flip", "ssra", "mask", "once")
    instances = {h[:2] + tuple(t for t in h[2:] if t in arithmetic) for h in found}
    wanted = {
        (*kernel, *depth, *sums)
        for kernel in kernels
        for depth in ((), ("alone",))
        for sums in ((), ("sums",))
    }
    traits = {(h[:2], t, t in h) for h in found for t in ends}
    every = {(k, t, on) for k in kernels for t in ends for on in (True, False)}
    return {"_".join(w) for w in wanted - instances} | {str(t) for t in every - traits}
