"""Batch norm folding, eq. (14): without rounding, the folded graph is the float network."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, fx, nn

from qgen.train import QatConfig, Statistics, create_training_graph, freeze_batch_norm
from qgen.train.fake_quant import FakeQuantize
from qgen.train.fold import Folded


def network(bias: bool = False) -> nn.Sequential:
    torch.manual_seed(3)
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, bias=bias),
        nn.BatchNorm2d(4),
        nn.ReLU6(),
        nn.Conv2d(4, 4, 3, groups=4, bias=bias),
        nn.BatchNorm2d(4, momentum=0.3),
        nn.Flatten(),
        nn.Linear(64, 5, bias=bias),
        nn.BatchNorm1d(5, momentum=None),
    )
    for m in model:
        if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(m.weight, 0.5, 2.0)
            nn.init.uniform_(m.bias, -0.5, 0.5)
            assert m.running_mean is not None and m.running_var is not None
            nn.init.uniform_(m.running_mean, -0.5, 0.5)
            nn.init.uniform_(m.running_var, 0.5, 2.0)
    return model


def unrounded(graph: fx.GraphModule) -> fx.GraphModule:
    for m in graph.modules():
        if isinstance(m, FakeQuantize | Folded):
            m.quantize = False
    return graph


def norms(model: nn.Module) -> list[nn.BatchNorm1d | nn.BatchNorm2d]:
    return [m for m in model.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]


def batches(count: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randn(7, 2, 6, 6, generator=generator) for _ in range(count)]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("statistics", Statistics)
def test_training_is_that_of_the_float_network(statistics: Statistics, bias: bool) -> None:
    """Results, gradients and moving statistics, step by step."""
    model = network(bias).train()
    config = QatConfig(statistics=statistics)
    graph = unrounded(create_training_graph(model, batches(1)[0], config)).train()
    optimizers = [torch.optim.SGD(m.parameters(), 0.05) for m in (model, graph)]
    for x in batches(4):
        for m, optimizer in zip((model, graph), optimizers, strict=True):
            optimizer.zero_grad()
            m(x).square().mean().backward()
            optimizer.step()
        torch.testing.assert_close(graph(x), model(x), rtol=1e-3, atol=1e-4)
    for a, b in zip(norms(model), norms(graph), strict=True):
        torch.testing.assert_close(b.running_mean, a.running_mean, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(b.running_var, a.running_var, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(b.weight, a.weight, rtol=1e-3, atol=1e-4)
    model.eval(), graph.eval()
    x = batches(5)[-1]
    torch.testing.assert_close(graph(x), model(x), rtol=1e-3, atol=1e-4)


def test_the_model_is_not_touched() -> None:
    model = network().train()
    before = copy.deepcopy(model.state_dict())
    graph = create_training_graph(model, batches(1)[0], QatConfig())
    graph(batches(1)[0]).sum().backward()
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert model.training


def test_frozen_statistics_stay_and_are_used() -> None:
    graph = create_training_graph(network(), batches(1)[0], QatConfig(delay=100)).train()
    x = batches(1)[0]
    graph(x)
    freeze_batch_norm(graph)
    before = [n.running_var.clone() for n in norms(graph) if n.running_var is not None]
    in_training = graph(3.0 * x)
    after = [n.running_var for n in norms(graph)]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True) if b is not None)
    # Frozen, training and evaluation are one function.
    torch.testing.assert_close(in_training, graph.eval()(3.0 * x))
    # A checkpoint remembers the switch.
    again = create_training_graph(network(), x, QatConfig(delay=100)).train()
    again.load_state_dict(graph.state_dict())
    torch.testing.assert_close(again(3.0 * x), in_training)


@pytest.mark.parametrize("statistics", Statistics)
def test_dead_channels_keep_their_variance(statistics: Statistics) -> None:
    """A channel whose folded weights round to 0 has a constant result and finite gradients."""
    model = network()
    first = model[0]
    assert isinstance(first, nn.Conv2d) and isinstance(model[1], nn.BatchNorm2d)
    with torch.no_grad():
        model[1].weight[2] = 0.0
    graph = create_training_graph(model, batches(1)[0], QatConfig(statistics=statistics)).train()
    for x in batches(3):
        graph(x).square().mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in graph.parameters())
    variance = norms(graph)[0].running_var
    assert variance is not None and float(variance[2]) > 0.1
