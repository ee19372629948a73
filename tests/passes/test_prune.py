"""Dead channels: proven, folded, gone; and the network means what it meant."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qgen.ir import interp
from qgen.ir.graph import Graph
from qgen.ir.op import Op
from qgen.ir.ops.add import Add
from qgen.ir.ops.average_pool2d import AveragePool2D
from qgen.ir.ops.conv2d import Conv2D
from qgen.ir.ops.depthwise_conv2d import DepthwiseConv2D
from qgen.ir.ops.fully_connected import FullyConnected
from qgen.ir.ops.reshape import Reshape
from qgen.ir.types import Activation, Array, DType, Padding, QParams, Tensor, TensorType
from qgen.lower import lower
from qgen.passes.legalize import legalize
from qgen.passes.prune import Kept, Pruned, channel_ranges, prune
from qgen.targets import target
from qgen.verify import verify

SIZE = 5


class Net:
    """A network under construction; weights of dying filters are drawn so that they die."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.ops: list[Op] = []
        self.x = self.tensor("x", (1, SIZE, SIZE, 4), zero=3)

    def tensor(self, name: str, shape: tuple[int, ...], zero: int = 0) -> Tensor:
        return Tensor(name, TensorType(DType.I8, shape, QParams((0.05,), zero)))

    def constant(self, name: str, values: Array, dtype: DType = DType.I8) -> Tensor:
        quant = QParams((0.02,)) if dtype is DType.I8 else None
        return Tensor(name, TensorType(dtype, values.shape, quant), values.astype(dtype.numpy))

    def linear(
        self,
        kind: type[Conv2D | DepthwiseConv2D],
        x: Tensor,
        channels: int,
        dead: float,
        **more: object,
    ) -> Tensor:
        """A 3 x 3 (or 1 x 1) filter with relu; a share `dead` of its channels is constant."""
        name = f"t{len(self.ops)}"
        k = int(more.pop("kernel", 1))  # type: ignore[call-overload]
        deep = kind is DepthwiseConv2D
        shape = (1, k, k, channels) if deep else (channels, k, k, x.shape[3])
        w = self.rng.integers(-9, 10, shape)
        bias = self.rng.integers(-400, 400, channels)
        dies = self.rng.random(channels) < dead
        # Three ways to die: below the clamp, above it, or without weights.
        way = self.rng.integers(0, 3, channels)
        bias = np.where(dies, np.choose(way, [-(2**20), 2**20, bias]), bias)
        gone = dies & (way == 2)
        w = np.where(gone if deep else gone[:, None, None, None], 0, w)
        padding = Padding.SAME if self.rng.random() < 0.5 else Padding.VALID
        size = x.shape[1] if padding is Padding.SAME else x.shape[1] - k + 1
        zero = int(self.rng.choice([-128, -128, 5]))
        out = self.tensor(name, (1, size, size, channels), zero)
        op = kind(
            x=x, w=self.constant(f"{name}_w", w), b=self.constant(f"{name}_b", bias, DType.I32),
            padding=padding, activation=Activation.RELU, out=out,
        )  # fmt: skip
        self.ops.append(op)
        return out

    def residual(self, a: Tensor, b: Tensor) -> Tensor:
        out = self.tensor(f"t{len(self.ops)}", a.shape, -7)
        self.ops.append(Add(a=a, b=b, out=out))
        return out

    def head(self, x: Tensor) -> Tensor:
        """Global pool, reshape, fully connected."""
        size, channels = x.shape[1], x.shape[3]
        pooled = Tensor(f"t{len(self.ops)}", replace(x.type, shape=(1, 1, 1, channels)))
        self.ops.append(AveragePool2D(x=x, kernel=(size, size), out=pooled))
        flat = Tensor(f"t{len(self.ops)}", replace(x.type, shape=(1, channels)))
        self.ops.append(Reshape(x=pooled, out=flat))
        name = f"t{len(self.ops)}"
        w = self.constant(f"{name}_w", self.rng.integers(-99, 99, (3, channels)))
        out = self.tensor(name, (1, 3), 4)
        self.ops.append(FullyConnected(x=flat, w=w, out=out))
        return out

    def graph(self, *outputs: Tensor) -> Graph:
        return legalize(Graph("net", (self.x,), outputs, tuple(self.ops)))


