"""legalize: scales become integer multipliers; afterwards no float is left (section 2.2)."""

from __future__ import annotations

from dataclasses import replace

from qgen.ir.graph import Graph, rewrite
from qgen.ir.op import Op
from qgen.ir.types import Tensor, located
from qgen.ir.verify import Stage, stage_of, verify


def legalize(graph: Graph) -> Graph:
    """The INTEGER form of a QUANTIZED graph; an INTEGER graph is returned as it is."""
    if stage_of(graph) is Stage.INTEGER:
        return verify(graph, Stage.INTEGER)
    verify(graph, Stage.QUANTIZED)
    integer = rewrite(graph, lambda op: located(op.loc, op.legalize))
    edges = {*integer.inputs, *integer.outputs}

    def without_scale(t: Tensor) -> Tensor:
        quant = t.type.quant
        if t in edges or quant is None or not quant.scale:
            return t
        # Levels have become clamps, as scales have become multipliers.
        return replace(t, type=t.type.with_quant(replace(quant, scale=(), bits=8)))

    def same(op: Op) -> Op:
        return op

    return verify(rewrite(integer, same, without_scale), Stage.INTEGER)
