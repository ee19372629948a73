"""Exact integer Winograd convolutions F(m, 3) as data: weights' matrix and steps of the transforms.

A form computes m outputs of a correlation with 3 taps from m + 2 products, in each dimension
(Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", arXiv:1509.09308):

    s y = A^T ((G g) * (B^T d))                                                          (Q22)

with integers everywhere: the fractions of G are multiplied away, and s undoes that. In two
dimensions the matrices act on columns and rows, and two forms may differ. B^T and A^T are given as
the steps that compute them, since these are what a kernel executes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from qgen.errors import QgenError
from qgen.ir.numerics import INT32_MAX
from qgen.ir.types import Array

TAPS = 3
_STEP = re.compile(r"(\w+) = (\w+) ([+-]) (?:(\d+) )?(\w+)")


@dataclass(frozen=True)
class Step:
    """``to = a + k * b``."""

    to: str
    a: str
    k: int
    b: str


def steps(text: str) -> tuple[Step, ...]:
    """Steps from lines such as ``v1 = p + q`` and ``v5 = w - 4 s``."""
    found = []
    for line in text.strip().splitlines():
        match = _STEP.fullmatch(line.strip())
        assert match, line
        to, a, sign, k, b = match.groups()
        found.append(Step(to, a, int(f"{sign}{k or 1}"), b))
    return tuple(found)


def matrix(program: tuple[Step, ...], source: str, inputs: int, result: str, outputs: int) -> Array:
    """What steps compute, int64 [outputs, inputs]; inputs are named ``d0``, ..., say."""
    values = {f"{source}{i}": row for i, row in enumerate(np.eye(inputs, dtype=np.int64))}
    for step in program:
        values[step.to] = values[step.a] + step.k * values[step.b]
    return np.stack([values[f"{result}{i}"] for i in range(outputs)])


@dataclass(frozen=True, eq=False)
class Form:
    """One F(m, 3).

    Attributes:
        outputs: m, per dimension.
        weights: G times what makes it integer, [m + 2, 3].
        widen: d0, d1, ... to v0, v1, ... where d are bytes: B^T.
        input: the same where d are int16.
        output: m0, m1, ... to y0, y1, ...: A^T.
        scale: s.
    """

    outputs: int
    weights: tuple[tuple[int, int, int], ...]
    widen: tuple[Step, ...]
    input: tuple[Step, ...]
    output: tuple[Step, ...]
    scale: int

    def __post_init__(self) -> None:
        n = self.size
        forward = matrix(self.input, "d", n, "v", n)
        # (Q22) is bilinear: it holds for all d and g if it does for unit vectors.
        products = np.array(self.weights)[:, :, None] * forward[:, None, :]
        found = np.tensordot(matrix(self.output, "m", n, "y", self.outputs), products, axes=1)
        wanted = np.zeros_like(found)
        for y in range(self.outputs):
            for tap in range(TAPS):
                wanted[y, tap, y + tap] = self.scale
        # The bias of a kernel enters at this frequency.
        even = (matrix(self.output, "m", n, "y", self.outputs)[:, 1] == 1).all()
        same = np.array_equal(forward, matrix(self.widen, "d", n, "v", n))
        if not (same and even and np.array_equal(found, wanted)):
            raise QgenError(f"F({self.outputs}, {TAPS}) does not compute a convolution")

    @property
    def size(self) -> int:
        """Inputs of a tile per dimension, and frequencies."""
        return self.outputs + TAPS - 1

    @property
    def gain(self) -> int:
        """Largest sum of a row of |B^T|: what it can make of inputs."""
        return int(np.abs(matrix(self.input, "d", self.size, "v", self.size)).sum(axis=1).max())


@dataclass(frozen=True, eq=False)
class Scheme:
    """A form per dimension: F(m x n, 3 x 3).

    Attributes:
        rows: along the height: what transforms columns.
        columns: along the width.
    """

    rows: Form
    columns: Form

    def __str__(self) -> str:
        return f"{self.height}x{self.width}"

    @property
    def height(self) -> int:
        """Lines of the result."""
        return self.rows.outputs

    @property
    def width(self) -> int:
        """Columns of the result."""
        return self.columns.outputs

    @property
    def frequencies(self) -> int:
        """Elements of V, U and M, and pixels that a tile reads."""
        return self.rows.size * self.columns.size

    @property
    def factor(self) -> int:
        """s s', which the sums of a kernel carry."""
        return self.rows.scale * self.columns.scale

    @property
    def reciprocal(self) -> int:
        """2^31 / s s', rounded: SQRDMULH by it divides."""
        return (2**31 + self.factor // 2) // self.factor

    @property
    def most_sum(self) -> int:
        """(Q23) Largest |sum| of which s s' times as much fits int32 and is divided exactly."""
        error = abs(self.factor * self.reciprocal - 2**31)
        exact = (2**30 - 1) // error if error else INT32_MAX
        return min(INT32_MAX // self.factor, exact)

    @property
    def input_bound(self) -> int:
        """Largest |V| for int8 inputs."""
        return 128 * self.rows.gain * self.columns.gain

    def transform_weights(self, w: Array) -> Array:
        """U, int64 [frequencies, C, O], of weights [3, 3, C, O]."""
        g, h = (np.array(form.weights, dtype=np.int64) for form in (self.rows, self.columns))
        found: Array = np.einsum("ia,jb,abco->ijco", g, h, w.astype(np.int64))
        return found.reshape(self.frequencies, *w.shape[2:])


_F2_INPUT = steps(
    """
    v0 = d0 - d2
    v1 = d1 + d2
    v2 = d2 - d1
    v3 = d1 - d3
    """
)

F2 = Form(
    outputs=2,
    weights=((2, 0, 0), (1, 1, 1), (1, -1, 1), (0, 0, 2)),
    widen=_F2_INPUT,
    input=_F2_INPUT,
    output=steps(
        """
        a = m0 + m1
        y0 = a + m2
        b = m1 - m2
        y1 = b - m3
        """
    ),
    scale=2,
)

# Points 0, 1, -1, 2, -2 and infinity. What the fractions of G lack of 24 is split between weights,
# as far as int16 allows, and the output transform.
F4 = Form(
    outputs=4,
    weights=((6, 0, 0), (-4, -4, -4), (-4, 4, -4), (1, 2, 4), (1, -2, 4), (0, 0, 12)),
    widen=steps(
        """
        t = d4 - d2
        s = d3 - d1
        w = d5 - d3
        v5 = w - 4 s
        e = s + s
        v3 = t + e
        v4 = t - e
        q = s - 3 d1
        p = t - 3 d2
        v1 = p + q
        v2 = p - q
        u = d0 - d2
        v0 = t + 4 u
        """
    ),
    input=steps(
        """
        t = d4 - d2
        s = d3 - d1
        w = d5 - d3
        v5 = w - 4 s
        e = s + s
        v3 = t + e
        v4 = t - e
        p = d4 - 4 d2
        q = d3 - 4 d1
        v1 = p + q
        v2 = p - q
        u = d0 - d2
        v0 = t + 4 u
        """
    ),
    output=steps(
        """
        a = m1 + m2
        b = m1 - m2
        c = m3 + m4
        d = m3 - m4
        h = m0 + a
        y0 = h + c
        y2 = a + 4 c
        e = m5 + m5
        f = e + 8 d
        y3 = f + b
        y1 = b + 2 d
        """
    ),
    scale=24,
)

SCHEMES = (Scheme(F2, F2), Scheme(F2, F4), Scheme(F4, F4))
