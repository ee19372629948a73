"""Execution order of the ops."""

from __future__ import annotations

import networkx as nx

from qgen.ir.graph import Graph


def schedule(graph: Graph) -> Graph:
    """`graph` with its ops in a topological order that keeps the given order where legal."""
    order = nx.lexicographical_topological_sort(graph.dataflow(), key=lambda index: index)
    return graph.replace(ops=tuple(graph.ops[i] for i in order))
