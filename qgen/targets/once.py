"""Packing is asked for by the cost model and again by the row that is chosen: done once per op."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TypeVar
from weakref import WeakKeyDictionary

from qgen.ir.op import Op
from qgen.ir.types import Rounding

T = TypeVar("T")
O = TypeVar("O", bound=Op)


def once_per_op(pack: Callable[[O, Rounding], T]) -> Callable[[O, Rounding], T]:
    """`pack` that remembers its result for as long as the op lives."""
    made: WeakKeyDictionary[Op, dict[Rounding, T]] = WeakKeyDictionary()

    @wraps(pack)
    def packed(op: O, rounding: Rounding) -> T:
        found = made.setdefault(op, {})
        if rounding not in found:
            found[rounding] = pack(op, rounding)
        return found[rounding]

    return packed
