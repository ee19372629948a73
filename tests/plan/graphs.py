"""Small graphs for the planner: built by hand, and drawn by hypothesis."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import strategies as st

from qgen.ir.graph import Graph
from qgen.ir.op import Op, registry
from qgen.ir.types import DType, QParams, Tensor, TensorType
from qgen.plan.memory import MemoryPlan

OPS = registry()
QUANT = QParams((1.0,), 0)


class Builder:
    """Builds graphs whose tensors are all u8 with equal parameters."""

    def __init__(self) -> None:
        self.inputs: list[Tensor] = []
        self.ops: list[Op] = []

    @property
    def tensors(self) -> list[Tensor]:
        return [*self.inputs, *(op.out for op in self.ops)]

    def tensor(self, *shape: int) -> Tensor:
        return Tensor(f"t{len(self.tensors)}", TensorType(DType.U8, shape, QUANT))

    def input(self, *shape: int) -> Tensor:
        self.inputs.append(self.tensor(*shape))
        return self.inputs[-1]

    def op(self, name: str, shape: tuple[int, ...], **fields: Any) -> Tensor:
        op = OPS[name](out=self.tensor(*shape), **fields)
        self.ops.append(op)
        return op.out

    def relu(self, x: Tensor) -> Tensor:
        return self.op("clamp", x.shape, x=x)

    def pool(self, x: Tensor) -> Tensor:
        """Never in place; the shape stays."""
        return self.op("max_pool2d", x.shape, x=x, kernel=(1, 1))

    def add(self, a: Tensor, b: Tensor) -> Tensor:
        shape = a.shape if math.prod(a.shape) >= math.prod(b.shape) else b.shape
        return self.op("add", shape, a=a, b=b)

    def reshape(self, x: Tensor, *shape: int) -> Tensor:
        return self.op("reshape", shape, x=x)

    def concat(self, *x: Tensor, axis: int = 1) -> Tensor:
        shape = list(x[0].shape)
        shape[axis] = sum(t.shape[axis] for t in x)
        return self.op("concat", tuple(shape), x=x, axis=axis)

    def graph(self, *outputs: Tensor) -> Graph:
        return Graph("g", tuple(self.inputs), outputs, tuple(self.ops))


def place_of(plan: MemoryPlan, t: Tensor) -> tuple[str, int, int]:
    p = plan.placements[t]
    return p.space, p.index, p.offset


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Branches, broadcast adds, concats along any axis, chains of reshapes, several outputs."""
    b = Builder()
    for _ in range(draw(st.integers(1, 2))):
        b.input(1, draw(st.integers(1, 3)), 2, draw(st.sampled_from([1, 5, 16])))
    for _ in range(draw(st.integers(1, 12))):
        x = draw(st.sampled_from(b.tensors))
        kind = draw(st.sampled_from(["relu", "pool", "add", "concat", "reshape", "halve"]))
        if kind == "relu":
            b.relu(x)
        elif kind == "pool":
            b.pool(x)
        elif kind == "halve":
            b.op("max_pool2d", (*x.shape[:2], -(-x.shape[2] // 2), x.shape[3]), x=x,
                 kernel=(1, 1), stride=(1, 2))  # fmt: skip
        elif kind == "add":
            fits = [t for t in b.tensors if _broadcast_fits(t.shape, x.shape)]
            pair = [x, draw(st.sampled_from(fits))]
            b.add(*draw(st.permutations(pair)))
        elif kind == "concat":
            axis = draw(st.integers(0, 3))
            fits = [t for t in b.tensors if _lines_up(t.shape, x.shape, axis)]
            others = draw(st.lists(st.sampled_from(fits), max_size=3))
            if sum(t.type.elements for t in [x, *others]) < 2000:
                b.concat(*draw(st.permutations([x, *others])), axis=axis)
        else:
            n, h, w, c = x.shape
            b.reshape(x, n, *draw(st.permutations([h, w, c])))
    if not b.ops:
        b.relu(b.inputs[0])
    outputs = draw(st.lists(st.sampled_from(b.tensors), min_size=1, max_size=3, unique=True))
    return b.graph(*outputs)


def _broadcast_fits(small: tuple[int, ...], big: tuple[int, ...]) -> bool:
    return all(s in (1, d) for s, d in zip(small, big, strict=True))


def _lines_up(a: tuple[int, ...], b: tuple[int, ...], axis: int) -> bool:
    return a[:axis] == b[:axis] and a[axis + 1 :] == b[axis + 1 :]
