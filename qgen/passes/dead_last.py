"""dead_last: dead channels that `prune` leaves, to fill whole vectors, go behind the others.

There they are whole vectors of nothing as far as possible: their filters become zero weights and a
bias that gives their constant, their weights in the next convolution become zero and what they
contribute joins its bias. Kernels leave out vectors of zero weights where it pays.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from qgen.ir.graph import Graph
from qgen.ir.linear import Linear
from qgen.ir.op import Op
from qgen.ir.types import Array, DType, Tensor, TensorType
from qgen.ir.verify import Stage, verify
from qgen.passes.prune import (
    Kept,
    Pruned,
    Range,
    channel_groups,
    channel_ranges,
    constant_of,
    foldable,
    prunable_inputs,
    sums,
)

VECTOR = 4  # sums of a register: fewer dead channels are left where they are


def dead_last(pruned: Pruned) -> Pruned:
    """An equal INTEGER graph in which dead channels of computed tensors are the last ones."""
    graph = pruned.graph
    ranges = channel_ranges(graph)
    dead = _dead(graph, ranges)
    if not dead:
        return pruned
    ops = tuple(_op(op, ranges, dead) for op in graph.ops)
    kept = dict(pruned.kept)
    for t, mask in dead.items():
        order, none = _order(mask), np.zeros(0, np.int64)
        before = kept.get(t.name)
        if before:
            order = before.channels[order]
            kept[t.name] = Kept(order, before.lost, before.constant, before.values)
        else:
            kept[t.name] = Kept(order, none, none.astype(bool), none)
    return Pruned(verify(graph.replace(ops=ops), Stage.INTEGER), kept)


def _order(dead: Array) -> Array:
    """Channels, dead ones last."""
    return np.argsort(dead, kind="stable")


def _dead(graph: Graph, ranges: Mapping[Tensor, Range]) -> dict[Tensor, Array]:
    """Dead channels of tensors that have a vector of them; equal for tensors that share channels.

    Dead means: of one value, which every reader folds into its bias.
    """
    edges = {*graph.inputs, *graph.outputs}
    makers = {op.out: op for op in graph.ops}
    found: dict[Tensor, Array] = {}
    for group in channel_groups(graph):
        if any(t in edges or t not in makers for t in group):
            continue
        mask: Array = np.logical_and.reduce(
            [_may_sleep(t, makers[t], graph, ranges) for t in group]
        )
        if mask.sum() >= VECTOR:
            found |= dict.fromkeys(group, mask)
    return found


def _may_sleep(t: Tensor, maker: Op, graph: Graph, ranges: Mapping[Tensor, Range]) -> Array:
    mask = ranges[t].fixed.copy()
    readers = graph.consumers(t)
    known = maker.channelwise() or (isinstance(maker, Linear) and prunable_inputs(maker))
    if not known or not readers:
        return np.zeros_like(mask)
    for reader in readers:
        if t in reader.channelwise():
            continue
        if not (isinstance(reader, Linear) and prunable_inputs(reader)):
            return np.zeros_like(mask)
        mask &= foldable(reader, ranges[t])
    return mask


def _op(op: Op, ranges: Mapping[Tensor, Range], dead: Mapping[Tensor, Array]) -> Op:
    if not isinstance(op, Linear) or not (op.x in dead or op.out in dead):
        return op
    outputs = dead.get(op.out, np.zeros(op.channels, bool))
    bias, weights = op.bias().astype(np.int64), op.w.const.copy()
    if not op.channelwise() and op.x in dead:
        inputs = dead[op.x]
        offset = np.where(inputs, ranges[op.x].low - op.x.zero, 0)
        w = op.weight_matrix().astype(np.int64).reshape(-1, inputs.size, op.channels)
        bias = bias + np.einsum("kio,i->o", w, offset)
        weights[..., inputs] = op.w.zero
        weights = weights[..., _order(inputs)]
    if outputs.any():
        found = sums(op, ranges[op.x])
        assert found is not None, "channels of unknown range are not dead"
        bias = np.where(outputs, op.bias() + found[0], bias)
        view = np.moveaxis(weights, op.CHANNEL_AXIS, 0)
        view[outputs] = op.w.zero
    order = _order(outputs)
    weights = np.take(weights, order, axis=op.CHANNEL_AXIS)
    constants: dict[str, Tensor | None] = {"w": constant_of(op, "w", op.w.type, weights, order)}
    if op.b is not None or bias.any():
        kind = op.b.type if op.b is not None else TensorType(DType.I32, bias.shape)
        assert np.abs(bias).max() <= np.iinfo(np.int32).max
        constants["b"] = constant_of(op, "b", kind, bias[order].astype(np.int32), order)
    for name in ("m0", "shift", "m1"):
        t = getattr(op, name)
        if t is not None:
            constants[name] = constant_of(op, name, t.type, t.const[order], order)
    return op.replace(**constants)
