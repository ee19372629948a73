"""The co-design check: golden, and the C that equals golden, compute what training simulates."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import fx, nn

from qgen.__main__ import main
from qgen.frontend import load_model
from qgen.frontend.printer import save
from qgen.ir.graph import Graph
from qgen.ir.types import Rounding
from qgen.train import (
    QatConfig,
    calibrate,
    check,
    create_eval_graph,
    create_training_graph,
    export,
)
from tests.train.nets import Residual, accuracy, digits, separable, train

CONFIGS = {
    "8 bits": QatConfig(),
    "per channel": QatConfig(per_channel=True),
    "7 bits": QatConfig(weight_bits=7, activation_bits=7, symmetric=True),
    "4 and 5 bits": QatConfig(weight_bits=4, activation_bits=5),
}
NETWORKS = {"separable": separable, "residual": Residual}
TARGETS = {"portable": "cc", "aarch64": "aarch64-linux-gnu-gcc"}


def trained(network: str, config: QatConfig, epochs: int = 2) -> fx.GraphModule:
    data = digits()
    torch.manual_seed(1)
    model: nn.Module = NETWORKS[network]()
    graph = create_training_graph(model, data.images[:2], config)
    train(graph, data, epochs)
    return graph


def reloaded(evaluation: fx.GraphModule, folder: Path) -> Graph:
    save(export(evaluation, "digits"), folder / "digits.qg")
    return load_model(folder / "digits.qg")


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("network", NETWORKS)
def test_golden_computes_the_evaluation_graph(network: str, config: str, tmp_path: Path) -> None:
    """All values of all tensors are equal, also after a way through files."""
    graph = trained(network, CONFIGS[config])
    for rounding in (Rounding.GEMMLOWP, Rounding.SINGLE):
        evaluation = create_eval_graph(graph, rounding)
        model = reloaded(evaluation, tmp_path)
        assert model.rounding is rounding
        agreement = check(evaluation, model, digits().test_images)
        assert agreement.samples == 360
        assert (agreement.classes, agreement.activations, agreement.largest) == (1.0, 1.0, 0)


def test_training_simulates_the_evaluation_graph() -> None:
    """Single precision and biases that are not rounded, against integers."""
    data = digits()
    graph = trained("separable", QatConfig(), epochs=6)
    evaluation = create_eval_graph(graph)
    agreement = check(evaluation, export(evaluation), data.test_images, simulation=graph)
    assert agreement.classes >= 0.995, str(agreement)
    assert agreement.activations >= 0.99, str(agreement)
    assert accuracy(evaluation, data) > 94.0


def test_agreement_says_what_differs() -> None:
    """A training graph that went on training no longer is the evaluation graph."""
    data = digits()
    graph = trained("separable", QatConfig(), epochs=1)
    evaluation = create_eval_graph(graph)
    train(graph, data, epochs=1)
    agreement = check(evaluation, export(evaluation), data.test_images, simulation=graph)
    assert agreement.largest > 1 and agreement.worst and agreement.activations < 0.9
    assert f"at most {agreement.largest} steps apart ('{agreement.worst}')" in str(agreement)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("config", ["8 bits", "4 and 5 bits"])
def test_c_computes_it_too(config: str, target: str, tmp_path: Path) -> None:
    if not shutil.which(TARGETS[target]):
        pytest.skip(f"needs {TARGETS[target]}")
    data = digits()
    model = reloaded(calibrate(Residual(), data.images[:128].split(64), CONFIGS[config]), tmp_path)
    assert [op.NAME for op in model.ops] == [
        "conv2d", "conv2d", "add", "conv2d", "add", "average_pool2d", "conv2d", "max_pool2d",
        "concat", "mean", "fully_connected",
    ]  # fmt: skip
    assert main(["verify", str(tmp_path / "digits.qg"), "--target", target]) == 0


def test_few_bits_stay_in_the_model(tmp_path: Path) -> None:
    """Weights and activations have their levels; biases are int32 with S = S1 * S2."""
    model = reloaded(create_eval_graph(trained("residual", CONFIGS["4 and 5 bits"])), tmp_path)
    text = (tmp_path / "digits.qg").read_text()
    assert "bits=4)" in text and "bits=5)" in text
    for op in model.ops:
        assert op.out.type.quant is not None and op.out.type.quant.bits == 5
        for t in op.constants():
            if t.name.endswith(".w"):
                assert np.abs(t.const.astype(int)).max() <= 7
            else:
                x, w = (getattr(op, name).type.scale for name in ("x", "w"))
                assert t.dtype.value == "i32" and t.type.scale == np.float32(x * w)
