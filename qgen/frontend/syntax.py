"""The syntax of the text language: nodes named after the rules of model.lark, and the parser.

Nothing here knows tensors or ops; `text` gives the nodes their meaning.
"""

from __future__ import annotations

import difflib
import functools
import re
import sys
from collections.abc import Iterable, Iterator
from typing import TypeAlias, TypeVar

from lark import Lark, Token, Transformer, ast_utils
from lark.exceptions import LarkError, UnexpectedCharacters, UnexpectedInput, UnexpectedToken
from lark.tree import Meta

from qgen.errors import Loc, QgenError

VERSION = "1"
DEEPEST = 16
T = TypeVar("T")

KEYWORDS = ("qgen", "model", "weights", "input", "const", "output")
WORDS = {
    "NAME": "a name",
    "NUMBER": "a number",
    "STRING": 'a file name in "quotes"',
    "_NL": "the end of the line",
    "$END": "the end of the file",
    "EQUAL": "'='",
    "COLON": "':'",
    "COMMA": "','",
    "LPAR": "'('",
    "RPAR": "')'",
    "LSQB": "'['",
    "RSQB": "']'",
    **{word.upper(): f"'{word}'" for word in KEYWORDS},
}


class _Node(ast_utils.Ast, ast_utils.WithMeta):
    """Base of all nodes: remembers where it starts."""

    def __init__(self, meta: Meta) -> None:
        self.line: int = meta.line if not meta.empty else 0
        self.column: int = meta.column if not meta.empty else 0


class Number(_Node):
    def __init__(self, meta: Meta, text: Token) -> None:
        super().__init__(meta)
        self.text = str(text)


class Name(_Node):
    def __init__(self, meta: Meta, text: Token) -> None:
        super().__init__(meta)
        self.text = str(text)


class Tuple(_Node, ast_utils.AsList):
    """Values in ``( )``."""

    def __init__(self, meta: Meta, items: list[Value | None]) -> None:
        super().__init__(meta)
        self.items: list[Value] = _present(items)


class Sequence(_Node, ast_utils.AsList):
    """Values in ``[ ]``."""

    def __init__(self, meta: Meta, items: list[Value | None]) -> None:
        super().__init__(meta)
        self.items: list[Value] = _present(items)


Value: TypeAlias = Number | Name | Tuple | Sequence


class Keyword(_Node):
    def __init__(self, meta: Meta, name: Token, value: Value) -> None:
        super().__init__(meta)
        self.name, self.value = name, value


class Arguments(_Node, ast_utils.AsList):
    def __init__(self, meta: Meta, items: list[Value | Keyword | None]) -> None:
        super().__init__(meta)
        self.items: list[Value | Keyword] = _present(items)


class Quant(_Node):
    def __init__(self, meta: Meta, word: Token, arguments: Arguments) -> None:
        super().__init__(meta)
        self.word, self.arguments = word, arguments


class Dims(_Node, ast_utils.AsList):
    def __init__(self, meta: Meta, items: list[Token | None]) -> None:
        super().__init__(meta)
        self.items = _present(items)


class Type(_Node):
    def __init__(self, meta: Meta, dtype: Token, dims: Dims, quant: Quant | None) -> None:
        super().__init__(meta)
        self.dtype, self.dims, self.quant = dtype, dims, quant


class Types(_Node, ast_utils.AsList):
    def __init__(self, meta: Meta, items: list[Type]) -> None:
        super().__init__(meta)
        self.items = items


class Targets(_Node, ast_utils.AsList):
    def __init__(self, meta: Meta, names: list[Token]) -> None:
        super().__init__(meta)
        self.names = names


class Version(_Node):
    def __init__(self, meta: Meta, number: Token) -> None:
        super().__init__(meta)
        self.number = number


class Header(_Node):
    """``model name rounding(gemmlowp)``; `word` is whatever stands where `rounding` should."""

    def __init__(self, meta: Meta, name: Token, word: Token | None, rounding: Token | None) -> None:
        super().__init__(meta)
        self.name, self.word, self.rounding = name, word, rounding


class Weights(_Node):
    def __init__(self, meta: Meta, text: Token) -> None:
        super().__init__(meta)
        self.file = str(text)[1:-1]


class Input(_Node):
    def __init__(self, meta: Meta, name: Token, type: Type) -> None:
        super().__init__(meta)
        self.name, self.type = name, type


class Constant(_Node):
    def __init__(self, meta: Meta, name: Token, type: Type, values: Sequence | None) -> None:
        super().__init__(meta)
        self.name, self.type, self.values = name, type, values


class Operation(_Node):
    def __init__(
        self, meta: Meta, targets: Targets, op: Token, arguments: Arguments, types: Types
    ) -> None:
        super().__init__(meta)
        self.targets, self.op, self.arguments, self.types = targets, op, arguments, types


class Outputs(_Node, ast_utils.AsList):
    def __init__(self, meta: Meta, names: list[Token]) -> None:
        super().__init__(meta)
        self.names = names


Statement: TypeAlias = Input | Constant | Operation | Outputs


class Model(_Node, ast_utils.AsList):
    def __init__(
        self, meta: Meta, children: list[Version | Header | Weights | Statement | None]
    ) -> None:
        super().__init__(meta)
        header, weights = children[1], children[2]
        assert isinstance(header, Header)
        self.header = header
        self.weights = weights if isinstance(weights, Weights) else None
        self.statements = [
            c for c in children[3:] if isinstance(c, Input | Constant | Operation | Outputs)
        ]


