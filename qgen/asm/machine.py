"""Cycles of a sequence of instructions on a core.

An in-order core starts instructions in the order of the text: each waits for its operands, for a
free unit, for room in the cycle, and until its first result is not earlier than the last one of all
before it. An out-of-order core is bounded by its busiest kind of unit, and by its width.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

from qgen.asm.cores import Core
from qgen.asm.isa import Instruction

# Rounds of a loop after which it is taken to be steady, and over which it is then measured.
WARM, MEASURED = 2, 2


@dataclass(frozen=True)
class Issue:
    """What a core looks at when an instruction is next.

    Attributes:
        uops, latency: see `Timing`.
        first: cycles until the first result: a base register is written at once.
        reads: registers; with a mark where an integer instruction reads, which gets the results of
            its kind sooner.
        writes: (register or marked register, cycles until it can be read).
        units: (kind, how many of its units, for how many cycles).
        leads: it starts only as the first of its cycle.
    """

    uops: int
    latency: int
    first: int
    reads: tuple[str, ...]
    writes: tuple[tuple[str, int], ...]
    units: tuple[tuple[str, int, int], ...]
    leads: bool


@cache
def issue_of(core: Core, instruction: Instruction) -> Issue:
    """`Issue` of an instruction on a core."""
    t = core.timing(instruction)
    address = instruction.address
    base = address.base if address is not None and address.step != 0 else ""
    registers = instruction.reads | instruction.writes
    integer = address is None and not any(r[0] == "v" for r in registers)
    writes = []
    for register in sorted(instruction.writes):
        wait = 0 if register == base else t.latency
        writes += [(register, wait), (f"{register}!", core.forward if integer else wait)]
    units = []
    for kind, busy in t.pipes.items():
        there = core.units.get(kind, 1)
        units.append((kind, min(max(round(busy), 1), there), max(1, round(busy / there))))
    return Issue(
        uops=t.uops,
        latency=t.latency,
        first=0 if base else t.latency,
        reads=tuple(f"{r}!" if integer else r for r in sorted(instruction.reads)),
        writes=tuple(writes),
        units=tuple(units),
        leads=t.leads,
    )


@dataclass
class State:
    """An in-order core between two instructions.

    Attributes:
        cycle: the one in which the last instruction started.
        room: micro-ops that may still start in it.
        ready: when each register can be read.
        free: when each unit of each kind can be used, in order of time.
        written: when the last result so far arrives.
    """

    core: Core
    cycle: int = 0
    room: int = 0
    ready: dict[str, int] = field(default_factory=dict)
    free: dict[str, list[int]] = field(default_factory=dict)
    written: int = 0

    def __post_init__(self) -> None:
        self.room = self.room or self.core.width

    def copy(self) -> State:
        free = {kind: list(units) for kind, units in self.free.items()}
        return State(self.core, self.cycle, self.room, dict(self.ready), free, self.written)

    def earliest(self, i: Issue) -> int:
        """The cycle in which `i` would start if it were next."""
        at = self.written - i.first
        if at < self.cycle:
            at = self.cycle
        ready, free = self.ready, self.free
        for register in i.reads:
            when = ready.get(register, 0)
            if when > at:
                at = when
        for kind, count, _ in i.units:
            units = free.get(kind)
            if units is not None and units[count - 1] > at:
                at = units[count - 1]
        room, width = self.room, self.core.width
        # What is wider than the core starts in any cycle that has room.
        full = i.uops > room and (room == 0 or i.uops <= width)
        if at == self.cycle and (full or (i.leads and room < width)):
            at += 1
        return at

    def issue(self, i: Issue) -> int:
        """Start `i`; the cycle in which it does."""
        at = self.earliest(i)
        width = self.core.width
        if at > self.cycle:
            self.cycle, self.room = at, width
        self.room -= i.uops
        while self.room < 0:
            self.cycle += 1
            self.room += width
        for register, wait in i.writes:
            self.ready[register] = at + wait
        for kind, count, busy in i.units:
            units = self.free.get(kind)
            if units is None:
                units = self.free[kind] = [0] * self.core.units.get(kind, 1)
            units[:count] = [at + busy] * count
            units.sort()
        if at + i.latency > self.written:
            self.written = at + i.latency
        return at


def issues(core: Core, body: Sequence[Instruction]) -> list[Issue]:
    return [issue_of(core, i) for i in body]


def steady_cycles(core: Core, body: Sequence[Instruction]) -> float:
    """Cycles per round of `body` when it repeats."""
    if not core.in_order:
        return bound(core, body)
    state = State(core)
    start = 0
    whole = issues(core, body)
    for n in range(WARM + MEASURED):
        if n == WARM:
            start = state.cycle
        for i in whole:
            state.issue(i)
    return (state.cycle - start) / MEASURED


def cycles_once(core: Core, body: Sequence[Instruction]) -> float:
    """Cycles of `body` run once, until its last result."""
    if not core.in_order:
        return bound(core, body)
    state = State(core)
    for i in issues(core, body):
        state.issue(i)
    return max([state.cycle, *state.ready.values()])


def bound(core: Core, body: Sequence[Instruction]) -> float:
    """Least cycles of `body` by the units it keeps busy and by the width of the core."""
    total: Counter[str] = Counter()
    uops = 0
    for instruction in body:
        t = core.timing(instruction)
        uops += t.uops
        for kind, busy in t.pipes.items():
            total[kind] += busy / core.units.get(kind, 1)  # type: ignore[assignment]
        total.update(t.fixed)
    return max([*total.values(), uops / core.width])
