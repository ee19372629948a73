"""What `create_training_graph` makes of networks: fusions, places of rounding, shared ranges."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from qgen.ir.graph import Graph
from qgen.ir.types import Activation
from qgen.train import QatConfig, calibrate, check, create_eval_graph, create_training_graph, export
from qgen.train.fake_quant import FakeQuantize
from qgen.train.fold import Folded
from tests.train.nets import Residual

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
Body = Callable[["Net", Tensor], Tensor]


class Net(nn.Module):
    """Parts for a `body`: 4 channels everywhere."""

    def __init__(self, body: Body) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.body = body
        self.a, self.b = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 1)
        self.wide = nn.Conv2d(4, 8, (3, 2), stride=2, padding="valid", groups=4)
        self.same = nn.Conv2d(4, 4, (2, 3), padding="same", dilation=(1, 2))
        self.norm, self.relu, self.relu6 = nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.ReLU6()
        self.dense, self.small = nn.Linear(4, 4), nn.Linear(144, 4)
        self.tail = nn.Linear(148, 3)
        self.hard, self.hard6, self.drop = nn.Hardtanh(), nn.Hardtanh(0.0, 6.0), nn.Dropout2d()
        self.flat, self.nothing, self.softmax = nn.Flatten(), nn.Identity(), nn.Softmax(1)
        self.one, self.average = nn.AdaptiveAvgPool2d(1), nn.AvgPool2d(2)
        self.maximum, self.sigmoid, self.tanh = nn.MaxPool2d(3, 1, 1), nn.Sigmoid(), nn.Tanh()
        self.inside = nn.AvgPool2d(3, 1, 1, count_include_pad=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self, x)


EXAMPLE = torch.randn(8, 3, 6, 6, generator=torch.Generator().manual_seed(1))


def training_graph(body: Body, config: QatConfig | None = None) -> fx.GraphModule:
    return create_training_graph(Net(body), EXAMPLE, config or QatConfig())


def calls(graph: fx.GraphModule) -> list[str]:
    return [str(n.target) for n in graph.graph.nodes if n.op == "call_module"]


def exported(body: Body) -> Graph:
    """The model of a calibrated network, after golden has agreed with it everywhere."""
    evaluation = calibrate(Net(body), [EXAMPLE], QatConfig())
    graph = export(evaluation)
    agreement = check(evaluation, graph, EXAMPLE)
    assert (agreement.activations, agreement.largest) == (1.0, 0), agreement
    return graph


def test_convolution_norm_and_activation_are_one() -> None:
    graph = training_graph(lambda m, x: m.relu6(m.norm(m.a(x))))
    assert calls(graph) == ["x", "x_quant", "a", "a_quant"]
    folded = graph.get_submodule("a")
    assert isinstance(folded, Folded)
    assert folded.norm is not None and folded.activation is Activation.RELU6


def test_what_has_other_users_is_not_fused() -> None:
    """The sum takes the convolution before its relu: both are rounded."""

    def body(m: Net, x: Tensor) -> Tensor:
        y = m.a(x)
        return m.relu(y) + y

    graph = training_graph(body)
    assert calls(graph)[2:] == ["a", "a_quant", "relu", "relu_quant", "add", "add_quant"]
    assert [op.NAME for op in exported(body).ops] == ["conv2d", "clamp", "add"]


FORMS: dict[str, tuple[Body, ...]] = {
    "relu": (
        lambda m, x: m.relu(m.a(x)),
        lambda m, x: torch.relu(m.a(x)),
        lambda m, x: functional.relu(m.a(x), inplace=True),
        lambda m, x: m.a(x).relu(),
        lambda m, x: torch.clamp(m.a(x), min=0.0),
    ),
    "relu6": (
        lambda m, x: m.relu6(m.a(x)),
        lambda m, x: functional.relu6(m.a(x)),
        lambda m, x: functional.hardtanh(m.a(x), 0.0, 6.0),
        lambda m, x: m.a(x).clamp(0, 6),
        lambda m, x: m.hard6(m.a(x)),
    ),
    "add": (
        lambda m, x: functional.relu((y := m.a(x)) + m.b(y)),
        lambda m, x: torch.relu(torch.add(y := m.a(x), m.b(y))),
        lambda m, x: m.relu((y := m.a(x)).add(m.b(y))),
    ),
    "flatten": (
        lambda m, x: m.small(torch.flatten(m.a(x), 1)),
        lambda m, x: m.small(m.a(x).view(x.size(0), -1)),
        lambda m, x: m.small(m.a(x).reshape(x.shape[0], 144)),
        lambda m, x: m.small(m.a(x).contiguous().flatten(1)),
        lambda m, x: m.small(m.flat(m.nothing(m.a(x)))),
    ),
    "mean": (
        lambda m, x: m.dense(m.a(x).mean([2, 3])),
        lambda m, x: m.dense(torch.mean(m.a(x), (-1, -2))),
    ),
    "global pool": (
        lambda m, x: m.b(m.one(m.a(x))),
        lambda m, x: m.b(functional.adaptive_avg_pool2d(m.a(x), (1, 1))),
        lambda m, x: m.b(m.a(x).mean((2, 3), keepdim=True)),
    ),
    "pools": (
        lambda m, x: m.average(m.maximum(m.a(x))),
        lambda m, x: functional.avg_pool2d(functional.max_pool2d(m.a(x), 3, 1, padding=1), 2),
        lambda m, x: functional.adaptive_avg_pool2d(torch.max_pool2d(m.a(x), 3, 1, 1), 3),
    ),
    "softmax": (
        lambda m, x: torch.softmax(m.dense(m.a(x).mean([2, 3])), 1),
        lambda m, x: functional.softmax(m.dense(m.a(x).mean([2, 3])), dim=-1),
        lambda m, x: m.softmax(m.dense(m.a(x).mean([2, 3]))),
        lambda m, x: m.dense(m.a(x).mean([2, 3])).softmax(-1),
    ),
    "sigmoid and tanh": (
        lambda m, x: torch.sigmoid(y := m.a(x)) * torch.tanh(y),
        lambda m, x: m.sigmoid(y := m.a(x)) * m.tanh(y),
        lambda m, x: (y := m.a(x)).sigmoid().mul(y.tanh()),
    ),
    "concat": (
        lambda m, x: torch.cat((y := m.a(x), m.b(y)), 1),
        lambda m, x: torch.concat([y := m.a(x), m.b(y)], dim=-3),
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_all_ways_to_write_it_are_one(form: str) -> None:
    """The models differ in names at most."""
    first, *rest = [exported(body) for body in FORMS[form]]
    for other in rest:
        assert [type(op) for op in other.ops] == [type(op) for op in first.ops]
        for a, b in zip(first.ops, other.ops, strict=True):
            assert a.out.type == b.out.type
            kept = [(getattr(a, f.name), getattr(b, f.name)) for f in a.schema().attributes]
            assert all(x == y for x, y in kept)


BODIES: dict[str, tuple[Body, list[str]]] = {
    "depth multiplier": (lambda m, x: m.wide(m.a(x)), ["conv2d", "depthwise_conv2d"]),
    "same": (lambda m, x: m.same(m.a(x)), ["conv2d", "conv2d"]),
    "sub": (lambda m, x: m.b(y := m.a(x)) - y, ["conv2d", "conv2d", "sub"]),
    "gate": (
        lambda m, x: (y := m.a(x)) * torch.sigmoid(m.b(y.mean((2, 3), keepdim=True))),
        ["conv2d", "mean", "conv2d", "logistic", "mul"],
    ),
    "one pixel": (
        lambda m, x: m.dense(m.b(m.a(x).mean((2, 3)).reshape(-1, 4, 1, 1)).flatten(1)),
        ["conv2d", "mean", "reshape", "conv2d", "reshape", "fully_connected"],
    ),
    "clamp": (
        lambda m, x: m.hard(functional.max_pool2d(m.a(x), 2)),
        ["conv2d", "max_pool2d", "clamp"],
    ),
    "rows": (
        lambda m, x: m.dense(m.a(x).permute(0, 2, 3, 1).reshape(x.size(0), -1, 4)).softmax(-1),
        ["conv2d", "reshape", "fully_connected", "softmax"],
    ),
    "two images flattened": (
        lambda m, x: m.tail(torch.cat((m.a(x).flatten(1), m.a(x).mean((2, 3))), 1)),
        ["conv2d", "reshape", "conv2d", "mean", "concat", "fully_connected"],
    ),
    "softmax over channels": (lambda m, x: torch.softmax(m.a(x), 1), ["conv2d", "softmax"]),
    "concat of rows": (lambda m, x: torch.cat((m.a(x), m.a(x)), 2), ["conv2d", "conv2d", "concat"]),
    "dropout": (lambda m, x: m.b(m.drop(m.a(x))), ["conv2d", "conv2d"]),
}  # fmt: skip


@pytest.mark.parametrize("body", BODIES)
def test_exports_without_transposes(body: str) -> None:
    network, ops = BODIES[body]
    assert [op.NAME for op in exported(network).ops] == ops


def test_concat_shares_one_range() -> None:
    """All that meet in a concat, and what pools feed them, have one scale and zero point (A.3)."""

    def body(m: Net, x: Tensor) -> Tensor:
        y = m.a(x)
        z = torch.cat((m.inside(y), m.relu(m.b(y))), 1)
        return torch.cat((z, m.a(x)), 1)

    graph = training_graph(body).train()
    ranges = {m.range for n, m in graph.named_modules() if isinstance(m, FakeQuantize)}
    assert len(ranges) == 2  # that of the input is the other
    graph(EXAMPLE)
    model = export(create_eval_graph(graph))
    assert len({op.out.type.quant for op in model.ops}) == 1
    lows = [o.low for r in ranges for o in r.observers if len(r.observers) > 1]
    assert len(lows) == 3 and len(set(map(float, lows))) > 1


def test_dropout_is_there_in_training_alone() -> None:
    graph = create_training_graph(Residual(), torch.randn(4, 1, 8, 8), QatConfig(delay=10))
    assert "drop" in calls(graph)
    x = torch.randn(4, 1, 8, 8)
    graph.train()
    assert not torch.equal(graph(x), graph(x))
    graph.eval()
    assert torch.equal(graph(x), graph(x))
    assert "drop" not in calls(create_eval_graph(graph))


def test_names_are_those_of_the_modules() -> None:
    model = Residual()
    graph = create_training_graph(model, torch.randn(2, 1, 8, 8), QatConfig())
    assert {"left.0", "wide.0", "pool", "mean", "head"} <= set(calls(graph))
    kept = {"stem.0.weight", "left.0.weight", "right.bias", "head.weight"}
    assert kept <= set(dict(graph.named_parameters()))
    evaluation = calibrate(model, [torch.randn(2, 1, 8, 8)], QatConfig())
    assert "left.0" in [op.name for op in export(evaluation).ops]


def test_several_outputs() -> None:
    class Two(Net):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
            y = self.relu(self.a(x))
            return self.b(y), self.dense(y.mean((2, 3)))

    evaluation = calibrate(Two(lambda m, x: x), [EXAMPLE], QatConfig())
    first, second = evaluation(EXAMPLE)
    assert first.shape == (8, 4, 6, 6) and second.dtype == torch.float32
    graph = export(evaluation)
    assert [t.name for t in graph.outputs] == ["b", "dense"]
    assert check(evaluation, graph, EXAMPLE).activations == 1.0


def test_copies_and_checkpoints() -> None:
    """A deep copy, a pickle and a checkpoint give the same model; shared ranges stay shared."""
    x = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(3))
    torch.manual_seed(9)
    graph = create_training_graph(Residual(), x, QatConfig()).train()
    graph(x)
    copied = copy.deepcopy(graph)
    file = io.BytesIO()
    torch.save(graph, file)
    file.seek(0)
    pickled = torch.load(file, weights_only=False)
    resumed = create_training_graph(Residual(), x, QatConfig())
    resumed.load_state_dict(graph.state_dict())
    graph(2.0 * x)
    after = export(create_eval_graph(graph))
    for other in (copied, pickled, resumed.train()):
        assert not export(create_eval_graph(other)).same(after)
        torch.manual_seed(1)
        other(2.0 * x)
        assert _same_but_dropout(export(create_eval_graph(other)), after)


def _same_but_dropout(a: Graph, b: Graph) -> bool:
    """Equal up to what follows the dropout, which is random."""
    last = len(a.ops) - 1
    return a.replace(ops=a.ops[:last], outputs=(a.ops[last - 1].out,)).same(
        b.replace(ops=b.ops[:last], outputs=(b.ops[last - 1].out,))
    )


def test_a_simulation_is_compared_in_evaluation_mode() -> None:
    graph = training_graph(lambda m, x: m.norm(m.a(x))).train()
    for _ in range(5):
        graph(EXAMPLE)
    evaluation = create_eval_graph(graph)
    before = copy.deepcopy(graph.state_dict())
    agreement = check(evaluation, export(evaluation), EXAMPLE, simulation=graph)
    assert graph.training and agreement.largest <= 1
    assert all(torch.equal(v, before[k]) for k, v in graph.state_dict().items())
