"""Orders of a basic block: what must come before what, and which order a core likes best."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from qgen.asm.cores import CORES, Core
from qgen.asm.isa import Instruction, macs
from qgen.asm.machine import State, bound, cycles_once, issue_of, steady_cycles
from qgen.asm.out_of_order import loop_cycles

# How many cycles an urgent instruction may wait before one that could start at once goes first.
PATIENCE = (0, 1, 2, 3, 5)
# Moves that are tried on the body of a loop.
MOVES = 1200
# So many in a row that save nothing are enough.
IDLE = 300
REACH = 16
# Within this factor of what the units allow there is nothing to look for.
GOOD_ENOUGH = 1.02
# An order in which little waits suits an out-of-order core, too, for its window is not endless. Its
# own order must be faster by this factor.
IN_ORDER = CORES["cortex-a53"]
WORTH_LEAVING = 0.99


@dataclass(frozen=True)
class Dependences:
    """For each instruction those that must come before it, with the cycles between."""

    before: tuple[dict[int, int], ...]

    def after(self) -> list[list[int]]:
        """For each instruction those that wait for it."""
        found: list[list[int]] = [[] for _ in self.before]
        for i, needed in enumerate(self.before):
            for j in needed:
                found[j].append(i)
        return found


def dependences(core: Core, body: Sequence[Instruction], *, disjoint: bool) -> Dependences:
    """Registers written and read, and memory.

    Loads may pass loads. Stores keep their order among each other. A load and a store keep theirs
    too, unless `disjoint`: what the statement stores to is nothing that it loads.
    """
    before: list[dict[int, int]] = []
    written: dict[str, int] = {}
    read: dict[str, list[int]] = {}
    loads: list[int] = []
    stores: list[int] = []
    for i, instruction in enumerate(body):
        needed: dict[int, int] = {}

        def wait(j: int, cycles: int, needed: dict[int, int] = needed) -> None:
            needed[j] = max(cycles, needed.get(j, 0))

        for register in instruction.reads:
            if register in written:
                source = body[written[register]]
                step = source.address is not None and register == source.address.base
                wait(written[register], 0 if step else core.timing(source).latency)
        for register in instruction.writes:
            for j in (
                *read.get(register, ()),
                *([written[register]] if register in written else []),
            ):
                wait(j, 0)
        if instruction.store:
            for j in (*stores[-1:], *(() if disjoint else loads)):
                wait(j, 0)
        if instruction.load and not disjoint:
            for j in stores[-1:]:
                wait(j, 0)
        for register in instruction.reads:
            read.setdefault(register, []).append(i)
        for register in instruction.writes:
            written[register] = i
            read[register] = []
        if instruction.load:
            loads.append(i)
        if instruction.store:
            stores.append(i)
        before.append(needed)
    return Dependences(tuple(before))


@cache
def ordered(
    core: Core,
    body: tuple[Instruction, ...],
    branch: Instruction | None = None,
    *,
    repeats: bool,
    disjoint: bool,
) -> tuple[float, tuple[Instruction, ...]]:
    """Cycles of `body` in the order that `core` runs soonest, and that order.

    `repeats` if it is the body of a loop: the cycles are then those of one round. A `branch` at its
    end counts: an in-order core waits there for what is not ready, and may do other things
    meanwhile.
    """
    graph = dependences(core, body, disjoint=disjoint)
    end = (branch,) if branch else ()

    def measure(core: Core, order: tuple[Instruction, ...]) -> float:
        return (steady_cycles if repeats else cycles_once)(core, (*order, *end))

    if not core.in_order:
        found = tuple(body[i] for i in _loads_early(body, graph))
        if repeats:
            _, calm = ordered(IN_ORDER, body, branch, repeats=True, disjoint=disjoint)
            times = [loop_cycles(core, order) for order in (found, calm)]
            found = found if times[0] < WORTH_LEAVING * times[1] else calm
        return measure(core, found), found
    best = body
    least = measure(core, best)
    urgency = heights(core, body, 2 if repeats else 1, disjoint=disjoint)
    for patience in PATIENCE:
        start = State(core)
        # The second time round it begins in the state in which the first one ended.
        for _ in range(2 if repeats else 1):
            found, start = _greedy(body, graph, start, urgency, patience)
            if branch:
                start.issue(issue_of(core, branch))
            cycles = measure(core, found)
            if cycles < least:
                best, least = found, cycles
    return least, best


def _loads_early(body: Sequence[Instruction], graph: Dependences) -> list[int]:
    """An out-of-order core finds its way; loads first keep its queue from filling with waiters."""
    return _topological(graph, lambda i: (not body[i].load, i))


def _topological(graph: Dependences, key: Callable[[int], tuple[bool, int]]) -> list[int]:
    left = [len(needed) for needed in graph.before]
    after = graph.after()
    ready = [i for i, n in enumerate(left) if n == 0]
    found = []
    while ready:
        i = min(ready, key=key)
        ready.remove(i)
        found.append(i)
        for j in after[i]:
            left[j] -= 1
            if left[j] == 0:
                ready.append(j)
    return found


def heights(core: Core, body: Sequence[Instruction], rounds: int, *, disjoint: bool) -> list[int]:
    """Cycles on the longest path from each instruction to the end of `rounds` rounds."""
    several = [*body] * rounds
    graph = dependences(core, several, disjoint=disjoint)
    after = graph.after()
    found = [core.timing(i).latency for i in several]
    for i in range(len(several) - 1, -1, -1):
        found[i] = max([found[i], *(graph.before[j][i] + found[j] for j in after[i])])
    return found[: len(body)]


def _greedy(
    body: Sequence[Instruction],
    graph: Dependences,
    start: State,
    urgency: Sequence[int],
    patience: int,
) -> tuple[tuple[Instruction, ...], State]:
    """List scheduling: of what may start soonest, the instruction with the longest path behind."""
    after = graph.after()
    state = start.copy()
    whole = [issue_of(state.core, i) for i in body]
    left = [len(needed) for needed in graph.before]
    ready = [i for i, n in enumerate(left) if n == 0]
    found = []
    while ready:
        times = {i: state.earliest(whole[i]) for i in ready}
        soon = min(times.values()) + patience
        chosen = min(ready, key=lambda i: (max(times[i], soon), -urgency[i], i))
        state.issue(whole[chosen])
        ready.remove(chosen)
        found.append(body[chosen])
        for j in after[chosen]:
            left[j] -= 1
            if left[j] == 0:
                ready.append(j)
    return tuple(found), state


@cache
def improved(
    core: Core, body: tuple[Instruction, ...], branch: Instruction, *, disjoint: bool
) -> tuple[Instruction, ...]:
    """The body of a loop after single instructions were moved as long as that saves cycles.

    It ends with `branch`. The moves are drawn, always the same ones.
    """
    graph = dependences(core, body, disjoint=disjoint)
    after = graph.after()
    order = list(range(len(body)))
    least = steady_cycles(core, [*body, branch])
    # The branch waits for the last result.
    wait = max(core.timing(i).latency for i in body if macs(i)) - 1
    enough = GOOD_ENOUGH * bound(core, body) + wait
    draw = random.Random(len(body))
    light = [n for n, i in enumerate(body) if not macs(i)]
    idle = 0
    for _ in range(MOVES):
        if least <= enough or idle > IDLE:
            break
        idle += 1
        # What moves data finds its place between the products, rather than the reverse.
        n = draw.choice(light if draw.random() < 0.8 and light else order)
        at = order.index(n)
        place = {m: p for p, m in enumerate(order)}
        low = max((place[m] + 1 for m in graph.before[n]), default=0)
        high = min((place[m] for m in after[n]), default=len(order)) - 1
        to = draw.randint(max(low, at - REACH), min(high, at + REACH))
        if to == at:
            continue
        moved = order[:at] + order[at + 1 :]
        moved.insert(to, n)
        cycles = steady_cycles(core, [*(body[m] for m in moved), branch])
        if cycles <= least:
            idle = idle if cycles == least else 0
            order, least = moved, cycles
    return tuple(body[m] for m in order)
