"""Data for training: ImageNet-style folders, COCO-style annotations, small sets.

Images are float32 [C, H, W] in [-1, 1], the range of the quantized input (paper D.3, D.4).
"""

import qgen.train.needs_torch  # noqa: F401

from qgen.train.data.coco import CocoDetection
from qgen.train.data.digits import Digits
from qgen.train.data.faces import Faces
from qgen.train.data.folder import ImageFolder
from qgen.train.data.loader import batches
from qgen.train.data.shapes import Shapes

__all__ = ["CocoDetection", "Digits", "Faces", "ImageFolder", "Shapes", "batches"]
