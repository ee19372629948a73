"""Code within a budget: which ops share instances of kernels, and that these equal golden."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

import qgen.targets
from qgen.codesize import FILE, OP, RESERVE, STATEMENT, Choice, code_bytes, fit
from qgen.ir.graph import Graph
from qgen.ir.op import Op
from qgen.ir.ops.conv2d import Conv2D
from qgen.ir.types import DType, QParams, Rounding, Tensor, TensorType
from qgen.lower import Lowered, lower
from qgen.render import helper_code
from qgen.targets import TARGETS
from qgen.targets.depthwise_3x3 import SDOT, SDOT2, SMULL, Kind, group_blocks
from qgen.targets.spec import Helper, KernelSpec, Prepared, Target
from qgen.verify.compare import verify_lowered
from tests.ops.strategies import base_seed, one, program
from tests.targets.test_depthwise_asm import FORMS, graph, weighty

ROUNDING = Rounding.GEMMLOWP


def row(instance: str, cost: float, sharing: KernelSpec | None = None) -> KernelSpec:
    """A row of one instance, which predicts `cost`."""
    return KernelSpec(
        name="row",
        op="conv2d",
        template="",
        requires=frozenset(),
        prepare=lambda op, rounding: Prepared(helpers=(Helper(instance, ""),)),
        cost=lambda op, rounding: cost,
        sharing=sharing,
    )


def choices(op: Op, *rows: KernelSpec) -> list[Choice]:
    return [Choice(op, r, r.prepare(op, ROUNDING), r.cost(op, ROUNDING)) for r in rows]


def fitted(sizes: Mapping[str, int], room: int, *rows: KernelSpec) -> list[str]:
    """Instances of ops within `room` bytes beside what every op takes, and all notes."""
    budget = round((room + FILE + OP * len(rows)) / (1 - RESERVE))
    found = fit(
        choices(one("conv2d", 0, 0), *rows), ROUNDING, budget, lambda helper: sizes[helper.name]
    )
    assert all(bool(c.prepared.notes) == (c.prepared.helpers[0].name == "any") for c in found)
    return [c.prepared.helpers[0].name for c in found]


def test_nothing_moves_within_the_budget() -> None:
    any_ = row("any", 200)
    rows = row("a", 100, any_), row("b", 100, any_)
    assert fitted({"a": 500, "b": 500, "any": 600}, 1000, *rows) == ["a", "b"]


def test_the_least_loss_per_byte_moves() -> None:
    cheap, dear = row("any", 110), row("any", 180)
    rows = row("a", 100, cheap), row("b", 100, dear), row("c", 100, cheap)
    sizes = {"a": 500, "b": 500, "c": 500, "any": 500}
    assert fitted(sizes, 1200, *rows) == ["any", "b", "any"]
    assert fitted(sizes, 600, *rows) == ["any", "any", "any"]


def test_ops_of_one_instance_move_together() -> None:
    any_ = row("any", 110)
    rows = row("a", 100, any_), row("b", 100, any_), row("a", 100, any_)
    assert fitted({"a": 500, "b": 500, "any": 600}, 900, *rows) == ["any", "any", "any"]


def test_what_does_not_get_shorter_stays() -> None:
    any_ = row("any", 110)
    rows = row("a", 100, any_), row("b", 100)
    assert fitted({"a": 500, "b": 500, "any": 600}, 10, *rows) == ["a", "b"]


def test_helpers_become_compact_last_and_the_least_used_first() -> None:
    shared = row("any", 150)
    rows = row("a", 100, shared), row("b", 100, shared), row("hot", 1000), row("cold", 10)
    found = choices(one("conv2d", 0, 0), *rows)

    def size(helper: Helper) -> int:
        return 400 if helper.compact else 500

    budget = round((1400 + FILE + OP * len(rows)) / (1 - RESERVE))
    helpers = [c.prepared.helpers[0] for c in fit(found, ROUNDING, budget, size)]
    compact = [(h.name, h.compact) for h in helpers]
    assert compact == [("any", False), ("any", False), ("hot", False), ("cold", True)]


def test_compact_code_does_not_grow() -> None:
    machine, cpu = qgen.targets.machine("aarch64", "cortex-a53")
    model = lower(halves(1), machine, cpu)
    for helper in model.steps[0].prepared.helpers:
        plain, compact, best = (
            code_bytes(helper_code(replace(helper, compact=c), "m", core, tuned=True))
            for core, c in ((None, False), (model.core, True), (model.core, False))
        )
        assert compact <= plain and compact <= best


def test_code_bytes_counts_instructions_and_statements() -> None:
    text = '    __asm__ volatile(\n        "1:\\n\\t"\n        "add x0, x0, #1\\n\\t"\n    );\n'
    assert code_bytes(text) == 4 + STATEMENT
    assert code_bytes("typedef struct t {\n    int a;\n} t;\n") == 0


def sharing(target: str) -> Target:
    """A target of siblings only."""
    machine = TARGETS[target]
    rows = tuple(r.sharing if r.sharing is not None else r for r in machine.kernels)
    return replace(machine, kernels=rows)


@pytest.mark.parametrize("target", ["aarch64", "aarch64+dotprod", "aarch64+i8mm"])
@pytest.mark.parametrize("rounding", Rounding)
def test_shared_instances_equal_golden(target: str, rounding: Rounding) -> None:
    model = lower(program("conv2d", rounding, 60, base_seed()), sharing(target))
    names = {h.name for s in model.steps for h in s.prepared.helpers}
    kernels = {"aarch64": ("gemm_4", "gemm_1", "mla_"), "aarch64+dotprod": ("sdot_",),
               "aarch64+i8mm": ("smmla_",)}[target]  # fmt: skip
    for kernel in kernels:
        assert any(n.startswith(kernel) and "_shift" in n for n in names), kernel
    verdict = verify_lowered(model, inputs=7, seed=base_seed(), timeout=120)
    assert verdict.equal, f"QGEN_SEED={base_seed()} {verdict}"


@pytest.mark.parametrize("target", ["aarch64", "aarch64+dotprod"])
def test_depthwise_programs_that_take_any_weights_equal_golden(target: str) -> None:
    forms = [f for f in FORMS if f.lanes == 16]
    ops = [weighty(i, form) for i, form in enumerate(forms)]
    model = lower(graph(ROUNDING, ops), sharing(target))
    common = {
        h.vars["program"].form
        for s in model.steps
        for h in s.prepared.helpers
        if "program" in h.vars and len(h.vars["program"].pattern.order) in (6, 18)
    }
    assert common == set(forms)
    verdict = verify_lowered(model, inputs=7, seed=1, timeout=120)
    assert verdict.equal, str(verdict)


@pytest.mark.parametrize("kind", [SMULL, SDOT, SDOT2])
@pytest.mark.parametrize("most", [254, 255])
def test_only_weights_with_halves_in_int8_are_halved(kind: Kind, most: int) -> None:
    form = next(f for f in FORMS if f.lanes == 16 and f.stride in kind.strides)
    op = weighty(0, form, zero=0)
    data = np.minimum(op.w.const, most)
    data[..., -1] = most
    op = replace(op, w=replace(op.w, data=data))
    groups = group_blocks(kind, op, sharing=True)
    assert any(g.common for g in groups) == (most == 254)


def halves(count: int) -> Graph:
    """Ops that are alike but for their scales, each twice that of the one before."""
    rng = np.random.default_rng(0)
    ops = []
    for i in range(count):
        w = rng.normal(0, 20, (8, 1, 1, 64)).clip(-127, 127).astype(np.int8)
        kinds = TensorType(DType.I8, (1, 4, 4, 64), QParams((0.5,), 3)), QParams((2.0**i,), -5)
        ops.append(
            Conv2D(
                x=Tensor(f"x{i}", kinds[0]),
                w=Tensor(f"w{i}", TensorType(DType.I8, w.shape, QParams((0.01,), 0)), w),
                out=Tensor(f"y{i}", TensorType(DType.I8, (1, 4, 4, 8), kinds[1])),
            )
        )
    return Graph("halves", tuple(o.x for o in ops), tuple(o.out for o in ops), tuple(ops))


@pytest.mark.parametrize("target", ["aarch64", "aarch64+dotprod", "aarch64+i8mm"])
def test_ops_share_where_the_budget_is_tight(target: str) -> None:
    free, tight = (
        lower(halves(4), replace(TARGETS[target], text_bytes=budget)) for budget in (10**9, 0)
    )

    def size(lowered: Lowered) -> int:
        helpers = {h.name: h for s in lowered.steps for h in s.prepared.helpers}
        texts = [helper_code(h, "m", lowered.core, tuned=False) for h in helpers.values()]
        return sum(map(code_bytes, texts))

    assert size(tight) < 0.5 * size(free)
    assert not any("budget" in n for s in free.steps for n in s.prepared.notes)
    for one_step, other in zip(free.steps, tight.steps, strict=True):
        assert one_step.spec.name == other.spec.name
        assert any("the budget is 0 bytes" in n for n in other.prepared.notes)
        assert one_step.predicted and other.predicted and one_step.predicted < other.predicted
    assert verify_lowered(tight, inputs=7, seed=1, timeout=60).equal
