"""Which chains of ops run in stripes, and of how many rows, so that the arena fits a limit.

The ops in their order are cut into sections: single ops as they are, or chains in stripes. A chain
may hold any ops that go by rows and whose results, but the last, nobody else reads. What a section
takes is predicted: storages that live across it, the chain's result, and the most that lives during
a stripe. Over all such cuts (dynamic programming) the one with the fewest operations computed twice
is found, for each chain with the tallest stripes that fit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from qgen.ir.graph import Graph
from qgen.ir.op import Op
from qgen.ir.types import Tensor
from qgen.passes.stripes import Chain, Rows, reaches, spans, stripes_of
from qgen.plan.alias import assign, lifetimes

LONGEST = 24  # ops of a chain


@dataclass(frozen=True)
class Section:
    """Ops [first, last], in stripes of `rows` rows or, with 0, as they are.

    peak: predicted bytes of the arena, reached at op `at`. again: operations that halos compute
    twice.
    """

    first: int
    last: int
    rows: int
    peak: int
    again: int
    at: int


class Search:
    """Predictions for one graph.

    scratch: bytes that single ops need while they run, by name.
    """

    def __init__(self, graph: Graph, scratch: Mapping[str, int], alignment: int = 16) -> None:
        self.graph = graph
        self.scratch = [scratch.get(op.name, 0) for op in graph.ops]
        self.alignment = alignment
        self.reaches = reaches(graph)
        self.life = lifetimes(graph)
        storages = assign(graph, {}, alignment)
        self.home = storages.home
        self.storages = [s for s in storages.all if s.space == "arena"]
        self.live = storages.live()
        self.work = [op.cost().macs + op.cost().elementwise for op in graph.ops]

    def rounded(self, size: int) -> int:
        return -(-size // self.alignment) * self.alignment

    def whole(self, i: int) -> Section:
        return Section(i, i, 0, self.live[i] + self.rounded(self.scratch[i]), 0, i)

    def lasts(self, first: int) -> list[int]:
        """Last ops of all chains that start at op `first`."""
        found = []
        inside: set[Tensor] = set()
        waiting: set[Tensor] = set()
        for last in range(first, min(first + LONGEST, len(self.graph.ops))):
            op, reach = self.graph.ops[last], self.reaches[last]
            unread = self.life[op.out].last == last
            if reach is None or unread or any(t in inside for t in op.inputs() if t not in reach):
                break
            inside.add(op.out)
            waiting = {t for t in waiting if self.life[t].last > last} | {op.out}
            if last > first and len(waiting) == 1:
                found.append(last)
        return found

    def chain(self, first: int, last: int, rows: int) -> Section:
        """The section of a chain in stripes of `rows` rows."""
        ops, found = self.graph.ops[first : last + 1], self.reaches[first : last + 1]
        out = ops[-1].out
        most, at = 0, last
        computed = [0] * len(ops)
        for stripe in stripes_of(out.shape[1], rows):
            need = spans(ops, found, stripe)
            most, at = max((most, at), self._inside(first, ops, need), key=itemgetter(0))
            computed = [n + len(need[op.out]) for n, op in zip(computed, ops, strict=True)]
        again = sum(
            self.work[first + i] * (n - op.out.shape[1]) // op.out.shape[1]
            for i, (n, op) in enumerate(zip(computed, ops, strict=True))
        )
        return Section(first, last, rows, self._beside(first, out) + most, again, at)

    def _beside(self, first: int, out: Tensor) -> int:
        """Bytes of storages that live before a chain and at it, and of its result."""
        across = sum(self.rounded(s.bytes) for s in self.storages if s.first < first <= s.last)
        own = out.type.bytes if self.home[out][0].space == "arena" else 0
        return across + self.rounded(own)

    def _inside(
        self, first: int, ops: Sequence[Op], need: Mapping[Tensor, Rows]
    ) -> tuple[int, int]:
        """The most bytes that live during one stripe, beside its part of the last result, and the
        op at which they do."""
        size = {t: self.rounded(t.type.bytes // t.shape[1] * len(rows)) for t, rows in need.items()}
        size[ops[-1].out] = 0
        live = most = 0
        at = first
        for i, op in enumerate(ops, first):
            dying = [t for t in dict.fromkeys(op.inputs()) if t in size and self.life[t].last == i]
            over = any(
                getattr(op, name) in dying and size[getattr(op, name)] == size[op.out]
                for name in op.IN_PLACE
            )
            live += 0 if over else size[op.out]
            if live + self.rounded(self.scratch[i]) > most:
                most, at = live + self.rounded(self.scratch[i]), i
            live -= sum(size[t] for t in dying) - (size[op.out] if over else 0)
        return most, at

    # -- search ------------------------------------------------------------------------------------

    def fit(self, limit: int) -> list[Section] | None:
        """Sections that fit `limit` bytes with the fewest repeated operations, None if none do."""
        n = len(self.graph.ops)
        tight = [self.whole(i).peak > limit for i in range(n)]

        def options(first: int) -> Iterator[Section]:
            if not tight[first]:
                yield self.whole(first)
            for last in self.lasts(first):
                if any(tight[first : last + 1]):
                    section = self._tallest(first, last, limit)
                    if section:
                        yield section

        def cost(path: list[Section]) -> tuple[int, int]:
            striped = [s for s in path if s.rows]
            return sum(s.again for s in striped), sum(s.last - s.first + 1 for s in striped)

        return self._best(options, cost)

    def smallest(self) -> list[Section]:
        """Sections with the least peak, in stripes of single rows."""

        def options(first: int) -> Iterator[Section]:
            yield self.whole(first)
            yield from (self.chain(first, last, 1) for last in self.lasts(first))

        def cost(path: list[Section]) -> tuple[int, int]:
            return max(s.peak for s in path), sum(s.last - s.first for s in path)

        found = self._best(options, cost)
        assert found is not None, "ops as they are are always an option"
        return found

    def _best(
        self, options: Callable[[int], Iterable[Section]], cost: Callable[[list[Section]], Any]
    ) -> list[Section] | None:
        """The cheapest way through all ops, by the first op of each section."""
        n = len(self.graph.ops)
        best: list[list[Section] | None] = [[], *[None] * n]
        for first in range(n):
            path = best[first]
            if path is None:
                continue
            for section in options(first):
                longer, other = [*path, section], best[section.last + 1]
                if other is None or cost(longer) < cost(other):
                    best[section.last + 1] = longer
        return best[n]

    def _tallest(self, first: int, last: int, limit: int) -> Section | None:
        """The chain in the tallest stripes that fit."""
        out = self.graph.ops[last].out
        height = out.shape[1]
        if self._beside(first, out) > limit:
            return None
        heights = sorted({-(-height // k) for k in range(2, height + 1)})
        low, high, best = 0, len(heights), None
        while low < high:
            middle = (low + high) // 2
            section = self.chain(first, last, heights[middle])
            if section.peak <= limit:
                best, low = section, middle + 1
            else:
                high = middle
        return best


def chains(sections: Sequence[Section]) -> list[Chain]:
    """Those of the sections that are striped."""
    return [Chain(s.first, s.last, s.rows) for s in sections if s.rows]
