"""The co-design check: does inference compute what training has simulated?"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import fx

from qgen.errors import QgenError
from qgen.ir.graph import Graph, rewrite
from qgen.ir.interp import run
from qgen.ir.op import Op
from qgen.ir.types import Array, Tensor
from qgen.passes.legalize import legalize
from qgen.train.simulate import integers
from qgen.train.to_ir import Placed, place

BATCH = 64


@dataclass(frozen=True)
class Agreement:
    """How golden agrees with a simulation.

    Attributes:
        samples: number of inputs.
        classes: fraction of samples with the same largest output.
        activations: fraction of equal values over all tensors and samples.
        largest: largest difference of an activation, in quantization steps.
        worst: name of the first tensor with that difference, empty where all are equal.
    """

    samples: int
    classes: float
    activations: float
    largest: int
    worst: str = ""

    def __str__(self) -> str:
        where = f" ('{self.worst}')" if self.worst else ""
        return (
            f"{self.samples} samples: {self.classes:.2%} of classes and "
            f"{self.activations:.3%} of activations equal, "
            f"at most {self.largest} steps apart{where}"
        )


def check(
    eval_graph: fx.GraphModule,
    graph: Graph,
    inputs: torch.Tensor,
    simulation: fx.GraphModule | None = None,
) -> Agreement:
    """Run `inputs` [N, C, H, W] through a simulation and through golden, and compare all values.

    Args:
        eval_graph: the evaluation graph.
        graph: what `export` made of it, or what was read back from its file.
        inputs: real values, at least one.
        simulation: what to compare golden with instead of `eval_graph`: the training graph (which
            is run in evaluation mode) tells how far its single precision is from inference.

    Raises QgenError where `graph` does not belong to `eval_graph`.
    """
    _, placed = place(eval_graph, graph.name)
    if not len(inputs):
        raise QgenError("the check needs at least one input")
    known = {t.name: t for t in (*graph.inputs, *graph.activations)}
    for p in placed.values():
        t = known.get(p.tensor.name)
        if t is None or t.type != p.tensor.type:
            raise QgenError(f"the model has no '{p.tensor.name}' as in the evaluation graph")
    tally = _Tally(graph.outputs[0].name)
    for batch in inputs.split(BATCH):
        simulated = _simulate(simulation or eval_graph, placed, batch)
        image = simulated[graph.inputs[0].name]
        golden = {graph.inputs[0].name: image}
        resized = legalize(with_batch(graph, len(batch)))
        run(resized, [image], lambda t, a, golden=golden: golden.update({t.name: a}))  # type: ignore[misc]
        tally.add(golden, simulated)
    return tally.agreement(len(inputs))


def with_batch(graph: Graph, batch: int) -> Graph:
    """A graph for 1 sample as one for `batch` samples."""
    activations = {*graph.inputs, *graph.activations}

    def resized(t: Tensor) -> Tensor:
        if t not in activations:
            return t
        return replace(t, type=replace(t.type, shape=(batch, *t.shape[1:])))

    def same(op: Op) -> Op:
        return op

    return rewrite(graph, same, resized)


def _simulate(
    graph: fx.GraphModule, placed: dict[str, Placed], batch: torch.Tensor
) -> dict[str, Array]:
    """The integers that `graph` computes, by tensor and as stored there."""
    found: dict[str, Array] = {}

    class Recorder(fx.Interpreter):
        def run_node(self, n: fx.Node) -> object:
            value = super().run_node(n)
            if n.op == "call_module":
                # Behind a layer of a training graph comes its quantizer, which has the last word.
                p = placed.get(self.fetch_attr(str(n.target)).path)
                if p is not None:
                    quant = p.tensor.type.quant
                    assert quant is not None
                    found[p.tensor.name] = p.stored(integers(value, quant))
            return value

    was_training = graph.training
    graph.eval()
    with torch.no_grad():
        Recorder(graph).run(batch)
    graph.train(was_training)
    return found


class _Tally:
    """Counts equal values over batches."""

    def __init__(self, output: str) -> None:
        self.output = output
        self.classes = self.equal = self.total = self.largest = 0
        self.worst = ""

    def add(self, golden: dict[str, Array], simulated: dict[str, Array]) -> None:
        for name, values in simulated.items():
            difference = np.abs(golden[name].astype(np.int64) - values)
            self.equal += int((difference == 0).sum())
            self.total += difference.size
            if difference.max() > self.largest:
                self.largest, self.worst = int(difference.max()), name
        a, b = (v[self.output].reshape(len(v[self.output]), -1) for v in (golden, simulated))
        self.classes += int((a.argmax(1) == b.argmax(1)).sum())

    def agreement(self, samples: int) -> Agreement:
        return Agreement(
            samples, self.classes / samples, self.equal / self.total, self.largest, self.worst
        )
