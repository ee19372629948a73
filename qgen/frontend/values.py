"""Attribute values in the text language: Python value to text and back, led by the field's type.

Types that occur: int, float, bool, enums (written by value), tuples of a fixed or any length,
named tuples (written as tuples), and unions of these with each other and with None (``none``).
"""

from __future__ import annotations

import types
import typing
from enum import Enum
from typing import Any

from qgen.frontend.syntax import Name, Number, Tuple, Value, either

NONE = "none"


class MismatchError(Exception):
    """A value that does not have the type of its field; `value` is the node to point at."""

    def __init__(self, value: Value) -> None:
        super().__init__()
        self.value = value


def write(value: Any) -> str:
    """The text of an attribute value; `read` gives back an equal value."""
    if value is None:
        return NONE
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(float(value))
    if isinstance(value, tuple):
        return f"({', '.join(map(write, value))}{',' if len(value) == 1 else ''})"
    return str(int(value))


def read(kind: Any, value: Value) -> Any:
    """The value of type `kind` that a node stands for. Raises MismatchError where it is none."""
    for choice in _choices(kind):
        try:
            return _read_one(choice, value)
        except MismatchError as e:
            mismatch = e
    # A union fails as a whole; in a single type the innermost wrong element is the one to show.
    raise mismatch if len(_choices(kind)) == 1 else MismatchError(value)


def describe(kind: Any) -> str:
    """What `kind` accepts, in words."""
    return either(word for choice in _choices(kind) for word in _describe_one(choice))


def spellings(kind: Any) -> list[str]:
    """The words that `kind` accepts."""
    words: list[str] = []
    for choice in _choices(kind):
        if isinstance(choice, type) and issubclass(choice, Enum):
            words += [str(e.value) for e in choice]
        elif choice is bool:
            words += ["true", "false"]
    return words


def _choices(kind: Any) -> tuple[Any, ...]:
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        return typing.get_args(kind)
    return (kind,)


def _read_one(kind: Any, value: Value) -> Any:
    word = value.text if isinstance(value, Name) else None
    if kind is type(None):
        return _lookup({NONE: None}, word, value)
    if kind is bool:
        return _lookup({"true": True, "false": False}, word, value)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _lookup({str(e.value): e for e in kind}, word, value)
    if kind is int:
        return integer(value)
    if kind is float:
        return real(value)
    elements = _elements(kind)
    if not isinstance(value, Tuple):
        raise MismatchError(value)
    if elements[1:] == (...,):
        elements = elements[:1] * len(value.items)
    if len(elements) != len(value.items):
        raise MismatchError(value)
    parts = [read(e, v) for e, v in zip(elements, value.items, strict=True)]
    return kind(*parts) if hasattr(kind, "_fields") else tuple(parts)


def integer(value: Value) -> int:
    try:
        if isinstance(value, Number):
            return int(value.text)
    except ValueError:  # a fraction, or more digits than Python converts
        pass
    raise MismatchError(value)


def real(value: Value) -> float:
    if isinstance(value, Number) or (isinstance(value, Name) and value.text in ("inf", "nan")):
        return float(value.text)
    raise MismatchError(value)


def _lookup(table: dict[str, Any], word: str | None, value: Value) -> Any:
    if word not in table:
        raise MismatchError(value)
    return table[word]


def _elements(kind: Any) -> tuple[Any, ...]:
    """Types of a tuple's elements; the second is ``...`` where any number may follow."""
    if hasattr(kind, "_fields"):
        hints = typing.get_type_hints(kind)
        return tuple(hints[field] for field in kind._fields)
    if typing.get_origin(kind) is tuple:
        return typing.get_args(kind)
    raise TypeError(f"attribute type {kind} has no form in the text language")


def _describe_one(kind: Any) -> list[str]:
    if kind is type(None):
        return []
    if isinstance(kind, type) and (kind is bool or issubclass(kind, Enum)):
        return spellings(kind)
    if kind in (int, float):
        return ["an integer" if kind is int else "a number"]
    if hasattr(kind, "_fields"):
        return [f"({', '.join(kind._fields)})"]
    elements = _elements(kind)
    if elements[1:] == (...,):
        return [f"({_element(elements[0])}, ...)"]
    return [f"({', '.join(map(_element, elements))})"]


def _element(kind: Any) -> str:
    return describe(kind).removeprefix("an ").removeprefix("a ")
