"""Every builder trains, exports, compiles to C for aarch64 and verifies, at a tiny size."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping

import pytest

torch = pytest.importorskip("torch", reason="PyTorch trains")

from qgen.ir.ops.average_pool2d import AveragePool2D  # noqa: E402
from qgen.ir.ops.concat import Concat  # noqa: E402
from qgen.ir.ops.depthwise_conv2d import DepthwiseConv2D  # noqa: E402
from qgen.ir.ops.max_pool2d import MaxPool2D  # noqa: E402
from qgen.train import (  # noqa: E402
    QatConfig,
    check,
    create_eval_graph,
    create_training_graph,
    export,
)
from qgen.train.integer import IntegerModel  # noqa: E402
from qgen.train.models import (  # noqa: E402
    FaceAttributes,
    InceptionV3,
    MobileNetSSD,
    MobileNetV1,
    ResNet,
    small_resnet,
)
from qgen.verify import verify  # noqa: E402

LAYOUT = ((32, 2), (32, 1))
# Builder, and shape of its images.
BUILDERS: Mapping[str, tuple[Callable[[], torch.nn.Module], tuple[int, ...]]] = {
    "mobilenet_v1": (
        lambda: MobileNetV1(0.25, 10, channels=1, layout=LAYOUT, stem_stride=1),
        (1, 12, 12),
    ),
    "resnet_basic": (lambda: small_resnet(8, 10, width=8), (3, 12, 12)),
    "resnet_bottleneck": (lambda: ResNet("bottleneck", (1, 1), 10, width=8), (3, 24, 24)),
    "inception_v3": (
        lambda: InceptionV3(0.05, 10, modules=(1, 1, 1), small=True),
        (3, 12, 12),
    ),
    "mobilenet_ssd": (
        lambda: MobileNetSSD(0.25, 3, anchors=2, layout=LAYOUT, taps=(1, 2), extras=(32,)),
        (3, 16, 16),
    ),
    "face_attributes": (lambda: FaceAttributes(0.25, 5, layout=LAYOUT), (3, 16, 16)),
}


def trained(name: str) -> tuple[torch.fx.GraphModule, torch.Tensor]:
    """The evaluation graph after two steps, and the images."""
    torch.manual_seed(0)
    build, shape = BUILDERS[name]
    images = torch.randn(8, *shape).clamp(-1, 1)
    graph = create_training_graph(build(), images, QatConfig())
    optimizer = torch.optim.SGD(graph.parameters(), 0.01)
    for _ in range(2):
        outputs = graph(images)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        optimizer.zero_grad()
        sum((o**2).mean() for o in outputs).backward()
        optimizer.step()
    return create_eval_graph(graph), images


@pytest.mark.skipif(
    not (shutil.which("aarch64-linux-gnu-gcc") and shutil.which("qemu-aarch64")),
    reason="needs the cross-compiler and the emulator",
)
@pytest.mark.parametrize("name", BUILDERS)
def test_builder(name: str) -> None:
    evaluation, images = trained(name)
    graph = export(evaluation, name)
    agreement = check(evaluation, graph, images)
    assert agreement.classes >= 0.995 and agreement.activations >= 0.99
    assert agreement.largest <= 1
    verdict = verify(graph, "aarch64", inputs=2)
    assert verdict, verdict


def test_ops_of_the_builders() -> None:
    """Layers arrive as the ops that integer inference has for them, without transposes."""
    kinds = {
        name: [type(op) for op in export(trained(name)[0], name).ops]
        for name in ("mobilenet_v1", "resnet_bottleneck", "inception_v3")
    }
    assert kinds["mobilenet_v1"].count(DepthwiseConv2D) == len(LAYOUT)
    assert kinds["resnet_bottleneck"].count(MaxPool2D) == 1
    assert kinds["inception_v3"].count(Concat) == 5
    assert kinds["inception_v3"].count(AveragePool2D) == 3


def test_integer_model() -> None:
    """Golden, called with real images of any number, says what the evaluation graph says."""
    evaluation, images = trained("mobilenet_ssd")
    model = IntegerModel(export(evaluation, "ssd"))
    for batch in (images, images[:3]):
        outputs = model(batch)
        assert len(outputs) == 6
        for ours, simulated in zip(outputs, evaluation(batch), strict=True):
            torch.testing.assert_close(ours, simulated.float(), rtol=0, atol=1e-5)
    one, pixels = trained("mobilenet_v1")
    logits = IntegerModel(export(one, "net"))(pixels)
    assert isinstance(logits, torch.Tensor) and logits.shape == (8, 10)
