"""An independent check of memory plans: run the graph on symbolic bytes.

Every byte of every tensor gets a number that names its value; reshape, slice and concat pass these
on, each other op makes new ones. Executing the ops in order on memories of such numbers, under the
plan, shows whether each operand still holds its value when it is read. Nothing here uses the
planner's lifetimes or storages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from qgen.ir.op import Op
from qgen.ir.ops.concat import Concat
from qgen.ir.ops.reshape import Reshape
from qgen.ir.ops.slice import Slice
from qgen.ir.types import Tensor

if TYPE_CHECKING:
    from qgen.plan.memory import MemoryPlan, Placement

Values = npt.NDArray[np.int64]
NOTHING = -1


class _Machine:
    """Symbolic memories: the arena and the caller's buffers."""

    def __init__(self, plan: MemoryPlan) -> None:
        self.plan = plan
        self.memory: dict[tuple[str, int], Values] = {
            ("arena", 0): np.full(plan.arena_bytes, NOTHING, np.int64)
        }
        for space, tensors in (("input", plan.graph.inputs), ("output", plan.graph.outputs)):
            for i, t in enumerate(tensors):
                self.memory[space, i] = np.full(t.type.bytes, NOTHING, np.int64)
        self.values: dict[Tensor, Values] = {}
        self.made = 0

    def new(self, t: Tensor) -> Values:
        """Numbers never seen before, [..., bytes per element] in the shape of t."""
        shape = (*t.shape, t.dtype.bytes)
        numbers = np.arange(self.made, self.made + t.type.bytes, dtype=np.int64)
        self.made += t.type.bytes
        return numbers.reshape(shape)

    def value(self, t: Tensor) -> Values:
        if t not in self.values:
            assert t.data is not None, f"'{t.name}' is read before it is computed"
            self.values[t] = self.new(t)
        return self.values[t]

    def at(self, p: Placement, what: str) -> Values:
        memory = self.memory[p.space, p.index]
        assert p.offset >= 0 and p.end <= memory.size, f"{what} lies outside of the {p.space}"
        return memory[p.offset : p.end]

    def holds(self, t: Tensor, when: str) -> None:
        stored = self.at(self.plan.placements[t], f"'{t.name}'")
        intact = np.array_equal(stored, self.value(t).reshape(-1))
        assert intact, f"'{t.name}' does not hold its value {when}"

    def run(self, op: Op) -> None:
        plan, when = self.plan, f"at {op.NAME} '{op.name}'"
        for t in op.inputs():
            self.holds(t, when)
        out = plan.placements[op.out]
        operands = {t: plan.placements[t] for t in op.inputs()}
        if op in plan.scratch:
            scratch = plan.scratch[op]
            clash = [t.name for t, p in (*operands.items(), (op.out, out)) if scratch.overlaps(p)]
            assert not clash, f"scratch overlaps {clash} {when}"
            self.at(scratch, "scratch")[:] = NOTHING
        target = self.at(out, f"'{op.name}'")
        assert out.space != "input" or op in plan.copies, f"an input is written {when}"
        if op in plan.copies:
            self._view(op, target, operands)
        else:
            self._compute(op, target, operands)
        self.holds(op.out, when)

    def _view(self, op: Op, target: Values, operands: dict[Tensor, Placement]) -> None:
        """reshape, slice and concat: move only what the plan says must be copied."""
        parts: tuple[Tensor, ...]
        if isinstance(op, Slice):
            self._slice(op, target)
            return
        if isinstance(op, Concat):
            parts, axis = op.x, op.axis
            self.values[op.out] = np.concatenate([self.value(t) for t in parts], axis)
        else:
            assert isinstance(op, Reshape), f"{op.NAME} '{op.name}' cannot be free"
            parts, axis = (op.x,), 0
            self.values[op.out] = self.value(op.x).reshape(*op.out.shape, -1)
        owner = np.concatenate(
            [np.full(self.value(t).shape, k, np.int64) for k, t in enumerate(parts)], axis
        ).reshape(-1)
        written = np.isin(owner, self.plan.copies[op])
        space = self.plan.placements[op.out]
        assert space.space != "input" or not written.any(), f"'{op.name}' writes an input"
        before = target.copy()
        target[written] = NOTHING
        for t in operands:
            self.holds(t, f"while {op.NAME} '{op.name}' writes")
        target[:] = np.where(written, self.values[op.out].reshape(-1), before)

    def _slice(self, op: Slice, target: Values) -> None:
        box = tuple(slice(b, b + m) for b, m in zip(op.begin, op.out.shape, strict=True))
        self.values[op.out] = self.value(op.x)[box]
        if self.plan.copies[op]:
            clash = self.plan.placements[op.x].overlaps(self.plan.placements[op.out])
            assert not clash, f"'{op.name}' is copied onto its operand"
            target[:] = self.values[op.out].reshape(-1)

    def _compute(self, op: Op, target: Values, operands: dict[Tensor, Placement]) -> None:
        """Any other op: the result is written while operands are read."""
        out, name = self.plan.placements[op.out], self.plan.in_place.get(op)
        shared = [t for t, p in operands.items() if p.overlaps(out)]
        assert bool(shared) == (name is not None), f"'{op.name}' shares bytes unannounced"
        for t in shared:
            fields = [n for n, _ in op.schema().operands if getattr(op, n) is t]
            legal = fields and all(n in op.IN_PLACE for n in fields) and t.shape == op.out.shape
            place = self.plan.placements[t]
            legal = legal and (place.offset, place.end) == (out.offset, out.end)
            assert legal, f"'{op.name}' may not overwrite '{t.name}'"
        self.values[op.out] = self.new(op.out)
        target[:] = self.values[op.out].reshape(-1)


