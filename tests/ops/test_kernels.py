"""Every kernel row of every target against golden: many random ops, compiled as one program each.

A failure names the seed and the case; run with QGEN_SEED=<n> to test other ops.
"""

from __future__ import annotations

from functools import cache

import pytest

from qgen.ir.graph import Graph
from qgen.ir.op import registry
from qgen.ir.types import Rounding
from qgen.lower import Lowered, lower
from qgen.targets import TARGETS
from qgen.targets.spec import KernelSpec, Target
from qgen.verify.compare import verify_lowered
from tests.ops.strategies import OPS, base_seed, program

# Ops without a multiplier are the same under every rounding.
UNSCALED = {"average_pool2d", "concat", "lookup", "max_pool2d", "pad", "reshape"}
CASES = {Rounding.GEMMLOWP: 40, Rounding.SINGLE: 30, Rounding.NEAREST: 30}
# The matrix kernel has many instances.
MORE = {"conv2d": 20, "fully_connected": 40}
PROGRAMS = [
    (name, rounding)
    for name in OPS
    for rounding in Rounding
    if rounding is Rounding.GEMMLOWP or name not in UNSCALED
]


@cache
def drawn(name: str, rounding: Rounding, seed: int) -> Graph:
    return program(name, rounding, CASES[rounding] + MORE.get(name, 0), seed)


def lowered(name: str, rounding: Rounding, target: str, seed: int) -> Lowered:
    return lower(drawn(name, rounding, seed), TARGETS[target])


def test_every_op_is_drawn() -> None:
    assert set(OPS) == set(registry())


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("name", "rounding"), PROGRAMS, ids=lambda v: getattr(v, "value", v))
def test_equals_golden(name: str, rounding: Rounding, target: str) -> None:
    seed = base_seed()
    verdict = verify_lowered(lowered(name, rounding, target, seed), inputs=7, seed=seed, timeout=60)
    assert verdict.equal, f"QGEN_SEED={seed} {verdict}"
    assert verdict.op_runs > 0


def reachable(target: Target) -> list[KernelSpec]:
    """Rows that no earlier row without conditions hides."""
    never = KernelSpec.__dataclass_fields__["refuses"].default
    hidden: set[str] = set()
    rows = []
    for row in target.kernels:
        if row.op not in hidden:
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
    if target == "aarch64":
        assert not missing_gemms(helpers), "no case needs these instances"


def missing_gemms(helpers: set[str]) -> set[str]:
    """Instances and traits of the matrix kernel that no case needs.

    All combinations of what changes the arithmetic; of the traits that drop dead code each alone.
    """
    found = {tuple(h.split("_")[1:]) for h in helpers if h.startswith("gemm_")}
    arithmetic = {"alone", "sums", "left", "single", "nearest"}
    instances = {tuple(t for t in h if t in arithmetic or t == h[0]) for h in found}
    wanted = {
        (f"{rows}x4", *depth, *sums, *end)
        for rows in (1, 4)
        for depth in ((), ("alone",))
        for sums in ((), ("sums",))
        for end in ((), ("left",), ("single",), ("nearest",))
    }
    traits = {
        (rows, trait, trait in h)
        for h in found
        for rows in ("1x4", "4x4")
        for trait in ("floor", "clamp")
        if h[0] == rows
    }
    every = {(r, t, on) for r in ("1x4", "4x4") for t in ("floor", "clamp") for on in (True, False)}
    return {"_".join(w) for w in wanted - instances} | {str(t) for t in every - traits}
