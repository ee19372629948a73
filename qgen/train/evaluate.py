"""A training graph becomes its evaluation graph: parameters are fixed, weights are integers."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, fx, nn

from qgen.errors import QgenError
from qgen.ir.types import QParams, Rounding
from qgen.train import layers
from qgen.train.config import QatConfig
from qgen.train.fake_quant import FakeQuantize
from qgen.train.fold import Folded
from qgen.train.rewrite import create_training_graph, freeze_batch_norm
from qgen.train.simulate import ROUNDINGS, simulated


def create_eval_graph(
    training_graph: fx.GraphModule, rounding: Rounding = ROUNDINGS[0]
) -> fx.GraphModule:
    """What inference will compute, as a module: the same rounding, by the same functions.

    It takes real inputs, returns real outputs in single precision, and has no gradients. It shares
    nothing with `training_graph`. `rounding` is that of the model: GEMMLOWP as in the paper, or
    SINGLE.
    Raises QgenError where no range was seen, or nothing but zeros.
    """
    if rounding not in ROUNDINGS:
        raise QgenError(f"models are not exported with rounding {rounding.value}")
    with torch.no_grad():
        return _Evaluation(training_graph, rounding).run()


def calibrate(model: nn.Module, batches: Iterable[Tensor], config: QatConfig) -> fx.GraphModule:
    """Post-training quantization: an evaluation graph with ranges seen on `batches`.

    The network stays as it is, its batch norm with the statistics it has; the same observers as in
    training see what it computes in floating point. Raises QgenError without a batch.
    """
    graph: fx.GraphModule | None = None
    with torch.no_grad():
        for batch in batches:
            if graph is None:
                graph = create_training_graph(model, batch, config)
                freeze_batch_norm(graph)
                graph.train()
                for m in graph.modules():
                    if isinstance(m, FakeQuantize | Folded):
                        m.quantize = False
                    elif isinstance(m, layers.Dropout):
                        m.eval()
            graph(batch)
    if graph is None:
        raise QgenError("calibration needs at least one batch")
    return create_eval_graph(graph)


class _Evaluation:
    def __init__(self, training: fx.GraphModule, rounding: Rounding) -> None:
        self.training = training
        self.rounding = rounding
        self.graph = fx.Graph()
        self.modules: dict[str, nn.Module] = {}
        self.new: dict[fx.Node, fx.Node] = {}
        self.params: dict[fx.Node, QParams] = {}

    def run(self) -> fx.GraphModule:
        for node in self.training.graph.nodes:
            if node.op == "placeholder":
                self.new[node] = self.graph.placeholder(node.name)
            elif node.op == "output":
                self._output(node)
            else:
                self._call(node, self.training.get_submodule(str(node.target)))
        graph = fx.GraphModule(self.modules, self.graph, "EvaluationGraph")
        return graph.eval()

    def _call(self, node: fx.Node, module: nn.Module) -> None:
        if isinstance(module, FakeQuantize):
            source = node.args[0]
            assert isinstance(source, fx.Node)
            layer = self.training.get_submodule(str(source.target))
            self._simulate(node, source, layer, module.range.checked())
        elif isinstance(module, layers.Dropout):
            source = node.args[0]
            assert isinstance(source, fx.Node)
            self.new[node], self.params[node] = self.new[source], self.params[source]
        elif isinstance(module, layers.Layer) and module.RANGE is layers.Ranges.INPUT:
            first = node.args[0]
            assert isinstance(first, fx.Node)
            self._simulate(node, node, module, self.params[first])

    def _simulate(self, node: fx.Node, source: fx.Node, layer: nn.Module, out: QParams) -> None:
        """`node` stands for the result of `layer`, called at `source`, in `out`."""
        operands = [x for x in source.args if isinstance(x, fx.Node)]
        inputs = tuple(self.params[x] for x in operands if x in self.params)
        module = simulated(layer, inputs, out, self.rounding)
        target = str(source.target)
        self.modules[target] = module
        self.new[node] = self.graph.call_module(target, tuple(self.new[x] for x in operands))
        self.params[node] = out

    def _output(self, node: fx.Node) -> None:
        """Outputs return to single precision, which holds S (q - Z) as well as a user needs."""

        def single(x: fx.Node) -> fx.Node:
            return self.graph.call_method("float", (self.new[x],))

        self.graph.output(fx.map_arg(node.args[0], single))
