"""Execution order of the ops: the one in which least is live at once.

What is live is counted on tensors, before any share storage, but that a reshape is its operand.
Orders are searched over the sets of ops that are done, the set with the least peak first: the first
complete one is the best. Such sets are few in networks with few parallel branches; where there are
more than `STATES`, the given order stays, and `order_bound` says how far from the best it may be.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import networkx as nx

from qgen.ir.graph import Graph
from qgen.ir.ops.reshape import Reshape
from qgen.ir.types import Tensor
from qgen.plan.memory import plan_memory

STATES = 10_000


def schedule(graph: Graph) -> Graph:
    """`graph` with its ops in an order of least peak: the given one where that is as good."""
    given = nx.lexicographical_topological_sort(graph.dataflow(), key=lambda index: index)
    ordered = graph.replace(ops=tuple(graph.ops[i] for i in given))
    search = _Search(ordered)
    found = search.best()
    if found is None or search.peak(found) >= search.peak(range(len(graph.ops))):
        return ordered
    better = ordered.replace(ops=tuple(ordered.ops[i] for i in found))
    # Ops in place and views are not counted above; the plan knows them.
    return min(ordered, better, key=lambda g: plan_memory(g).arena_bytes)


def order_bound(graph: Graph) -> tuple[int, int]:
    """Peak of the order of `graph` as it is counted here, and the least that any order has.

    The latter is exact where the search ends, else what single ops need.
    """
    search = _Search(graph)
    mine = search.peak(range(len(graph.ops)))
    found = search.best()
    return mine, search.floor() if found is None else min(mine, search.peak(found))


class _Search:
    """Live bytes of sets of finished ops, as bits of an int.

    Every tensor stands for itself and the reshapes of it; inputs and outputs are the caller's.
    """

    def __init__(self, graph: Graph) -> None:
        self.count = len(graph.ops)
        root: dict[Tensor, Tensor] = {}
        for op in graph.ops:
            whole = op.x if isinstance(op, Reshape) and op.x.data is None else op.out
            root[op.out] = root.get(whole, whole)
        outside = {root.get(t, t) for t in (*graph.inputs, *graph.outputs)}
        makers = {op.out: i for i, op in enumerate(graph.ops)}
        # Per op: what must be done before it, and the tensors it makes and reads.
        self.before = [
            sum({1 << makers[t] for t in op.inputs() if t in makers}) for op in graph.ops
        ]
        self.makes: list[Tensor | None] = []
        self.reads: list[list[Tensor]] = []
        self.size: dict[Tensor, int] = {}
        self.readers: dict[Tensor, int] = {}
        for i, op in enumerate(graph.ops):
            whole = root[op.out]
            new = whole is op.out and whole not in outside
            self.makes.append(whole if new else None)
            if new:
                self.size[whole] = whole.type.bytes
                self.readers[whole] = 0
            read = {root.get(t, t): None for t in op.inputs()}
            self.reads.append([t for t in read if t in self.size])
            for t in self.reads[-1]:
                self.readers[t] |= 1 << i

    def step(self, done: int, live: int, op: int) -> tuple[int, int]:
        """Bytes live during `op` and after it, where `live` are before."""
        made = self.makes[op]
        during = live + (self.size[made] if made is not None else 0)
        done |= 1 << op
        touched = [*self.reads[op], *([made] if made is not None else [])]
        gone = sum(self.size[t] for t in touched if not self.readers[t] & ~done)
        return during, during - gone

    def peak(self, order: Sequence[int]) -> int:
        done = live = most = 0
        for op in order:
            during, live = self.step(done, live, op)
            most, done = max(most, during), done | 1 << op
        return most

    def floor(self) -> int:
        """What some op needs by itself."""
        made = [self.size[t] if t is not None else 0 for t in self.makes]
        read = [sum(self.size[t] for t in reads) for reads in self.reads]
        return max((a + b for a, b in zip(made, read, strict=True)), default=0)

    def best(self) -> list[int] | None:
        """The order of least peak, the earliest ops first among equals; None beyond `STATES`."""
        everything = (1 << self.count) - 1
        floor = self.floor()
        # Nothing below the floor matters, and among equals the set with the most ops goes first.
        heap: list[tuple[int, int, tuple[int, ...], int, int]] = [(floor, 0, (), 0, 0)]
        least = {0: floor}
        settled: set[int] = set()
        while heap:
            peak, _, order, done, live = heapq.heappop(heap)
            if done in settled:
                continue
            settled.add(done)
            if done == everything:
                return list(order)
            if len(settled) > STATES:
                return None
            for op in range(self.count):
                if done >> op & 1 or self.before[op] & ~done:
                    continue
                during, after = self.step(done, live, op)
                then, most = done | 1 << op, max(peak, during)
                if most < least.get(then, most + 1):
                    least[then] = most
                    heapq.heappush(heap, (most, -len(order) - 1, (*order, op), then, after))
        raise AssertionError("a graph has an order")
