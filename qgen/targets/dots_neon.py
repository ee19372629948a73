"""conv2d and fully_connected with fewer output channels than a matrix kernel's tile, on NEON.

Each output is a dot product along the inputs, 16 products at a time. A window of more than one
pixel reads rows that were copied to scratch before, as int8 and with the padding around them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from qgen.ir.linear import Linear
from qgen.ir.ops.conv2d import Conv2D
from qgen.ir.ops.fully_connected import FullyConnected
from qgen.ir.types import Array, DType, Rounding
from qgen.targets import portable
from qgen.targets.fold import fold_zero_points, overflow_reason
from qgen.targets.neon import FILL, GATHER, NEON
from qgen.targets.spec import Constant, KernelSpec, Prepared

VECTOR = 16
MOST_CHANNELS = 3  # from 4 on there is a tile
INT8_MIN = -128


def starts(run: int) -> list[int]:
    """First element of each vector of a run; the last vector overlaps where it must."""
    whole = list(range(0, run - VECTOR + 1, VECTOR))
    return whole if run and run % VECTOR == 0 else [*whole, max(run - VECTOR, 0)]


def packed(weights: Array, lines: int) -> Array:
    """int8 [K, channels] as [line][vector][channel][16], 0 where a vector has been before."""
    depth, channels = weights.shape
    run = depth // lines
    rows = weights.reshape(lines, run, channels)
    at = starts(run)
    found = np.zeros((lines, len(at), channels, VECTOR), np.int8)
    done = 0
    for v, start in enumerate(at):
        end = min(start + VECTOR, run)
        part = rows[:, done:end].transpose(0, 2, 1)
        found[:, v, :, done - start : end - start] = part
        done = end
    return found


def _direct(op: Linear) -> bool:
    """The inputs of an output lie side by side in x."""
    return isinstance(op, FullyConnected) or (
        isinstance(op, Conv2D) and op.w.shape[1:3] == (1, 1) and not op.window.padded
    )


def _refuses(op: Linear, rounding: Rounding) -> str:
    if op.channels > MOST_CHANNELS:
        return f"more than {MOST_CHANNELS} output channels"
    weights, _, factor = fold_zero_points(op)
    if factor.any():
        return "weights leave int8"
    if _direct(op):
        if weights.shape[0] < VECTOR:
            return f"fewer than {VECTOR} inputs"
    elif isinstance(op, Conv2D) and op.window.w.dilation > 1 and op.window.w.kernel > 1:
        return "the columns of the window are apart"
    return overflow_reason(op)


def _place(op: Linear) -> dict[str, Any]:
    """Where the inputs of an output are: lines of `run` elements, `step` from output to output."""
    if isinstance(op, FullyConnected):
        depth = op.w.shape[1]
        return {"N": 1, "OH": 1, "OW": op.rows, "lines": 1, "run": depth, "step": depth, "pitch": 0}
    assert isinstance(op, Conv2D)
    win, channels = op.window, op.x.shape[3]
    found = portable.image_vars(op) | {
        "lines": win.h.kernel,
        "run": win.w.kernel * channels,
        "step": win.w.stride * channels,
        "pitch": (win.w.size + win.w.before + win.w.after) * channels,
    }
    return found | {"line": win.h.stride * win.w.size * channels}


def _dots(op: Linear, rounding: Rounding) -> Prepared:
    weights, bias, _ = fold_zero_points(op)
    rounding = op.rounding(rounding)
    place, direct = _place(op), _direct(op)
    order = packed(weights, place["lines"])
    # Lanes j and j + 8 share an int16 lane: (-128)^2 twice is all that does not fit.
    alone = bool(((order[..., :8] == INT8_MIN) & (order[..., 8:] == INT8_MIN)).any())
    unsigned = op.x.dtype is DType.U8
    constants = portable.requant_constants(op) | {
        "w": Constant(order, f"[row of the window][vector][{op.channels} channels][16]"),
        "b": Constant(bias.astype(np.int32), "bias - Z * sum(w - Zw)"),
    }
    return Prepared(
        constants=constants,
        scratch=0 if direct else place["lines"] * place["pitch"] + VECTOR,
        helpers=(
            *(() if direct else (FILL, GATHER)),
            portable.REQUANTIZE[rounding],
            portable.CLAMP,
        ),
        vars=portable.common_vars(op, rounding)
        | place
        | {
            "O": op.channels,
            "direct": direct,
            "alone": alone,
            "starts": starts(place["run"]),
            "unsigned": unsigned and direct,
            "flip": -128 if unsigned else 0,
            "fill": op.x.zero - (128 if unsigned else 0),
        },
        notes=("zero points folded into the bias (Q15); no row sums",),
    )


ROWS = tuple(
    KernelSpec(
        name=f"qs8_{op}__neon_dots",
        op=op,
        template="conv2d/neon_dots.c.j2",
        requires=NEON,
        prepare=_dots,
        refuses=_refuses,
    )
    for op in ("conv2d", "fully_connected")
)
