"""stripes: a chain of ops on images runs in horizontal stripes, so that no wide tensor is whole.

Per stripe of the chain's last result, every op becomes the same op on fewer rows: those that the
stripe needs, halo included. Neighbouring stripes compute the rows of a halo twice. Padding is left
at the edges of the image alone. Stripes of the last result are joined by a concat, whole operands
are cut by slices: both are places in memory and cost nothing. Weights are shared.

Rows do not depend on each other, so every element is what it was, bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from qgen.ir.graph import Graph
from qgen.ir.op import Op, Reach
from qgen.ir.ops.concat import Concat
from qgen.ir.ops.slice import Slice
from qgen.ir.types import Tensor
from qgen.ir.verify import Stage, verify
from qgen.ir.windows import Pads


class Chain(NamedTuple):
    """Ops [first, last] of a graph, `rows` rows of the last result at a time."""

    first: int
    last: int
    rows: int


class Rows(NamedTuple):
    """Rows [first, end) of an image."""

    first: int
    end: int

    def __len__(self) -> int:
        return self.end - self.first

    def with_(self, other: Rows | None) -> Rows:
        """The rows from the first of both to the last of both."""
        if other is None:
            return self
        return Rows(min(self.first, other.first), max(self.end, other.end))


@dataclass(frozen=True, eq=False)
class Part:
    """Which rows of which tensor of the original graph, by name, a tensor of the new one holds."""

    of: str
    rows: Rows


@dataclass(frozen=True, eq=False)
class Striped:
    """A graph in stripes; `parts` by name, for tensors that are rows of an original one."""

    graph: Graph
    parts: Mapping[str, Part]


def taken(reach: Reach, rows: Rows, height: int) -> Rows:
    """What `rows` of a result take of an operand of `height` rows."""
    low, high = reach.rows(*rows)
    return Rows(max(low, 0), min(high, height))


def reaches(graph: Graph) -> list[Mapping[Tensor, Reach] | None]:
    """`Op.reach` of every op; None also where the result is no image of several rows."""
    return [
        op.reach() if len(op.out.shape) == 4 and op.out.shape[1] > 1 else None for op in graph.ops
    ]


def spans(
    ops: Sequence[Op], found: Sequence[Mapping[Tensor, Reach] | None], rows: Rows
) -> dict[Tensor, Rows]:
    """Rows of each result of a chain that `rows` of its last result need."""
    need = {ops[-1].out: rows}
    inside = {op.out for op in ops}
    for op, reach in zip(reversed(ops), reversed(found), strict=True):
        assert reach is not None, f"{op.NAME} does not go by rows"
        for t, r in reach.items():
            if t in inside:
                need[t] = taken(r, need[op.out], t.shape[1]).with_(need.get(t))
    return need


def stripes_of(height: int, rows: int) -> list[Rows]:
    """The stripes of a result, the last one shorter where `rows` does not divide `height`."""
    return [Rows(a, min(a + rows, height)) for a in range(0, height, rows)]


def stripe(graph: Graph, chains: Sequence[Chain]) -> Striped:
    """An INTEGER graph with equal results in which `chains`, ascending and apart, are striped.

    In each, every result but the last is read inside of the chain alone, and every op has a reach.
    """
    return _Rewriter(graph).run(chains)


class _Rewriter:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.reaches = reaches(graph)
        self.names = {t.name for t in graph.tensors()}
        self.ops: list[Op] = []
        self.parts: dict[str, Part] = {}

    def run(self, chains: Sequence[Chain]) -> Striped:
        done = 0
        for chain in chains:
            self.ops += self.graph.ops[done : chain.first]
            self._chain(chain)
            done = chain.last + 1
        self.ops += self.graph.ops[done:]
        ops = tuple(self.ops)
        return Striped(verify(self.graph.replace(ops=ops), Stage.INTEGER), self.parts)

    def _chain(self, chain: Chain) -> None:
        ops = self.graph.ops[chain.first : chain.last + 1]
        found = self.reaches[chain.first : chain.last + 1]
        out = ops[-1].out
        pieces = [
            self._stripe(n, ops, found, rows)
            for n, rows in enumerate(stripes_of(out.shape[1], chain.rows))
        ]
        self.ops.append(Concat(x=tuple(pieces), axis=1, out=out, loc=ops[-1].loc))

    def _stripe(
        self,
        n: int,
        ops: Sequence[Op],
        found: Sequence[Mapping[Tensor, Reach] | None],
        rows: Rows,
    ) -> Tensor:
        """Append the ops of stripe number n; what is returned holds its `rows`."""
        need = spans(ops, found, rows)
        have: dict[Tensor, Tensor] = {}
        cuts: dict[tuple[Tensor, Rows], Tensor] = {}
        for op, reach in zip(ops, found, strict=True):
            assert reach is not None
            new = {op.out: self._tensor(op.out, need[op.out], n)}
            for t, r in reach.items():
                wanted = taken(r, need[op.out], t.shape[1])
                held = need.get(t, Rows(0, t.shape[1]))
                source = have.get(t, t)
                if wanted != held and (t, wanted) not in cuts:
                    cut = self._tensor(t, wanted, n)
                    begin = (0, wanted.first - held.first, 0, 0)
                    self.ops.append(Slice(x=source, begin=begin, out=cut, loc=op.loc))
                    cuts[t, wanted] = cut
                new[t] = cuts[t, wanted] if wanted != held else source
            self.ops.append(op.with_tensors(new, **_padding(op, reach, need[op.out])))
            have[op.out] = new[op.out]
        return have[ops[-1].out]

    def _tensor(self, t: Tensor, rows: Rows, n: int) -> Tensor:
        name = f"{t.name}.s{n}"
        while name in self.names:
            name += "_"
        self.names.add(name)
        self.parts[name] = Part(t.name, rows)
        quant = t.type.quant and replace(t.type.quant, scale=(), bits=8)
        kind = replace(t.type, shape=(1, len(rows), *t.shape[2:]), quant=quant)
        return replace(t, name=name, type=kind)


def _padding(op: Op, reach: Mapping[Tensor, Reach], rows: Rows) -> dict[str, Any]:
    """Padding of the op for `rows` of its result, where it slides a window."""
    window = getattr(op, "window", None)
    if window is None:
        return {}
    ((x, r),) = reach.items()
    low, high = r.rows(*rows)
    top, bottom = max(-low, 0), max(high - x.shape[1], 0)
    return {"padding": Pads(top, bottom, window.w.before, window.w.after)}
