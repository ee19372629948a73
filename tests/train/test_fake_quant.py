"""Fake quantization: eq. (12), (13), levels, gradients, ranges."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qgen.ir.numerics import nudge, quantize_value, round_all, round_half_away
from qgen.ir.types import QParams
from qgen.train import QatConfig
from qgen.train.fake_quant import FakeQuantize, WeightQuantizer, fake_quantize
from qgen.train.observe import STORED

BITS = range(4, 9)
ends = st.floats(-1e4, 1e4, width=32)


@given(ends, ends, st.sampled_from(BITS), st.booleans())
def test_nudged_ranges_hold_zero(a: float, b: float, bits: int, narrow: bool) -> None:
    """The n levels of eq. (13) reach from about min(a, 0) to about max(b, 0), 0.0 among them."""
    low, high = min(a, b, 0.0), max(a, b, 0.0)
    if high - low < 1e-30:
        return
    levels = QParams((), 0, None, bits).limits(STORED)
    levels = (levels[0] + narrow, levels[1])
    assert levels[1] - levels[0] + 1 == 2**bits - narrow
    scale, zero = nudge(low, high, levels)
    assert scale == np.float32(scale)
    assert levels[0] <= zero <= levels[1]
    # Nudging moves the ends by at most half a step, in the same direction.
    assert abs(scale * (levels[0] - zero) - low) <= 0.501 * scale
    assert abs(scale * (levels[1] - zero) - high) <= 0.501 * scale
    x = torch.tensor([0.0, low, high, 2 * low - 1.0, 2 * high + 1.0])
    y = fake_quantize(x, scale, zero, levels)
    assert y[0] == 0.0
    assert set(y.tolist()) <= {
        np.float32(scale) * (q - zero) for q in range(levels[0], levels[1] + 1)
    }


@given(st.lists(st.floats(-300, 300, width=32), min_size=1), st.floats(2**-7, 10.0, width=32))
def test_rounds_as_inference_quantizes(values: list[float], scale: float) -> None:
    """Inside the range, the integer of a simulated value is (Q1) of the real one."""
    y = fake_quantize(torch.tensor(values), scale, 3, (-(10**6), 10**6)) / scale
    assert [round(v) + 3 for v in y.tolist()] == [quantize_value(v, scale, 3) for v in values]


def test_one_rounding_for_both_libraries() -> None:
    values = np.concatenate([np.arange(-9, 10) / 2, np.linspace(-3, 3, 1001)]).astype(np.float32)
    expected = [round_half_away(float(v)) for v in values]
    assert round_all(values, np).tolist() == expected
    assert round_all(torch.from_numpy(values), torch).tolist() == expected


def test_gradient_is_straight_through() -> None:
    """1 inside the range, 0 outside: levels -2 to 5 of scale 0.5 reach from -1 to 2.5."""
    x = torch.tensor([-1.3, -1.2, -1.0, 0.1, 0.3, 2.5, 2.7, 2.8], requires_grad=True)
    y = fake_quantize(x, 0.5, 0, (-2, 5))
    assert y.tolist() == [-1.0, -1.0, -1.0, 0.0, 0.5, 2.5, 2.5, 2.5]
    y.backward(torch.arange(1.0, 9.0))
    assert x.grad is not None and x.grad.tolist() == [0.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 0.0]


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("scheme", ["asymmetric", "symmetric", "per_channel"])
def test_weights_are_narrow(bits: int, scheme: str) -> None:
    """n - 1 levels between -(n/2 - 1) and n/2 - 1: int8 weights are never -128."""
    config = QatConfig(
        weight_bits=bits, per_channel=scheme == "per_channel", symmetric=scheme == "symmetric"
    )
    quantizer = WeightQuantizer("w", config)
    w = torch.randn(5, 3, 2, 2, generator=torch.Generator().manual_seed(bits)) - 0.7
    q, scales, zero = quantizer.integers(w)
    most = 2 ** (bits - 1) - 1
    assert q.dtype == np.int8 and q.min() >= -most and q.max() <= most
    assert len(scales) == (5 if scheme == "per_channel" else 1)
    assert (zero == 0) == (scheme != "asymmetric")
    # The simulated weights are exactly what was exported.
    spread = torch.from_numpy(scales).view(-1, 1, 1, 1)
    assert torch.equal(quantizer.fake(w), (torch.from_numpy(q) - float(zero)) * spread)
    # The widest weights reach the ends.
    assert np.abs(q).max() == most


def test_a_channel_of_zeros_is_exact() -> None:
    w = torch.ones(2, 3)
    w[1] = 0.0
    q, scales, _ = WeightQuantizer("w", QatConfig(per_channel=True)).integers(w)
    assert scales[0] == scales[1] and q.tolist() == [[127] * 3, [0] * 3]


def test_ranges_are_moving_averages() -> None:
    place = FakeQuantize("y", QatConfig(smoothing=0.75))
    assert place.observer is not None
    place(torch.tensor([-1.0, 3.0]))
    place(torch.tensor([-5.0, 1.0]))
    assert (float(place.observer.low), float(place.observer.high)) == (-2.0, 2.5)
    place.eval()
    place(torch.tensor([-50.0, 10.0]))
    assert (float(place.observer.low), float(place.observer.high)) == (-2.0, 2.5)


def test_delay() -> None:
    """Activations pass as they are for `delay` steps, observed all the while."""
    place = FakeQuantize("y", QatConfig(activation_bits=4, delay=2))
    x = torch.tensor([0.0, 0.01, 1.0])
    assert [torch.equal(place(x), x) for _ in range(4)] == [True, True, False, False]
    assert place.observer is not None and int(place.observer.steps) == 4


@pytest.mark.parametrize("bits", BITS)
def test_activations_have_two_to_the_bits_levels(bits: int) -> None:
    place = FakeQuantize("y", QatConfig(activation_bits=bits))
    y = place(torch.linspace(-1.0, 2.0, 5000))
    assert len(y.unique()) == 2**bits
