"""Cycles of a loop on an out-of-order core.

Instructions enter a window in the order of the text, so many micro-ops per cycle, and leave it in
that order once they are done. Between, each starts as soon as its operands and its units are there.
The order of the text matters where a chain of results fills the window with instructions that wait:
the next round then comes too late.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from functools import cache

from qgen.asm.cores import Core
from qgen.asm.isa import Instruction

# Micro-ops that are under way at once; LLVM's models of these cores have 128 to 160.
WINDOW = 128
WARM, MEASURED = 4, 4


@cache
def _units(core: Core, instruction: Instruction) -> tuple[tuple[str, int, int], ...]:
    """(kind of unit, how many there are, cycles of one of them that `instruction` takes)."""
    t = core.timing(instruction)
    all_of = [(k, core.units.get(k, 1), round(busy)) for k, busy in t.pipes.items()]
    only = [(k, core.units.get(k, 1), round(share * core.units.get(k, 1)))
            for k, share in t.fixed.items()]  # fmt: skip
    return tuple(unit for unit in (*all_of, *only) if unit[2])


def loop_cycles(core: Core, body: Sequence[Instruction]) -> float:
    """Cycles per round of `body` when it repeats."""
    ready: dict[str, int] = {}
    taken: dict[tuple[str, int], int] = defaultdict(int)
    leaves: deque[int] = deque([0] * WINDOW, WINDOW)  # of the last micro-ops, by cycle
    entered, room, done = 0, core.width, 0
    ends = []
    for _ in range(WARM + MEASURED):
        for i in body:
            t = core.timing(i)
            if room < min(t.uops, core.width) or leaves[max(t.uops - 1, 0)] > entered:
                entered = max(entered + 1, leaves[max(t.uops - 1, 0)])
                room = core.width
            room -= t.uops
            at = max([entered + 1, *(ready.get(r, 0) for r in i.reads)])
            last = at
            for kind, count, busy in _units(core, i):
                now = at
                for _ in range(busy):
                    while taken[kind, now] >= count:
                        now += 1
                    taken[kind, now] += 1
                last = max(last, now - busy + 1)
            base = i.address.base if i.address and i.address.step != 0 else ""
            for register in i.writes:
                ready[register] = last + (1 if register == base else t.latency)
            done = max(done, last + t.latency)
            leaves.extend([done] * t.uops)
        ends.append(done)
    return (ends[-1] - ends[WARM - 1]) / MEASURED
