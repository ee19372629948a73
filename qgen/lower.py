"""lower: a graph and a target become kernels, constants and memory; all decisions are made here.

What follows (`emit`) only prints.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from qgen.asm.cores import Core, core_with
from qgen.asm.schedule import kernel_cycles
from qgen.codesize import Choice, choose, code_bytes, estimate, fit
from qgen.ir.graph import Graph
from qgen.ir.op import Op
from qgen.ir.ops.slice import Slice
from qgen.ir.types import Array, Tensor, located
from qgen.passes.dead_last import dead_last
from qgen.passes.legalize import legalize
from qgen.passes.prune import Kept, prune
from qgen.passes.storage import as_stored, signed_storage
from qgen.passes.stripes import Part, Striped
from qgen.plan.fit import Fit, fit_arena
from qgen.plan.memory import MemoryPlan, plan_memory
from qgen.plan.schedule import schedule
from qgen.plan.stripes import Section
from qgen.render import helper_code
from qgen.targets.cpus import CPUS, Cpu
from qgen.targets.spec import Helper, KernelSpec, Prepared, Target

# Code that is this share of a budget before it is put into order does not reach it.
REMOTE = 0.75

ARENA_SHARE = 21
LEAST_ROOM = 2048  # bytes
STEP = 1024  # bytes of room under a limit: so few different ones that choices can be kept
Built = tuple[tuple["Step", ...], MemoryPlan]


@dataclass(frozen=True, eq=False)
class Step:
    """One op of the generated file: its kernel and what the kernel prints.

    `function` is the C name; `parameters` are the computed operands by C parameter name;
    `predicted` is the cost model's number of instructions, None where the row has no model.
    `printed` is the step whose function and constants it uses, where stripes share them.
    """

    index: int
    op: Op
    spec: KernelSpec
    prepared: Prepared
    function: str
    parameters: tuple[tuple[str, Tensor], ...]
    predicted: int | None = None
    printed: int | None = None

    @property
    def first(self) -> bool:
        """Whether its function is printed here."""
        return self.printed is None or self.printed == self.index


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
        stripes: how it was made to fit a limit on RAM, or why it could not; None where it fits as
            it is.
        ram: that limit, in bytes.
    """

    model: Graph
    graph: Graph
    target: Target
    steps: tuple[Step, ...]
    plan: MemoryPlan
    cpu: Cpu | None = None
    kept: Mapping[str, Kept] = field(default_factory=dict)
    stripes: Fit[Built] | None = None
    ram: int | None = None

    @property
    def chains(self) -> list[Section]:
        """Chains of ops that run in stripes."""
        return self.stripes.chains if self.stripes and not self.stripes.obstacle else []

    @property
    def macs_again(self) -> int:
        """Multiply-accumulates that stripes repeat."""
        return self.stripes.macs_again if self.stripes and self.chains else 0

    @property
    def parts(self) -> Mapping[str, Part]:
        """Tensors of `graph` that are rows of one of `model`, by name."""
        return self.stripes.striped.parts if self.stripes and not self.stripes.obstacle else {}

    @property
    def core(self) -> Core | None:
        """The core for which assembly is put into order, None where the target has none."""
        return core_of(self.target, self.cpu)

    @property
    def name(self) -> str:
        return self.graph.name

    def as_stored(self, value: Array, stored: Tensor) -> Array:
        """A golden value of `model` as `graph` holds it: rows, kept channels, signed storage."""
        part = self.parts.get(stored.name)
        value = value[:, slice(*part.rows)] if part else value
        kept = self.kept.get(part.of if part else stored.name)
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


