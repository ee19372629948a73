"""lower: a graph and a target become kernels, constants and memory; all decisions are made here.

What follows (`emit`) only prints.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

from qgen.asm.cores import Core, core_with
from qgen.asm.schedule import kernel_cycles
from qgen.codesize import Choice, choose, code_bytes, estimate, fit
from qgen.ir.graph import Graph
from qgen.ir.op import Op
from qgen.ir.types import Array, Tensor, located
from qgen.passes.dead_last import dead_last
from qgen.passes.legalize import legalize
from qgen.passes.prune import Kept, prune
from qgen.passes.storage import as_stored, signed_storage
from qgen.plan.memory import MemoryPlan, plan_memory
from qgen.plan.schedule import schedule
from qgen.render import helper_code
from qgen.targets.cpus import CPUS, Cpu
from qgen.targets.spec import Helper, KernelSpec, Prepared, Target

# Code that is this share of a budget before it is put into order does not reach it.
REMOTE = 0.75

ARENA_SHARE = 21
LEAST_ROOM = 2048  # bytes


@dataclass(frozen=True, eq=False)
class Step:
    """One op of the generated file: its kernel and what the kernel prints.

    `function` is the C name; `parameters` are the computed operands by C parameter name;
    `predicted` is the cost model's number of instructions, None where the row has no model.
    """

    index: int
    op: Op
    spec: KernelSpec
    prepared: Prepared
    function: str
    parameters: tuple[tuple[str, Tensor], ...]
    predicted: int | None = None


@dataclass(frozen=True, eq=False)
class Lowered:
    """A model ready to be printed.

    Attributes:
        model: the INTEGER graph that golden evaluates, the meaning of the file.
        graph: the same as it is stored and ordered in the file; same tensor names.
        steps: one per op of `graph`, in order.
        target: with the toolchain of the core, where one was chosen.
        plan: where every tensor lives.
        cpu: the core it is meant for, None for any that runs the target's code.
        kept: channels that are left of tensors that lost some, by name.
    """

    model: Graph
    graph: Graph
    target: Target
    steps: tuple[Step, ...]
    plan: MemoryPlan
    cpu: Cpu | None = None
    kept: Mapping[str, Kept] = field(default_factory=dict)

    @property
    def core(self) -> Core | None:
        """The core for which assembly is put into order, None where the target has none."""
        return core_of(self.target, self.cpu)

    @property
    def name(self) -> str:
        return self.graph.name

    def as_stored(self, value: Array, stored: Tensor) -> Array:
        """A golden value of `model` as `graph` holds it: kept channels, signed storage."""
        kept = self.kept.get(stored.name)
        return as_stored(kept.of(value) if kept else value, stored)


def core_of(target: Target, cpu: Cpu | None) -> Core | None:
    """`cpu`, or the one that stands for the target."""
    chosen = cpu.name if cpu else target.generic_cpu
    return core_with(CPUS[chosen].model) if chosen else None


def parameters(op: Op) -> Iterator[tuple[str, Tensor]]:
    """Computed operands by C parameter name: the field's, numbered where a field holds many."""
    for name, kind in op.schema().operands:
        value = getattr(op, name)
        if kind == "many":
            yield from ((f"{name}{i}", t) for i, t in enumerate(value) if t.data is None)
        elif value is not None and value.data is None:
            yield name, value


def scratch_rooms(plan: MemoryPlan) -> list[int]:
    """Bytes of scratch that each op may take: the arena grows by 1 / `ARENA_SHARE` at most.

    `plan` is one without scratch. Where little is live there is more room.
    """
    most = plan.liveness_peak_bytes + plan.liveness_peak_bytes // ARENA_SHARE
    return [max(LEAST_ROOM, most - live) for live in plan.live()]


def lower(graph: Graph, target: Target, cpu: Cpu | None = None) -> Lowered:
    """Choose a kernel for every op and a place for every tensor.

    The core must fit the target (`targets.machine`).

    Raises QgenError where the graph is illegal or the target has no kernel for an op.
    """
    model = legalize(graph)
    pruned = prune(model, target.granule)
    if target.granule > 1:
        pruned = dead_last(pruned)
    stored = schedule(signed_storage(pruned.graph))
    steps = []
    for index, choice in enumerate(_choices(stored, target, cpu)):
        op, cost = choice.op, choice.cost
        function = f"{stored.name}_{index:02d}_{op.name.replace('.', '_')}"
        predicted = None if cost is None else round(cost)
        operands = tuple(parameters(op))
        steps.append(Step(index, op, choice.spec, choice.prepared, function, operands, predicted))
    plan = plan_memory(stored, {s.op: s.prepared.scratch for s in steps if s.prepared.scratch})
    machine = cpu.tuned(target) if cpu else target
    return Lowered(model, stored, machine, tuple(steps), plan, cpu, pruned.kept)


def _choices(graph: Graph, target: Target, cpu: Cpu | None) -> list[Choice]:
    """A kernel per op, within the target's budget of code."""
    rounding = graph.rounding
    core = core_of(target, cpu)
    clock = partial(kernel_cycles, core) if cpu and core else None
    found = []
    for op, room in zip(graph.ops, scratch_rooms(plan_memory(graph)), strict=True):
        spec = target.select(op, rounding, clock, room)
        found.append(located(op.loc, choose, op, spec, rounding))

    def size(core: Core | None, helper: Helper) -> int:
        return code_bytes(helper_code(helper, graph.name, core, tuned=cpu is not None))

    # Putting assembly into order takes long; most models are far below any budget without.
    if estimate(found, partial(size, None)) < REMOTE * target.text_bytes:
        return found
    return fit(found, rounding, target.text_bytes, partial(size, core))
