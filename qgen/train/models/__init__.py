"""The systems of the paper as plain modules of PyTorch, at any size.

All take images [N, channels, H, W] with values in [-1, 1] and are traced by `torch.fx`; weights are
drawn from PyTorch's random generator, so `torch.manual_seed` fixes them.
"""

import qgen.train.needs_torch  # noqa: F401

from qgen.train.models.face_attributes import AGE_UNIT, FaceAttributes
from qgen.train.models.inception_v3 import InceptionV3
from qgen.train.models.mobilenet_ssd import MobileNetSSD
from qgen.train.models.mobilenet_v1 import MobileNetV1, mobilenet_v1
from qgen.train.models.resnet import ResNet, resnet, small_resnet

__all__ = [
    "AGE_UNIT",
    "FaceAttributes",
    "InceptionV3",
    "MobileNetSSD",
    "MobileNetV1",
    "ResNet",
    "mobilenet_v1",
    "resnet",
    "small_resnet",
]
