"""add and sub as one linear form, where that is proven for all pairs of operands.

(Q6) rescales each operand to a finer scale and the sum back, rounding three times. Two 8-bit
operands have 65,536 values together, so a generator can simply ask whether

    y = clamp(Z_y + ((alpha * (a - Z_a) + beta * (b - Z_b) + gamma + 2^(shift-1)) >> shift))   (Q19)

is the same function. The coefficients nearest to the real ones nearly always are it; where a pair
falls on the wrong side of a tie, gamma or a neighbour of a coefficient moves it.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

from qgen.ir.numerics import INT32_MAX, Multiplier
from qgen.ir.op import Env
from qgen.ir.ops.add import HEADROOM, Add
from qgen.ir.types import Array, Rounding, Tensor

NEIGHBOURS = 6  # steps to each side of the nearest coefficient
SHIFTS = 3  # tried below the largest
NEAR = 2.0**-8  # of a tie: pairs that a candidate is tried on first


@dataclass(frozen=True)
class LinearSum:
    """Coefficients of (Q19)."""

    alpha: int
    beta: int
    gamma: int
    shift: int


def _values(t: Tensor) -> Array:
    return np.arange(t.dtype.min, t.dtype.max + 1)


def _real(m: Multiplier | None) -> float:
    assert m is not None
    return m.m0 * 2.0 ** (m.shift - 31)


def linear_sum(op: Add, rounding: Rounding) -> LinearSum | None:
    """Coefficients that give golden's result for every pair of operands, or None."""
    assert op.clamp is not None
    a, b = _values(op.a)[:, None], _values(op.b)[None, :]
    tables = {op.a: a.astype(op.a.dtype.numpy), op.b: b.astype(op.b.dtype.numpy)}
    wanted = op.eval(Env(lambda t: tables[t], rounding)).astype(np.int64)
    a, b = a - op.a.zero, b - op.b.zero
    back = _real(op.m_y) * 2.0**HEADROOM
    reals = _real(op.m_a) * back, _real(op.m_b) * back * op.SIGN
    widest = float(np.abs(a).max() * abs(reals[0]) + np.abs(b).max() * abs(reals[1]))
    # Room for the rounding term and gamma.
    most = math.floor(math.log2(INT32_MAX / widest)) - 1 if widest else 0
    distance = np.abs((a * reals[0] + b * reals[1]) % 1 - 0.5)
    rows, columns = np.nonzero(distance < NEAR)
    close = a[rows, 0], b[0, columns], wanted[rows, columns]
    steps = range(-NEIGHBOURS, NEIGHBOURS + 1)
    beside = sorted(itertools.product(steps, repeat=2), key=lambda p: abs(p[0]) + abs(p[1]))
    for shift in range(min(most, 30), max(most - SHIFTS, 0), -1):
        for i, j in beside:
            alpha, beta = (round(r * 2.0**shift) + d for r, d in zip(reals, (i, j), strict=True))
            gamma = _gamma(op, alpha * close[0] + beta * close[1], close[2], shift)
            if gamma is None:
                continue
            found = LinearSum(alpha, beta, gamma, shift)
            if np.array_equal(evaluate(op, found, a, b), wanted):
                return found
    return None


def _gamma(op: Add, total: Array, wanted: Array, shift: int) -> int | None:
    """A term that brings every sum of `total` to its result; 0 where that does."""
    assert op.clamp is not None
    low, high = op.clamp
    base = ((wanted - op.out.zero) << shift) - total - (1 << (shift - 1))
    least = int(np.max(base, initial=-(2**30), where=wanted > low))
    most = int(np.min(base + (1 << shift) - 1, initial=2**30, where=wanted < high))
    if least > most:
        return None
    gamma = min(max(0, least), most)
    return gamma if abs(gamma) < 1 << (shift - 1) else None


def evaluate(op: Add, s: LinearSum, a: Array, b: Array) -> Array:
    """(Q19) for a - Z_a and b - Z_b."""
    assert op.clamp is not None
    total = s.alpha * a + s.beta * b + s.gamma
    rounded = (total + (1 << (s.shift - 1))) >> s.shift
    return np.asarray(np.clip(rounded + op.out.zero, *op.clamp))
