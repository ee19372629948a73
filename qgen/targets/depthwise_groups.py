"""Weights of blocks of channels in the order of a 3 x 3 depthwise program, under one pattern."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from qgen.ir.types import Array
from qgen.targets.depthwise_asm import TALL, Pattern
from qgen.targets.depthwise_neon import groups, split
from qgen.targets.finish import Finish

TAPS = TALL * TALL
MOST_HALVED = 2 * 127  # greatest weight of which both halves are int8; the least, -255, always is


@dataclass(frozen=True)
class Group:
    """Blocks that share a program.

    Attributes:
        starts: first channel of each block.
        pattern: of the taps.
        weights: int8 [block][row of pattern.order][lanes].
        reach: widest sum of an int16 lane.
        common: the pattern takes any weights, and the program any shift: ops share it.
    """

    starts: tuple[int, ...]
    pattern: Pattern
    weights: Array
    reach: int
    common: bool = False

    def end(self, finish: Finish) -> Finish:
        """How the program ends: a common one reads shifts, where others know them."""
        return replace(finish, immediate=None) if self.common else finish


def _chosen(taps: Array, starts: Sequence[int], lanes: int) -> Array:
    return np.concatenate([taps[:, s : s + lanes] for s in starts], axis=1)


def runs_of_taps(taps: Array, starts: Sequence[int], lanes: int) -> Group:
    """Rows of taps, of which neighbours share an int16 lane where their sums are proven to fit."""
    order, rows = split(_chosen(taps, starts, lanes))
    runs, reach = groups(rows)
    packed = rows.reshape(len(rows), len(starts), lanes).transpose(1, 0, 2).astype(np.int8)
    pattern = Pattern(tuple(order), tuple(len(r) for r in runs))
    return Group(tuple(starts), pattern, packed, reach)


def _halves(rows: Array) -> tuple[list[int], Array]:
    """As `split`, but all rows come twice, with half of their weights each."""
    halves = np.stack([rows // 2, rows - rows // 2], axis=1)
    order = np.repeat(range(len(rows)), 2).tolist()
    return order, halves.reshape(len(order), -1)


def halves_of_taps(taps: Array, starts: Sequence[int], lanes: int) -> Group:
    """Each tap twice: |w| is at most 255, so a run of both halves always fits."""
    chosen = _chosen(taps, starts, lanes)
    order, rows = _halves(chosen)
    packed = rows.reshape(len(rows), len(starts), lanes).transpose(1, 0, 2).astype(np.int8)
    pattern = Pattern(tuple(order), (2,) * TAPS)
    return Group(tuple(starts), pattern, packed, 128 * int(np.abs(chosen).max()), common=True)


def _columns(
    taps: Array, starts: Sequence[int], lanes: int, common: bool
) -> tuple[tuple[int, ...], Array]:
    """Columns of taps [row of weights][3][block][lane], and which; one comes twice where a weight
    leaves int8, all of them if `common`."""
    order, found = (_halves if common else split)(_chosen(taps, starts, lanes).reshape(TALL, -1))
    return tuple(order), found.reshape(len(order), TALL, len(starts), lanes)


def columns_of_taps(
    taps: Array, starts: Sequence[int], lanes: int, *, common: bool = False
) -> Group:
    """Columns as [upper, lower][lane][4]."""
    order, columns = _columns(taps, starts, lanes, common)
    packed = np.zeros((len(starts), len(order), 2, lanes, 4), np.int8)
    for below in range(2):
        packed[:, :, below, :, below : below + TALL] = columns.transpose(2, 0, 3, 1)
    # Programs are many: a few blocks of an op are not worth one of their own.
    whole = len(starts) * lanes >= taps.shape[1] and not common
    pattern = Pattern(order, vectors=_vectors(columns) if whole else ())
    return Group(tuple(starts), pattern, packed, 0, common)


def single_columns_of_taps(
    taps: Array, starts: Sequence[int], lanes: int, *, common: bool = False
) -> Group:
    """Columns as [lane][4]."""
    order, columns = _columns(taps, starts, lanes, common)
    packed = np.zeros((len(starts), len(order), lanes, 4), np.int8)
    packed[..., :TALL] = columns.transpose(2, 0, 3, 1)
    pattern = Pattern(order, vectors=() if common else _vectors(columns))
    return Group(tuple(starts), pattern, packed, 0, common)


def _vectors(columns: Array) -> tuple[int, ...]:
    """Vectors of four channels that have weights, as `Pattern` wants them."""
    rows, _, blocks, lanes = columns.shape
    found = columns.reshape(rows, TALL, blocks, lanes // 4, 4).any(axis=(1, 2, 4))
    masks = (found << np.arange(lanes // 4)).sum(axis=1)
    return () if found.all() else tuple(masks.tolist())
