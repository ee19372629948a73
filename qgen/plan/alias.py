"""Which tensors share a storage.

Every tensor starts in a storage of its own: a caller's buffer for graph inputs and outputs, the
arena for the rest. Storages are then merged, first for views (reshape, slice and concat), then for
ops that work in place. A merge is refused when two tensors would have a byte in common while both
live, unless that byte holds the same value in both.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Literal, NamedTuple

from qgen.ir.graph import Graph
from qgen.ir.op import Op
from qgen.ir.ops.concat import Concat
from qgen.ir.ops.reshape import Reshape
from qgen.ir.ops.slice import Slice
from qgen.ir.types import Tensor
from qgen.plan.pack import Block, liveness


class Life(NamedTuple):
    """Op indices, inclusive, between which a tensor holds its value."""

    first: int
    last: int

    def meets(self, other: Life) -> bool:
        return self.first <= other.last and other.first <= self.last


class Atom(NamedTuple):
    """Bytes [start, start + length) of a tensor, written together.

    They hold the value that `value` names, from its byte `skip` on.
    """

    start: int
    length: int
    value: object
    skip: int = 0


@dataclass(eq=False)
class Storage:
    """Bytes that several tensors share; `members` maps them to their offset in bytes."""

    space: Literal["arena", "input", "output"]
    index: int
    bytes: int
    first: int
    last: int
    members: dict[Tensor, int] = field(default_factory=dict)


def lifetimes(graph: Graph) -> dict[Tensor, Life]:
    """Inputs live from -1 on, outputs until `len(ops)`; a result nobody reads lives at its op."""
    life = {t: Life(-1, -1) for t in graph.inputs}
    for i, op in enumerate(graph.ops):
        life.update({t: Life(i, i) for t in op.results})
        for t in op.inputs():
            life[t] = Life(life[t].first, i)
    for t in graph.outputs:
        life[t] = Life(life[t].first, len(graph.ops))
    return life


class Storages:
    """The storages of a graph while they are being merged.

    home: storage and offset in bytes of every tensor. copies, in_place: as in `MemoryPlan`.
    """

    def __init__(self, graph: Graph, scratch: Mapping[Op, int], alignment: int) -> None:
        self.graph = graph
        self.scratch = scratch
        self.alignment = alignment
        self.life = lifetimes(graph)
        self.home: dict[Tensor, tuple[Storage, int]] = {}
        self.all: list[Storage] = []
        self.atoms: dict[Tensor, list[Atom]] = {}
        self.copies: dict[Op, tuple[int, ...]] = {}
        self.in_place: dict[Op, str] = {}
        inputs = {t: i for i, t in enumerate(graph.inputs)}
        outputs = {t: i for i, t in enumerate(graph.outputs)}
        for t in (*graph.inputs, *graph.activations):
            if t in inputs:
                storage = Storage("input", inputs[t], t.type.bytes, *self.life[t], {t: 0})
            elif t in outputs:
                storage = Storage("output", outputs[t], t.type.bytes, *self.life[t], {t: 0})
            else:
                storage = Storage("arena", 0, t.type.bytes, *self.life[t], {t: 0})
            self.all.append(storage)
            self.home[t] = storage, 0
            self.atoms[t] = [Atom(0, t.type.bytes, t)]

    def rounded(self, size: int) -> int:
        return -(-size // self.alignment) * self.alignment

    def block(self, s: Storage) -> Block:
        return Block(s, self.rounded(s.bytes), s.first, s.last)

    def blocks(self, scratch: Mapping[Op, int]) -> list[Block]:
        """What the arena must hold: its storages, then the scratch memory of ops."""
        blocks = [self.block(s) for s in self.all if s.space == "arena"]
        for i, op in enumerate(self.graph.ops):
            if scratch.get(op):
                blocks.append(Block(op, self.rounded(scratch[op]), i, i))
        return blocks

    def live(self) -> list[int]:
        return liveness(self.blocks(self.scratch), len(self.graph.ops))

    # -- views -------------------------------------------------------------------------------------

    def view_reshape(self, op: Reshape) -> None:
        """Make the result a view of the operand where that is possible."""
        shared = op.x.data is None and self._share(op.out, op.x, 0, self.atoms.get(op.x, []))
        self.copies[op] = () if shared else (0,)

    def view_slice(self, op: Slice) -> None:
        """Make the result a view of some bytes of the operand where they lie in one piece."""
        self.copies[op] = (0,)
        if op.x.data is not None or not op.contiguous:
            return
        start, before = op.offset * op.x.dtype.bytes, self.atoms[op.out]
        self.atoms[op.out] = _cut(self.atoms[op.x], start, op.out.type.bytes)
        if self._merge(op.x, op.out, start):
            self.copies[op] = ()
        else:
            self.atoms[op.out] = before

    def view_concat(self, op: Concat, allowed: bool) -> None:
        """Let as many operands as possible be slices of the result."""
        contiguous = math.prod(op.out.shape[: op.axis]) == 1
        copies: list[int] = []
        starts = [0, *accumulate(t.type.bytes for t in op.x)]
        parts = [[Atom(starts[k], t.type.bytes, (op, k))] for k, t in enumerate(op.x)]
        for k, t in enumerate(op.x):
            s, mine = starts[k], parts[k]
            if allowed and contiguous and t.data is None and self.home[t][0].space != "input":
                parts[k] = [a._replace(start=s + a.start) for a in self.atoms[t]]
                if self._share(op.out, t, s, [a for part in parts for a in part]):
                    continue
            parts[k] = mine
            copies.append(k)
        self.atoms[op.out] = [a for part in parts for a in part]
        self.copies[op] = tuple(copies)

    def _share(self, whole: Tensor, part: Tensor, start: int, atoms: list[Atom]) -> bool:
        """Put `part` at byte `start` of `whole`, whose bytes are then `atoms`."""
        before = self.atoms[whole]
        self.atoms[whole] = atoms
        if self._merge(whole, part, start):
            return True
        self.atoms[whole] = before
        return False

    # -- in place ----------------------------------------------------------------------------------

    def overwrite(self, op: Op) -> None:
        """Let the result take over the bytes of an operand that dies at `op`.

        Not where that would raise the peak around it: inside a large storage, a small tensor keeps
        all of it alive.
        """
        for name in op.IN_PLACE:
            t = getattr(op, name)
            if not isinstance(t, Tensor) or not self._replaces(op, t):
                continue
            a, b = self.home[op.out][0], self.home[t][0]
            window = slice(max(min(a.first, b.first), 0), max(a.last, b.last) + 1)
            before = max(self.live()[window], default=0)
            if self._merge(op.out, t, 0, op, limit=before):
                self.in_place[op] = name
                return

    def _replaces(self, op: Op, t: Tensor) -> bool:
        """Whether `op` may write its result over `t` as far as the two alone are concerned."""
        fields = [n for n, _ in op.schema().operands if getattr(op, n) is t]
        elsewhere = sum(o is t for o in op.operands()) != len(fields)
        return (
            t.data is None
            and bool(fields)
            and not elsewhere
            and all(n in op.IN_PLACE for n in fields)
            and t.shape == op.out.shape
            and t.type.bytes == op.out.type.bytes
            and self.life[t].last == self.life[op.out].first
            and self.home[t][0].space != "input"
        )

    # -- merging -----------------------------------------------------------------------------------

    def _merge(
        self, t: Tensor, u: Tensor, start: int, op: Op | None = None, limit: int | None = None
    ) -> bool:
        """Merge the storages of t and u so that u lies at byte `start` of t, or return False.

        `op` works in place on u; `limit` bounds the live bytes during the merged storage's life.
        """
        (a, at), (b, bt) = self.home[t], self.home[u]
        shift = at + start - bt
        if a is b:
            fits = all(self._agree(t, at, v, vt, op) for v, vt in a.members.items() if v is not t)
            return shift == 0 and op is None and fits
        if a.space != "arena" and b.space != "arena":
            return False
        low, high = min(0, shift), max(a.bytes, b.bytes + shift)
        if a.space != "arena" and (low, high) != (0, a.bytes):
            return False
        if b.space != "arena" and (low, high) != (shift, shift + b.bytes):
            return False
        if not self._compatible(a, b, shift, op):
            return False
        home = a if a.space != "arena" else b if b.space != "arena" else a
        merged = Storage(
            home.space, home.index, high - low, min(a.first, b.first), max(a.last, b.last)
        )
        place = self.all.index(home)
        kept = [s for s in self.all if s is not a and s is not b]
        if limit is not None:
            blocks = [self.block(s) for s in (*kept, merged) if s.space == "arena"]
            blocks += [x for x in self.blocks(self.scratch) if isinstance(x.key, Op)]
            live = liveness(blocks, len(self.graph.ops))
            if max(live[max(merged.first, 0) : merged.last + 1], default=0) > limit:
                return False
        for v, offset in a.members.items():
            merged.members[v] = offset - low
        for v, offset in b.members.items():
            merged.members[v] = offset + shift - low
        for v, offset in merged.members.items():
            self.home[v] = merged, offset
        self.all = [merged if i == place else s for i, s in enumerate(self.all)]
        self.all = [s for s in self.all if s is not a and s is not b]
        return True

    def _compatible(self, a: Storage, b: Storage, shift: int, op: Op | None) -> bool:
        """Whether no byte would have to hold two values at once, with b moved by `shift`."""
        return all(
            self._agree(t, at, u, bt + shift, op)
            for t, at in a.members.items()
            for u, bt in b.members.items()
        )

    def _agree(self, t: Tensor, at: int, u: Tensor, bt: int, op: Op | None) -> bool:
        """The same for t at byte `at` and u at byte `bt` of one storage."""
        apart = at + t.type.bytes <= bt or bt + u.type.bytes <= at
        if apart or not self.life[t].meets(self.life[u]):
            return True
        if op and t is op.out and at == bt and self._replaces(op, u):
            return True
        return self._same_values(t, at, u, bt)

    def _same_values(self, t: Tensor, at: int, u: Tensor, bt: int) -> bool:
        for p in self.atoms[t]:
            for q in self.atoms[u]:
                i, j = at + p.start, bt + q.start
                overlap = i < j + q.length and j < i + p.length
                if overlap and not (i - p.skip == j - q.skip and p.value == q.value):
                    return False
        return True


def _cut(atoms: list[Atom], start: int, length: int) -> list[Atom]:
    """Bytes [start, start + length) of a tensor as a tensor of their own."""
    found = []
    for a in atoms:
        low, high = max(a.start, start), min(a.start + a.length, start + length)
        if low < high:
            found.append(Atom(low - start, high - low, a.value, a.skip + low - a.start))
    return found


def assign(graph: Graph, scratch: Mapping[Op, int], alignment: int, limit: int = 0) -> Storages:
    """Storages of `graph`, merged.

    A concat is made free wherever that is legal, except where holding the whole result from the
    first slice on would raise the peak above `limit`: memory is scarcer than one copy.
    """

    def attempt(copied: Collection[Op]) -> Storages:
        storages = Storages(graph, scratch, alignment)
        for op in graph.ops:
            if isinstance(op, Reshape):
                storages.view_reshape(op)
            elif isinstance(op, Slice):
                storages.view_slice(op)
            elif isinstance(op, Concat):
                storages.view_concat(op, op not in copied)
        for op in graph.ops:
            if op not in storages.copies:
                storages.overwrite(op)
        return storages

    def cost(storages: Storages) -> tuple[int, int]:
        """Peak in bytes above the limit, then bytes moved by concats."""
        moved = (op.x[k].type.bytes for op in concats for k in storages.copies[op])
        return max(limit, *storages.live(), 0), sum(moved)

    concats = [op for op in graph.ops if isinstance(op, Concat)]
    copied: frozenset[Op] = frozenset()
    best = attempt(copied)
    if concats and cost(best) > (limit, 0):
        # One start with all concats free, one with all copied; then each alone is turned round.
        other = attempt(frozenset(concats))
        if cost(other) < cost(best):
            copied, best = frozenset(concats), other
    for op in concats:
        if cost(best) == (limit, 0):
            break
        other = attempt(copied ^ {op})
        if cost(other) < cost(best):
            copied, best = copied ^ {op}, other
    return best
