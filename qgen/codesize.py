"""Code of a model within a budget: where it is too long, ops share instances of kernels.

Each op alone takes the instance that needs the fewest instructions, and many differ in little: the
shift at the end, the pattern of a few rare weights. A row may have a sibling (`KernelSpec.sharing`)
whose instances suit more ops. Ops move to their siblings, those first that lose the fewest
instructions per byte, until the estimate fits the budget or nothing is left that shortens it.

An instance is worth its bytes until its last op has moved, and the shared one costs some when the
first op arrives. So a move takes ops together: of all that would share an instance, those of the
cheapest one, two, ... instances they have now.

If that is not enough, assembly only changes its order for an in-order core and does not grow; that
of kernels first in which the least is executed per byte.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from qgen.ir.op import Op
from qgen.ir.types import Rounding
from qgen.targets.spec import Helper, KernelSpec, Prepared

# C in bytes, as gcc -O2 makes it: the file's own functions, an op's, a statement of a helper.
FILE = 400
OP = 150
STATEMENT = 13
INSTRUCTION = 4
# Share of the budget that is left for what the estimate does not see.
RESERVE = 1 / 16
# Share of the instructions of a model from which on a kernel keeps its fastest form.
HEAVY = 0.1

_ASM = re.compile(r'^\s*"[a-z][^"]*\\n\\t"', re.MULTILINE)
_STATEMENT = re.compile(r";$", re.MULTILINE)
_TYPE = re.compile(r"^typedef", re.MULTILINE)


def code_bytes(text: str) -> int:
    """Bytes of code in a printed helper: its instructions, an estimate of its C."""
    if _TYPE.search(text):
        return 0
    return INSTRUCTION * len(_ASM.findall(text)) + STATEMENT * len(_STATEMENT.findall(text))


@dataclass(frozen=True, eq=False)
class Choice:
    """A row for an op, and what it makes of it; `cost` as the row predicts it."""

    op: Op
    spec: KernelSpec
    prepared: Prepared
    cost: float | None

    @property
    def instances(self) -> frozenset[str]:
        return frozenset(h.name for h in self.prepared.helpers)


def choose(op: Op, spec: KernelSpec, rounding: Rounding) -> Choice:
    """What a row makes of an op."""
    return Choice(op, spec, spec.prepare(op, rounding), spec.predicted(op, rounding))


def estimate(chosen: Sequence[Choice], size: Callable[[Helper], int]) -> int:
    """Bytes of code of a file."""
    helpers = {h.name: h for c in chosen for h in c.prepared.helpers}
    return FILE + OP * len(chosen) + sum(map(size, helpers.values()))


@dataclass(frozen=True)
class Move:
    """Ops, by index, that go to their siblings: the bytes that saves, the instructions it costs."""

    ops: tuple[int, ...]
    saved: int
    loss: float


class Fit:
    """The search for one model.

    Args:
        size: bytes of a helper's code.
    """

    def __init__(
        self, choices: Sequence[Choice], rounding: Rounding, size: Callable[[Helper], int]
    ) -> None:
        self.chosen = list(choices)
        self.rounding = rounding
        self.size = size
        self.sizes: dict[str, int] = {}
        self.siblings: dict[int, Choice] = {}

    def _siblings(self) -> Iterator[tuple[int, Choice]]:
        for index, choice in enumerate(self.chosen):
            if choice.spec.sharing is not None and choice.cost is not None:
                other = choose(choice.op, choice.spec.sharing, self.rounding)
                if other.instances != choice.instances and other.cost is not None:
                    yield index, other

    def bytes(self, chosen: Sequence[Choice]) -> int:
        return estimate(chosen, self._once)

    def _once(self, helper: Helper) -> int:
        if helper.name not in self.sizes:
            self.sizes[helper.name] = self.size(helper)
        return self.sizes[helper.name]

    def moves(self) -> Iterator[Move]:
        """All that is worth trying from here."""
        now = self.bytes(self.chosen)
        targets: dict[frozenset[str], list[int]] = {}
        for index, other in self.siblings.items():
            targets.setdefault(other.instances, []).append(index)
        for indices in targets.values():
            groups: dict[frozenset[str], list[int]] = {}
            for index in indices:
                groups.setdefault(self.chosen[index].instances, []).append(index)
            ordered = sorted(groups.values(), key=lambda g: (self._loss(g), g))
            for count in range(1, len(ordered) + 1):
                together = [i for g in ordered[:count] for i in g]
                after = self.bytes(self._moved(together))
                if after < now:
                    yield Move(tuple(together), now - after, self._loss(together))

    def _loss(self, ops: Sequence[int]) -> float:
        return sum((self.siblings[i].cost or 0) - (self.chosen[i].cost or 0) for i in ops)

    def _moved(self, ops: Sequence[int]) -> list[Choice]:
        return [self.siblings[i] if i in ops else c for i, c in enumerate(self.chosen)]

    def run(self, budget: int) -> list[Choice]:
        """The choices that fit, or the shortest that were found."""
        if self.bytes(self.chosen) > budget:
            self.siblings = dict(self._siblings())
        while self.bytes(self.chosen) > budget:
            best = min(self.moves(), key=lambda m: (m.loss / m.saved, m.ops), default=None)
            if best is None:
                break
            self.chosen = self._moved(best.ops)
            self.siblings = {i: s for i, s in self.siblings.items() if i not in best.ops}
        for name in self._by_weight() if self.bytes(self.chosen) > budget else ():
            self._compact(name)
            if self.bytes(self.chosen) <= budget:
                break
        return self.chosen

    def _by_weight(self) -> list[str]:
        """Helpers that have a shorter form, those first whose ops take little time per byte.

        Not those of the ops that take most of the time: a few bytes are not worth that.
        """
        found = {}
        total = sum(c.cost or 0 for c in self.chosen)
        for helper in {h.name: h for c in self.chosen for h in c.prepared.helpers}.values():
            share = sum(c.cost or 0 for c in self.chosen if helper.name in c.instances)
            if share > HEAVY * total:
                continue
            saved = self._once(helper) - self.size(replace(helper, compact=True))
            if saved > 0:
                found[helper.name] = share / saved
        return sorted(found, key=lambda name: (found[name], name))

    def _compact(self, name: str) -> None:
        """Print a helper in its shorter form, for all ops that use it."""
        for index, choice in enumerate(self.chosen):
            if name in choice.instances:
                prepared = choice.prepared
                helpers = tuple(
                    replace(h, compact=True) if h.name == name else h for h in prepared.helpers
                )
                self.chosen[index] = replace(choice, prepared=replace(prepared, helpers=helpers))
                self.sizes[name] = self.size(next(h for h in helpers if h.name == name))


def fit(
    choices: Sequence[Choice], rounding: Rounding, budget: int, size: Callable[[Helper], int]
) -> list[Choice]:
    """Choices whose code is estimated to fit `budget` bytes, as far as sharing can bring it.

    An op whose code differs for that says so in its notes.
    """
    found = Fit(choices, rounding, size).run(round(budget * (1 - RESERVE)))
    note = f"its kernel is shorter, not the fastest: the budget is {budget} bytes of code"
    return [
        c if c is old else replace(c, prepared=replace(c.prepared, notes=(*c.prepared.notes, note)))
        for c, old in zip(found, choices, strict=True)
    ]
