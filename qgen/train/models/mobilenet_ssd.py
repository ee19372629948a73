"""MobileNet SSD: single-shot detector with separable prediction layers; paper section 4.2.2."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from qgen.errors import QgenError
from qgen.train.models.blocks import conv, initialize, scaled
from qgen.train.models.mobilenet_v1 import LAYOUT, Layout, features

TAPS = (11, 13)  # blocks of the published layout that predict: stride 16 and 32
EXTRAS = (512, 256, 256, 128)  # channels of the further layers, each of which halves the image


class Prediction(nn.Module):
    """Depthwise 3x3 and a 1x1 projection: class scores and box codes of all anchors of a cell.

    Scores [N, anchors * scores, H, W] and codes [N, anchors * 4, H, W], anchor-major. The depthwise
    layer is one for both.
    """

    def __init__(self, inputs: int, anchors: int, scores: int, act: str) -> None:
        super().__init__()
        self.depthwise = conv(inputs, inputs, 3, act, groups=inputs)
        self.scores = nn.Conv2d(inputs, anchors * scores, 1)
        self.codes = nn.Conv2d(inputs, anchors * 4, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.depthwise(x)
        return self.scores(y), self.codes(y)


class MobileNetSSD(nn.Module):
    """Images [N, channels, H, W] to a tuple: scores and codes of each map, finest map first.

    What is left to do, `detection.decode`, is no part of the quantized graph.

    Args:
        multiplier: depth multiplier of all layers.
        classes: of objects; scores have one more, background, at 0.
        anchors: per cell of each map.
        layout, stem_stride: of the MobileNet.
        taps: the layers of the MobileNet that predict, block numbers from 1.
        extras: channels of the layers behind it; all of them predict.
    """

    def __init__(
        self,
        multiplier: float = 1.0,
        classes: int = 90,
        *,
        anchors: int = 6,
        channels: int = 3,
        activation: str = "relu6",
        layout: Layout = LAYOUT,
        stem_stride: int = 2,
        taps: Sequence[int] = TAPS,
        extras: Sequence[int] = EXTRAS,
    ) -> None:
        super().__init__()
        if list(taps) != sorted(set(taps)) or not taps or not 1 <= taps[0] <= len(layout):
            raise QgenError(f"taps {list(taps)} are not ascending numbers of blocks")
        if taps[-1] != len(layout):
            raise QgenError(f"the last tap must be the last block, {len(layout)}")
        layers = list(
            features(
                multiplier,
                channels=channels,
                act=activation,
                layout=layout,
                stem_stride=stem_stride,
            )
        )
        bounds = [0, *(tap + 1 for tap in taps)]
        stages: list[nn.Module] = [nn.Sequential(*layers[a:b]) for a, b in pairwise(bounds)]
        widths = [scaled(layout[tap - 1][0], multiplier) for tap in taps]
        for outputs in (scaled(c, multiplier) for c in extras):
            inner = max(outputs // 2, 8)
            stages.append(
                nn.Sequential(
                    conv(widths[-1], inner, 1, activation),
                    conv(inner, outputs, 3, activation, stride=2),
                )
            )
            widths.append(outputs)
        self.stages = nn.ModuleList(stages)
        self.predictions = nn.ModuleList(
            Prediction(w, anchors, classes + 1, activation) for w in widths
        )
        initialize(self)
        for prediction in self.predictions:
            # Small first scores and codes: the loss starts at log(classes + 1).
            nn.init.normal_(prediction.scores.weight, std=0.03)  # type: ignore[union-attr,arg-type]
            nn.init.normal_(prediction.codes.weight, std=0.03)  # type: ignore[union-attr,arg-type]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        outputs: list[Tensor] = []
        for stage, prediction in zip(self.stages, self.predictions, strict=True):
            x = stage(x)
            outputs += prediction(x)
        return tuple(outputs)
