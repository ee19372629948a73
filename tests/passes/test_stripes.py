"""Chains in stripes compute what they computed whole; what they take and repeat is predicted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from qgen.errors import QgenError
from qgen.ir import interp
from qgen.ir.graph import Graph
from qgen.ir.op import Op, Reach
from qgen.ir.ops.slice import Slice
from qgen.ir.types import Padding, Tensor
from qgen.ir.windows import Pads, window
from qgen.passes.legalize import legalize
from qgen.passes.stripes import Chain, Rows, reaches, spans, stripe
from qgen.plan.memory import plan_memory
from qgen.plan.stripes import Search, chains
from tests.models import OPS, bias, tensor, weights


class Drawn:
    """A random network of ops that go by rows, with residual additions."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        shape = (1, self.pick(7, 12, 19), self.pick(5, 8), self.pick(3, 4))
        self.input = tensor("image", shape)
        self.ops: list[Op] = []
        for _ in range(self.pick(3, 5, 8)):
            self.step()

    def pick(self, *values: int) -> int:
        return int(self.rng.choice(values))

    def out(self, shape: tuple[int, ...], like: Tensor | None = None) -> Tensor:
        name = f"t{len(self.ops)}"
        if like is None:
            return tensor(name, shape, 0.1, self.pick(90, 128, 140))
        assert like.type.quant is not None
        return tensor(name, shape, like.type.scale, like.zero)

    def step(self) -> None:
        x = self.ops[-1].out if self.ops else self.input
        kind = str(self.rng.choice(["conv2d", "depthwise_conv2d", "pool", "add", "clamp"]))
        n = len(self.ops)
        if kind == "add":
            earlier = [op.out for op in self.ops if op.out.shape == x.shape] or [x]
            other = earlier[self.pick(*range(len(earlier)))]
            self.ops.append(OPS["add"](a=x, b=other, out=self.out(x.shape)))
        elif kind == "clamp":
            self.ops.append(OPS["clamp"](x=x, out=self.out(x.shape)))
        else:
            kernel, stride = self.pick(1, 2, 3), self.pick(1, 1, 2)
            size = min(kernel, *x.shape[1:3])
            pads = Pads(*(int(p) for p in self.rng.integers(0, size, 4)))
            padding: Padding | Pads = Padding.SAME if self.rng.random() < 0.5 else pads
            self.window(kind, n, x, size, (stride, self.pick(1, 2)), padding)

    def window(
        self,
        kind: str,
        n: int,
        x: Tensor,
        size: int,
        stride: tuple[int, int],
        padding: Padding | Pads,
    ) -> None:
        c = x.shape[3]
        where: dict[str, Any] = {"stride": stride, "padding": padding}
        if kind == "pool":
            name = str(self.rng.choice(["max_pool2d", "average_pool2d"]))
            fields: dict[str, Any] = {"x": x, "kernel": (size, size), **where}
        else:
            name, deep = kind, kind == "conv2d"
            count = self.pick(3, 6) if deep else c
            shape = (count, size, size, c) if deep else (1, size, size, c)
            w = weights(f"w{n}", shape, self.rng)
            b = bias(f"b{n}", count, x.type.scale * 0.02, self.rng)
            fields = {"x": x, "w": w, "b": b, **where}
            c = count
        win = window(x.shape, (size, size), stride, (1, 1), padding)
        last = max((a.out - 1) * a.stride - a.before - a.size + 1 for a in (win.h, win.w))
        if last > 0:
            return  # a window that lies in the padding alone
        out = self.out((1, win.h.out, win.w.out, c), x if kind == "pool" else None)
        self.ops.append(OPS[name](out=out, **fields))

    def graph(self) -> Graph:
        if not self.ops:
            self.ops.append(OPS["clamp"](x=self.input, out=self.out(self.input.shape)))
        return legalize(Graph("g", (self.input,), (self.ops[-1].out,), tuple(self.ops)))


def possible(graph: Graph) -> list[tuple[int, int]]:
    """First and last ops of all chains."""
    search = Search(graph, {})
    return [(i, last) for i in range(len(graph.ops)) for last in search.lasts(i)]


@pytest.mark.parametrize("seed", range(60))
def test_striped_graph_equals_the_original(seed: int) -> None:
    """Every chain of a random network, in stripes of a random height; all rows are compared."""
    graph = Drawn(seed).graph()
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 256, graph.inputs[0].shape, np.uint8)
    whole = interp.run_all(graph, [x])
    for first, last in possible(graph):
        height = graph.ops[last].out.shape[1]
        striped = stripe(graph, [Chain(first, last, int(rng.integers(1, height)))])
        for name, value in interp.run_all(striped.graph, [x]).items():
            part = striped.parts.get(name)
            expected = whole.get(name, x) if part is None else whole.get(part.of, x)
            expected = expected if part is None else expected[:, slice(*part.rows)]
            np.testing.assert_array_equal(value, expected, err_msg=name)
        plan_memory(striped.graph).check()
        plan = plan_memory(striped.graph, limit=10**6)
        plan.check()
        joined = next(op for op in striped.graph.ops if op.name == graph.ops[last].name)
        assert plan.copies[joined] == ()


