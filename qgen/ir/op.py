"""The contract every op fulfils, and the registry that finds ops by name.

An op is a frozen dataclass in ``ir/ops/<name>.py``. Its fields say everything: those typed
`Tensor` are operands, `out` is the result, the rest are attributes. The text language, the verifier
and `qgen ops` read that schema; no op is described twice.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar

from qgen.errors import NOWHERE, Loc, QgenError
from qgen.ir.types import Array, Rounding, Tensor

OperandKind = Literal["one", "optional", "many"]


@dataclass(frozen=True)
class Env:
    """What an op sees when it is evaluated: operand values and the model's rounding."""

    value: Callable[[Tensor], Array]
    rounding: Rounding

    def __call__(self, tensor: Tensor) -> Array:
        return self.value(tensor)


@dataclass(frozen=True)
class Bound:
    """Proven inclusive range of an op's widest accumulator, over all possible inputs."""

    low: int
    high: int

    @property
    def magnitude(self) -> int:
        return max(-self.low, self.high)


class Reach(NamedTuple):
    """Row i of a result takes rows [i * stride - before, i * stride - before + extent)."""

    stride: int = 1
    before: int = 0
    extent: int = 1

    def rows(self, first: int, end: int) -> tuple[int, int]:
        """What rows [first, end) take: first row and the row after the last one.

        The rows that lie outside of the image are padding.
        """
        low = first * self.stride - self.before
        return low, low + (end - 1 - first) * self.stride + self.extent


@dataclass(frozen=True)
class Cost:
    """Work of one evaluation: multiply-accumulates, and other arithmetic on elements."""

    macs: int = 0
    elementwise: int = 0


@dataclass(frozen=True)
class Attribute:
    """An attribute field: its name, Python type and default."""

    name: str
    type: Any
    default: Any