def network(seed: int) -> Graph:
    """Filters, depthwise filters and a residual addition, then a classifier."""
    net = Net(seed)
    dead = float(net.rng.choice([0.2, 0.6, 0.9]))
    a = net.linear(Conv2D, net.x, 12, dead, kernel=3)
    b = net.linear(DepthwiseConv2D, a, 12, dead / 3, kernel=3 if a.shape[1] > 2 else 1)
    c = net.linear(Conv2D, b, 20, dead)
    d = net.linear(Conv2D, c, 20, dead)
    return net.graph(net.head(net.residual(c, d) if c.shape == d.shape else d))


def outputs(graph: Graph, x: Array) -> list[Array]:
    return interp.run(graph, [x])


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), granule=st.sampled_from([1, 4, 8]))
def test_the_network_means_what_it_meant(seed: int, granule: int) -> None:
    graph = network(seed)
    pruned = prune(graph, granule)
    rng = np.random.default_rng(seed)
    for x in (
        rng.integers(-128, 128, graph.inputs[0].shape),
        np.full(graph.inputs[0].shape, 127),
        np.full(graph.inputs[0].shape, -128),
    ):
        values = interp.run_all(graph, [x.astype(np.int8)])
        for name, value in interp.run_all(pruned.graph, [x.astype(np.int8)]).items():
            kept = pruned.kept.get(name)
            assert np.array_equal(kept.of(values[name]) if kept else values[name], value)
    for kept in pruned.kept.values():
        assert kept.channels.size % granule == 0 or kept.channels.size == 0


def test_most_dead_channels_go() -> None:
    gone = left = 0
    for seed in range(20):
        pruned = prune(network(seed), 1)
        gone += sum(k.lost.size for k in pruned.kept.values())
        left += sum(t.shape[-1] for t in pruned.graph.activations)
    assert gone > left / 2


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_ranges_hold(seed: int) -> None:
    graph = network(seed)
    ranges = channel_ranges(graph)
    rng = np.random.default_rng(seed)
    x = rng.choice([-128, -1, 3, 127], graph.inputs[0].shape).astype(np.int8)

    def check(t: Tensor, value: Array) -> None:
        flat = value.reshape(-1, value.shape[-1])
        assert (flat >= ranges[t].low).all() and (flat <= ranges[t].high).all()

    interp.run(graph, [x], check)


def test_constants_in_padding_stay() -> None:
    """A constant that is not the zero point ends at the border: it can't join a bias."""
    net = Net(0)
    a = net.linear(Conv2D, net.x, 8, 1.0)
    net.ops[0] = net.ops[0].replace(out=replace_zero(a, 5))
    a = net.ops[0].out
    w = net.constant("w", np.ones((2, 3, 3, 8), int))
    out = net.tensor("y", (1, SIZE, SIZE, 2))
    graph = net.graph(_conv(net, a, w, out, Padding.SAME))
    same = prune(graph, 1)
    x = np.zeros(graph.inputs[0].shape, np.int8)
    assert np.array_equal(outputs(graph, x)[0], outputs(same.graph, x)[0])
    fixed = channel_ranges(graph)[graph.ops[0].out]
    stays = fixed.low != 5
    assert stays.any() and same.graph.ops[0].out.shape[-1] >= stays.sum()


def replace_zero(t: Tensor, zero: int) -> Tensor:
    return replace(t, type=replace(t.type, quant=QParams((0.05,), zero)))


def _conv(net: Net, x: Tensor, w: Tensor, out: Tensor, padding: Padding) -> Tensor:
    net.ops.append(Conv2D(x=x, w=w, padding=padding, out=out))
    return out


def test_inputs_and_outputs_keep_their_channels() -> None:
    net = Net(1)
    graph = net.graph(net.linear(Conv2D, net.x, 8, 1.0))
    assert prune(graph, 1).kept == {}


def test_a_wrong_proof_is_noticed() -> None:
    kept = Kept(np.array([0]), np.array([1]), np.array([True]), np.array([7]))
    assert kept.of(np.array([[5, 7]])).tolist() == [[5]]
    with pytest.raises(AssertionError, match="proven constant"):
        kept.of(np.array([[5, 6]]))


@pytest.mark.parametrize("name", ["portable", "aarch64"])
def test_generated_code_equals_golden(name: str) -> None:
    graph = network(3)
    lowered = lower(graph, target(name))
    assert lowered.kept and isinstance(prune(graph, 1), Pruned)
    assert verify(graph, name, inputs=5)
