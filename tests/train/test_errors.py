"""Everything that training refuses: one line that says where and what to do."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from qgen.errors import QgenError
from qgen.ir.types import Rounding
from qgen.train import QatConfig, calibrate, check, create_eval_graph, create_training_graph, export
from tests.ir.raising import raise_statements, reached

pytestmark = pytest.mark.filterwarnings("ignore:Implicit dimension choice for softmax")
IMAGES = torch.randn(4, 2, 4, 4, generator=torch.Generator().manual_seed(2))


class Net(nn.Module):
    """`body` with parts to use."""

    def __init__(self, body: Callable[[Net, Tensor], Any], **parts: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.body = body
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        self.dense = nn.Linear(64, 3)
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x: Tensor) -> Any:
        return self.body(self, x)


def training(body: Callable[[Any, Tensor], Any], **parts: nn.Module) -> fx.GraphModule:
    return create_training_graph(Net(body, **parts), IMAGES, QatConfig())


def calibrated(body: Callable[[Any, Tensor], Any], **parts: nn.Module) -> fx.GraphModule:
    return calibrate(Net(body, **parts), [IMAGES], QatConfig())


def exported(body: Callable[[Any, Tensor], Any], **parts: nn.Module) -> Any:
    return export(calibrated(body, **parts))


def module(part: nn.Module) -> Callable[[], object]:
    """The network whose block `features.part` is `part`."""
    return lambda: training(lambda m, x: m.features(m.conv(x)), features=nn.Sequential(part))


def with_weights(value: float, parameter: str = "weight") -> Callable[[], object]:
    def bad() -> object:
        model = Net(lambda m, x: m.conv(x))
        nn.init.constant_(getattr(model.conv, parameter), value)
        return calibrate(model, [IMAGES], QatConfig())

    return bad


def unseen() -> object:
    return create_eval_graph(training(lambda m, x: m.conv(x)))


def dead() -> object:
    return calibrated(lambda m, x: torch.relu(m.conv(x) - m.conv(x)))


def nan(value: float) -> Callable[[], object]:
    def bad() -> object:
        graph = training(lambda m, x: m.dense(torch.relu(m.conv(x)).flatten(1)))
        with torch.no_grad():
            graph.get_submodule("conv").bias[1] = value  # type: ignore[index,operator]
        return graph.train()(IMAGES)

    return bad


def nan_weights() -> object:
    graph = training(lambda m, x: m.conv(x))
    nn.init.constant_(graph.get_submodule("conv").weight, float("nan"))  # type: ignore[arg-type]
    return graph.train()(IMAGES)


def bad_bias(value: float) -> Callable[[], object]:
    def bad() -> object:
        graph = training(lambda m, x: m.conv(x)).train()
        graph(IMAGES)
        nn.init.constant_(graph.get_submodule("conv").bias, value)  # type: ignore[arg-type]
        return create_eval_graph(graph)

    return bad


def two_inputs() -> object:
    class Two(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return x + y

    return create_training_graph(Two(), IMAGES, QatConfig())


def branching() -> object:
    return training(lambda m, x: m.conv(x) if x.sum() > 0 else x)


def other_model() -> object:
    a = calibrated(lambda m, x: m.conv(x))
    return check(a, exported(lambda m, x: torch.relu(m.conv(x))), IMAGES)


def no_images() -> object:
    a = calibrated(lambda m, x: m.conv(x))
    return check(a, export(a), IMAGES[:0])


class Table(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.ones(4, 4, 4, 4))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.table


def flat(m: Any, x: Tensor) -> Tensor:
    return m.conv(x).flatten(1)  # type: ignore[no-any-return]


GROUPS = nn.Conv2d(4, 4, 1, groups=2)
REFLECT = nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")
NO_STATISTICS = nn.BatchNorm2d(4, track_running_stats=False)
ROWS = nn.Linear(4, 4)
LAST = nn.Conv2d(4, 4, 1)

BAD: list[tuple[str, Callable[[], object]]] = [
    ("weights cannot have 3 bits (choose 4 to 8)", lambda: QatConfig(weight_bits=3)),
    ("activations cannot have 9 bits", lambda: QatConfig(activation_bits=9)),
    ("smoothing 1.0 is not in [0, 1)", lambda: QatConfig(smoothing=1.0)),
    ("delay -1 is negative", lambda: QatConfig(delay=-1)),
    # Networks that have no training graph.
    ("'features.0' (GELU) is not supported in training graphs", module(nn.GELU())),
    ("'features.0' (Conv2d) cannot be quantized: 2 groups", module(GROUPS)),
    ("'features.0' (Conv2d) cannot be quantized: padding mode reflect", module(REFLECT)),
    ("the batch norm behind 'conv' keeps no running statistics", module(NO_STATISTICS)),
    ("'features.0' (AvgPool2d) cannot be quantized: padding that counts",
     module(nn.AvgPool2d(3, 1, 1))),
    ("ceil_mode and divisor_override", module(nn.AvgPool2d(3, ceil_mode=True))),
    ("ceil_mode, return_indices and dilation", module(nn.MaxPool2d(2, dilation=2))),
    ("4 x 4 does not divide into 3 x 3", module(nn.AdaptiveAvgPool2d(3))),
    ("a clamp to [-2.0, 2.0]", module(nn.Hardtanh(-2.0, 2.0))),
    ("'features.0' (Softmax) cannot be quantized: it has no dim", module(nn.Softmax())),
    ("'features.0' (BatchNorm2d) does not follow a convolution or dense layer",
     lambda: training(lambda m, x: m.features(torch.relu(m.conv(x))),
                      features=nn.Sequential(nn.BatchNorm2d(4)))),
    ("'elu' (function elu) is not supported", lambda: training(lambda m, x: functional.elu(x))),
    ("'exp' (method exp) is not supported", lambda: training(lambda m, x: x.exp())),
    ("'add' (function add) cannot be quantized: alpha 2",
     lambda: training(lambda m, x: torch.add(x, x, alpha=2))),
    ("'add' (function add) cannot be quantized: operands are not two tensors",
     lambda: training(lambda m, x: x + 1.0)),
    ("'add' (function add) has arguments that are not supported",
     lambda: training(lambda m, x: torch.add(x, x, out=None))),
    ("only the mean over height and width", lambda: training(lambda m, x: x.mean(1))),
    ("'cat' (function cat) cannot be quantized: the batch dimension",
     lambda: training(lambda m, x: torch.cat((x, x)))),
    ("'reshape' (method reshape) cannot be quantized: the batch dimension changes",
     lambda: training(lambda m, x: x.reshape(-1))),
    ("only (0, 2, 3, 1) needs no transpose", lambda: training(lambda m, x: x.permute(0, 3, 1, 2))),
    ("'features_0_table' is used, but the network does not compute it", module(Table())),
    ("the network takes 2 inputs (x, y), not one", two_inputs),
    ("the network cannot be traced", branching),
    ("does not run on an example of [4, 2, 4, 4]: ", lambda: training(lambda m, x: m.dense(x))),
    ("'softmax' has a fixed scale and cannot be concatenated with others",
     lambda: training(lambda m, x: torch.cat((torch.softmax(y := m.conv(x), 1), y), 1))),
    # Ranges.
    ("no range was seen at 'x' (train, or call calibrate, before export)", unseen),
    ("calibration needs at least one batch", lambda: calibrate(nn.ReLU(), [], QatConfig())),
    ("all activations of 'sub' are zero: a dead range has no scale", dead),
    ("all weights of 'conv' are zero: a dead range has no scale", with_weights(0.0)),
    ("NaN in the activations of 'conv'", nan(float("nan"))),
    ("infinity in the activations of 'conv'", nan(float("inf"))),
    ("NaN or infinity in the weights of 'conv'", nan_weights),
    ("NaN or infinity in the bias of 'conv'", bad_bias(float("nan"))),
    ("the bias of 'conv' does not fit 32 bits at scale", bad_bias(1e9)),
    ("models are not exported with rounding nearest",
     lambda: create_eval_graph(training(lambda m, x: x), Rounding.NEAREST)),
    # Layouts.
    ("this is no evaluation graph (call create_eval_graph first)",
     lambda: export(training(lambda m, x: m.conv(x)))),
    ("output 'flatten' is a flattened image", lambda: exported(flat)),
    ("'rows' is a dense layer on an image; flatten it first",
     lambda: exported(lambda m, x: m.rows(m.conv(x)), rows=ROWS)),
    ("'last' needs an image [N, C, H, W]",
     lambda: exported(lambda m, x: m.last(m.conv(x).permute(0, 2, 3, 1)), last=LAST)),
    ("'add' combines an image with what is none",
     lambda: exported(lambda m, x: (y := m.conv(x)) + y.permute(0, 2, 3, 1))),
    ("'cat' combines an image with what is none",
     lambda: exported(lambda m, x: torch.cat((y := m.conv(x), y.permute(0, 2, 3, 1)), 1))),
    ("'softmax' is a softmax over dimension 2, not over the channels",
     lambda: exported(lambda m, x: torch.softmax(m.conv(x), 2))),
    ("'reshape' reshapes an image to [1, 4, 16]",
     lambda: exported(lambda m, x: m.conv(x).reshape(-1, 4, 16))),
    ("'reshape' reshapes a flattened image",
     lambda: exported(lambda m, x: m.conv(x).flatten(1).reshape(-1, 4, 16))),
    # The check.
    ("the model has no 'conv' as in the evaluation graph", other_model),
    ("the check needs at least one input", no_images),
]  # fmt: skip


@pytest.mark.parametrize("message, bad", BAD, ids=[m for m, _ in BAD])
def test_message(message: str, bad: Callable[[], object]) -> None:
    with pytest.raises(QgenError) as e:
        bad()
    assert message in str(e.value)
    assert "\n" not in str(e.value)


def literal(statement: str) -> str:
    """The longest part of the message of ``raise QgenError(message, ...)`` that is always there."""
    call = ast.parse(statement).body[0]
    parts = [n.value for n in ast.walk(call.exc.args[0])  # type: ignore[attr-defined]
             if isinstance(n, ast.Constant) and isinstance(n.value, str)]  # fmt: skip
    return max(parts, key=len).strip(" :,")


def test_every_raise_is_reached() -> None:
    """By the table above, or by a test of data, models and loop that matches its message."""
    places = raise_statements("qgen/train")
    seen = set().union(*(reached(bad) for _, bad in BAD))
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    missing = {f"{file}:{line}": text for (file, line), text in places.items()
               if (file, line) not in seen and literal(text) not in tests}  # fmt: skip
    assert not missing


def test_base_works_without_torch() -> None:
    """Everything imports; only what trains says what to install."""
    script = """
import sys
sys.modules["torch"] = None
import importlib
import qgen.__main__, qgen.train
from qgen.errors import QgenError
from qgen.ir.op import registry
registry()
qgen.train.QatConfig(weight_bits=4)
for name in qgen.train.__all__:
    try:
        getattr(qgen.train, name)
    except QgenError as e:
        print(name, e)
for name in ("models", "data", "detection", "loop", "processes", "integer", "schedule",
             "checkpoint"):
    try:
        importlib.import_module("qgen.train." + name)
    except QgenError as e:
        print(name, e)
try:
    qgen.train.nothing
except AttributeError as e:
    print(e)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    said = "training needs PyTorch (pip install 'qgen[train]')"
    needed = ["Agreement", "calibrate", "check", "create_eval_graph", "create_training_graph",
              "export", "freeze_batch_norm", "models", "data", "detection", "loop", "processes",
              "integer", "schedule", "checkpoint"]  # fmt: skip
    assert lines[:-1] == [f"{name} {said}" for name in needed]
    assert "no attribute 'nothing'" in lines[-1]
