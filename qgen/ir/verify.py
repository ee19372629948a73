"""What is legal at each stage, checked after every pass.

QUANTIZED: as a front end builds it; every activation has a scale, ops describe real functions.
INTEGER: after `legalize`; no scale is left but those that describe the model's inputs and outputs
    to its user, and every op carries its integer parameters.
"""

from __future__ import annotations

from enum import Enum

from qgen.errors import QgenError
from qgen.ir.graph import Graph
from qgen.ir.numerics import INT32_MAX, INT32_MIN
from qgen.ir.op import Op


class Stage(Enum):
    QUANTIZED = "quantized"
    INTEGER = "integer"


def stage_of(graph: Graph) -> Stage:
    """The stage `graph` is in: INTEGER once any integer field is filled."""
    filled = any(getattr(op, f) is not None for op in graph.ops for f in op.INTEGER)
    scaled = any(t.type.quant and t.type.quant.scale for t in graph.constants)
    return Stage.INTEGER if filled or (not scaled and _no_scales_inside(graph)) else Stage.QUANTIZED


def verify(graph: Graph, stage: Stage) -> Graph:
    """Return `graph`, or raise QgenError naming the first op that is not legal at `stage`."""
    if stage is Stage.QUANTIZED:
        for t in (*graph.inputs, *graph.activations):
            if not t.type.quant or not t.type.quant.scale:
                raise QgenError(f"'{t.name}' has no scale", t.loc, hint="add quant(scale=..., ...)")
        for op in graph.ops:
            _verify_levels(op)
            for field in op.INTEGER:
                if getattr(op, field) is not None:
                    raise QgenError(f"{op.NAME} '{op.name}' is legalized already", op.loc)
        return graph
    edges = {*graph.inputs, *graph.outputs}
    for t in graph.tensors():
        if t not in edges and t.type.quant and t.type.quant.scale:
            raise QgenError(f"'{t.name}' still has a scale after legalization", t.loc)
    for op in graph.ops:
        _verify_integer(op)
    return graph


def _no_scales_inside(graph: Graph) -> bool:
    edges = {*graph.inputs, *graph.outputs}
    inside = [t for t in graph.activations if t not in edges]
    return bool(inside) and not any(t.type.quant and t.type.quant.scale for t in inside)


def _verify_levels(op: Op) -> None:
    """Fewer than 8 bits need an op that clamps, or one whose operands have the same levels."""
    quant = op.out.type.quant
    if quant is None or quant.bits == 8 or "clamp" in op.INTEGER:
        return
    if not all(t.type.same_meaning(op.out.type) for t in op.inputs()):
        raise QgenError(
            f"{op.NAME} '{op.name}' cannot limit its result to {quant.bits} bits",
            op.loc,
            hint="give it 8 bits, or the scale, zero and bits of its input",
        )


def _verify_integer(op: Op) -> None:
    for field in op.INTEGER:
        if getattr(op, field) is None:
            raise QgenError(f"{op.NAME} '{op.name}' has no {field}", op.loc)
    defaults = {a.name: a.default for a in op.schema().attributes}
    for field in op.REAL:
        if getattr(op, field) != defaults[field]:
            raise QgenError(f"{op.NAME} '{op.name}' still has {field}", op.loc)
    bound = op.bounds()
    if bound and not (bound.low >= INT32_MIN and bound.high <= INT32_MAX):
        raise QgenError(
            f"{op.NAME} '{op.name}' can overflow its int32 accumulator: "
            f"[{bound.low}, {bound.high}]",
            op.loc,
        )