@pytest.mark.parametrize("seed", range(20))
def test_predicted_peak_and_repeated_work(seed: int) -> None:
    """The prediction is what the plan says, or more: it does not know of all that is shared."""
    graph = Drawn(seed).graph()
    search = Search(graph, {})
    limit = max(search.live) * 2 // 3
    sections = search.fit(limit)
    if sections is None:
        assert max(s.peak for s in search.smallest()) > limit
        return
    striped = stripe(graph, chains(sections)).graph
    assert plan_memory(striped, limit=limit).liveness_peak_bytes <= limit
    ours = sum(op.cost().macs + op.cost().elementwise for op in striped.ops)
    joins = sum(op.cost().elementwise for op in striped.ops if op.NAME == "concat")
    before = sum(op.cost().macs + op.cost().elementwise for op in graph.ops)
    assert ours - joins - before == sum(s.again for s in sections)


def test_halo_by_hand() -> None:
    """3 x 3 with stride 2 on 3 x 3 with stride 1, all padded: rows [2, 4) of 8 from 16."""
    x, rng = tensor("x", (1, 16, 4, 3)), np.random.default_rng(0)
    a = OPS["conv2d"](
        x=x, w=weights("w1", (3, 3, 3, 3), rng), padding=Padding.SAME,
        out=tensor("a", (1, 16, 4, 3), 0.1),
    )  # fmt: skip
    b = OPS["conv2d"](
        x=a.out, w=weights("w2", (3, 3, 3, 3), rng), padding=Padding.SAME, stride=(2, 1),
        out=tensor("b", (1, 8, 4, 3), 0.1),
    )  # fmt: skip
    graph = Graph("g", (x,), (b.out,), (a, b))
    # SAME puts the odd row of padding behind: row i of b takes rows 2i to 2i + 2 of a.
    need = spans(graph.ops, reaches(graph), Rows(2, 4))
    assert need == {b.out: Rows(2, 4), a.out: Rows(4, 9)}
    section = Search(legalize(graph), {}).chain(0, 1, 4)
    assert section.again == 4 * 3 * 27  # one row of a, 4 x 3 results of 27 products


def test_what_goes_by_rows() -> None:
    x = tensor("x", (1, 4, 4, 3))
    one = tensor("one", (1, 1, 1, 3))
    flat = OPS["reshape"](x=x, out=tensor("flat", (1, 48)))
    scaled = OPS["mul"](a=x, b=one, out=tensor("scaled", (1, 4, 4, 3)))
    beside = OPS["concat"](x=(x, x), axis=3, out=tensor("beside", (1, 4, 4, 6)))
    below = OPS["concat"](x=(x, x), axis=1, out=tensor("below", (1, 8, 4, 3)))
    mean = OPS["mean"](x=x, axes=(1, 2), keep_dims=True, out=tensor("mean", (1, 1, 1, 3)))
    assert flat.reach() is None and below.reach() is None and mean.reach() is None
    assert scaled.reach() == {x: Reach()} and beside.reach() == {x: Reach()}
    several = tensor("several", (2, 4, 4, 3))
    assert OPS["clamp"](x=several, out=tensor("c", (2, 4, 4, 3))).reach() is None
    pool = OPS["max_pool2d"](x=several, kernel=(1, 1), out=tensor("p", (2, 4, 4, 3)))
    assert pool.reach() is None


def test_slice_checks_its_box() -> None:
    x = tensor("x", (1, 4, 4, 3))
    with pytest.raises(QgenError, match=r"\[1, 2, 4, 3\] from \[0, 3, 0, 0\] on does not lie"):
        Slice(x=x, begin=(0, 3, 0, 0), out=tensor("y", (1, 2, 4, 3)))
    with pytest.raises(QgenError, match="must have the same type and quantization"):
        Slice(x=x, begin=(0, 0, 0, 0), out=tensor("y", (1, 2, 4, 3), 0.3))


def test_slices_are_free_where_they_are_one_run() -> None:
    x = tensor("x", (1, 4, 4, 3))
    rows = Slice(x=x, begin=(0, 1, 0, 0), out=tensor("rows", (1, 2, 4, 3)))
    column = Slice(x=x, begin=(0, 0, 1, 0), out=tensor("column", (1, 4, 2, 3)))
    used = [
        OPS["clamp"](x=op.out, out=tensor(f"used_{op.name}", op.out.shape)) for op in (rows, column)
    ]
    outputs = tuple(op.out for op in used)
    plan = plan_memory(Graph("g", (x,), outputs, (rows, column, *used)))
    plan.check()
    assert plan.copies == {rows: (), column: (0,)}
    assert plan.placements[rows.out].offset == 12
