"""The co-design check: golden computes what training has simulated."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from qgen.frontend import load_model
from qgen.frontend.printer import save
from qgen.train import QatConfig, check, create_eval_graph, create_training_graph, export
from tests.train.nets import Residual, accuracy, digits, separable, train

CONFIGS = {
    "int8": QatConfig(),
    "per_channel": QatConfig(per_channel=True),
    "7 bits": QatConfig(weight_bits=7, activation_bits=7, symmetric=True),
    "4 and 5 bits": QatConfig(weight_bits=4, activation_bits=5),
}
NETWORKS = {"separable": separable, "residual": Residual}


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("network", NETWORKS)
def test_golden_is_the_simulation(network: str, config: str, tmp_path: Path) -> None:
    data = digits()
    torch.manual_seed(1)
    model: nn.Module = NETWORKS[network]()
    training = create_training_graph(model, data.images[:2], CONFIGS[config])
    train(training, data, epochs=2)
    evaluation = create_eval_graph(training)
    save(export(evaluation, "digits"), tmp_path / "digits.qg")
    graph = load_model(tmp_path / "digits.qg")
    agreement = check(evaluation, graph, data.test_images)
    assert agreement.activations == 1.0, agreement
    assert agreement.classes == 1.0 and agreement.largest == 0
    # Single precision with unrounded biases, as it was trained, against integers.
    trained = check(evaluation, graph, data.test_images, simulation=training)
    print(network, config, accuracy(evaluation, data), trained)
    assert trained.classes >= 0.995, trained
    assert trained.activations >= 0.99, trained
