"""Channels without weights, as `passes/dead_last.py` leaves them: results known at build time.

An end that narrows to unsigned bytes leaves zeros where the sums of such channels would be. Turning
the top bit is an exclusive or, which as well puts the channel's constant there.
"""

from __future__ import annotations

import numpy as np

from qgen.ir.linear import Linear
from qgen.ir.numerics import requantize, saturate
from qgen.ir.types import Array, Rounding
from qgen.targets.finish import Finish

VECTOR = 4  # channels of a register of sums


def last_is_empty(op: Linear, finish: Finish) -> bool:
    """The last vector of channels has no weights, and the end flips unsigned bytes."""
    return finish.unsigned and finish.flip and not op.weight_matrix()[:, -VECTOR:].any()


def flips(op: Linear, rounding: Rounding) -> Array:
    """int8 [channels]: -128, but what turns 0 into the result for the last vector of channels."""
    assert op.m0 is not None and op.shift is not None and op.clamp is not None
    low = op.m1.const if op.m1 else 0
    bias = op.bias().astype(np.int64)
    y = requantize(bias, op.m0.const, op.shift.const, op.rounding(rounding), low) + op.out.zero
    results: Array = saturate(y, *op.clamp, op.out.dtype).astype(np.int8)
    results[:-VECTOR] = -128
    return results
