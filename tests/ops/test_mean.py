"""mean: values worked out by hand; what it refuses. The oracle's view is in test_golden."""

from __future__ import annotations

import numpy as np
import pytest

from qgen.errors import QgenError
from qgen.ir import interp
from qgen.ir.graph import Graph
from qgen.ir.numerics import Multiplier, divide_multiplier
from qgen.ir.ops.mean import Mean
from qgen.ir.types import DType, QParams, Tensor, TensorType
from qgen.passes.legalize import legalize


def mean(
    axes: tuple[int, ...], shape: tuple[int, ...], kind: DType = DType.I8, **fields: bool
) -> Mean:
    x = Tensor("x", TensorType(DType.I8, (2, 3, 4), QParams((0.5,), 1)))
    return Mean(
        x=x, axes=axes, out=Tensor("y", TensorType(kind, shape, QParams((0.25,), -3))), **fields
    )


def test_values_by_hand() -> None:
    op = mean((0, 2), (3,))
    x = np.zeros((2, 3, 4), np.int8)
    x[:, 1], x[0, 2, 0] = 21, -128
    (y,) = interp.run(legalize(Graph("g", (op.x,), (op.out,), (op,))), [x])
    # -3 + round(2 * mean(x - 1)): means -1, 20 and -17.
    assert y.tolist() == [-5, 37, -37]
    assert y.dtype == np.int8


def test_keep_dims_bounds_cost() -> None:
    assert mean((0, 2), (1, 3, 1), keep_dims=True).count == 8
    bounds = mean((0, 2), (3,)).bounds()
    assert (bounds.low, bounds.high) == (-129 * 8, 126 * 8)
    op = mean((1,), (2, 4))
    low, high = op.adversarial(np.random.default_rng(0))
    assert (low.min(), high.max()) == (-128, 127) and op.cost().elementwise == 24


def test_divided_multiplier_keeps_its_precision() -> None:
    assert divide_multiplier(Multiplier(1 << 30, 1), 1) == (1 << 30, 1)
    # 49 lies between 32 and 64: five bits are gained before the division.
    assert divide_multiplier(Multiplier(1 << 30, 1), 49) == ((1 << 35) // 49, -4)
    # The right shift never passes 31.
    assert divide_multiplier(Multiplier(1 << 30, -31), 49) == ((1 << 30) // 49, -31)


def test_errors() -> None:
    for axes in ((), (2, 0), (1, 1), (3,), (-1,)):
        with pytest.raises(QgenError, match="are not ascending axes of rank 3"):
            mean(axes, (2, 3))
    with pytest.raises(QgenError, match="needs u8 or i8 on both sides"):
        mean((1,), (2, 4), DType.I32)
    with pytest.raises(QgenError, match=r"yields \[2, 4\], but its type says \[2, 1, 4\]"):
        mean((1,), (2, 1, 4))
