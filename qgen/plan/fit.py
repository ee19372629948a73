"""A graph made to fit a limit on its arena: stripes where it needs them, and why it cannot be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from qgen.ir.graph import Graph
from qgen.ir.op import Op
from qgen.passes.stripes import Striped, stripe
from qgen.plan.memory import MemoryPlan
from qgen.plan.stripes import Search, Section, chains

# Kernels of stripes take other scratch than those of whole ops, so it is predicted anew some times.
ROUNDS = 6
Built = TypeVar("Built")
Build = Callable[[Striped, int], tuple[Built, MemoryPlan]]


@dataclass(frozen=True, eq=False)
class Fit(Generic[Built]):
    """What was found for a limit.

    Attributes:
        graph: without stripes.
        striped: the graph to use.
        built: what `build` made of it.
        arena_bytes: what its plan takes.
        sections: how the ops were cut.
        macs_again: multiply-accumulates that halos compute twice.
        obstacle: the op at which most is live, where the limit cannot be met: the graph is then the
            one with the smallest arena that was found.
    """

    graph: Graph
    striped: Striped
    built: Built
    arena_bytes: int
    sections: tuple[Section, ...]
    macs_again: int
    obstacle: Op | None = None

    @property
    def chains(self) -> list[Section]:
        """The sections that are striped."""
        return [s for s in self.sections if s.rows]


def fit_arena(graph: Graph, limit: int, build: Build[Built]) -> Fit[Built]:
    """The graph in stripes, so that the plan of `build` keeps to `limit` bytes if any does.

    `build` chooses kernels, with scratch that keeps to a limit where they leave a choice, and plans
    the arena.
    """
    scratch: dict[str, int] = {}
    aim = limit
    for _ in range(ROUNDS):
        sections = Search(graph, scratch).fit(aim)
        if sections is None:
            break
        found, plan = _made(graph, sections, aim, build)
        if found.arena_bytes <= limit:
            return found
        known = dict(scratch)
        _add_scratch(scratch, found.striped, plan, aim)
        if scratch == known:
            # Lifetimes were predicted well, but the blocks did not fill the space.
            aim = min(aim, max(s.peak for s in sections)) - (found.arena_bytes - limit)
    sections = Search(graph, scratch).smallest()
    found, _ = _made(graph, sections, max(limit, *(s.peak for s in sections)), build)
    if found.arena_bytes <= limit:
        return found
    return replace(found, obstacle=graph.ops[max(sections, key=lambda s: s.peak).at])


def _made(
    graph: Graph, sections: list[Section], limit: int, build: Build[Built]
) -> tuple[Fit[Built], MemoryPlan]:
    striped = stripe(graph, chains(sections))
    built, plan = build(striped, limit)
    again = _macs(striped.graph) - _macs(graph)
    return Fit(graph, striped, built, plan.arena_bytes, tuple(sections), again), plan


def _macs(graph: Graph) -> int:
    return sum(op.cost().macs for op in graph.ops)


def _add_scratch(scratch: dict[str, int], striped: Striped, plan: MemoryPlan, limit: int) -> None:
    """Note the scratch of ops, by the name of the whole op, that have too much of it."""
    live = plan.live()
    for op, place in plan.scratch.items():
        if live[place.first] > limit:
            part = striped.parts.get(op.name)
            name = part.of if part else op.name
            scratch[name] = max(scratch.get(name, 0), place.bytes)
