"""The golden model: what it computes is what every target computes, bit for bit.

It is normative. Where generated code differs, the generated code is wrong; where golden differs
from TFLite's reference kernels, golden is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from qgen.errors import QgenError
from qgen.ir.graph import Graph
from qgen.ir.op import Env
from qgen.ir.types import Array, Tensor


def check_inputs(graph: Graph, inputs: Sequence[Array]) -> dict[Tensor, Array]:
    """Match arrays to the graph's inputs. Raises QgenError on a wrong count, type or shape."""
    if len(inputs) != len(graph.inputs):
        raise QgenError(f"'{graph.name}' takes {len(graph.inputs)} inputs, got {len(inputs)}")
    for t, x in zip(graph.inputs, inputs, strict=True):
        if x.dtype != t.dtype.numpy or x.shape != t.shape:
            raise QgenError(
                f"input '{t.name}' is {t.dtype.value}{list(t.shape)}, got {x.dtype}{list(x.shape)}"
            )
    return dict(zip(graph.inputs, inputs, strict=True))


def run(
    graph: Graph, inputs: Sequence[Array], watch: Callable[[Tensor, Array], None] | None = None
) -> list[Array]:
    """Evaluate an INTEGER graph.

    Args:
        graph: a legalized graph.
        inputs: one array per graph input, of its type and shape.
        watch: called with each op's result in execution order.

    Returns: one array per graph output.
    """
    values: dict[Tensor, Array] = check_inputs(graph, inputs)
    last_use = {t: i for i, op in enumerate(graph.ops) for t in op.inputs()}
    keep = set(graph.outputs)

    def value(t: Tensor) -> Array:
        return t.data if t.data is not None else values[t]

    env = Env(value, graph.rounding)
    for i, op in enumerate(graph.ops):
        result = op.eval(env)
        values[op.out] = result
        if watch:
            watch(op.out, result)
        for t in op.inputs():
            if last_use[t] == i and t not in keep:
                values.pop(t, None)
    return [values[t] for t in graph.outputs]


def run_all(graph: Graph, inputs: Sequence[Array]) -> Mapping[str, Array]:
    """Every op's result by tensor name."""
    results: dict[str, Array] = {}
    run(graph, inputs, lambda t, a: results.__setitem__(t.name, a))
    return results
