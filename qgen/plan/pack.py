"""Offsets for blocks of known size and lifetime, in an arena as small as can be found.

Blocks are put down one by one, each into the tightest gap between the blocks that live at the same
time (greedy by size is what TFLite Micro does; Pisarchyk & Lee 2020, arXiv:2001.03288, compare
such orders). Several orders are tried, then random exchanges in the best order, until the lower
bound is met.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

ROUNDS = 400
# Packing takes about n^2 steps; large graphs get fewer rounds so that planning stays quick.
STEPS = 1_500_000


@dataclass(frozen=True)
class Block:
    """`size` bytes, already rounded to the alignment, live at op indices [first, last]."""

    key: Hashable
    size: int
    first: int
    last: int

    def meets(self, other: Block) -> bool:
        return self.first <= other.last and other.first <= self.last


def liveness(blocks: Sequence[Block], steps: int) -> list[int]:
    """Bytes live at each of `steps` op indices."""
    change = [0] * (steps + 1)
    for b in blocks:
        change[max(b.first, 0)] += b.size
        change[min(b.last, steps - 1) + 1] -= b.size
    live, total = [], 0
    for delta in change[:steps]:
        total += delta
        live.append(total)
    return live


def pack(blocks: Sequence[Block]) -> tuple[list[int], int]:
    """Offsets of `blocks` and the size of the arena. Deterministic."""
    n = len(blocks)
    if not n:
        return [], 0
    bound = max(liveness(blocks, max(b.last for b in blocks) + 1))
    meets = [[j for j in range(n) if j != i and blocks[i].meets(blocks[j])] for i in range(n)]
    live = liveness(blocks, max(b.last for b in blocks) + 1)

    def pressure(b: Block) -> int:
        return max(live[b.first : b.last + 1])

    keys: list[Callable[[Block], tuple[int, ...]]] = [
        lambda b: (-b.size, b.first),
        lambda b: (-b.size * (b.last - b.first + 1), b.first),
        lambda b: (b.first - b.last, -b.size),
        lambda b: (-pressure(b), -b.size, b.first),
        lambda b: (b.first, -b.last),
        lambda b: (-b.last, b.first),
    ]
    best: list[int] = []
    order: list[int] = []
    top = -1
    for key in keys:
        candidate = sorted(range(n), key=lambda i: (*key(blocks[i]), i))
        offsets, height = _place(blocks, meets, candidate)
        if top < 0 or height < top:
            best, order, top = offsets, candidate, height
        if top == bound:
            return best, top
    rng = random.Random(0)
    for _ in range(min(ROUNDS, STEPS // (n * n))):
        candidate = order.copy()
        for _ in range(rng.randint(1, 3)):
            i, j = rng.randrange(n), rng.randrange(n)
            if rng.random() < 0.5:
                candidate[i], candidate[j] = candidate[j], candidate[i]
            else:
                candidate.insert(j, candidate.pop(i))
        offsets, height = _place(blocks, meets, candidate)
        if height <= top:
            best, order, top = offsets, candidate, height
        if top == bound:
            break
    return best, top


def _place(
    blocks: Sequence[Block], meets: Sequence[Sequence[int]], order: Sequence[int]
) -> tuple[list[int], int]:
    """Best fit in the given order: the smallest gap that is large enough, else on top."""
    offsets = [-1] * len(blocks)
    height = 0
    for i in order:
        size = blocks[i].size
        taken = sorted((offsets[j], blocks[j].size) for j in meets[i] if offsets[j] >= 0)
        cursor, chosen, tightest = 0, -1, -1
        for start, length in taken:
            gap = start - cursor
            if gap >= size and (chosen < 0 or gap < tightest):
                chosen, tightest = cursor, gap
            cursor = max(cursor, start + length)
        offsets[i] = cursor if chosen < 0 else chosen
        height = max(height, offsets[i] + size)
    return offsets, height
