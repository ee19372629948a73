"""The face-attribute classifier: a MobileNet with binary attributes and age; section 4.2.4."""

from __future__ import annotations

from torch import Tensor, nn

from qgen.train.models.blocks import initialize, scaled
from qgen.train.models.mobilenet_v1 import LAYOUT, Layout, features


class FaceAttributes(nn.Module):
    """Faces [N, channels, H, W] to attribute logits [N, attributes] and age [N, 1].

    A logit above 0 says that the attribute is there. Age is in units of `AGE_UNIT` years, so that
    its loss weighs about as much as those of the attributes.
    """

    def __init__(
        self,
        multiplier: float = 1.0,
        attributes: int = 40,
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
        width = scaled(layout[-1][0], multiplier)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.attributes = nn.Linear(width, attributes)
        self.age = nn.Linear(width, 1)
        initialize(self)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        pooled = self.flatten(self.pool(self.features(x)))
        return self.attributes(pooled), self.age(pooled)


AGE_UNIT = 20.0
