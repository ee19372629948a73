"""storage: keep u8 activations as i8, the type Arm's multipliers want.

A u8 value q with zero point Z is stored as q - 128 with Z - 128: the top bit flipped, (Q14). Every
kernel inside the model then sees i8 alone. The caller's buffers keep their type; so does whatever
shares storage with them through ops that only move values (`SAME_STORAGE`).
"""

from __future__ import annotations

from dataclasses import replace

import networkx as nx
import numpy as np

from qgen.ir.graph import Graph
from qgen.ir.op import Op
from qgen.ir.types import Array, DType, Tensor
from qgen.ir.verify import Stage, verify

OFFSET = -128


def signed_storage(graph: Graph) -> Graph:
    """An INTEGER graph whose inner u8 tensors are i8. Names and meanings stay."""
    fixed = _tied_to_caller(graph)
    new: dict[Tensor, Tensor] = {}
    for t in graph.activations:
        if t.dtype is DType.U8 and t not in fixed:
            quant = t.type.quant
            moved = quant and replace(quant, zero=quant.zero + OFFSET)
            new[t] = replace(t, type=replace(t.type, dtype=DType.I8, quant=moved))
    constants: dict[Tensor, Tensor] = {}
    ops: list[Op] = []
    for op in graph.ops:
        moves = op.out in new
        beside: dict[Tensor, Tensor] = {}
        if moves and op.SAME_STORAGE:
            # Constants beside moved values move with them; other ops keep theirs.
            beside = {c: constants.setdefault(c, _moved_constant(c)) for c in op.constants()}
        ops.append(op.with_tensors(new | beside, **(op.shifted(OFFSET) if moves else {})))
    return verify(
        graph.replace(ops=tuple(ops), outputs=tuple(new.get(t, t) for t in graph.outputs)),
        Stage.INTEGER,
    )


def as_stored(value: Array, stored: Tensor) -> Array:
    """A golden value of the original graph in the representation of `stored`."""
    if value.dtype == np.uint8 and stored.dtype is DType.I8:
        return (value ^ np.uint8(0x80)).view(np.int8)
    return value


def _moved_constant(t: Tensor) -> Tensor:
    if t.dtype is not DType.U8 or t.data is None:
        return t
    quant = t.type.quant
    kind = replace(t.type, dtype=DType.I8, quant=quant and replace(quant, zero=quant.zero + OFFSET))
    return replace(t, name=f"{t.name}.i8", type=kind, data=(t.data ^ np.uint8(0x80)).view(np.int8))


def _tied_to_caller(graph: Graph) -> set[Tensor]:
    """Tensors that must look like a graph input or output."""
    ties = nx.Graph()
    ties.add_nodes_from((*graph.inputs, *graph.outputs))
    for op in graph.ops:
        if op.SAME_STORAGE:
            nx.add_path(ties, (*op.inputs(), op.out))
    edges = (*graph.inputs, *graph.outputs)
    return {t for e in edges for t in nx.node_connected_component(ties, e)}
