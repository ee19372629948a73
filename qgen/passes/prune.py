"""prune: channels that are the same for every input, or that nobody reads, are not computed.

Trained networks hold filters that died: their result is one value whatever comes in. That is
proven here by interval arithmetic on the integer graph, channel by channel, and not guessed from
zero weights. What a constant channel contributes to the next convolution joins its bias, and the
channel goes: from that convolution's weights, from its own filter, from every tensor in between.
The same happens to channels that only meet zero weights.

Tensors that share channels (the operands and results of depthwise convolutions, pools, residual
additions) keep or lose a channel together. As vector kernels work on whole vectors, a number of
channels is kept that is a multiple of `granule`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import networkx as nx
import numpy as np

from qgen.ir.graph import Graph
from qgen.ir.linear import Linear
from qgen.ir.op import Env, Op
from qgen.ir.ops.conv2d import Conv2D
from qgen.ir.ops.depthwise_conv2d import DepthwiseConv2D
from qgen.ir.ops.fully_connected import FullyConnected
from qgen.ir.types import Array, DType, Tensor, TensorType
from qgen.ir.verify import Stage, verify


@dataclass(frozen=True, eq=False)
class Kept:
    """What is left of the last axis of a tensor.

    Attributes:
        channels: kept channels, ascending.
        lost: the others.
        constant: per lost channel, whether it is constant (else nobody reads it).
        values: per lost channel, the value of a constant one.
    """

    channels: Array
    lost: Array
    constant: Array
    values: Array

    def of(self, value: Array) -> Array:
        """The kept part of a whole tensor. Raises AssertionError if the proof was wrong."""
        fixed = self.lost[self.constant]
        if not (value[..., fixed] == self.values[self.constant]).all():
            raise AssertionError("a channel that was proven constant is not")
        left: Array = np.ascontiguousarray(value[..., self.channels])
        return left


@dataclass(frozen=True, eq=False)
class Pruned:
    """A graph without its dead channels; `kept` by name, for tensors that lost some."""

    graph: Graph
    kept: Mapping[str, Kept]


@dataclass(frozen=True, eq=False)
class Range:
    """Proven inclusive range of each channel of a tensor, in its own type: int64 [channels]."""

    low: Array
    high: Array

    @property
    def fixed(self) -> Array:
        """Channels of one value."""
        return np.asarray(self.low == self.high)

    @staticmethod
    def whole(t: Tensor) -> Range:
        channels = t.shape[-1] if t.shape else 1
        return Range(np.full(channels, t.dtype.min), np.full(channels, t.dtype.max))


def prune(graph: Graph, granule: int) -> Pruned:
    """An INTEGER graph with equal outputs for every input, in which dead channels are gone."""
    ranges = channel_ranges(graph)
    lost = _lost(graph, ranges, granule)
    if not any(mask.any() for mask in lost.values()):
        return Pruned(graph, {})
    rewritten = _Rewriter(graph, ranges, lost).graph()
    kept = {}
    for t, mask in lost.items():
        if mask.any():
            gone = np.flatnonzero(mask)
            r = ranges[t]
            kept[t.name] = Kept(np.flatnonzero(~mask), gone, r.fixed[gone], r.low[gone])
    return Pruned(verify(rewritten, Stage.INTEGER), kept)


# -- proof ----------------------------------------------------------------------------------------


def channel_ranges(graph: Graph) -> dict[Tensor, Range]:
    """Ranges of all channels of all computed tensors, by interval arithmetic."""
    ranges = {t: Range.whole(t) for t in graph.inputs}
    for op in graph.ops:
        if isinstance(op, Linear):
            ranges[op.out] = _linear(op, ranges[op.x], graph)
        elif op.channelwise():
            ranges[op.out] = _by_evaluation(op, ranges, graph)
        else:
            ranges[op.out] = Range.whole(op.out)
    return ranges


def _offsets(op: Linear, x: Range) -> tuple[Array, Array]:
    """Range of x - Z_x per input channel; padding adds 0 to it."""
    low, high = x.low - op.x.zero, x.high - op.x.zero
    if _padded(op):
        low, high = np.minimum(low, 0), np.maximum(high, 0)
    return low, high


def _padded(op: Linear) -> bool:
    return isinstance(op, Conv2D | DepthwiseConv2D) and op.window.padded


def sums(op: Linear, x: Range) -> tuple[Array, Array] | None:
    """Least and largest sum of products of each channel, without the bias; None if unknown."""
    low, high = _offsets(op, x)
    if op.channelwise():
        w = op.centered_weights().astype(np.int64).reshape(-1, op.channels)
        least = np.minimum(w * low, w * high).sum(axis=0)
        return least, np.maximum(w * low, w * high).sum(axis=0)
    if prunable_inputs(op):
        w = op.weight_matrix().astype(np.int64)
        taps = w.shape[0] // low.size
        lows, highs = np.tile(low, taps), np.tile(high, taps)
        up, down = np.maximum(w, 0), np.minimum(w, 0)
        return lows @ up + highs @ down, highs @ up + lows @ down
    return None


def _linear(op: Linear, x: Range, graph: Graph) -> Range:
    found = sums(op, x)
    if found is None:
        return Range.whole(op.out)
    env = Env(lambda t: t.const, graph.rounding)
    rows = (*op.out.shape[:-1], op.channels)
    ends = [np.broadcast_to(acc, rows) for acc in found]
    a, b = (op.finish(acc, env).reshape(-1, op.channels)[0].astype(np.int64) for acc in ends)
    return Range(a, b)


def _by_evaluation(op: Op, ranges: Mapping[Tensor, Range], graph: Graph) -> Range:
    """Channels constant in all operands: evaluate once. The result may still vary (padding)."""
    operands = op.channelwise()
    fixed = np.logical_and.reduce([ranges[t].fixed for t in operands])
    whole = Range.whole(op.out)
    if not fixed.any():
        return whole
    values = {t: np.broadcast_to(ranges[t].low, t.shape).astype(t.dtype.numpy) for t in operands}
    env = Env(lambda t: t.data if t.data is not None else values[t], graph.rounding)
    result = op.eval(env).reshape(-1, fixed.size).astype(np.int64)
    fixed &= (result == result[0]).all(axis=0)
    return Range(np.where(fixed, result[0], whole.low), np.where(fixed, result[0], whole.high))


# -- choice ---------------------------------------------------------------------------------------


def prunable_inputs(op: Op) -> bool:
    """The op multiplies each channel of x by weights of its own, in the order of the last axis."""
    if isinstance(op, FullyConnected):
        return op.x.shape[-1] == op.w.shape[1]
    return isinstance(op, Conv2D)


def channel_groups(graph: Graph) -> list[list[Tensor]]:
    """Tensors that share channels."""
    ties = nx.Graph()
    ties.add_nodes_from((*graph.inputs, *graph.activations))
    for op in graph.ops:
        for t in op.channelwise():
            ties.add_edge(t, op.out)
    return [list(group) for group in nx.connected_components(ties)]


def _lost(graph: Graph, ranges: Mapping[Tensor, Range], granule: int) -> dict[Tensor, Array]:
    """Per tensor, which channels go. Repeated, as a filter that goes leaves its inputs unread."""
    edges = {*graph.inputs, *graph.outputs}
    makers = {op.out: op for op in graph.ops}
    readers = {t: graph.consumers(t) for t in (*graph.inputs, *graph.activations)}
    lost = {t: np.zeros(t.shape[-1] if t.shape else 1, bool) for t in readers}

    def may_go(t: Tensor) -> Array:
        none = np.zeros_like(lost[t])
        maker = makers.get(t)
        if t in edges or not readers[t] or maker is None:
            return none
        if not maker.channelwise() and not prunable_inputs(maker):
            return none
        found = ~none
        for reader in readers[t]:
            if t in reader.channelwise():
                continue
            if not prunable_inputs(reader):
                return none
            assert isinstance(reader, Linear)
            found &= _unread(reader, lost[reader.out]) | foldable(reader, ranges[t])
        return found

    groups = [group for group in channel_groups(graph) if not edges.intersection(group)]
    changed = True
    while changed:
        changed = False
        for group in groups:
            before = lost[group[0]]
            wanted = np.logical_and.reduce([may_go(t) for t in group]) | before
            chosen = _whole_vectors(wanted, before, granule)
            if (chosen != before).any():
                changed = True
                lost |= dict.fromkeys(group, chosen)
    return lost


def _whole_vectors(wanted: Array, before: Array, granule: int) -> Array:
    """As many of the wanted as leave a multiple of `granule`; none that went comes back."""
    total = wanted.size
    left = -(-max(total - int(wanted.sum()), 1) // granule) * granule
    count = max(total - left, int(before.sum()))
    order = [*np.flatnonzero(before), *np.flatnonzero(wanted & ~before)][:count]
    chosen = np.zeros_like(wanted)
    chosen[order] = True
    return chosen


def _unread(op: Linear, lost: Array) -> Array:
    """Per input channel: all weights are zero in the filters that stay."""
    w = op.weight_matrix()[:, ~lost]
    return np.asarray((w == 0).reshape(-1, op.x.shape[-1], w.shape[1]).all(axis=(0, 2)))


def foldable(op: Linear, x: Range) -> Array:
    """Per input channel: it is constant, and its contribution the same for every result.

    In padding there is no channel, so its contribution must be zero where the op pads. The bias
    that takes it up fits int32: it is the accumulator where all other channels are at zero.
    """
    return x.fixed & (x.low == op.x.zero) if _padded(op) else x.fixed


# -- rewriting ------------------------------------------------------------------------------------


class _Rewriter:
    """Builds the graph without the lost channels; names of computed tensors stay."""

    def __init__(
        self, graph: Graph, ranges: Mapping[Tensor, Range], lost: Mapping[Tensor, Array]
    ) -> None:
        self.old = graph
        self.ranges = ranges
        self.lost = lost
        self.new: dict[Tensor, Tensor] = {}

    def graph(self) -> Graph:
        for t, mask in self.lost.items():
            if mask.any():
                shape = (*t.shape[:-1], int((~mask).sum()))
                self.new[t] = replace(t, type=replace(t.type, shape=shape))
        return self.old.replace(ops=tuple(map(self._op, self.old.ops)))

    def _op(self, op: Op) -> Op:
        touched = [t for t in (*op.inputs(), op.out) if t in self.new]
        if not touched:
            return op
        if isinstance(op, Linear):
            return self._linear(op)
        return op.with_tensors(self.new)

    def _linear(self, op: Linear) -> Linear:
        outputs = ~self.lost[op.out]
        inputs = ~self.lost[op.x]
        constants: dict[str, Tensor | None] = {}
        bias = op.bias().astype(np.int64)
        weights, axis = op.w.const, op.CHANNEL_AXIS
        if not op.channelwise():
            gone = ~inputs & self.ranges[op.x].fixed
            offset = np.where(gone, self.ranges[op.x].low - op.x.zero, 0)
            w = op.weight_matrix().astype(np.int64).reshape(-1, inputs.size, op.channels)
            bias = bias + np.einsum("kio,i->o", w, offset)
            weights = weights[..., inputs]
        weights = np.compress(outputs, weights, axis=axis)
        if op.b is not None or bias.any():
            kind = op.b.type if op.b is not None else TensorType(DType.I32, bias.shape)
            constants["b"] = constant_of(op, "b", kind, bias[outputs].astype(np.int32), outputs)
        constants["w"] = constant_of(op, "w", op.w.type, weights, outputs)
        for name in ("m0", "shift", "m1"):
            t = getattr(op, name)
            if t is not None:
                constants[name] = constant_of(op, name, t.type, t.const[outputs], outputs)
        x, out = self.new.get(op.x, op.x), self.new.get(op.out, op.out)
        return op.replace(x=x, out=out, **constants)


def constant_of(op: Op, name: str, kind: TensorType, values: Array, channels: Array) -> Tensor:
    """A constant of an op with its values for these channels (numbers or a mask) alone."""
    quant = kind.quant
    if quant and len(quant.scale) > 1:
        quant = replace(quant, scale=tuple(np.array(quant.scale)[channels].tolist()))
    kind = TensorType(kind.dtype, values.shape, quant)
    return Tensor(f"{op.name}.{name}.kept", kind, np.ascontiguousarray(values), op.loc)
