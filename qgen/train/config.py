"""How a network is quantized while it trains."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from qgen.errors import QgenError
from qgen.ir.types import BIT_DEPTHS


class Statistics(Enum):
    """Where batch norm takes the statistics of a batch from while it is folded (section 3.2).

    FLOAT convolves a second time with the weights as they are, as Figure C.8 does. QUANTIZED uses
    the convolution with quantized weights that is there anyway, divided by its folding factor:
    one convolution instead of two.
    """

    FLOAT = "float"
    QUANTIZED = "quantized"


@dataclass(frozen=True, kw_only=True)
class QatConfig:
    """What `create_training_graph` simulates.

    Attributes:
        weight_bits, activation_bits: B of n = 2^B levels in eq. (12), 4 to 8. Weights use n - 1
            of them, so that int8 weights are never -128 (section 3.1).
        per_channel: one scale per output channel instead of one per tensor; their zero points are
            0, since the IR has one zero point per tensor.
        symmetric: zero points of weights are 0 per tensor too. The range is up to twice as wide,
            but w - Z fits int8 however skewed it is.
        smoothing: weight of the past in the moving averages of activation ranges, in [0, 1).
        delay: training steps during which activations are observed but not yet quantized.
        statistics: see `Statistics`.
    """

    weight_bits: int = 8
    activation_bits: int = 8
    per_channel: bool = False
    symmetric: bool = False
    smoothing: float = 0.99
    delay: int = 0
    statistics: Statistics = Statistics.QUANTIZED

    def __post_init__(self) -> None:
        for what, bits in (("weights", self.weight_bits), ("activations", self.activation_bits)):
            if bits not in BIT_DEPTHS:
                raise QgenError(f"{what} cannot have {bits} bits", hint="choose 4 to 8")
        if not (math.isfinite(self.smoothing) and 0.0 <= self.smoothing < 1.0):
            raise QgenError(f"smoothing {self.smoothing} is not in [0, 1)")
        if self.delay < 0:
            raise QgenError(f"delay {self.delay} is negative")

    @property
    def weight_levels(self) -> tuple[int, int]:
        """Smallest and largest quantized weight."""
        most = (1 << (self.weight_bits - 1)) - 1
        return -most, most