def check(plan: MemoryPlan) -> None:
    """AssertionError where the plan loses a value or leaves the arena."""
    machine = _Machine(plan)
    for t in plan.graph.inputs:
        machine.values[t] = machine.new(t)
        machine.at(plan.placements[t], f"'{t.name}'")[:] = machine.values[t].reshape(-1)
    for op in plan.graph.ops:
        machine.run(op)
    for t in plan.graph.inputs:
        machine.holds(t, "after the run; inputs are the caller's")
    for i, t in enumerate(plan.graph.outputs):
        if plan.output_copies.get(i) is t:
            continue
        p = plan.placements[t]
        assert (p.space, p.index, p.offset) == ("output", i, 0), f"output '{t.name}' is elsewhere"
        machine.holds(t, "after the run")
    _check_sizes(plan)


def _check_sizes(plan: MemoryPlan) -> None:
    """Storages against each other, pair by pair, and the totals."""
    arena: list[Any] = [s for s in plan.storages if s.space == "arena"]
    arena += plan.scratch.values()
    for i, a in enumerate(arena):
        assert a.offset % plan.alignment == 0, f"storage {a.storage_id} is not aligned"
        for b in arena[:i]:
            meets = a.first <= b.last and b.first <= a.last
            ids = f"storages {a.storage_id} and {b.storage_id}"
            assert not (meets and a.overlaps(b)), f"{ids} overlap in time and space"
    for t, p in plan.placements.items():
        s = plan.storages[p.storage_id]
        inside = s.offset <= p.offset and p.end <= s.offset + s.bytes
        alive = s.first <= p.first and p.last <= s.last
        assert inside and alive, f"'{t.name}' lies outside of its storage"
    top = max((s.end for s in arena), default=0)
    fits = top <= plan.arena_bytes and plan.arena_bytes % plan.alignment == 0
    assert fits, "the size of the arena is wrong"
    right = plan.liveness_peak_bytes == max(plan.live(), default=0)
    assert right and plan.liveness_peak_bytes <= plan.arena_bytes, "the liveness peak is wrong"
