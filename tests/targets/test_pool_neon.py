"""The quotients of the 16-bit average pool: every sum of every size of window, against golden."""

from __future__ import annotations

import numpy as np
import pytest

from qgen.ir.numerics import divide_rounding
from qgen.targets.pool_neon import LARGEST_COUNT, _reciprocal


@pytest.mark.parametrize("ties_away", [False, True])
def test_every_sum_is_divided_exactly(ties_away: bool) -> None:
    found = {n: r for n in range(2, LARGEST_COUNT + 1) if (r := _reciprocal(n))}
    # Windows of networks: 3 x 3, 4 x 4, 5 x 5, 7 x 7, 8 x 8, 25 x 5.
    assert {9, 16, 25, 49, 64, 125} <= set(found)
    for count, (reciprocal, shift) in found.items():
        sums = np.arange(-128 * count, 127 * count + 1, dtype=np.int64)
        turned = np.where(sums < 0, -1, 0) if ties_away and count % 2 == 0 else 0
        dividends = sums + turned + 128 * count + count // 2
        assert dividends.min() >= 0 and dividends.max() < 1 << 16
        quotients = (dividends * reciprocal >> (16 + shift)) - 128
        assert (quotients == divide_rounding(sums, np.int64(count), ties_away=ties_away)).all()