@dataclass(frozen=True)
class Schema:
    """Operands and attributes of an op class, read off its dataclass fields."""

    operands: tuple[tuple[str, OperandKind], ...]
    attributes: tuple[Attribute, ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class Op:
    """Base of all ops.

    Class attributes:
        NAME: name in the text language and in every folder of the project.
        INTEGER: fields that `legalize` fills; empty before it, present after it.
        REAL: fields that describe real values; at their default after `legalize`.
        IN_PLACE: operand fields whose buffer the result may overwrite.
        SAME_STORAGE: operands and result must share one representation, because the op moves or
            compares raw values without looking at their zero points.
    """

    NAME: ClassVar[str] = ""
    INTEGER: ClassVar[tuple[str, ...]] = ()
    REAL: ClassVar[tuple[str, ...]] = ()
    IN_PLACE: ClassVar[tuple[str, ...]] = ()
    SAME_STORAGE: ClassVar[bool] = False

    out: Tensor
    loc: Loc = NOWHERE

    def __post_init__(self) -> None:
        try:
            self.check()
            expected = self.infer()
        except QgenError as e:
            if e.loc is None:
                message = f"{self.NAME} '{self.out.name}': {e.message}"
                raise QgenError(message, self.loc, hint=e.hint) from None
            raise
        if self.out.shape != expected:
            raise QgenError(
                f"{self.NAME} '{self.out.name}' yields {list(expected)}, "
                f"but its type says {list(self.out.shape)}",
                self.loc,
            )

    # -- to be written by each op ----------------------------------------------------------------

    def check(self) -> None:
        """Raise QgenError when operands or attributes do not fit together."""

    def infer(self) -> tuple[int, ...]:
        """Shape of the result."""
        raise NotImplementedError(type(self).__name__)

    def legalize(self) -> Op:
        """The same op in integers only: scales become multipliers, activations clamps."""
        return self

    def eval(self, env: Env) -> Array:
        """The golden value of the result, normative for every target."""
        raise NotImplementedError(type(self).__name__)

    def shifted(self, offset: int) -> dict[str, Any]:
        """Attributes and constants of this op when its result is stored with `offset` added."""
        clamp: tuple[int, int] | None = getattr(self, "clamp", None)
        return {"clamp": (clamp[0] + offset, clamp[1] + offset)} if clamp else {}

    def channelwise(self) -> tuple[Tensor, ...]:
        """Operands of which channel c (of the last axis) alone makes channel c of the result.

        Empty where channels meet or move.
        """
        return ()

    def reach(self) -> Mapping[Tensor, Reach] | None:
        """Which rows of its computed operands make some rows of an image [1, H, W, C].

        Operands left out are needed whole, for whichever rows. None where rows of the result do
        not come from rows of the operands. An op that works in place goes element by element.
        """
        if not self.IN_PLACE or len(self.out.shape) != 4 or self.out.shape[0] != 1:
            return None
        found = {}
        for t in self.operands():
            if len(t.shape) < 3 or t.shape[-3] == 1 < self.out.shape[1]:
                continue
            if t.data is not None or len(t.shape) != 4 or t.shape[1] != self.out.shape[1]:
                return None
            found[t] = Reach()
        return found

    def bounds(self) -> Bound | None:
        """Range of the accumulator, None where nothing accumulates."""
        return None

    def cost(self) -> Cost:
        return Cost(elementwise=self.out.type.elements)

    # -- derived from the schema -----------------------------------------------------------------

    @classmethod
    def schema(cls) -> Schema:
        if cls not in _SCHEMAS:
            _SCHEMAS[cls] = _read_schema(cls)
        return _SCHEMAS[cls]

    @property
    def name(self) -> str:
        return self.out.name

    @property
    def results(self) -> tuple[Tensor, ...]:
        return (self.out,)

    def operands(self) -> Iterator[Tensor]:
        """All operands, constants included, in field order."""
        for field, kind in self.schema().operands:
            value = getattr(self, field)
            if kind == "many":
                yield from value
            elif value is not None:
                yield value

    def inputs(self) -> list[Tensor]:
        """The operands that are computed at run time."""
        return [t for t in self.operands() if t.data is None]

    def constants(self) -> list[Tensor]:
        return [t for t in self.operands() if t.data is not None]

    def replace(self: OpT, **changes: Any) -> OpT:
        return dataclasses.replace(self, **changes)

    def with_tensors(self: OpT, new: Mapping[Tensor, Tensor], **changes: Any) -> OpT:
        """The op with operands and result exchanged as `new` says, and with `changes`."""
        if self.out in new:
            changes["out"] = new[self.out]
        for field, kind in self.schema().operands:
            value = getattr(self, field)
            if kind == "many" and any(t in new for t in value):
                changes[field] = tuple(new.get(t, t) for t in value)
            elif kind != "many" and value in new:
                changes[field] = new[value]
        return self.replace(**changes) if changes else self


OpT = TypeVar("OpT", bound=Op)


_SCHEMAS: dict[type[Op], Schema] = {}


def _read_schema(cls: type[Op]) -> Schema:
    hints = typing.get_type_hints(cls)
    operands: list[tuple[str, OperandKind]] = []
    attributes: list[Attribute] = []
    kinds: dict[Any, OperandKind] = {
        Tensor: "one",
        Tensor | None: "optional",
        tuple[Tensor, ...]: "many",
    }
    for field in dataclasses.fields(cls):
        if field.name in ("out", "loc"):
            continue
        hint = hints[field.name]
        if hint in kinds:
            operands.append((field.name, kinds[hint]))
        else:
            attributes.append(Attribute(field.name, hint, field.default))
    return Schema(tuple(operands), tuple(attributes))


_REGISTRY: dict[str, type[Op]] = {}


def register(cls: type[OpT]) -> type[OpT]:
    """Class decorator: make an op known by its NAME."""
    if not cls.NAME or cls.NAME in _REGISTRY:
        raise ValueError(f"op name {cls.NAME!r} is empty or taken")
    _REGISTRY[cls.NAME] = cls
    return cls


def registry() -> Mapping[str, type[Op]]:
    """All ops by name: every module in ``qgen/ir/ops`` is imported once."""
    package = importlib.import_module("qgen.ir.ops")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"qgen.ir.ops.{module.name}")
    return dict(sorted(_REGISTRY.items()))
