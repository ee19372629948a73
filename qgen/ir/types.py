"""Types of the IR: element types, quantization parameters, tensors.

Eq. (1) of the paper: a real value is ``r = S * (q - Z)`` with scale S and zero point Z.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from qgen.errors import NOWHERE, Loc, QgenError

Array = npt.NDArray[Any]
R = TypeVar("R")
BIT_DEPTHS = range(4, 9)
MOST_BYTES = 2**31 - 1  # of a tensor: generated code counts in int32


class DType(Enum):
    """Element type; the value is its name in the text language."""

    U8 = "u8"
    I8 = "i8"
    I16 = "i16"
    I32 = "i32"

    @property
    def numpy(self) -> np.dtype[Any]:
        return np.dtype({"u8": "u1", "i8": "i1", "i16": "i2", "i32": "i4"}[self.value])

    @property
    def bytes(self) -> int:
        return self.numpy.itemsize

    @property
    def min(self) -> int:
        return int(np.iinfo(self.numpy).min)

    @property
    def max(self) -> int:
        return int(np.iinfo(self.numpy).max)

    @property
    def c(self) -> str:
        """The C99 type."""
        return {"u8": "uint8_t", "i8": "int8_t", "i16": "int16_t", "i32": "int32_t"}[self.value]


@dataclass(frozen=True)
class QParams:
    """Quantization parameters of a tensor, eq. (1).

    `bits` below 8 limits the values to the 2**bits levels in the middle of an 8-bit type (Q20).
    `scale` holds one IEEE single per tensor, or one per slice along `axis`; it is empty once
    `legalize` has turned scales into integer multipliers. `zero` is Z, in the tensor's own type.
    """

    scale: tuple[float, ...]
    zero: int = 0
    axis: int | None = None
    bits: int = 8

    def __post_init__(self) -> None:
        if self.bits not in BIT_DEPTHS:
            raise QgenError(f"a bit depth of {self.bits} is not one of 4 to 8")
        for s in self.scale:
            if not (math.isfinite(s) and s > 0.0):
                raise QgenError(f"scale {s} is not a positive number")
        # Scales are single precision in every source format; keeping exactly those values lets
        # the text language print them in their shortest form and read them back unchanged.
        single = tuple(np.asarray(self.scale, np.float32).tolist())
        if any(s == 0.0 or math.isinf(s) for s in single):
            raise QgenError(f"scale {min(self.scale)} is outside the range of single precision")
        object.__setattr__(self, "scale", single)
        if len(self.scale) > 1 and self.axis is None:
            raise QgenError(f"{len(self.scale)} scales but no axis")

    @property
    def per_channel(self) -> bool:
        return self.axis is not None

    def limits(self, dtype: DType) -> tuple[int, int]:
        """(Q20) Smallest and largest value: 2**bits levels from 0, or around 0 if signed."""
        if self.bits == 8:
            return dtype.min, dtype.max
        low = 0 if dtype is DType.U8 else -(1 << (self.bits - 1))
        return low, low + (1 << self.bits) - 1


@dataclass(frozen=True)
class TensorType:
    """Element type, shape (NHWC for images) and quantization of a tensor."""

    dtype: DType
    shape: tuple[int, ...]
    quant: QParams | None = None

    def __post_init__(self) -> None:
        if any(d <= 0 for d in self.shape):
            raise QgenError(f"shape {list(self.shape)} has a dimension that is not positive")
        if self.bytes > MOST_BYTES:
            raise QgenError(
                f"a tensor of shape {list(self.shape)} has more bytes than an int32 can count"
            )
        q = self.quant
        if q is None:
            return
        low, high = q.limits(self.dtype)
        if not low <= q.zero <= high:
            raise QgenError(f"zero point {q.zero} is outside {self.dtype.value} [{low}, {high}]")
        if q.bits < 8 and self.dtype.bytes > 1:
            raise QgenError(f"{self.dtype.value} cannot have {q.bits} bits")
        if q.axis is not None:
            if not 0 <= q.axis < len(self.shape):
                raise QgenError(f"quantization axis {q.axis} does not exist in {list(self.shape)}")
            if q.scale and len(q.scale) != self.shape[q.axis]:
                raise QgenError(
                    f"{len(q.scale)} scales for {self.shape[q.axis]} slices along axis {q.axis}"
                )

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        return self.elements * self.dtype.bytes

    @property
    def zero(self) -> int:
        """The zero point, 0 for tensors without quantization."""
        return self.quant.zero if self.quant else 0

    @property
    def scale(self) -> float:
        """The per-tensor scale. Raises QgenError where there is none."""
        if not self.quant or len(self.quant.scale) != 1:
            raise QgenError("a per-tensor scale is needed here")
        return self.quant.scale[0]

    def same_meaning(self, other: TensorType) -> bool:
        """Equal values stand for equal reals: same element type, scale and zero point.

        `legalize` drops the scales of inner tensors; a dropped scale was compared before.
        """
        if self.dtype is not other.dtype or not self.quant or not other.quant:
            return self.dtype is other.dtype and self.quant == other.quant
        a, b = self.quant, other.quant
        return (a.zero, a.axis) == (b.zero, b.axis) and (
            (a.scale, a.bits) == (b.scale, b.bits) or not a.scale or not b.scale
        )

    def with_quant(self, quant: QParams | None) -> TensorType:
        return replace(self, quant=quant)


@dataclass(frozen=True, eq=False)
class Tensor:
    """A named value: graph input, constant (`data` present) or result of one op.

    Tensors compare by identity; `Graph` equality compares their contents.
    """

    name: str
    type: TensorType
    data: Array | None = None
    loc: Loc = NOWHERE

    def __post_init__(self) -> None:
        if self.data is None:
            return
        if self.data.shape != self.type.shape or self.data.dtype != self.type.dtype.numpy:
            raise QgenError(
                f"constant '{self.name}' holds {self.data.dtype}{list(self.data.shape)}, "
                f"its type says {self.type.dtype.value}{list(self.type.shape)}",
                self.loc,
            )
        self.data.setflags(write=False)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.type.shape

    @property
    def dtype(self) -> DType:
        return self.type.dtype

    @property
    def zero(self) -> int:
        return self.type.zero

    @property
    def const(self) -> Array:
        """The constant's value. Raises QgenError for a tensor that is computed."""
        if self.data is None:
            raise QgenError(f"'{self.name}' must be a constant", self.loc)
        return self.data

    def same(self, other: Tensor) -> bool:
        """Equal in name, type and contents (places in files do not count)."""
        if self.name != other.name or self.type != other.type:
            return False
        if self.data is None or other.data is None:
            return self.data is other.data
        return np.array_equal(self.data, other.data)


