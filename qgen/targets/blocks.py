"""Blocks of channels: constants in the order in which vector kernels read them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qgen.ir.types import Array


def block_starts(channels: int, lanes: int) -> list[int]:
    """First channel of each block; the last overlaps its neighbour where it must."""
    starts = list(range(0, channels - lanes + 1, lanes))
    return starts if channels % lanes == 0 else [*starts, channels - lanes]


def block_vars(channels: int, lanes: int) -> dict[str, object]:
    """How many blocks there are, and the C expression of a block's first channel."""
    blocks = len(block_starts(channels, lanes))
    channel = f"block * {lanes}" if blocks > 1 else "0"
    if channels % lanes:
        last = channels - lanes
        channel = f"block * {lanes} < {last} ? block * {lanes} : {last}"
    return {"blocks": blocks, "channel": channel}


def by_blocks(rows: Sequence[Array], starts: Sequence[int], lanes: int) -> Array:
    """Rows of [channels] as [block][row][lanes]."""
    return np.stack([np.stack([r[s : s + lanes] for r in rows]) for s in starts])
