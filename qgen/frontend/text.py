"""The text language: a ``.qg`` file and the ``.npz`` beside it in, a Graph out.

`parse` is the inverse of `printer.print_graph` at every stage of the pipeline. The syntax is in
model.lark, explained in docs/language.md.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from lark import Token

from qgen.errors import Loc, QgenError
from qgen.frontend import syntax, values
from qgen.frontend.syntax import Keyword, Name, Number, Sequence, Value
from qgen.ir.graph import Graph, check_name
from qgen.ir.op import Op, registry
from qgen.ir.types import Array, DType, QParams, Rounding, Tensor, TensorType, located

E = TypeVar("E", bound=Enum)


def load(path: Path) -> Graph:
    """The graph in file `path`, with its weights from the .npz that it names.

    Raises QgenError, with line and column, where either file is missing or broken.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as e:
        raise QgenError(f"cannot read the model: {e.strerror}", Loc(str(path))) from e
    except UnicodeDecodeError as e:
        raise QgenError("the model is not UTF-8 text", Loc(str(path))) from e
    return _parse(text, str(path), None, path.parent)


def parse(text: str, weights: Mapping[str, Array], file: str = "") -> Graph:
    """The graph that `text` describes.

    Args:
        weights: the arrays of the .npz file by name; they are copied.
        file: name of the text in errors and in the places of ops.
    """
    return _parse(text, file, weights, Path())


def _parse(text: str, file: str, weights: Mapping[str, Array] | None, folder: Path) -> Graph:
    try:
        model = syntax.read(text, file)
        if weights is None:
            weights = _read_weights(model.weights, file, folder) if model.weights else {}
        return _Reader(model, weights, file).graph()
    except QgenError as e:
        source = syntax.source_line(text, e.loc)
        raise QgenError(e.message, e.loc, hint=e.hint, source=source) from e.__cause__