class Activation(Enum):
    """Fused activation: a clamp of the real value (section 2.4)."""

    NONE = "none"
    RELU = "relu"
    RELU6 = "relu6"
    RELU_N1_TO_1 = "relu_n1_to_1"

    @property
    def real_range(self) -> tuple[float | None, float | None]:
        return _REAL_RANGES[self.value]


_REAL_RANGES: dict[str, tuple[float | None, float | None]] = {
    "none": (None, None),
    "relu": (0.0, None),
    "relu6": (0.0, 6.0),
    "relu_n1_to_1": (-1.0, 1.0),
}


class Padding(Enum):
    """Spatial padding as TFLite names it; explicit amounts come from a `pad` op."""

    SAME = "same"
    VALID = "valid"


class Rounding(Enum):
    """How a requantization rounds; see docs/quantization.md eq. (Q3), (Q4).

    GEMMLOWP rounds twice: SQRDMULH, then a right shift with ties away from zero. SINGLE rounds the
    exact product once, ties up; NEAREST once, ties away from zero.
    """

    GEMMLOWP = "gemmlowp"
    SINGLE = "single"
    NEAREST = "nearest"


def located(loc: Loc, build: Callable[..., R], /, *args: Any, **kwargs: Any) -> R:
    """Build an IR object; an error raised without a place gets `loc`."""
    try:
        return build(*args, **kwargs)
    except QgenError as e:
        if e.loc is None:
            raise QgenError(e.message, loc, hint=e.hint) from None
        raise
