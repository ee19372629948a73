"""Random quantization parameters that spread an operator's outputs over the 8-bit range."""

from __future__ import annotations

import math

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tests.oracle.builder import Array, Tensor

ACTIVATIONS = {
    schema.ActivationFunctionType.NONE: (-math.inf, math.inf),
    schema.ActivationFunctionType.RELU: (0.0, math.inf),
    schema.ActivationFunctionType.RELU6: (0.0, 6.0),
    schema.ActivationFunctionType.RELU_N1_TO_1: (-1.0, 1.0),
}


def single(value: float) -> float:
    return float(np.float32(value))


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return single(math.exp(rng.uniform(math.log(low), math.log(high))))


def integer(rng: np.random.Generator, low: int, high: int) -> int:
    """Uniform in [low, high], both included."""
    return int(rng.integers(low, high + 1))


def dtype8(rng: np.random.Generator) -> str:
    return "u1" if rng.random() < 0.5 else "i1"


def limits(dtype: str) -> tuple[int, int]:
    info = np.iinfo(np.dtype(dtype))
    return int(info.min), int(info.max)


def values(rng: np.random.Generator, dtype: str, shape: tuple[int, ...]) -> Array:
    low, high = limits(dtype)
    return np.asarray(rng.integers(low, high, shape, dtype, endpoint=True), dtype)


def quantized(rng: np.random.Generator, dtype: str, shape: tuple[int, ...]) -> Tensor:
    """A tensor with a random scale and zero point."""
    return Tensor(shape, dtype, (log_uniform(rng, 0.003, 0.3),), integer(rng, *limits(dtype)))


def moments(tensor: Tensor) -> tuple[float, float]:
    """Mean and variance of the real values of a per-tensor quantized tensor.

    An input counts as uniform over its type.
    """
    (scale,) = tensor.scale
    if tensor.data is not None:
        real = scale * (tensor.data.astype(np.float64) - tensor.zero)
        return float(real.mean()), float(real.var())
    low, high = limits(tensor.dtype)
    return scale * ((low + high) / 2 - tensor.zero), scale**2 * 65535 / 12


def output_params(
    rng: np.random.Generator, dtype: str, mean: float, variance: float
) -> tuple[float, int]:
    """Scale and zero point for real outputs of that mean and variance.

    One in eight scales is small, so that most outputs saturate and multipliers above 1 occur.
    """
    spread = log_uniform(rng, 20, 100) if rng.random() < 0.875 else log_uniform(rng, 200, 2000)
    scale = max(math.sqrt(variance), 1e-4) / spread
    low, high = limits(dtype)
    if not low <= round((low + high) / 2 - mean / scale) <= high:
        # The zero point cannot move the mean into the range: a coarser scale can.
        scale = max(scale, abs(mean) / rng.uniform(60, 120))
    scale = single(scale)
    zero = round((low + high) / 2 - mean / scale) + integer(rng, -20, 20)
    return scale, min(max(zero, low), high)


def activation(
    rng: np.random.Generator, dtype: str, scale: float, zero: int, centre: float = 0.5
) -> int:
    """A fused activation that keeps 16 or more of the 81 values around the middle of the outputs.

    Args:
        centre: where the outputs lie, as a fraction of the type's range.
    """
    low, high = limits(dtype)
    middle = low + centre * (high - low)
    fitting = [
        code
        for code, (bottom, top) in ACTIVATIONS.items()
        if min(high, middle + 40, zero + top / scale) - max(low, middle - 40, zero + bottom / scale)
        >= 16
    ]
    return int(rng.choice(fitting))
