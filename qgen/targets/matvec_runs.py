"""(Q16) For how long an int16 lane of the matrix x vector kernel takes products, proven."""

from __future__ import annotations

import numpy as np

from qgen.ir.types import Array
from qgen.targets.gemm import INT16_MAX, lane_range

LANES = 8
MOST_POINTS = 64  # of a block, where lanes may start anew


def point_bits(fresh: Array) -> Array:
    """A bit per point, the first one lowest; int32 halves, low first."""
    word = sum(int(f) << i for i, f in enumerate(fresh[:MOST_POINTS]))
    return np.asarray(np.array([word], np.uint64).view(np.int32))


def _lanes(block: Array, grain: int) -> tuple[Array, Array]:
    """Ranges [K / (8 grain)][8][channels] of lanes that take `grain` products."""
    down, up = lane_range(block.reshape(-1, grain, LANES, block.shape[1]))
    return down, up


def grain_of(block: Array, most: int) -> int:
    """The most products of a lane of which every group fits; 0 if not even those of a step do."""
    for grain in (16, 12, 8, 4):
        if grain <= most and most % grain == 0:
            down, up = _lanes(block, grain)
            if up.max() <= INT16_MAX and down.min() >= -INT16_MAX - 1:
                return grain
    return 0


def runs(block: Array, turn: int, grain: int) -> tuple[Array, Array]:
    """(Q16) Whether lanes start anew at each point inside turns of `turn` products; bounds [8]."""
    downs, ups = _lanes(block, grain)
    points = turn // grain
    fresh = []
    low = high = np.zeros(downs.shape[1:], np.int64)
    widest = np.zeros(block.shape[1], np.int64)
    for i, (down, up) in enumerate(zip(downs, ups, strict=True)):
        low, high = low + down, high + up
        anew = bool(high.max() > INT16_MAX or low.min() < -INT16_MAX - 1)
        if i % points == 0 or anew:
            low, high = down, up
        if i % points:
            fresh.append(anew)
        widest = np.maximum(widest, np.maximum(high, -low - 1).max(axis=0))
    return np.array(fresh, bool), widest
