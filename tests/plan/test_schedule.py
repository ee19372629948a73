"""The order of ops: best among all orders of small graphs, the given one where that is as good."""

from __future__ import annotations

import networkx as nx
import pytest
from hypothesis import given, settings

from qgen.ir.graph import Graph
from qgen.plan import schedule as module
from qgen.plan.memory import plan_memory
from qgen.plan.schedule import order_bound, schedule
from tests.plan.graphs import Builder, graphs


def fork(branches: int) -> Graph:
    """Branches that are wide inside and narrow at their ends, all widened first."""
    b = Builder()
    x = b.input(1, 4, 4, 4)
    small = b.pool(x)
    wide = [b.op("pad", (1, 4, 4, 64), x=small, amounts=((0, 0), (0, 0), (0, 0), (0, 60)))
            for _ in range(branches)]  # fmt: skip
    ends = [b.op("max_pool2d", (1, 1, 1, 64), x=t, kernel=(4, 4)) for t in wide]
    last = ends[0]
    for end in ends[1:]:
        last = b.add(last, end)
    return b.graph(b.pool(last))


@settings(max_examples=150, deadline=None)
@given(graphs())
def test_no_order_is_better(graph: Graph) -> None:
    mine, least = order_bound(graph)
    search = module._Search(graph)
    orders = nx.all_topological_sorts(graph.dataflow())
    peaks = [search.peak(order) for order, _ in zip(orders, range(300), strict=False)]
    assert least <= min(peaks) and least <= mine
    if len(peaks) < 300:
        assert least == min(peaks)
    ordered = schedule(graph)
    assert plan_memory(ordered).arena_bytes <= plan_memory(graph).arena_bytes
    assert {op.name for op in ordered.ops} == {op.name for op in graph.ops}


def test_branches_one_after_the_other() -> None:
    graph = fork(4)
    assert plan_memory(graph).liveness_peak_bytes == 64 + 4 * 1024
    ordered = schedule(graph)
    # Two ends, one branch, and what all of them start from.
    assert plan_memory(ordered).liveness_peak_bytes <= 64 + 1024 + 3 * 64
    assert order_bound(ordered)[0] == order_bound(ordered)[1]
    assert schedule(ordered).ops == ordered.ops


def test_the_search_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an answer the given order stays, and the bound is what single ops need."""
    monkeypatch.setattr(module, "STATES", 3)
    graph = fork(4)
    assert schedule(graph).ops == graph.ops
    assert order_bound(graph) == (64 + 4 * 1024, 1024 + 64)
