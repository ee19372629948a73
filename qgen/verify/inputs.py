"""What is fed to models and to single ops: random, extreme and adversarial values."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from qgen.ir.linear import Linear
from qgen.ir.op import Op
from qgen.ir.types import Array, Tensor
from qgen.lower import Step


def _random(t: Tensor, rng: np.random.Generator) -> Array:
    return rng.integers(t.dtype.min, t.dtype.max, t.shape, t.dtype.numpy, endpoint=True)


def _full(t: Tensor, value: int) -> Array:
    return np.full(t.shape, value, t.dtype.numpy)


def _ramp(t: Tensor, rng: np.random.Generator) -> Array:
    span = t.dtype.max - t.dtype.min + 1
    return (np.arange(t.type.elements) % span + t.dtype.min).astype(t.dtype.numpy).reshape(t.shape)


def _sparse(t: Tensor, rng: np.random.Generator) -> Array:
    """The zero point, with one value in twenty random."""
    return np.where(rng.random(t.shape) < 0.05, _random(t, rng), _full(t, t.zero))


def _extremes(t: Tensor, rng: np.random.Generator) -> Array:
    return np.where(rng.random(t.shape) < 0.5, _full(t, t.dtype.min), _full(t, t.dtype.max))


# In the order in which they are used; after the last one comes the first again.
KINDS: Mapping[str, Callable[[Tensor, np.random.Generator], Array]] = {
    "random": _random,
    "all minimum": lambda t, rng: _full(t, t.dtype.min),
    "all maximum": lambda t, rng: _full(t, t.dtype.max),
    "all zero point": lambda t, rng: _full(t, t.zero),
    "ramp": _ramp,
    "sparse": _sparse,
    "extremes": _extremes,
}
# All of these are the same however often they are drawn.
_FIXED = ("all minimum", "all maximum", "all zero point", "ramp")


def model_inputs(
    tensors: tuple[Tensor, ...], count: int, rng: np.random.Generator
) -> Iterator[tuple[str, list[Array]]]:
    """`count` inputs of a model, each with the name of its kind."""
    again = [k for k in KINDS if k not in _FIXED]
    kinds = itertools.chain(KINDS, itertools.cycle(again))
    for kind in itertools.islice(kinds, count):
        yield kind, [KINDS[kind](t, rng) for t in tensors]


def op_operands(op: Op, rng: np.random.Generator) -> Iterator[tuple[str, dict[Tensor, Array]]]:
    """Operand values for one op alone, each with the name of its kind.

    Random values; all combinations of minimum and maximum of the first two operands; and those
    that the op itself calls adversarial, which drive its accumulators to their bound.
    """
    tensors = list(dict.fromkeys(op.inputs()))
    for _ in range(2):
        yield "random", {t: _random(t, rng) for t in tensors}
    for ends in itertools.product(("min", "max"), repeat=min(len(tensors), 2)):
        values = {
            t: _full(t, getattr(t.dtype, end))
            for t, end in zip(tensors, itertools.cycle(ends), strict=False)
        }
        yield " and ".join(ends), values
    adversarial = getattr(op, "adversarial", None)
    if adversarial is not None and len(tensors) == 1:
        for x in adversarial(rng):
            yield "adversarial", {tensors[0]: x}


def lane_operands(step: Step, rng: np.random.Generator) -> Iterator[dict[Tensor, Array]]:
    """Operand values that drive the narrow lanes of an op's kernel to their proven bound."""
    op = step.op
    if isinstance(op, Linear):
        for extreme in step.prepared.extremes:
            raw = extreme.astype(np.int64) - np.iinfo(np.int8).min + op.x.dtype.min
            yield {op.x: op.show(raw, rng)}