def _read_weights(node: syntax.Weights, file: str, folder: Path) -> dict[str, Array]:
    loc = Loc(file, node.line, node.column)
    try:
        archive = np.load(folder / node.file, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError("not a zip archive")
        with archive:
            arrays = {name: archive[name] for name in archive.files}
        # Entries of the zip that are no arrays come as bytes.
        return {name: a for name, a in arrays.items() if isinstance(a, np.ndarray)}
    except OSError as e:
        reason = e.strerror or "it is broken"
        hint = "keep it beside the model"
        raise QgenError(f"cannot read weights '{node.file}': {reason}", loc, hint=hint) from e
    # A damaged archive surfaces as any of a dozen exceptions of zipfile, zlib, ast and numpy.
    except Exception as e:
        hint = "write it again"
        raise QgenError(f"weights '{node.file}' are not a valid .npz", loc, hint=hint) from e


class _Reader:
    """Gives the nodes of one file their meaning."""

    def __init__(self, model: syntax.Model, weights: Mapping[str, Array], file: str) -> None:
        self.model = model
        self.weights = weights
        self.file = file
        self.ops = registry()
        self.tensors: dict[str, Tensor] = {}
        self.lines: dict[str, int] = {}
        for s in model.statements:
            for name in _defines(s):
                self.lines.setdefault(str(name), s.line)

    def loc(self, node: Any) -> Loc:
        """The place of a node or token."""
        return Loc(self.file, node.line, node.column)

    # -- statements ------------------------------------------------------------------------------

    def graph(self) -> Graph:
        header = self.model.header
        check_name(header.name, "model", self.loc(header.name))
        rounding = Rounding.GEMMLOWP
        if header.word is not None and header.rounding is not None:
            if header.word != "rounding":
                raise QgenError(f"expected 'rounding', got '{header.word}'", self.loc(header.word))
            rounding = self.enum(Rounding, header.rounding, "rounding")
        inputs: list[Tensor] = []
        ops: list[Op] = []
        outputs: list[Tensor] = []
        for s in self.model.statements:
            if isinstance(s, syntax.Input):
                inputs.append(self.define(s.name, self.tensor_type(s.type)))
            elif isinstance(s, syntax.Constant):
                type = self.tensor_type(s.type)
                data = self.inline(s, s.values, type) if s.values else self.stored(s, type)
                self.define(s.name, type, data)
            elif isinstance(s, syntax.Operation):
                ops.append(self.operation(s))
            else:
                for name in s.names:
                    outputs.append(self.output(name, outputs))
        loc = self.loc(header)
        fields = (str(header.name), tuple(inputs), tuple(outputs), tuple(ops), rounding)
        return located(loc, Graph, *fields, loc=loc)

    def define(self, name: Token, type: TensorType, data: Array | None = None) -> Tensor:
        loc = self.loc(name)
        check_name(name, "tensor", loc)
        if name in self.tensors:
            first = self.tensors[name].loc.line
            raise QgenError(f"'{name}' is defined twice", loc, hint=f"first on line {first}")
        self.tensors[str(name)] = Tensor(str(name), type, data, loc)
        return self.tensors[name]

    def use(self, name: str, place: Any) -> Tensor:
        if name not in self.tensors:
            hint = _did_you_mean(name, self.tensors)
            if name in self.lines:
                hint = f"its definition on line {self.lines[name]} must come before"
            raise QgenError(f"'{name}' is not defined", self.loc(place), hint=hint)
        return self.tensors[name]

    def output(self, name: Token, before: list[Tensor]) -> Tensor:
        tensor = self.use(name, name)
        if tensor.data is not None:
            raise QgenError(f"output '{name}' is a constant", self.loc(name))
        if tensor in before:
            raise QgenError(f"'{name}' is an output twice", self.loc(name), hint="remove one")
        return tensor

    # -- types -----------------------------------------------------------------------------------

    def tensor_type(self, node: syntax.Type) -> TensorType:
        dtype = self.enum(DType, node.dtype, "type")
        for token in node.dims.items:
            # Sizes of 10 digits and more cannot be meant, and would only break later.
            if not (token.isdigit() and int(token[:10]) > 0 and len(token) < 10):
                raise QgenError(f"dimension {token} is not a positive integer", self.loc(token))
        shape = tuple(int(token) for token in node.dims.items)
        type = located(self.loc(node.dtype), TensorType, dtype, shape)
        if node.quant is None:
            return type
        return located(self.loc(node.quant), type.with_quant, self.quant(node.quant))

    def quant(self, node: syntax.Quant) -> QParams:
        if node.word != "quant":
            raise QgenError(
                f"expected 'quant', got '{node.word}'", self.loc(node), hint="write quant(...)"
            )
        fields: dict[str, Value] = {}
        for argument in node.arguments.items:
            allowed = ("scale", "zero", "axis", "bits")
            if not isinstance(argument, Keyword):
                hint = "write quant(scale=..., zero=..., axis=...)"
                raise QgenError("the values of quant need names", self.loc(argument), hint=hint)
            self.check_keyword(argument, fields, "quant", allowed)
            fields[str(argument.name)] = argument.value
        place: Value | syntax.Quant = fields.get("scale", node)
        scale = self.scale(fields["scale"]) if "scale" in fields else ()
        zero = self.attribute("quant", "zero", int, fields["zero"]) if "zero" in fields else 0
        axis = self.attribute("quant", "axis", int, fields["axis"]) if "axis" in fields else None
        bits = self.attribute("quant", "bits", int, fields["bits"]) if "bits" in fields else 8
        return located(self.loc(place), QParams, scale, zero, axis, bits)

    def scale(self, node: Value) -> tuple[float, ...]:
        """A number, a list of numbers, or the name of a float32 array in the weights file."""
        if isinstance(node, Name) and node.text not in ("inf", "nan"):
            array = self.array(node.text, node)
            if array.dtype != np.float32 or array.ndim != 1:
                raise QgenError(
                    f"scales '{node.text}' must be a one-dimensional float32 array, "
                    f"got {array.dtype}{list(array.shape)}",
                    self.loc(node),
                )
            return tuple(array.tolist())
        try:
            items: list[Value] = node.items if isinstance(node, Sequence) else [node]
            return tuple(values.real(item) for item in items)
        except values.MismatchError as e:
            message = "scale must be a number, [number, ...] or the name of an array"
            raise QgenError(message, self.loc(e.value)) from None

    # -- constants -------------------------------------------------------------------------------

    def inline(self, s: syntax.Constant, node: Sequence, type: TensorType) -> Array:
        if len(node.items) != type.elements:
            message = f"'{s.name}' has {type.elements} elements, got {len(node.items)} values"
            raise QgenError(message, self.loc(node))
        d = type.dtype
        numbers = [self.attribute(f"constant '{s.name}'", "", int, v) for v in node.items]
        for number, value in zip(numbers, node.items, strict=True):
            if not d.min <= number <= d.max:
                message = f"value {number} is outside {d.value} [{d.min}, {d.max}]"
                raise QgenError(message, self.loc(value))
        return np.array(numbers, d.numpy).reshape(type.shape)

    def stored(self, s: syntax.Constant, type: TensorType) -> Array:
        array = self.array(str(s.name), s.name)
        if array.dtype != type.dtype.numpy or array.shape != type.shape:
            raise QgenError(
                f"'{s.name}' is {array.dtype}{list(array.shape)} in the weights file, "
                f"its type here is {type.dtype.numpy}{list(type.shape)}",
                self.loc(s.name),
                hint="write both files again",
            )
        return np.array(array, order="C")

    def array(self, name: str, place: Any) -> Array:
        if name in self.weights:
            return self.weights[name]
        node = self.model.weights
        if node is None:
            hint = 'add a line: weights "file.npz"'
            raise QgenError(f"'{name}' needs a weights file", self.loc(place), hint=hint)
        hint = _did_you_mean(name, self.weights)
        raise QgenError(f"'{name}' is missing in '{node.file}'", self.loc(place), hint=hint)

    # -- ops -------------------------------------------------------------------------------------

    def operation(self, s: syntax.Operation) -> Op:
        loc = self.loc(s)
        if s.op not in self.ops:
            hint = _did_you_mean(s.op, self.ops) or "'qgen ops' lists what there is"
            raise QgenError(f"unknown op '{s.op}'", self.loc(s.op), hint=hint)
        cls = self.ops[s.op]
        fields = self.arguments(s, cls)
        if len(s.targets.names) != 1:
            message = f"{s.op} has one result, got {len(s.targets.names)} names"
            raise QgenError(message, self.loc(s.targets.names[1]))
        if len(s.types.items) != 1:
            message = f"{s.op} has one result, got {len(s.types.items)} types"
            raise QgenError(message, self.loc(s.types.items[1]))
        type = self.tensor_type(s.types.items[0])
        out = self.define(s.targets.names[0], type)
        return located(loc, cls, out=out, loc=loc, **fields)

    def arguments(self, s: syntax.Operation, cls: type[Op]) -> dict[str, Any]:
        """Fields of the op: positional operands first, then operands and attributes by name."""
        schema = cls.schema()
        operands = [name for name, _ in schema.operands]
        many = {name for name, kind in schema.operands if kind == "many"}
        attributes = {a.name: a.type for a in schema.attributes}
        fields: dict[str, Any] = {}
        keywords = False
        for i, item in enumerate(s.arguments.items):
            if isinstance(item, Keyword):
                keywords = True
                name = str(item.name)
                self.check_keyword(item, fields, cls.NAME, [*operands, *attributes])
                if name in many:
                    message = f"the operands '{name}' of {cls.NAME} are written without a name"
                    raise QgenError(message, self.loc(item.name))
                if name in attributes:
                    kind = attributes[name]
                    fields[name] = self.attribute(cls.NAME, name, kind, item.value)
                else:
                    fields[name] = self.operand(name, item.value)
            elif keywords:
                message = "an operand without a name comes before those with names"
                raise QgenError(message, self.loc(item))
            elif many:
                fields[operands[0]] = (*fields.get(operands[0], ()), self.operand("", item))
            elif i >= len(operands):
                message = f"{cls.NAME} has {_count(operands)}, got one more"
                raise QgenError(message, self.loc(item), hint="attributes are written name=value")
            else:
                fields[operands[i]] = self.operand(operands[i], item)
        for name, operand_kind in schema.operands:
            if name not in fields and operand_kind != "optional":
                message = f"{cls.NAME} needs operand '{name}'"
                raise QgenError(message, self.loc(s.op), hint=f"it has {_count(operands)}")
        for a in schema.attributes:
            if a.name not in fields and a.default is dataclasses.MISSING:
                hint = f"write {a.name}={values.describe(a.type)}"
                raise QgenError(f"{cls.NAME} needs attribute '{a.name}'", self.loc(s.op), hint=hint)
        return fields

    def operand(self, field: str, value: Value) -> Tensor:
        if not isinstance(value, Name):
            what = f"operand '{field}'" if field else "an operand"
            hint = "give the values a name with const"
            raise QgenError(f"{what} must be the name of a tensor", self.loc(value), hint=hint)
        return self.use(value.text, value)

    def attribute(self, owner: str, name: str, kind: Any, value: Value) -> Any:
        try:
            return values.read(kind, value)
        except values.MismatchError as e:
            what = f"'{name}' of {owner}" if name else f"a value of {owner}"
            got = f", got {e.value.text}" if isinstance(e.value, Name | Number) else ""
            word = e.value.text if isinstance(e.value, Name) else ""
            hint = _did_you_mean(word, values.spellings(kind))
            message = f"{what} must be {values.describe(kind)}{got}"
            raise QgenError(message, self.loc(e.value), hint=hint) from None

    def check_keyword(
        self, item: Keyword, seen: Iterable[str], owner: str, allowed: Iterable[str]
    ) -> None:
        if item.name not in allowed:
            hint = _did_you_mean(item.name, allowed) or f"it has {', '.join(allowed)}"
            raise QgenError(f"{owner} has no '{item.name}'", self.loc(item.name), hint=hint)
        if item.name in seen:
            raise QgenError(f"'{item.name}' of {owner} is given twice", self.loc(item.name))

    def enum(self, kind: type[E], token: Token, what: str) -> E:
        members = {str(e.value): e for e in kind}
        if token not in members:
            hint = _did_you_mean(token, members)
            message = f"unknown {what} '{token}', expected {syntax.either(members)}"
            raise QgenError(message, self.loc(token), hint=hint)
        return members[token]


def _defines(s: syntax.Statement) -> list[Token]:
    """The names that a statement defines."""
    if isinstance(s, syntax.Operation):
        return s.targets.names
    return [] if isinstance(s, syntax.Outputs) else [s.name]


def _did_you_mean(word: str, known: Iterable[str]) -> str:
    lower = {k.lower(): k for k in known}
    near = difflib.get_close_matches(word.lower(), lower, 1)
    return f"did you mean '{lower[near[0]]}'?" if near else ""


def _count(operands: list[str]) -> str:
    plural = "operand" if len(operands) == 1 else "operands"
    return f"{len(operands)} {plural}: {', '.join(operands)}"
