"""An evaluation graph becomes a model: the IR with the very integers of the simulation.

Images are NCHW in torch and NHWC in the IR. No transpose is emitted for that: weights are permuted,
and where an image was flattened the columns of the dense layer behind it. `Placed` keeps track.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import fx
from torch.fx.passes.shape_prop import ShapeProp

from qgen.errors import QgenError
from qgen.ir.graph import Graph, taken_word
from qgen.ir.op import Op
from qgen.ir.ops.average_pool2d import AveragePool2D
from qgen.ir.ops.concat import Concat
from qgen.ir.ops.conv2d import Conv2D
from qgen.ir.ops.depthwise_conv2d import DepthwiseConv2D
from qgen.ir.ops.fully_connected import FullyConnected
from qgen.ir.ops.max_pool2d import MaxPool2D
from qgen.ir.ops.mean import Mean
from qgen.ir.ops.reshape import Reshape
from qgen.ir.ops.softmax import Softmax
from qgen.ir.types import Array, DType, QParams, Tensor, TensorType
from qgen.ir.windows import Pads
from qgen.train import layers, simulate
from qgen.train.match import shape
from qgen.train.observe import STORED
from qgen.train.simulate import Simulated

NHWC = (0, 2, 3, 1)
AXES = {1: 3, 2: 1, 3: 2}  # where a dimension of NCHW lies in NHWC


@dataclass(frozen=True, eq=False)
class Placed:
    """A value of the evaluation graph and the tensor that holds it.

    `image` says that NCHW is stored as NHWC; `order`, of a flattened image [N, C*H*W], which of
    torch's columns is stored in each place. None is torch's own order.
    """

    tensor: Tensor
    image: bool
    order: Array | None = None

    def stored(self, values: Array) -> Array:
        """Values as torch has them, as the tensor has them."""
        if self.image:
            return values.transpose(NHWC)
        return values if self.order is None else values[:, self.order]

    def like(self, other: Placed) -> bool:
        if self.order is None or other.order is None:
            return self.image == other.image and self.order is other.order
        return np.array_equal(self.order, other.order)


def export(eval_graph: fx.GraphModule, name: str = "network") -> Graph:
    """The model of an evaluation graph, for a batch of 1; `name` is that of its C functions.

    Raises QgenError where the IR cannot say what torch does without a transpose.
    """
    graph, _ = place(eval_graph, name)
    return graph


def place(eval_graph: fx.GraphModule, name: str = "network") -> tuple[Graph, dict[str, Placed]]:
    """The model, and by path of the operation where each value of `eval_graph` is in it."""
    return _Exporter(eval_graph).run(name)


class _Exporter:
    def __init__(self, eval_graph: fx.GraphModule) -> None:
        if not any(isinstance(m, simulate.Input) for m in eval_graph.modules()):
            raise QgenError("this is no evaluation graph", hint="call create_eval_graph first")
        self.module = eval_graph
        self.placed: dict[fx.Node, Placed] = {}
        self.inputs: list[Tensor] = []
        self.outputs: list[Tensor] = []
        self.ops: list[Op] = []
        self.names: set[str] = set()

    def run(self, name: str) -> tuple[Graph, dict[str, Placed]]:
        first = next(m for m in self.module.modules() if isinstance(m, simulate.Input))
        device = next(iter(self.module.buffers()), torch.zeros(())).device
        with torch.no_grad():
            ShapeProp(self.module).propagate(torch.zeros(1, *first.shape, device=device))
        for node in self.module.graph.nodes:
            if node.op == "call_module":
                module = self.module.get_submodule(str(node.target))
                assert isinstance(module, Simulated)
                operands = [self.placed[x] for x in node.args if x in self.placed]
                self.placed[node] = self._place(node, module, operands)
            elif node.op == "call_method":
                self.placed[node] = self.placed[node.args[0]]
            elif node.op == "output":
                fx.map_arg(node.args[0], self._output)
        graph = Graph(
            name, tuple(self.inputs), tuple(self.outputs), tuple(self.ops), first.rounding
        )
        paths = {
            n: self.module.get_submodule(str(n.target))
            for n in self.placed
            if n.op == "call_module"
        }
        return graph, {str(m.path): self.placed[n] for n, m in paths.items()}

    def _output(self, node: fx.Node) -> fx.Node:
        p = self.placed[node]
        if p.order is not None:
            raise QgenError(
                f"output '{p.tensor.name}' is a flattened image, whose order differs in NHWC",
                hint="return the image itself",
            )
        self.outputs.append(p.tensor)
        return node

    def _place(self, node: fx.Node, m: Simulated, x: list[Placed]) -> Placed:
        size = shape(node)
        if isinstance(m, simulate.Input):
            image = len(size) == 4
            t = self._tensor(m.path, _nhwc(size) if image else size, m.out)
            self.inputs.append(t)
            return Placed(t, image)
        if isinstance(m, simulate.Linear):
            return self._linear(m, x[0], size)
        if isinstance(m, simulate.Elementwise):
            return self._elementwise(m, x, size)
        if isinstance(m, simulate.AveragePool):
            return self._pool(AveragePool2D, m, m, x[0], size)
        if isinstance(m, simulate.Mean):
            _need_image(m.path, x[0])
            t = self._tensor(m.path, _nhwc(size) if m.keep else size, m.out)
            self.ops.append(Mean(x=x[0].tensor, axes=(1, 2), keep_dims=m.keep, out=t))
            return Placed(t, m.keep)
        assert isinstance(m, simulate.Moved)
        if isinstance(m.layer, layers.MaxPool):
            return self._pool(MaxPool2D, m, m.layer, x[0], size)
        if isinstance(m.layer, layers.Concat):
            return self._concat(m, m.layer.dim, x, size)
        if isinstance(m.layer, layers.ChannelsLast):
            _need_image(m.path, x[0])
            return Placed(x[0].tensor, image=False)
        return self._reshape(m, x[0], size)

    # -- one kind each ---------------------------------------------------------------------------

    def _linear(self, m: simulate.Linear, x: Placed, size: tuple[int, ...]) -> Placed:
        g = m.geometry
        if g is None:
            if x.image:
                raise QgenError(f"'{m.path}' is a dense layer on an image; flatten it first")
            w = m.weights if x.order is None else m.weights[:, x.order]
            out = self._tensor(m.path, size, m.out)
            keep = len(size) > 2
            op: Op = FullyConnected(
                x=x.tensor, w=self._weights(m, w, 0), b=self._bias(m),
                activation=m.activation, keep_dims=keep, out=out,
            )  # fmt: skip
            self.ops.append(op)
            return Placed(out, image=False)
        _need_image(m.path, x)
        out = self._tensor(m.path, _nhwc(size), m.out)
        fields: dict[str, Any] = {
            "x": x.tensor, "b": self._bias(m), "stride": g.stride, "dilation": g.dilation,
            "padding": Pads(*g.padding), "activation": m.activation, "out": out,
        }  # fmt: skip
        if g.groups == 1:
            w = m.weights.transpose(NHWC)
            op = Conv2D(w=self._weights(m, w, 0), **fields)
        else:
            w = m.weights.transpose(1, 2, 3, 0)
            op = DepthwiseConv2D(w=self._weights(m, w, 3), **fields)
        self.ops.append(op)
        return Placed(out, image=True)

    def _elementwise(
        self, m: simulate.Elementwise, x: list[Placed], size: tuple[int, ...]
    ) -> Placed:
        first = x[0]
        if not all(p.like(first) for p in x):
            raise QgenError(f"'{m.path}' combines an image with what is none")
        if m.kind is Softmax and m.dim != (1 if first.image else len(size) - 1):
            where = "channels" if first.image else "last dimension"
            raise QgenError(f"'{m.path}' is a softmax over dimension {m.dim}, not over the {where}")
        out = self._tensor(m.path, _nhwc(size) if first.image else size, m.out)
        names = [n for n, _ in m.kind.schema().operands]
        operands = dict(zip(names, (p.tensor for p in x), strict=True))
        self.ops.append(m.op(operands, out))
        return replace(first, tensor=out)

    def _pool(
        self,
        kind: type[AveragePool2D] | type[MaxPool2D],
        m: Simulated,
        window: simulate.AveragePool | layers.MaxPool,
        x: Placed,
        size: tuple[int, ...],
    ) -> Placed:
        _need_image(m.path, x)
        out = self._tensor(m.path, _nhwc(size), m.out)
        h, w = window.padding
        pads = Pads(h, h, w, w)
        op = kind(x=x.tensor, kernel=window.kernel, stride=window.stride, padding=pads, out=out)
        self.ops.append(op)
        return Placed(out, image=True)

    def _concat(self, m: Simulated, dim: int, x: list[Placed], size: tuple[int, ...]) -> Placed:
        image = x[0].image
        if any(p.image is not image for p in x):
            raise QgenError(f"'{m.path}' combines an image with what is none")
        order: Array | None = None
        if any(p.order is not None for p in x):
            starts = np.cumsum([0] + [p.tensor.shape[1] for p in x])
            parts = [
                (np.arange(p.tensor.shape[1]) if p.order is None else p.order) + start
                for p, start in zip(x, starts[:-1], strict=True)
            ]
            order = np.concatenate(parts)
        out = self._tensor(m.path, _nhwc(size) if image else size, m.out)
        axis = AXES[dim] if image else dim
        self.ops.append(Concat(x=tuple(p.tensor for p in x), axis=axis, out=out))
        return Placed(out, image, order)

    def _reshape(self, m: Simulated, x: Placed, size: tuple[int, ...]) -> Placed:
        order = x.order
        # One pixel, or one column of pixels of one channel, has the same order either way.
        if x.image and len(size) == 2:
            _, h, w, c = x.tensor.shape
            order = np.arange(c * h * w).reshape(c, h, w).transpose(1, 2, 0).ravel()
            order = None if np.array_equal(order, np.arange(order.size)) else order
        elif x.image and size != _nchw(x.tensor.shape) and x.tensor.shape[1:3] != (1, 1):
            raise QgenError(
                f"'{m.path}' reshapes an image to {list(size)}, which needs a transpose in NHWC",
                hint="permute(0, 2, 3, 1) first, or flatten all of it",
            )
        elif order is not None and size != x.tensor.shape:
            raise QgenError(f"'{m.path}' reshapes a flattened image, whose order differs in NHWC")
        # A vector becomes an image of one pixel; what is one already stays one.
        image = len(size) == 4 and (x.image or size[2:] == (1, 1))
        stored = _nhwc(size) if image else size
        if stored == x.tensor.shape:
            return Placed(x.tensor, image, order)
        out = self._tensor(m.path, stored, m.out)
        self.ops.append(Reshape(x=x.tensor, out=out))
        return Placed(out, image, order)

    # -- tensors ---------------------------------------------------------------------------------

    def _tensor(self, path: str, size: tuple[int, ...], quant: QParams) -> Tensor:
        return Tensor(self._name(path), TensorType(STORED, size, quant))

    def _weights(self, m: simulate.Linear, w: Array, axis: int) -> Tensor:
        kind = TensorType(STORED, w.shape, m.weight_quant(axis))
        return Tensor(self._name(f"{m.path}.w"), kind, np.ascontiguousarray(w))

    def _bias(self, m: simulate.Linear) -> Tensor | None:
        if m.bias is None:
            return None
        unit = m.inputs[0].scale[0]
        scale = tuple(unit * s for s in m.weight_quant(0).scale)
        quant = QParams(scale, 0, 0 if len(scale) > 1 else None)
        kind = TensorType(DType.I32, m.bias.shape, quant)
        return Tensor(self._name(f"{m.path}.b"), kind, m.bias.copy())

    def _name(self, path: str) -> str:
        """`path` as a name of the text language, that nothing else has."""
        name = re.sub(r"[^A-Za-z0-9_.]", "_", path)
        name = name if re.match(r"[A-Za-z_]", name) else f"layer{name}"
        if taken_word(name):
            name += "_"
        base, number = name, 1
        while name in self.names:
            number += 1
            name = f"{base}_{number}"
        self.names.add(name)
        return name


def _need_image(path: str, x: Placed) -> None:
    if not x.image:
        raise QgenError(f"'{path}' needs an image [N, C, H, W]")


def _nhwc(size: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size[i] for i in NHWC)


def _nchw(size: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size[i] for i in (0, 3, 1, 2))
