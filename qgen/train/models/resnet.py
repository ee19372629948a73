"""ResNet (He et al. 2016), basic and bottleneck blocks; paper section 4.1.1 and Figure C.3."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from qgen.errors import QgenError
from qgen.train.models.blocks import Classifier, activation, conv, initialize, scaled

# Depth as the paper names it -> kind of block and blocks per stage. The networks it calls 100 and
# 150 are those published with 101 and 152 layers.
DEPTHS: Mapping[int, tuple[str, Sequence[int]]] = {
    18: ("basic", (2, 2, 2, 2)),
    34: ("basic", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
    100: ("bottleneck", (3, 4, 23, 3)),
    150: ("bottleneck", (3, 8, 36, 3)),
}
EXPANSION = {"basic": 1, "bottleneck": 4}


class Block(nn.Module):
    """relu(body(x) + bypass(x)); the bypass is a 1x1 convolution where the shape changes.

    `basic` is two 3x3 convolutions of `width` channels, `bottleneck` 1x1, 3x3 (with the stride) of
    `width` channels and 1x1 of four times as many.
    """

    def __init__(self, kind: str, inputs: int, width: int, stride: int, act: str) -> None:
        super().__init__()
        outputs = width * EXPANSION[kind]
        if kind == "basic":
            self.body = nn.Sequential(
                conv(inputs, width, 3, act, stride=stride), conv(width, outputs, 3, None)
            )
        else:
            self.body = nn.Sequential(
                conv(inputs, width, 1, act),
                conv(width, width, 3, act, stride=stride),
                conv(width, outputs, 1, None),
            )
        plain = stride == 1 and inputs == outputs
        self.bypass = nn.Identity() if plain else conv(inputs, outputs, 1, None, stride=stride)
        self.activation = activation(act)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.activation(self.body(x) + self.bypass(x))
        return y


class ResNet(nn.Module):
    """Images [N, channels, H, W] to logits [N, classes].

    Args:
        kind: of the blocks, ``basic`` or ``bottleneck``.
        stages: blocks per stage; each stage but the first halves the image.
        width: channels of the first stage, doubled by each further stage.
        small: a stem of one 3x3 convolution, for images of some 32 pixels, instead of 7x7 with
            stride 2 and a max pool.
    """

    def __init__(
        self,
        kind: str = "bottleneck",
        stages: Sequence[int] = (3, 4, 6, 3),
        classes: int = 1000,
        *,
        width: int = 64,
        channels: int = 3,
        activation: str = "relu",
        small: bool = False,
    ) -> None:
        super().__init__()
        if kind not in EXPANSION:
            raise QgenError(f"unknown block '{kind}'", hint="use basic or bottleneck")
        stem: list[nn.Module] = [conv(channels, width, 3, activation)]
        if not small:
            stem = [
                conv(channels, width, 7, activation, stride=2),
                nn.MaxPool2d(3, stride=2, padding=1),
            ]
        self.stem = nn.Sequential(*stem)
        blocks: list[nn.Module] = []
        inputs = width
        for stage, count in enumerate(stages):
            for i in range(count):
                stride = 2 if stage and i == 0 else 1
                blocks.append(Block(kind, inputs, width << stage, stride, activation))
                inputs = (width << stage) * EXPANSION[kind]
        self.stages = nn.Sequential(*blocks)
        self.head = Classifier(inputs, classes)
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.stages(self.stem(x)))
        return logits


def resnet(
    depth: int = 50,
    classes: int = 1000,
    *,
    multiplier: float = 1.0,
    channels: int = 3,
    activation: str = "relu",
) -> ResNet:
    """The published network of that depth, its width times `multiplier`.

    Raises QgenError for a depth that is not one of `DEPTHS`.
    """
    if depth not in DEPTHS:
        names = ", ".join(map(str, DEPTHS))
        raise QgenError(f"there is no ResNet of depth {depth}", hint=f"use one of {names}")
    kind, stages = DEPTHS[depth]
    width = scaled(64, multiplier)
    return ResNet(kind, stages, classes, width=width, channels=channels, activation=activation)


def small_resnet(
    depth: int = 8, classes: int = 10, *, width: int = 16, channels: int = 3, act: str = "relu"
) -> ResNet:
    """Three stages of basic blocks for small images, depth 6 n + 2 (He et al. 2016, 4.2).

    Raises QgenError for any other depth.
    """
    blocks, rest = divmod(depth - 2, 6)
    if rest or blocks < 1:
        raise QgenError(f"a small ResNet has no depth {depth}", hint="use 8, 14, 20, ...")
    stages = (blocks,) * 3
    return ResNet(
        "basic", stages, classes, width=width, channels=channels, activation=act, small=True
    )
