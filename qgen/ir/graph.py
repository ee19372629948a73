"""The model: ops in execution order, immutable, checked when it is built."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import networkx as nx

from qgen.errors import NOWHERE, Loc, QgenError
from qgen.ir.op import Op
from qgen.ir.types import Rounding, Tensor

# Names become C identifiers, so the words of C11 and C++17 are taken, and the macros of the two
# headers that a generated file includes and of compilers outside strict C.
_C_WORDS = """
alignas alignof and and_eq asm auto bitand bitor bool break case catch char char16_t char32_t class
compl const const_cast constexpr continue decltype default delete do double dynamic_cast else enum
explicit export extern false float for friend goto if inline int long mutable namespace new noexcept
not not_eq nullptr operator or or_eq private protected public register reinterpret_cast restrict
return short signed sizeof static static_assert static_cast struct switch template this thread_local
throw true try typedef typeid typename union unsigned using virtual void volatile wchar_t while xor
xor_eq
"""
C_KEYWORDS = frozenset(_C_WORDS.split())
C_MACROS = re.compile(r"NULL|offsetof|linux|unix|[A-Z]\w*_(MIN|MAX)|U?INT(\d+|MAX)_C")
# A header of the model's name must not hide one that it includes.
C_HEADERS = frozenset({"arm_neon", "stddef", "stdint"})
LONGEST_NAME = 100
NAME_PATTERN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z0-9_]+)*")


def check_name(name: str, what: str, loc: Loc) -> None:
    """Raise QgenError unless `name` can be a part of C identifiers."""
    if not NAME_PATTERN.fullmatch(name):
        raise QgenError(
            f"{what} name '{name}' is not an identifier", loc, hint="use letters, digits and _"
        )
    word = taken_word(name)
    if word:
        raise QgenError(f"{what} name '{name}' is {word}", loc, hint="rename it")


def taken_word(name: str) -> str:
    """What `name` is in C, or an empty string where it is free."""
    if name in C_KEYWORDS:
        return "a keyword of C or C++"
    return "a macro of C" if C_MACROS.fullmatch(name) else ""


def _check_model_name(name: str, loc: Loc) -> None:
    check_name(name, "model", loc)
    if "." in name:
        raise QgenError(f"model name '{name}' contains a dot", loc)
    if name in C_HEADERS:
        raise QgenError(f"model name '{name}' is that of a C header", loc, hint="rename it")
    if len(name) > LONGEST_NAME:
        raise QgenError(
            f"model name '{name[:20]}...' has {len(name)} letters, at most {LONGEST_NAME} will do",
            loc,
            hint="shorten it",
        )


@dataclass(frozen=True, eq=False)
class Graph:
    """A quantized network.

    `ops` are in execution order: each operand is an input, a constant or the result of an earlier
    op. `rounding` is the requantization contract of the whole model.
    """

    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    ops: tuple[Op, ...]
    rounding: Rounding = Rounding.GEMMLOWP
    loc: Loc = NOWHERE

    def __post_init__(self) -> None:
        _check_model_name(self.name, self.loc)
        known: dict[str, Tensor] = {}

        def define(tensor: Tensor, loc: Loc) -> None:
            check_name(tensor.name, "tensor", loc)
            if known.setdefault(tensor.name, tensor) is not tensor:
                raise QgenError(f"'{tensor.name}' is defined twice", loc, hint="rename one")

        for t in self.inputs:
            define(t, t.loc)
        for op in self.ops:
            for t in op.operands():
                if t.data is not None:
                    define(t, t.loc)
                elif known.get(t.name) is not t:
                    raise QgenError(f"'{t.name}' is used before it is computed", op.loc)
            for t in op.results:
                if t.name in known:
                    raise QgenError(f"'{t.name}' is defined twice", op.loc, hint="rename one")
                define(t, op.loc)
        if not self.inputs:
            raise QgenError(f"model '{self.name}' has no input", self.loc)
        if not self.outputs:
            raise QgenError(f"model '{self.name}' has no output", self.loc)
        for t in self.outputs:
            if t.data is not None or known.get(t.name) is not t:
                raise QgenError(f"output '{t.name}' is not computed", self.loc)
        if len(set(self.outputs)) != len(self.outputs):
            raise QgenError("a tensor is listed as output twice", self.loc)

    @property
    def constants(self) -> tuple[Tensor, ...]:
        """Constants in order of first use."""
        return tuple(dict.fromkeys(t for op in self.ops for t in op.constants()))

    @property
    def activations(self) -> tuple[Tensor, ...]:
        """Results of all ops, in execution order."""
        return tuple(t for op in self.ops for t in op.results)

    def tensors(self) -> Iterator[Tensor]:
        yield from self.inputs
        yield from self.constants
        yield from self.activations

    def dataflow(self) -> nx.DiGraph:
        """Ops as nodes (by index in `ops`), one edge per computed tensor between two ops."""
        graph = nx.DiGraph()
        producer = {t: i for i, op in enumerate(self.ops) for t in op.results}
        for i, op in enumerate(self.ops):
            graph.add_node(i, op=op)
            for t in op.inputs():
                if t in producer:
                    graph.add_edge(producer[t], i, tensor=t)
        return graph

    def consumers(self, tensor: Tensor) -> list[Op]:
        return [op for op in self.ops if any(t is tensor for t in op.operands())]

    def replace(self, **changes: object) -> Graph:
        return replace(self, **changes)  # type: ignore[arg-type]

    def same(self, other: Graph) -> bool:
        """Equal in meaning: names, types, constants, attributes and order; not places in files."""
        return (
            (self.name, self.rounding) == (other.name, other.rounding)
            and _same_tensors(self.inputs, other.inputs)
            and _same_tensors(self.outputs, other.outputs)
            and len(self.ops) == len(other.ops)
            and all(_same_op(a, b) for a, b in zip(self.ops, other.ops, strict=True))
        )


def _same_tensors(a: Sequence[Tensor], b: Sequence[Tensor]) -> bool:
    return len(a) == len(b) and all(x.same(y) for x, y in zip(a, b, strict=True))


def _same_op(a: Op, b: Op) -> bool:
    if type(a) is not type(b) or not _same_tensors(a.results, b.results):
        return False
    schema = a.schema()
    for name, kind in schema.operands:
        x, y = getattr(a, name), getattr(b, name)
        if kind == "many" and not _same_tensors(x, y):
            return False
        if kind != "many" and not (x is y is None or (x and y and x.same(y))):
            return False
    return all(getattr(a, f.name) == getattr(b, f.name) for f in schema.attributes)


def rewrite(
    graph: Graph, change: Callable[[Op], Op], tensor: Callable[[Tensor], Tensor] | None = None
) -> Graph:
    """A new graph with every tensor mapped by `tensor`, then every op by `change`.

    `change` sees the op with its operands already exchanged; an op it returns may have another
    `out`, which later ops then use.
    """
    new: dict[Tensor, Tensor] = {}
    if tensor:
        new = {t: n for t in graph.tensors() if (n := tensor(t)) is not t}
    ops: list[Op] = []
    for old in graph.ops:
        op = change(old.with_tensors(new))
        ops.append(op)
        new.update({a: b for a, b in zip(old.results, op.results, strict=True) if a is not b})
    return graph.replace(
        inputs=tuple(new.get(t, t) for t in graph.inputs),
        outputs=tuple(new.get(t, t) for t in graph.outputs),
        ops=tuple(ops),
    )