def _present(items: Iterable[T | None]) -> list[T]:
    """The children without the gaps that lark leaves for absent optional parts."""
    return [item for item in items if item is not None]


class _TooDeepError(LarkError):
    def __init__(self, token: Token) -> None:
        self.token = token


class Lines:
    """Drops line ends inside brackets, so that a statement may span lines there."""

    always_accept = ("_NL",)

    def process(self, stream: Iterator[Token]) -> Iterator[Token]:
        depth = 0
        for token in stream:
            if token.type in ("LPAR", "LSQB"):
                depth += 1
                if depth > DEEPEST:
                    raise _TooDeepError(token)
            elif token.type in ("RPAR", "RSQB"):
                depth = max(depth - 1, 0)
            if token.type != "_NL" or depth == 0:
                yield token


@functools.cache
def _parser() -> Lark:
    return Lark.open(
        "model.lark",
        rel_to=__file__,
        parser="lalr",
        start="model",
        propagate_positions=True,
        maybe_placeholders=True,
        postlex=Lines(),
    )


@functools.cache
def _transformer() -> Transformer[Token, Model]:
    return ast_utils.create_transformer(sys.modules[__name__])


def read(text: str, file: str) -> Model:
    """The syntax tree of `text`. Raises QgenError with place and hint on the first mistake."""
    _check_version(text, file)
    text += "\n"
    try:
        model = _transformer().transform(_parser().parse(text))
    except _TooDeepError as e:
        loc = Loc(file, e.token.line or 0, e.token.column or 0)
        raise QgenError(f"brackets are nested more than {DEEPEST} deep", loc) from None
    except UnexpectedInput as e:
        raise _syntax_error(e, text, file) from None
    assert isinstance(model, Model)
    return model


def source_line(text: str, loc: Loc | None) -> str:
    """The line of `text` that `loc` points at."""
    lines = text.split("\n")
    return lines[loc.line - 1].rstrip("\r") if loc and 1 <= loc.line <= len(lines) else ""


def _check_version(text: str, file: str) -> None:
    """The version comes first: a later version may have another grammar."""
    for number, line in enumerate(text.split("\n"), 1):
        words = line.split("#")[0].split()
        if not words:
            continue
        loc = Loc(file, number, len(line) - len(line.lstrip()) + 1)
        if words[0] != "qgen":
            raise QgenError(f"the first line must be 'qgen {VERSION}'", loc)
        if words[1:] != [VERSION]:
            found = " ".join(words[1:]) or "nothing"
            hint = f"this qgen reads version {VERSION}"
            raise QgenError(f"unknown version of the language: {found}", loc, hint=hint)
        return
    raise QgenError("the file is empty", Loc(file, 1, 1), hint=f"begin with 'qgen {VERSION}'")


def _syntax_error(error: UnexpectedInput, text: str, file: str) -> QgenError:
    """A lark error in words."""
    hint = ""
    if isinstance(error, UnexpectedToken):
        token = error.token
        line, column = token.line or 1, token.column or 1
        position = len(text) if token.type == "$END" else token.start_pos or 0
        at_line_start = not text[text.rfind("\n", 0, position) + 1 : position].strip()
        found = f"'{token}'" if token.type not in ("_NL", "$END") else WORDS[token.type]
        terminals = {*(error.accepts or error.expected)}
        if token.type == "$END":
            end = text.rstrip()
            line, column = end.count("\n") + 1, len(end) - end.rfind("\n")
        if len(terminals) > 1 and (token.type == "$END" or at_line_start):
            terminals.discard("_NL")
        expected = either(WORDS[t] for t in sorted(terminals, key=_rank))
        message = f"expected {expected}, got {found}"
    else:
        assert isinstance(error, UnexpectedCharacters)
        line, column, position = error.line, error.column, error.pos_in_stream or 0
        message = f"unexpected character {error.char!r}"
        if error.char == '"':
            message = "the string does not end on its line"
        elif number := re.match(r"[+-]?\.?[0-9][A-Za-z0-9_.]*", text[position:]):
            message = f"'{number[0]}' is neither a number nor a name"
    if opened := _unclosed(text[:position]):
        hint = f"'{text[opened]}' of line {text.count(chr(10), 0, opened) + 1} is not closed"
    source = source_line(text, Loc(file, line))
    if not hint and (first := re.match(r"\s*([A-Za-z_]\w*)", source)) and first[1] not in KEYWORDS:
        near = difflib.get_close_matches(first[1], KEYWORDS, 1)
        hint = f"did you mean '{near[0]}'?" if near else ""
    return QgenError(message, Loc(file, line, column), hint=hint)


def _rank(terminal: str) -> int:
    return list(WORDS).index(terminal)


def either(words: Iterable[str]) -> str:
    """``a, b or c``."""
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last


def _unclosed(text: str) -> int | None:
    """Where the innermost bracket opens that is still open at the end of an earlier line."""
    stack: list[int] = []
    for m in re.finditer(r'#[^\n]*|"[^"\n]*"|[()\[\]]', text):
        if m[0] in ("(", "["):
            stack.append(m.start())
        elif m[0] in (")", "]") and stack:
            stack.pop()
    return stack[-1] if stack and "\n" in text[stack[-1] :] else None
