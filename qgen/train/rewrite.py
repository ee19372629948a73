"""A float network becomes its training graph (Algorithm 1, steps 1 and 2).

`torch.fx` traces the network; operations are matched, fused as inference fuses them, and every
place where inference rounds gets a `FakeQuantize`. Places around a concat share one range (A.3).
"""

from __future__ import annotations

import contextlib
import copy
import io

import networkx as nx
import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from qgen.errors import QgenError
from qgen.ir.types import Activation
from qgen.train import layers
from qgen.train.config import QatConfig
from qgen.train.fake_quant import FakeQuantize
from qgen.train.fold import Folded
from qgen.train.layers import Ranges
from qgen.train.match import Match, match, shape
from qgen.train.observe import Range


def create_training_graph(model: nn.Module, example: Tensor, config: QatConfig) -> fx.GraphModule:
    """The training graph of a float network, with copies of its parameters.

    Args:
        model: a network of the operations in docs/training.md.
        example: any input [N, C, H, W] of the size the network will have.
        config: what to simulate.

    Returns: a module that is trained like the network. In training mode it observes ranges and
        quantizes to them; in evaluation mode it only quantizes.
    Raises QgenError for a network that cannot be traced, and for an operation that has no place in
    a training graph.
    """
    return _Rewriter(*_trace(model, example), config).run()


def freeze_batch_norm(graph: fx.GraphModule) -> None:
    """From now on `graph` normalizes with moving statistics, which no longer change."""
    for m in graph.modules():
        if isinstance(m, Folded):
            m.frozen.fill_(True)


def _trace(model: nn.Module, example: Tensor) -> tuple[fx.GraphModule, nn.Module]:
    """The traced network with shapes of the example, and the copy of the model behind it."""
    model = copy.deepcopy(model)
    was_training = model.training
    model.eval()
    try:
        traced = fx.symbolic_trace(model)
    except Exception as e:
        raise QgenError(
            f"the network cannot be traced: {' '.join(str(e).split())}",
            hint="control flow must not depend on the input",
        ) from e
    inputs = [n.name for n in traced.graph.nodes if n.op == "placeholder"]
    if len(inputs) != 1:
        raise QgenError(f"the network takes {len(inputs)} inputs ({', '.join(inputs)}), not one")
    # What goes wrong is also printed there.
    with torch.no_grad(), contextlib.redirect_stderr(io.StringIO()):
        try:
            ShapeProp(traced).propagate(example)
        except Exception as e:
            raise QgenError(
                f"the network does not run on an example of {list(example.shape)}: "
                f"{' '.join(str(e.__cause__ or e).split())[:200]}"
            ) from e
    model.train(was_training)
    return traced, model


