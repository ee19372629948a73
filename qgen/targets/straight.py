"""Straight-line assembly: operations on named values, and vector registers for them."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Operation:
    """One instruction.

    Attributes:
        text: the instruction; ``{0}`` is the number of its result's register, where it has one,
            and those of its sources follow.
        to: name of the result, empty where there is none. A value is written once.
        sources: names of what it reads, the accumulator first.
        update: the result replaces the first source, which is not in the text.
    """

    text: str
    to: str = ""
    sources: tuple[str, ...] = ()
    update: bool = False


def allocate(
    operations: Sequence[Operation], pool: Sequence[int], kept: Collection[str] = ()
) -> tuple[list[str], dict[str, int]]:
    """Lines with registers from `pool`, and the registers of the values `kept`.

    Registers are taken in turn, so that what reuses one comes late. An accumulator that is read
    again is copied first. Raises AssertionError where the pool is too small.
    """
    last = {name: i for i, op in enumerate(operations) for name in op.sources}
    free = deque(pool)
    at: dict[str, int] = {}
    lines = []
    for i, op in enumerate(operations):
        held = [at[name] for name in op.sources]
        dying = [n for n in dict.fromkeys(op.sources) if last[n] == i and n not in kept]
        taken = op.update and op.sources[0] in dying
        for name in dying:
            register = at.pop(name)
            if not (taken and name == op.sources[0]):
                free.append(register)
        if op.to:
            if op.update and not taken:
                # A source that dies here is still read.
                apart = [r for r in free if r not in held]
                assert apart, f"no register for {op.to}"
                target = apart[0]
                free.remove(target)
                lines.append(f"mov v{target}.16b, v{held[0]}.16b")
            else:
                assert taken or free, f"no register for {op.to}"
                target = held[0] if taken else free.popleft()
            at[op.to] = target
            held = [target, *(held[1:] if op.update else held)]
        lines.append(op.text.format(*held))
    return lines, {name: at[name] for name in kept}


def most_live(operations: Sequence[Operation]) -> int:
    """Registers that `allocate` needs."""
    last = {name: i for i, op in enumerate(operations) for name in op.sources}
    live: set[str] = set()
    most = 0
    for i, op in enumerate(operations):
        dying = {name for name in op.sources if last[name] == i}
        # A copied accumulator is apart from all sources.
        copied = op.update and op.sources[0] not in dying
        most = max(most, len(live) + 1 if copied else 0)
        live -= dying
        if op.to:
            live.add(op.to)
        most = max(most, len(live))
    return most
