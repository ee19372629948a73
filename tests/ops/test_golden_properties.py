"""Golden against exact models written independently of it (naive.py)."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from itertools import count, islice

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from qgen.errors import QgenError
from qgen.ir import interp, numerics
from qgen.ir.graph import Graph
from qgen.ir.linear import Linear
from qgen.ir.numerics import INT32_MAX, INT32_MIN
from qgen.ir.op import Env, Op
from qgen.ir.ops.conv2d import Conv2D
from qgen.ir.ops.depthwise_conv2d import DepthwiseConv2D
from qgen.ir.ops.fully_connected import FullyConnected
from qgen.ir.types import Activation, Array, DType, QParams, Rounding
from qgen.passes.legalize import legalize
from qgen.passes.storage import as_stored, signed_storage
from qgen.verify.inputs import model_inputs
from tests.ops import naive
from tests.ops.strategies import OPS, one, program

INT32 = st.integers(INT32_MIN, INT32_MAX) | st.sampled_from(
    [INT32_MIN, INT32_MIN + 1, -(2**30), -3, -2, -1, 0, 1, 2, 3, 2**30, INT32_MAX]
)
# 2**30 makes every product a power of two times the accumulator, so that ties are common.
M0 = st.integers(2**30, 2**31 - 1) | st.sampled_from([0, 2**30, 3 * 2**29, 2**31 - 1])
SHIFT = st.integers(-31, 30) | st.integers(-8, 2)


@pytest.mark.parametrize("rounding", Rounding)
@settings(max_examples=400, deadline=None)
@given(acc=INT32, m0=M0, shift=SHIFT, m1=st.integers(0, 2**22 - 1) | st.just(0))
@example(acc=-1, m0=2**30, shift=0, m1=0)
@example(acc=-3, m0=2**30, shift=0, m1=0)
@example(acc=-1, m0=2**30, shift=0, m1=1)
@example(acc=INT32_MIN, m0=2**31 - 1, shift=30, m1=2**22 - 1)
@example(acc=INT32_MAX, m0=2**31 - 1, shift=30, m1=2**22 - 1)
@example(acc=INT32_MIN, m0=2**30, shift=-31, m1=0)
def test_requantize(rounding: Rounding, acc: int, m0: int, shift: int, m1: int) -> None:
    low = m1 if rounding is Rounding.NEAREST else 0
    got = numerics.requantize(np.array([acc]), m0, shift, rounding, low)
    assert got.tolist() == [naive.requantize(acc, m0, shift, rounding, low)]


def test_roundings_differ_on_ties() -> None:
    ties = np.array([-3, -1, 1, 3])
    halves = {r: numerics.requantize(ties, 2**30, 0, r).tolist() for r in Rounding}
    assert halves[Rounding.SINGLE] == [-1, 0, 1, 2]
    assert halves[Rounding.NEAREST] == [-2, -1, 1, 2]
    assert halves[Rounding.GEMMLOWP] == [-1, 0, 1, 2]
    quarters = numerics.requantize(np.array([-2, 2]), 2**30, -1, Rounding.GEMMLOWP)
    assert quarters.tolist() == [-1, 1]  # the shift, unlike SQRDMULH, turns ties away from zero


@settings(max_examples=400, deadline=None)
@given(x=INT32, exponent=st.integers(0, 31))
def test_right_shift_is_srshl_with_fixup(x: int, exponent: int) -> None:
    """Appendix B: SRSHL rounds ties up; one is taken off negative values first, saturating."""
    minus_one_if_negative = -1 if x < 0 and exponent > 0 else 0
    fixed = max(x + minus_one_if_negative, INT32_MIN)
    srshl = (fixed + ((1 << exponent) >> 1)) >> exponent
    got = numerics.rounding_right_shift(np.array([x]), exponent).tolist()
    assert got == [srshl] == [naive.round_half_away(Fraction(x, 1 << exponent))]


@settings(max_examples=300, deadline=None)
@given(a=INT32, b=INT32)
@example(a=INT32_MIN, b=INT32_MIN)
def test_doubling_high_mul(a: int, b: int) -> None:
    assert numerics.rounding_doubling_high_mul(np.array([a]), b).tolist() == [naive.high_mul(a, b)]


@settings(max_examples=300, deadline=None)
@given(st.floats(2.0**-31, 2.0**29))
def test_quantize_multiplier_is_nearest(real: float) -> None:
    m0, shift = numerics.quantize_multiplier(real)
    assert 2**30 <= m0 < 2**31
    error = abs(Fraction(m0) * Fraction(2) ** (shift - 31) - Fraction(real))
    assert error <= Fraction(2) ** (shift - 32)


def test_quantize_multiplier_at_the_ends() -> None:
    assert numerics.quantize_multiplier(0.0) == (0, 0)
    assert numerics.quantize_multiplier(2.0**-33) == (0, 0)
    assert numerics.quantize_multiplier(2.0**-32) == (2**30, -31)
    assert numerics.quantize_multiplier(1.0 - 2.0**-40) == (2**30, 1)
    for bad in (-1.0, math.inf, math.nan):
        with pytest.raises(QgenError, match="is not a non-negative number"):
            numerics.quantize_multiplier(bad)
    with pytest.raises(QgenError, match=r"multiplier 1073741824.0 is too large .*check the scales"):
        numerics.quantize_multiplier(2.0**30)


@settings(max_examples=150, deadline=None)
@given(real=st.floats(1e-6, 30.0), accs=st.lists(st.integers(-(2**24), 2**24), min_size=1))
def test_exact_multiplier_is_the_double(real: float, accs: list[int]) -> None:
    try:
        (m0, shift), m1 = numerics.exact_multiplier(real, -(2**24), 2**24)
    except QgenError as e:
        assert "meets a tie" in e.message
        return
    assert Fraction((m0 << 22) + m1) * Fraction(2) ** (shift - 53) == Fraction(real)
    got = numerics.requantize(np.array(accs), m0, shift, Rounding.NEAREST, m1)
    assert got.tolist() == [naive.round_half_away(a * Fraction(real)) for a in accs]


def test_exact_multiplier_refuses_what_a_double_cannot_tell() -> None:
    # 3 * fl(1/6) lies below one half, but its product in double is one half.
    with pytest.raises(QgenError, match="meets a tie that double precision cannot tell"):
        numerics.exact_multiplier(0.5 / 3, -10, 10)
    assert numerics.exact_multiplier(0.5, -10, 10) == ((2**30, 0), 0)
    assert numerics.exact_multiplier(2.0**-40, -10, 10) == ((0, 0), 0)


@settings(max_examples=200, deadline=None)
@given(total=st.integers(-(2**20), 2**20), n=st.integers(1, 400), ties_away=st.booleans())
def test_divide_rounding(total: int, n: int, ties_away: bool) -> None:
    rounded = naive.round_half_away if ties_away else naive.round_half_up
    got = numerics.divide_rounding(np.array([total]), n, ties_away)
    # n odd has no ties; floor of half the count then rounds to nearest as well.
    assert got.tolist() == [rounded(Fraction(total, n))]


def test_fixed_point_functions_are_close_to_the_real_ones() -> None:
    # The Taylor polynomial leaves out (1/8)^5 / 5!, which is 2.54e-7.
    raw = np.unique(np.linspace(INT32_MIN + 1, 0, 4001).astype(np.int64))
    for bits in (4, 5):
        reals = raw / 2.0 ** (31 - bits)
        assert np.abs(numerics.exp_negative(raw, bits) / 2.0**31 - np.exp(reals)).max() < 2.6e-7
    both = np.concatenate([raw, -raw])
    reals = both / 2.0**27
    logistic = numerics.logistic(both, 4) / 2.0**31
    assert np.abs(logistic - 1 / (1 + np.exp(-reals))).max() < 2.6e-7
    assert np.abs(numerics.tanh(both, 4) / 2.0**31 - np.tanh(reals)).max() < 4e-7


def test_activation_ranges() -> None:
    q = QParams((0.5,), 10)
    ranges = {a: numerics.activation_range(a, q, DType.U8) for a in Activation}
    assert ranges == {
        Activation.NONE: (0, 255),
        Activation.RELU: (10, 255),
        Activation.RELU6: (10, 22),
        Activation.RELU_N1_TO_1: (8, 12),
    }
    # 0.5 / 0.2 = 2.5 in single precision: halves go away from zero.
    assert numerics.quantize_value(-1.0, 0.4, 0) == -3


# -- ops -----------------------------------------------------------------------------------------


def small(
    name: str, most: int, cases: int, wanted: Callable[[Op], bool] = lambda op: True
) -> list[Op]:
    """The first `cases` legalized random ops with at most `most` multiplications."""
    ops = (one(name, 7, case) for case in count())
    found = islice((op for op in ops if op.cost().macs <= most and wanted(op)), cases)
    return [legalize(Graph("g", tuple(op.inputs()), (op.out,), (op,))).ops[0] for op in found]


def bound_is_reachable(op: Op) -> bool:
    """A window lies inside the image, and the widest channel is the one with the widest bound."""
    if isinstance(op, FullyConnected):
        return op.channels == 1
    assert isinstance(op, Conv2D | DepthwiseConv2D)
    per_channel = isinstance(op, DepthwiseConv2D) and op.depth_multiplier == 1
    return not op.window.padded and (op.channels == 1 or per_channel)


def some_input(op: Linear, rng: np.random.Generator) -> Array:
    kind = op.x.dtype
    return rng.integers(kind.min, kind.max, op.x.shape, kind.numpy, endpoint=True)


def finished(op: Linear, acc: Array, rounding: Rounding) -> Array:
    """Accumulators [..., channels] requantized one by one."""
    assert op.m0 and op.shift and op.clamp
    rounding = op.rounding(rounding)
    y = np.empty(acc.shape, np.int64)
    for place, value in np.ndenumerate(acc):
        o = place[-1]
        m1 = int(op.m1.const[o]) if op.m1 else 0
        scaled = naive.requantize(
            int(value), int(op.m0.const[o]), int(op.shift.const[o]), rounding, m1
        )
        y[place] = min(max(scaled + op.out.zero, op.clamp[0]), op.clamp[1])
    return y.reshape(op.out.shape)


def naive_sums(op: Linear, x: Array) -> Array:
    if not isinstance(op, FullyConnected):
        return naive.accumulators(op, x)
    rows = x.reshape(-1, op.w.shape[1]).tolist()
    w = op.w.const.tolist()
    return np.array(
        [
            [
                sum((a - op.x.zero) * (b - op.w.zero) for a, b in zip(row, column, strict=True))
                + (int(op.b.const[o]) if op.b else 0)
                for o, column in enumerate(w)
            ]
            for row in rows
        ]
    )


@pytest.mark.parametrize("name", ["conv2d", "depthwise_conv2d", "fully_connected"])
def test_linear_ops_equal_nested_loops(name: str) -> None:
    rng = np.random.default_rng(0)
    for op in small(name, 6000, 15):
        assert isinstance(op, Linear)
        x = some_input(op, rng)
        acc, bound = naive_sums(op, x), op.bounds()
        assert bound.low <= acc.min() and acc.max() <= bound.high
        for rounding in Rounding:
            got = op.eval(Env(lambda t, x=x: x, rounding))  # type: ignore[misc]
            assert got.tolist() == finished(op, acc, rounding).tolist(), (op.name, op.loc)


@pytest.mark.parametrize("name", ["conv2d", "depthwise_conv2d", "fully_connected"])
def test_adversarial_inputs_reach_the_bound(name: str) -> None:
    rng = np.random.default_rng(1)
    for op in small(name, 20000, 6, bound_is_reachable):
        assert isinstance(op, Linear)
        sums = [naive_sums(op, x) for x in op.adversarial(rng)]
        bound = op.bounds()
        assert (min(s.min() for s in sums), max(s.max() for s in sums)) == (bound.low, bound.high)


def test_mean_adversarial_inputs_reach_the_bound() -> None:
    rng = np.random.default_rng(1)
    for op in small("mean", 10**6, 20):
        bound = op.bounds()
        assert bound is not None
        sums = [
            (x.astype(np.int64) - op.x.zero).sum(axis=op.axes)  # type: ignore[attr-defined]
            for x in op.adversarial(rng)  # type: ignore[attr-defined]
        ]
        assert (sums[0].min(), sums[1].max()) == (bound.low, bound.high)


@pytest.mark.parametrize("name", OPS)
def test_signed_storage_keeps_the_meaning(name: str) -> None:
    model = legalize(program(name, Rounding.GEMMLOWP, 60, 8))
    stored = signed_storage(model)
    new = {t.name: t for t in stored.activations}
    moved = [t for t in model.activations if t.dtype is not new[t.name].dtype]
    assert moved and all(new[t.name].zero == t.zero - 128 for t in moved)
    edges = {*stored.inputs, *stored.outputs}
    assert all(
        t.dtype is not DType.U8 for t in new.values() if t not in edges and not _tied(t, stored)
    )
    for _, arrays in model_inputs(model.inputs, 3, np.random.default_rng(2)):
        before, after = interp.run_all(model, arrays), interp.run_all(stored, arrays)
        for key, value in before.items():
            assert np.array_equal(as_stored(value, new[key]), after[key]), key


def _tied(t: object, graph: Graph) -> bool:
    """Part of an op that only moves values: it may share the caller's storage."""
    return any(t in (*op.operands(), op.out) for op in graph.ops if op.SAME_STORAGE)
