"""Targets as data: features, register plans, rows, selection."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from qgen.errors import QgenError
from qgen.ir.op import Op
from qgen.ir.ops.clamp import Clamp
from qgen.ir.types import DType, QParams, Rounding, Tensor, TensorType
from qgen.targets import TARGETS, gemm_lines, target
from qgen.targets import machine as chosen
from qgen.targets.aarch64 import AARCH64
from qgen.targets.portable import PORTABLE, broadcast_strides
from qgen.targets.requantize_asm import Sums, requantize_lines
from qgen.targets.spec import FEATURES, QUADS, KernelSpec, Prepared, RegPlan, Target, implied
from qgen.targets.winograd_forms import F2
from tests.ir.raising import raise_statements, reached


def a_clamp() -> Op:
    kind = TensorType(DType.I8, (4,), QParams((0.5,), 0))
    return Clamp(x=Tensor("x", kind), out=Tensor("y", kind))


def row(name: str, *, requires: tuple[str, ...] = ("c99",), reason: str = "") -> KernelSpec:
    return KernelSpec(
        name=name,
        op="clamp",
        template="clamp/portable.c.j2",
        requires=frozenset(requires),
        prepare=lambda op, rounding: Prepared(),
        refuses=lambda op, rounding: reason,
    )


def machine(*rows: KernelSpec, features: tuple[str, ...] = ("c99",)) -> Target:
    return Target("toy", "a toy", frozenset(features), PORTABLE.toolchain, rows)


BAD: list[tuple[str, Callable[[], object]]] = [
    (r"unknown target 'aarch65' \(did you mean aarch64\?\)", lambda: target("aarch65")),
    (r"unknown target 'x' \(known: aarch64, aarch64\+dotprod, ", lambda: target("x")),
    (r"unknown cpu 'cortex-a7x' \(did you mean cortex-a7", lambda: chosen(None, "cortex-a7x")),
    (r"unknown cpu 'N1' \(did you mean neoverse-n1\?\)", lambda: chosen(None, "N1")),
    (r"unknown cpu 'z80' \(known: cortex-a53, ", lambda: chosen("aarch64", "z80")),
    (
        r"cpu cortex-a53 lacks dotprod, which target aarch64\+dotprod needs \(with this target: "
        r"cortex-a55, .*; with this cpu: aarch64\)",
        lambda: chosen("aarch64+dotprod", "cortex-a53"),
    ),
    (
        r"target portable is for no cpu in particular \(leave out --cpu or --target\)",
        lambda: chosen("portable", "cortex-a53"),
    ),
    (r"unknown feature 'sve9' \(known: c99, neon, aarch64", lambda: implied(frozenset({"sve9"}))),
    (r"unknown feature 'mmx'", lambda: machine(features=("mmx",))),
    (r"unknown feature 'mmx'", lambda: machine(row("r", requires=("mmx",)))),
    (
        "kernel fast needs more than target toy has",
        lambda: machine(row("fast", requires=("neon",))),
    ),
    (r"F\(2, 3\) does not compute a convolution", lambda: replace(F2, scale=3)),
    (r"overlaps or leaves v0\.\.v31", lambda: RegPlan({"a": (0, 1), "b": (1,)})),
    (r"overlaps or leaves v0\.\.v31", lambda: RegPlan({"a": (32,)})),
    (r"overlaps or leaves v0\.\.v31", lambda: RegPlan({"a": (0, 0)})),
    (r"overlaps or leaves q0\.\.q15", lambda: RegPlan({"a": (16,)}, QUADS)),
    (
        "no kernel of target toy computes clamp 'y'; one: too few; two: too many",
        lambda: machine(row("one", reason="too few"), row("two", reason="too many")).select(
            a_clamp(), Rounding.SINGLE
        ),
    ),
    (
        "no kernel of target toy computes clamp 'y'$",
        lambda: machine().select(a_clamp(), Rounding.SINGLE),
    ),
]


@pytest.mark.parametrize(("message", "bad"), BAD)
def test_refuses(message: str, bad: Callable[[], object]) -> None:
    with pytest.raises(QgenError, match=message):
        bad()


def test_every_raise_is_reached() -> None:
    seen = set().union(*(reached(bad) for _, bad in BAD))
    assert set(raise_statements("qgen/targets")) <= seen


def test_features_bring_others() -> None:
    assert implied(frozenset({"aarch64"})) == {"aarch64", "neon", "c99"}
    assert implied(frozenset()) == frozenset()
    for name, more in FEATURES.items():
        assert more <= set(FEATURES) and name not in more
    for known in TARGETS.values():
        assert known.features == implied(known.features)


def test_first_row_that_takes_an_op_wins() -> None:
    toy = machine(row("picky", reason="no"), row("first"), row("second"))
    assert toy.select(a_clamp(), Rounding.GEMMLOWP).name == "first"


def test_names_of_rows() -> None:
    for known in TARGETS.values():
        names = [r.name for r in known.kernels]
        assert len(names) == len(set(names))
        for r in known.kernels:
            assert re.fullmatch(rf"qs?8_{r.op}__(c99|neon\w*)", r.name), r.name


def test_clobbers_come_from_the_plan() -> None:
    plan = RegPlan({"b": (7, 4), "acc": (16,)})
    assert plan.clobbers == ("v4", "v7", "v16")
    assert str(plan) == "b v7-v4 | acc v16" and plan["acc"] == (16,)
    quads = RegPlan({"b": (7, 4), "acc": (15,)}, QUADS)
    assert quads.clobbers == ("q4", "q7", "q15") and str(quads) == "b q7-q4 | acc q15"


@pytest.mark.parametrize("rows", [1, 3, 4])
@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("floor", [False, True])
def test_assembly_names_no_register_outside_the_plan(
    rows: int, rounding: Rounding, left: bool, floor: bool
) -> None:
    plan = gemm_lines.register_plan(rows)
    products = plan["product"][:rows]
    sums = [Sums(r, *plan["b"][1:4]) for r in products]
    lines = requantize_lines(sums, plan["acc"], rounding, left=left, floor=floor).lines
    used = set(re.findall(r"\bv(\d+)\.", " ".join(lines)))
    assert used and used <= {c[1:] for c in plan.clobbers}
    # Requantization must not destroy a product that a later row still needs.
    written = [re.match(r"\w+ v(\d+)\.", line).group(1) for line in lines]  # type: ignore[union-attr]
    assert {str(r) for r in products} <= set(written)


def test_portable_rows_are_the_last_of_every_target() -> None:
    for known in TARGETS.values():
        assert known.kernels[-len(PORTABLE.kernels) :] == PORTABLE.kernels
    assert len(AARCH64.kernels) > len(PORTABLE.kernels)
    assert replace(PORTABLE, name="other").kernels == PORTABLE.kernels


def test_broadcast_strides() -> None:
    assert broadcast_strides((2, 3, 4), (2, 3, 4)) == (12, 4, 1)
    assert broadcast_strides((3, 1), (2, 3, 4)) == (0, 1, 0)
    assert broadcast_strides((), (5,)) == (0,)
    rng = np.random.default_rng(0)
    out = (2, 3, 4)
    for shape in [(4,), (1, 4), (3, 1), (2, 1, 4), (2, 3, 1), (1, 1, 1)]:
        data = rng.integers(0, 99, shape)
        strides = broadcast_strides(shape, out)
        flat = data.reshape(-1)
        wide = np.broadcast_to(data, out)
        for place in np.ndindex(out):
            assert flat[sum(i * s for i, s in zip(place, strides, strict=True))] == wide[place]