class _Rewriter:
    """Builds the training graph in one pass over the traced one."""

    def __init__(self, traced: fx.GraphModule, model: nn.Module, config: QatConfig) -> None:
        self.traced = traced
        self.model = model
        self.config = config
        self.graph = fx.Graph()
        self.modules: dict[str, nn.Module] = {}
        self.new: dict[fx.Node, fx.Node] = {}
        self.taken: set[str] = set()
        # Values of one range are connected; each has the quantizer that rounds it.
        self.ties = nx.Graph()
        self.quantizers: dict[fx.Node, FakeQuantize] = {}
        self.matches: dict[fx.Node, Match] = {}

    def run(self) -> fx.GraphModule:
        for node in self.traced.graph.nodes:
            if node in self.new:
                continue
            if node.op == "placeholder":
                self._input(node)
            elif node.op == "output":
                self.graph.output(fx.map_arg(node.args[0], self._value))
            elif shape(node) and node.op != "get_attr":
                self._operation(node)
        self._share_ranges()
        graph = fx.GraphModule(self.modules, self.graph, "TrainingGraph")
        graph.train(self.model.training)
        return graph

    def _value(self, node: object) -> fx.Node:
        if not isinstance(node, fx.Node) or node not in self.new:
            raise QgenError(f"'{node}' is used, but the network does not compute it from its input")
        return self.new[node]

    def _path(self, node: fx.Node) -> str:
        """Where the node is: the path of its module, or of the module whose code calls it."""
        if node.op == "call_module":
            return str(node.target)
        stack = node.meta.get("nn_module_stack") or {}
        scope = next(reversed(list(stack.values())))[0] if stack else ""
        return f"{scope}.{node.name}" if scope else node.name

    def _match(self, node: fx.Node) -> Match | None:
        """What the node is; None for a node that calls nothing."""
        if node.op not in ("call_module", "call_function", "call_method"):
            return None
        if node not in self.matches:
            module = None
            if node.op == "call_module":
                module = self.model.get_submodule(str(node.target))
            self.matches[node] = match(node, module, self._path(node))
        return self.matches[node]

    def _input(self, node: fx.Node) -> None:
        layer = layers.Input(node.name, shape(node)[1:])
        self.taken.add(node.name)
        placeholder = self.graph.placeholder(node.name)
        self.new[node] = self._quantized(placeholder, layer.path, layer)

    def _operation(self, node: fx.Node) -> None:
        m = self._match(node)
        assert m is not None
        path = self._unique(self._path(node))
        operands = tuple(self._value(x) for x in m.operands)
        if m.linear is not None:
            self._folded(node, m, path, operands)
        elif m.norm is not None:
            raise QgenError(
                f"'{path}' ({type(m.norm).__name__}) does not follow a convolution or dense layer "
                "that it alone uses"
            )
        elif m.activation is not None:
            layer: layers.Layer = layers.Clamp(path, m.activation)
            self._place(node, layer, operands, node)
        elif m.layer is not None:
            m.layer.path = path
            last = node
            if isinstance(m.layer, layers.Binary):
                last, m.layer.activation = self._following_activation(node)
            self._place(node, m.layer, operands, last)
        else:
            self.new[node] = operands[0]

    def _folded(self, node: fx.Node, m: Match, path: str, operands: tuple[fx.Node, ...]) -> None:
        """A convolution or dense layer with the batch norm and activation that follow it."""
        last, norm = node, None
        after = self._only_user(node)
        if after is not None and (found := self._match(after)) and found.norm is not None:
            norm, last = found.norm, after
        last, activation = self._following_activation(last)
        assert m.linear is not None
        layer = Folded(path, m.linear, m.geometry, norm, activation, self.config)
        self.new[last] = self._quantized(self._call(path, layer, operands), path)
        self._mark(node, last)

    def _place(
        self, node: fx.Node, layer: layers.Layer, operands: tuple[fx.Node, ...], last: fx.Node
    ) -> None:
        called = self._call(layer.path, layer, operands)
        if layer.RANGE is Ranges.INPUT:
            for x in operands:
                self.ties.add_edge(x, called)
            self.new[last] = called
        else:
            self.new[last] = self._quantized(called, layer.path, layer)
            if layer.RANGE is Ranges.ROUNDED:
                self.ties.add_edge(operands[0], self.new[last])
        self._mark(node, last)

    def _mark(self, node: fx.Node, last: fx.Node) -> None:
        """Nodes from `node` to `last` are done; only the result of the last has users."""
        while node is not last:
            self.new.setdefault(node, self.new[last])
            node = next(iter(node.users))

    def _following_activation(self, node: fx.Node) -> tuple[fx.Node, Activation]:
        after = self._only_user(node)
        if after is not None and (found := self._match(after)) and found.activation is not None:
            return after, found.activation
        return node, Activation.NONE

    def _only_user(self, node: fx.Node) -> fx.Node | None:
        """The operation that alone uses the result of `node`; to ask for its shape is no use."""
        users = [u for u in node.users if shape(u) or u.op == "output"]
        return users[0] if len(users) == 1 and users[0].op != "output" else None

    def _call(self, path: str, layer: nn.Module, operands: tuple[fx.Node, ...]) -> fx.Node:
        self.modules[path] = layer
        called = self.graph.call_module(path, operands)
        self.ties.add_node(called)
        return called

    def _quantized(self, value: fx.Node, path: str, layer: layers.Layer | None = None) -> fx.Node:
        """`value` behind a quantizer; an input becomes a layer first."""
        if isinstance(layer, layers.Input):
            value = self._call(path, layer, (value,))
        kind = layer.RANGE if layer is not None else Ranges.OWN
        quantizer = FakeQuantize(path, self.config, observes=kind is Ranges.OWN)
        if isinstance(layer, layers.Function):
            quantizer.range = Range((), 8, layer.FIXED[layer.function])
        called = self._call(self._unique(f"{path}_quant"), quantizer, (value,))
        self.quantizers[called] = quantizer
        return called

    def _unique(self, path: str) -> str:
        base, number = path, 1
        while path in self.taken:
            number += 1
            path = f"{base}_{number}"
        self.taken.add(path)
        return path

    def _share_ranges(self) -> None:
        for values in nx.connected_components(self.ties):
            members = [q for v, q in self.quantizers.items() if v in values]
            if len(members) < 2:
                continue
            observers = [m.observer for m in members if m.observer is not None]
            fixed = [m for m in members if m.range.fixed]
            if fixed and (observers or len({m.range.fixed for m in fixed}) > 1):
                raise QgenError(
                    f"'{fixed[0].path}' has a fixed scale and cannot be concatenated with others"
                )
            shared = Range(observers, self.config.activation_bits, members[0].range.fixed)
            for m in members:
                m.range = shared
