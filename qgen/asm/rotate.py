"""Software pipelining: the loads of the next round run among the products of this one.

A loop whose body is loads P with the steps of their pointers, then the rest R, repeated n >= 1
times, becomes

    P; count; if done skip; { R with the next P; count; repeat }; R

and keeps its label in front of it all, for those who come from elsewhere.

No register is renamed: a load waits until the last product of this round has read the register that
it overwrites. The last round stands by itself, so that nothing is read past the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qgen.asm.cores import Core
from qgen.asm.isa import FLAGS, Instruction, inverse, parse
from qgen.asm.order import dependences
from qgen.asm.statement import Block

LONGEST = 160  # instructions of a body that is rotated


@dataclass(frozen=True)
class Split:
    """The body of a counted loop in parts.

    Attributes:
        loads: P, all of what R needs first, and the additions that move its pointers on.
        rest: R.
        count: the instruction that sets the flags of the branch.
    """

    loads: tuple[Instruction, ...]
    rest: tuple[Instruction, ...]
    count: Instruction


def split(core: Core, block: Block, *, disjoint: bool, most: int = LONGEST) -> Split | None:
    """The parts of a loop that can be rotated, None for any other block; P has `most` loads."""
    branch = block.branch
    if not block.loop or branch is None or FLAGS not in branch.reads:
        return None
    counts = [i for i in block.body if FLAGS in i.writes]
    if len(counts) != 1 or counts[0].mnemonic not in ("adds", "subs"):
        return None
    (count,) = counts
    counter = count.writes - {FLAGS}
    others = [i for i in block.body if i is not count]
    # The counter depends on itself alone, and nothing else looks at it.
    if count.reads != counter or any((i.reads | i.writes) & (counter | {FLAGS}) for i in others):
        return None
    ahead: set[int] = set()  # closed under what must come before
    loaded = 0
    graph = dependences(core, others, disjoint=disjoint)
    for n, instruction in enumerate(others):
        if not set(graph.before[n]) <= ahead:
            continue
        if instruction.load and loaded < most:
            ahead.add(n)
            loaded += 1
        elif ahead and _moves_pointer(instruction):
            ahead.add(n)
    loads = tuple(i for n, i in enumerate(others) if n in ahead)
    rest = tuple(i for n, i in enumerate(others) if n not in ahead)
    return Split(loads, rest, count) if loads and rest else None


def _moves_pointer(instruction: Instruction) -> bool:
    """An addition to a register that is not a vector: one behind the loads of that pointer."""
    return (
        instruction.mnemonic == "add"
        and instruction.key == "add x x #"
        and (instruction.reads == instruction.writes)
    )


def body(parts: Split) -> list[Instruction]:
    """One round of the rotated loop in a legal order."""
    return [*parts.rest, *parts.loads, parts.count]


def rotated(
    block: Block,
    parts: Split,
    steady: Sequence[Instruction],
    last: Sequence[Instruction],
    free: int,
) -> list[Block]:
    """The blocks of the rotated loop.

    Args:
        steady: `body` in the order in which it is to run.
        last: R in its order.
        free: this label and the next one are not used in the statement.
    """
    assert block.branch is not None
    mnemonic = block.branch.mnemonic
    inner, exit = str(free), str(free + 1)
    skip = parse(f"{inverse(mnemonic)} {exit}f")
    return [
        Block(block.label, (*parts.loads, parts.count), skip, block.comments),
        Block(inner, tuple(steady), parse(f"{mnemonic} {inner}b")),
        Block(exit, tuple(last)),
    ]
