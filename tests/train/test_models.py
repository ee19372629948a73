"""The builders are the published networks at full size, and small ones at any."""

from __future__ import annotations

from collections.abc import Callable

import pytest

torch = pytest.importorskip("torch", reason="PyTorch trains")
fx = pytest.importorskip("torch.fx")

from qgen.errors import QgenError  # noqa: E402
from qgen.train.models import (  # noqa: E402
    FaceAttributes,
    InceptionV3,
    MobileNetSSD,
    ResNet,
    mobilenet_v1,
    resnet,
    small_resnet,
)
from qgen.train.models.blocks import activation, scaled  # noqa: E402


def size(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("build", "parameters"),
    [
        # Published sizes of the same networks, with 1000 classes.
        (lambda: mobilenet_v1(1.0), 4_231_976),
        (lambda: mobilenet_v1(0.25), 470_072),
        (lambda: resnet(18), 11_689_512),
        (lambda: resnet(50), 25_557_032),
        (lambda: resnet(100), 44_549_160),
        (lambda: resnet(150), 60_192_808),
        (lambda: InceptionV3(activation="relu"), 23_834_568),
    ],
)
def test_published_size(build: Callable[[], torch.nn.Module], parameters: int) -> None:
    with torch.device("meta"):
        assert size(build()) == parameters


@pytest.mark.parametrize(
    ("model", "pixels", "shapes"),
    [
        (mobilenet_v1(0.25, 16, 10, channels=1), 16, [(10,)]),
        (mobilenet_v1(0.25, 96, 10), 96, [(10,)]),
        (resnet(50, 7, multiplier=0.125), 32, [(7,)]),
        (small_resnet(8, 10, width=8), 16, [(10,)]),
        (InceptionV3(0.05, 5, modules=(1, 1, 1)), 75, [(5,)]),
        (InceptionV3(0.05, 5, modules=(1, 1, 1), small=True), 16, [(5,)]),
        (FaceAttributes(0.25, 5, layout=((32, 2),)), 16, [(5,), (1,)]),
        (
            MobileNetSSD(0.25, 3, anchors=2, layout=((64, 2), (64, 2)), taps=(1, 2), extras=(64,)),
            32,
            [(8, 8, 8), (8, 8, 8), (8, 4, 4), (8, 4, 4), (8, 2, 2), (8, 2, 2)],
        ),
    ],
)
def test_traced_shapes(model: torch.nn.Module, pixels: int, shapes: list[tuple[int, ...]]) -> None:
    channels = next(model.parameters()).shape[1]
    outputs = fx.symbolic_trace(model)(torch.zeros(2, channels, pixels, pixels))
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    assert [tuple(o.shape) for o in outputs] == [(2, *shape) for shape in shapes]


def test_published_detector_has_its_maps() -> None:
    with torch.device("meta"):
        outputs = MobileNetSSD().eval()(torch.zeros(1, 3, 320, 320))
    assert [o.shape[2] for o in outputs[::2]] == [20, 10, 5, 3, 2, 1]


def test_same_seed_same_weights() -> None:
    drawn = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        drawn.append(small_resnet().state_dict()["head.logits.weight"])
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_first_activations_keep_their_variance() -> None:
    """Neither depth nor depthwise filters let the signal vanish before batch norm has seen it."""
    torch.manual_seed(0)
    model = mobilenet_v1(0.5, 96, 10).eval()
    out = model.features(torch.randn(4, 3, 96, 96))
    assert 0.05 < out.std().item() < 20


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: activation("gelu"), "unknown activation 'gelu'"),
        (lambda: scaled(8, 0.0), "depth multiplier 0.0 is not positive"),
        (lambda: mobilenet_v1(1.0, 4), "a resolution of 4 is too small"),
        (lambda: resnet(51), "there is no ResNet of depth 51"),
        (lambda: ResNet("wide"), "unknown block 'wide'"),
        (lambda: small_resnet(9), "a small ResNet has no depth 9"),
        (lambda: MobileNetSSD(taps=(13, 11)), "are not ascending numbers of blocks"),
        (lambda: MobileNetSSD(taps=(11,)), "the last tap must be the last block, 13"),
    ],
)
def test_bad_arguments(build: Callable[[], object], message: str) -> None:
    with pytest.raises(QgenError, match=message):
        build()
