"""Layout of a dataflow graph with one row per op, in execution order, and lanes for branches.

A row is a moment: the same index means the same op in the graph and in the memory plan. An op stays
in the lane of an operand where nothing was put since; edges that skip rows run in a lane of their
own, so no edge crosses a node.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Edge:
    """From row `start` to row `end`; between them it runs in `lane`."""

    start: int
    end: int
    lane: int


@dataclass(frozen=True)
class Layout:
    """`lanes[i]` is the lane of the node in row i; `width` is the number of lanes."""

    lanes: tuple[int, ...]
    edges: tuple[Edge, ...]
    width: int


def layout(producers: Sequence[Sequence[int]]) -> Layout:
    """Lanes for nodes 0, 1, ...; `producers[i]` are the earlier nodes that node i reads."""
    rows = len(producers)
    last_use = [max((j for j in range(rows) if i in producers[j]), default=i) for i in range(rows)]
    latest: list[int] = []
    lanes: list[int] = []
    for i, sources in enumerate(producers):
        kept = sorted(lanes[p] for p in sources if latest[lanes[p]] == p)
        free = [n for n, row in enumerate(latest) if last_use[row] <= i]
        lane = (kept or free or [len(latest)])[0]
        if lane == len(latest):
            latest.append(i)
        latest[lane] = i
        lanes.append(lane)

    taken: dict[int, list[tuple[int, int]]] = {}
    for row, lane in enumerate(lanes):
        taken.setdefault(lane, []).append((row, row))
    pairs = sorted(
        {(p, i) for i, sources in enumerate(producers) for p in sources},
        key=lambda pair: (pair[1] - pair[0], pair),
    )
    edges: list[Edge] = []
    for start, end in pairs:
        low, high = start + 1, end - 1
        lane = lanes[end]
        if low <= high:
            wishes = [lanes[start], lanes[end], *range(len(taken) + 1)]
            lane = next(
                n for n in wishes if not any(a <= high and low <= b for a, b in taken.get(n, []))
            )
            taken.setdefault(lane, []).append((low, high))
        edges.append(Edge(start, end, lane))
    return Layout(tuple(lanes), tuple(edges), len(taken))
