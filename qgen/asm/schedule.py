"""The whole pass: kernels in source order become kernels in the order of a core."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from operator import itemgetter

from qgen.asm import rewrite, rotate
from qgen.asm.cores import Core
from qgen.asm.isa import Instruction, macs, parse
from qgen.asm.machine import bound, steady_cycles
from qgen.asm.order import improved, ordered
from qgen.asm.statement import Block
from qgen.asm.statement import rewrite as rewrite_statements

# A rotated loop is longer by its last round; its time must be shorter by one of these factors,
# the first where the loop is dense and the code for one core alone.
WORTH_ROTATING = (0.97, 0.9)
# Share of products from which a loop is dense: its order is worth a search.
DENSE = 0.5
# What an instruction that is added must save, in cycles.
WORTH_ADDING = 0.25
FIRST_LABEL = 900


@cache
def scheduled(
    text: str, core: Core, *, tuned: bool = False, disjoint: bool = False, compact: bool = False
) -> str:
    """C text with its asm statements in the order of `core`.

    Args:
        tuned: for this core alone: instructions may be added where they save its time. Without,
            only the order changes, and the code runs well on others.
        disjoint: what a statement stores to is nothing that it loads from; see `dependences`.
        compact: nothing becomes longer: no loop is rotated, no instruction added.

    Raises QgenError for an instruction that is not known.
    """

    def change(blocks: tuple[Block, ...]) -> Iterator[Block]:
        for n, block in enumerate(blocks):
            free = FIRST_LABEL + 2 * n
            for part in _block(core, block, free, tuned=tuned, disjoint=disjoint, compact=compact):
                yield replace(part, notes=_budget_note(core, part))

    return rewrite_statements(text, change)


def kernel_cycles(core: Core, lines: tuple[str, ...], rounds: float = 0.0) -> float:
    """Cycles of lines of a kernel in the order for `core`.

    Args:
        rounds: of a loop of these lines, in the mean, from entering to leaving it; the cycles are
            then those of one round with its share of entering and leaving. 0 for no loop.
    """
    if not lines:
        return 0.0
    if not core.in_order:
        return bound(core, tuple(map(parse, lines)))
    if not rounds:
        return _straight_cycles(core, lines)
    steady, around = _loop_cycles(core, lines)
    return steady + around / max(rounds, 1.0)


@cache
def _straight_cycles(core: Core, lines: tuple[str, ...]) -> float:
    return ordered(core, tuple(map(parse, lines)), repeats=True, disjoint=False)[0]


@cache
def _loop_cycles(core: Core, lines: tuple[str, ...]) -> tuple[float, float]:
    """Cycles of a round; those by which a loop of `n` rounds takes longer than `n` rounds."""
    block = Block("1", tuple(map(parse, lines)), parse("b.ne 1b"))
    found = _block(core, block, FIRST_LABEL, tuned=True, disjoint=False, compact=False)
    each = [steady_cycles(core, b.instructions) for b in found]
    steady = next(c for c, b in zip(each, found, strict=True) if b.loop)
    # Rotated, one round is that of the blocks before and behind the loop.
    return steady, sum(each) - steady - (steady if len(found) > 1 else 0.0)


def _block(
    core: Core, block: Block, free: int, *, tuned: bool, disjoint: bool, compact: bool
) -> list[Block]:
    """The fastest of the forms of a block, as it is or rotated; one of each per form."""
    plain: list[tuple[float, list[Block]]] = []
    longer: list[tuple[float, list[Block]]] = []
    for body in _forms(core, block, tuned and not compact):
        now = replace(block, body=tuple(body))
        price = WORTH_ADDING * max(0, len(body) - len(block.body))
        cycles, found = ordered(core, now.body, now.branch, repeats=block.loop, disjoint=disjoint)
        plain.append((cycles + price, [replace(now, body=found)]))
        for parts in _rotations(core, now, disjoint) if not compact else ():
            whole = tuple(rotate.body(parts))
            cycles, steady = ordered(core, whole, now.branch, repeats=True, disjoint=disjoint)
            _, last = ordered(core, parts.rest, repeats=False, disjoint=disjoint)
            longer.append((cycles + price, rotate.rotated(now, parts, steady, last, free)))
    searched = tuned and core.in_order and block.loop and _dense(block)
    least, best = min(plain, key=itemgetter(0))
    if longer:
        cycles, rotated = min(longer, key=itemgetter(0))
        if cycles < WORTH_ROTATING[not searched] * least:
            best = rotated
    if searched:
        return [
            replace(b, body=improved(core, b.body, b.branch, disjoint=disjoint))
            if b.loop and b.branch
            else b
            for b in best
        ]
    return best


def _dense(block: Block) -> bool:
    return sum(macs(i) > 0 for i in block.body) > DENSE * len(block.body)


def _rotations(core: Core, block: Block, disjoint: bool) -> Iterator[rotate.Split]:
    """A loop with all loads that can run ahead, and with fewer: the others run beside products."""
    if not core.in_order or not block.loop or len(block.body) > rotate.LONGEST:
        return
    whole = rotate.split(core, block, disjoint=disjoint)
    if whole is None:
        return
    yield whole
    loads = sum(i.load for i in whole.loads)
    for share in (0.75, 0.5, 0.25):
        most = round(share * loads)
        fewer = rotate.split(core, block, disjoint=disjoint, most=most) if most else None
        if fewer is not None:
            yield fewer


def _forms(core: Core, block: Block, tuned: bool) -> Iterator[Sequence[Instruction]]:
    """The block as written, and with other instructions for the same accesses."""
    yield block.body
    if not block.body:
        return
    joined = rewrite.join_steps(block.body)
    if tuple(joined) != block.body:
        yield joined
    if tuned and core.in_order and block.loop:
        yield rewrite.take_steps_out(block.body)
        apart = rewrite.take_steps_out(rewrite.lists_as_pairs(block.body))
        singly = rewrite.one_by_one(block.body)
        for body in (apart, rewrite.split_pairs(apart), rewrite.take_steps_out(singly)):
            yield body
            yield rewrite.as_lists(body)
        yield rewrite.take_steps_out(rewrite.walk(singly))


def _budget_note(core: Core, block: Block) -> tuple[str, ...]:
    """What a round of a loop takes, where it multiplies."""
    products = sum(map(macs, block.body))
    if not block.loop or not products:
        return ()
    cycles = steady_cycles(core, block.instructions)
    return (f"/* budget: {cycles:.0f} cycles / {products} MACs ({core.name}) */",)
