"""Where quantization after training fails (section 3): channels whose weights differ 100 times."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from qgen.train import QatConfig, calibrate, create_eval_graph, create_training_graph
from qgen.train.fold import Folded
from tests.train.nets import accuracy, digits, train

CONFIG = QatConfig(weight_bits=4)
SPREAD = 120.0


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(256, 10),
    )


def ranges(model: nn.Module) -> Tensor:
    """The widest folded weight of each channel of the first convolution."""
    folded = create_training_graph(model, torch.zeros(1, 1, 8, 8), CONFIG).get_submodule("0")
    assert isinstance(folded, Folded)
    return folded.folded()[0].detach().abs().amax((1, 2, 3))


def stretch(model: nn.Sequential) -> None:
    """Spread the ranges of channels SPREAD times, without changing what the network computes.

    relu commutes with positive factors: what one layer multiplies a channel by, the next divides.
    """
    norm, after = model[1], model[3]
    assert isinstance(norm, nn.BatchNorm2d) and isinstance(after, nn.Conv2d)
    factors = SPREAD ** torch.linspace(0, 1, norm.num_features) / ranges(model)
    with torch.no_grad():
        norm.weight *= factors
        norm.bias *= factors
        after.weight /= factors.view(1, -1, 1, 1)


def test_training_recovers_what_calibration_loses() -> None:
    data = digits()
    torch.manual_seed(4)
    model = network()
    train(model, data, epochs=6)
    in_float = accuracy(model, data)
    stretch(model)
    assert abs(accuracy(model, data) - in_float) < 0.5
    assert ranges(model).max() > 100 * ranges(model).min()

    calibrated = accuracy(calibrate(model, data.images[:512].split(64), CONFIG), data)
    graph = create_training_graph(model, data.images[:2], CONFIG)
    train(graph, data, epochs=6)
    trained = accuracy(create_eval_graph(graph), data)
    assert trained >= calibrated + 5.0
    assert trained >= in_float - 5.0
