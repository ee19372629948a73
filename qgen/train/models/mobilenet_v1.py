"""MobileNet v1 (Howard et al. 2017) over depth multiplier and resolution; paper section 4.2."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from qgen.errors import QgenError
from qgen.train.models.blocks import Classifier, conv, initialize, scaled, separable

# Output channels and stride of each separable block, after a stem of 32 channels and stride 2.
Layout = Sequence[tuple[int, int]]
LAYOUT: Layout = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2),
    (512, 1), (512, 1), (512, 1), (512, 1), (512, 1), (1024, 2), (1024, 1),
)  # fmt: skip
# For images of 16 to 48 pixels: the widths of the first blocks, a quarter of the depth.
SMALL: Layout = ((64, 2), (128, 1), (128, 2), (256, 1))
STEM = 32


class MobileNetV1(nn.Module):
    """Images [N, channels, H, W] to logits [N, classes]; `features` is all but the classifier."""

    def __init__(
        self,
        multiplier: float = 1.0,
        classes: int = 1000,
        *,
        channels: int = 3,
        activation: str = "relu6",
        layout: Layout = LAYOUT,
        stem_stride: int = 2,
    ) -> None:
        super().__init__()
        self.features = features(
            multiplier, channels=channels, act=activation, layout=layout, stem_stride=stem_stride
        )
        self.head = Classifier(scaled(layout[-1][0], multiplier), classes)
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(x))
        return logits


def features(
    multiplier: float, *, channels: int, act: str, layout: Layout, stem_stride: int
) -> nn.Sequential:
    """Stem and separable blocks: layer 0 is the stem, layer i the block i of `layout` from 1."""
    widths = [scaled(STEM, multiplier), *(scaled(c, multiplier) for c, _ in layout)]
    blocks = [
        separable(widths[i], widths[i + 1], act, stride=stride)
        for i, (_, stride) in enumerate(layout)
    ]
    return nn.Sequential(conv(channels, widths[0], 3, act, stride=stem_stride), *blocks)


def mobilenet_v1(
    multiplier: float = 1.0,
    resolution: int = 224,
    classes: int = 1000,
    *,
    channels: int = 3,
    activation: str = "relu6",
) -> MobileNetV1:
    """The network for square images of `resolution` pixels.

    From 96 pixels the published layers; below, `SMALL` with a stem of stride 1, since 13 blocks
    would leave less than 3 x 3 elements of such images.

    Raises QgenError for a resolution below 8.
    """
    if resolution < 8:
        raise QgenError(f"a resolution of {resolution} is too small", hint="use 8 pixels or more")
    full = resolution >= 96
    return MobileNetV1(
        multiplier,
        classes,
        channels=channels,
        activation=activation,
        layout=LAYOUT if full else SMALL,
        stem_stride=2 if full else 1,
    )