def scratch_rooms(plan: MemoryPlan, limit: int | None = None) -> list[int]:
    """Bytes of scratch that each op may take: the arena grows by 1 / `ARENA_SHARE` at most.

    `plan` is one without scratch. Where little is live there is more room. A `limit` on the arena
    is kept to as far as it goes.
    """
    if limit is not None:
        return [max(limit - live, 0) // STEP * STEP for live in plan.live()]
    most = plan.liveness_peak_bytes + plan.liveness_peak_bytes // ARENA_SHARE
    return [max(LEAST_ROOM, most - live) for live in plan.live()]


def lower(graph: Graph, target: Target, cpu: Cpu | None = None, ram: int | None = None) -> Lowered:
    """Choose a kernel for every op and a place for every tensor.

    The core must fit the target (`targets.machine`). `ram` bounds arena and stack, in bytes: where
    the arena is too large beside the stack that the target promises, ops run in stripes. A bound
    that cannot be met is not an error here, but said in `Lowered.stripes`.

    Raises QgenError where the graph is illegal or the target has no kernel for an op.
    """
    model = legalize(graph)
    pruned = prune(model, target.granule)
    if target.granule > 1:
        pruned = dead_last(pruned)
    stored = schedule(signed_storage(pruned.graph))
    machine = cpu.tuned(target) if cpu else target
    limit = None if ram is None else max(ram - target.stack_bytes, 0)
    builder = _Builder(target, cpu)
    steps, plan = builder.built(Striped(stored, {}), limit)
    stripes = None
    if limit is not None and plan.arena_bytes > limit:
        stripes = fit_arena(stored, limit, builder.measured)
        if not stripes.obstacle:
            stored, (steps, plan) = stripes.striped.graph, stripes.built
    return Lowered(model, stored, machine, steps, plan, cpu, pruned.kept, stripes, ram)


class _Builder:
    """Chooses kernels and places, for several cuts of one graph."""

    def __init__(self, target: Target, cpu: Cpu | None) -> None:
        self.target = target
        self.tuned = cpu is not None
        self.core = core_of(target, cpu)
        self.clock = partial(kernel_cycles, self.core) if cpu and self.core else None
        self.known: dict[Any, Choice] = {}

    def measured(self, striped: Striped, limit: int) -> tuple[Built, MemoryPlan]:
        steps, plan = self.built(striped, limit)
        return (steps, plan), plan

    def built(self, striped: Striped, limit: int | None) -> Built:
        """Ops of stripes that differ in nothing but where their operands lie share a function."""
        graph = striped.graph
        rooms = scratch_rooms(plan_memory(graph, limit=limit or 0), limit)
        groups: dict[Any, list[int]] = {}
        for index, op in enumerate(graph.ops):
            key = _shape(op) if op.name in striped.parts else index
            groups.setdefault(key, []).append(index)
        found = [
            self._choice(graph.ops[indices[0]], graph, min(rooms[i] for i in indices))
            for indices in groups.values()
        ]
        steps: dict[int, Step] = {}
        for indices, choice in zip(groups.values(), self._small(found, graph), strict=True):
            index, cost = indices[0], choice.cost
            function = f"{graph.name}_{index:02d}_{graph.ops[index].name.replace('.', '_')}"
            predicted = None if cost is None else round(cost)
            for i in indices:
                op, spec, prepared = graph.ops[i], choice.spec, choice.prepared
                operands = tuple(parameters(op))
                steps[i] = Step(i, op, spec, prepared, function, operands, predicted, index)
        ordered = tuple(steps[i] for i in range(len(graph.ops)))
        scratch = {s.op: s.prepared.scratch for s in ordered if s.prepared.scratch}
        return ordered, plan_memory(graph, scratch, limit=limit or 0)

    def _choice(self, op: Op, graph: Graph, room: int) -> Choice:
        chooses = any(row.within and row.op == op.NAME for row in self.target.kernels)
        key = _shape(op), room if chooses else None
        if key not in self.known:
            spec = self.target.select(op, graph.rounding, self.clock, room)
            self.known[key] = located(op.loc, choose, op, spec, graph.rounding)
        return replace(self.known[key], op=op)

    def _small(self, found: list[Choice], graph: Graph) -> list[Choice]:
        """Choices within the target's budget of code."""

        def size(core: Core | None, helper: Helper) -> int:
            return code_bytes(helper_code(helper, graph.name, core, tuned=self.tuned))

        # Putting assembly into order takes long; most models are far below any budget without.
        if estimate(found, partial(size, None)) < REMOTE * self.target.text_bytes:
            return found
        return fit(found, graph.rounding, self.target.text_bytes, partial(size, self.core))


def _shape(op: Op) -> Any:
    """Equal for ops that do the same to other operands. Views are never equal."""
    if isinstance(op, Slice):
        return op
    operands = tuple(t.type if t.data is None else t for t in op.operands())
    values = tuple(getattr(op, a.name) for a in op.schema().attributes)
    return type(op), op.out.type, operands, values
