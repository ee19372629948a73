"""The text language, the other way: a Graph out as text and arrays.

``parse(*print_graph(g))`` is a graph `same` as g, at every stage; equal graphs give equal bytes.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np

from qgen.errors import Loc, QgenError
from qgen.frontend import values
from qgen.frontend.syntax import VERSION
from qgen.ir.graph import Graph
from qgen.ir.op import Op
from qgen.ir.types import Array, Tensor

INLINE_ELEMENTS = 16
INLINE_SCALES = 8
# A cell wider than this sticks out of its column instead of widening it for all rows.
WIDEST = 96


def print_graph(graph: Graph, weights_file: str) -> tuple[str, dict[str, Array]]:
    """The text of `graph`, and the arrays that belong into `weights_file` by name.

    The text names the file only where there are arrays. Raises QgenError for a file name that
    cannot stand in quotes.
    """
    if '"' in weights_file or not weights_file.isprintable():
        raise QgenError(
            f"the file name {weights_file!r} cannot be written into a model", hint="rename it"
        )
    printer = _Printer(graph)
    inputs = [("input", t.name, *printer.type(t)) for t in graph.inputs]
    constants = [("const", t.name, *printer.constant(t)) for t in graph.constants]
    ops = [(op.out.name, printer.call(op), *printer.type(op.out)) for op in graph.ops]
    lines = [f"qgen {VERSION}", f"model {graph.name} rounding({graph.rounding.value})"]
    if printer.arrays:
        lines.append(f'weights "{weights_file}"')
    lines += ["", *_columns([*inputs, *constants], ("", " ", " : ", " "))]
    if ops:
        lines += ["", *_columns(ops, ("", " = ", " : ", " "))]
    lines += ["", f"output {', '.join(t.name for t in graph.outputs)}", ""]
    return "\n".join(lines), printer.arrays


def save(graph: Graph, path: Path) -> None:
    """Write `graph` to `path`, and its arrays to the .npz of the same name beside it.

    Both files are complete before either takes its final name. Raises QgenError where they cannot
    be written.
    """
    loc = Loc(str(path))
    if path.is_dir() or path.suffix == ".npz":
        what = "a folder" if path.is_dir() else "the place of the weights"
        raise QgenError(f"cannot write the model: this is {what}", loc, hint="use a name like m.qg")
    weights = path.with_suffix(".npz")
    text, arrays = print_graph(graph, weights.name)
    # The weights get their name first: a text that is in place never lacks its arrays.
    contents: dict[Path, _Write] = {weights: lambda f: write_npz(f, arrays)} if arrays else {}
    contents[path] = lambda f: f.write(text.encode("utf-8"))
    temporary = {p: p.with_name(f".{p.name}.{os.getpid()}.tmp") for p in contents}
    try:
        if arrays and weights.is_dir():
            raise IsADirectoryError(0, f"'{weights.name}' is a folder")
        for p, write in contents.items():
            with temporary[p].open("xb") as f:
                write(f)
        for p in contents:
            temporary[p].replace(p)
    except OSError as e:
        raise QgenError(f"cannot write the model: {e.strerror}", loc) from e
    finally:
        for p in temporary.values():
            p.unlink(missing_ok=True)


class _Write(Protocol):
    def __call__(self, f: BinaryIO, /) -> object: ...


def write_npz(f: BinaryIO, arrays: Mapping[str, Array]) -> None:
    """Write `arrays` as an .npz whose bytes depend on nothing but the arrays.

    `numpy.savez` would take names such as ``file`` for its own arguments.
    """
    with zipfile.ZipFile(f, "w") as archive:
        for name, array in arrays.items():
            # ZipInfo's own date, 1980: no clock.
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.asarray(array, order="C"), allow_pickle=False)


class _Printer:
    """Prints the pieces, and collects the arrays that do not fit into the text."""

    def __init__(self, graph: Graph) -> None:
        self.arrays: dict[str, Array] = {}
        self.names = {t.name for t in graph.tensors()}

    def type(self, t: Tensor) -> tuple[str, str]:
        """Element type with shape, and quantization parameters."""
        head = f"{t.dtype.value}[{', '.join(map(str, t.shape))}]"
        q = t.type.quant
        if q is None:
            return head, ""
        parts = [f"zero={q.zero}"]
        if len(q.scale) == 1:
            parts.insert(0, f"scale={single(q.scale[0])}")
        elif len(q.scale) > INLINE_SCALES:
            name = f"{t.name}.scale"
            while name in self.names:
                name += "_"
            self.names.add(name)
            self.arrays[name] = np.array(q.scale, np.float32)
            parts.insert(0, f"scale={name}")
        elif q.scale:
            parts.insert(0, f"scale=[{', '.join(map(single, q.scale))}]")
        if q.axis is not None:
            parts.append(f"axis={q.axis}")
        if q.bits != 8:
            parts.append(f"bits={q.bits}")
        return head, f"quant({', '.join(parts)})"

    def constant(self, t: Tensor) -> tuple[str, str]:
        """As `type`, with the values behind it where they are few."""
        head, quant = self.type(t)
        if t.type.elements <= INLINE_ELEMENTS:
            numbers = ", ".join(map(str, t.const.ravel().tolist()))
            return head, f"{quant} = [{numbers}]".lstrip()
        self.arrays[t.name] = t.const
        return head, quant

    def call(self, op: Op) -> str:
        schema = op.schema()
        arguments: list[str] = []
        positional = True
        for field, kind in schema.operands:
            value = getattr(op, field)
            if kind == "many":
                arguments += [t.name for t in value]
                positional = False
            elif value is None:
                positional = False
            elif positional and field not in op.INTEGER:
                arguments.append(value.name)
            else:
                # What legalize adds reads better with its name, bias or no bias.
                positional = False
                arguments.append(f"{field}={value.name}")
        for a in schema.attributes:
            value = getattr(op, a.name)
            # Equality alone would take True for 1 and 1 for 1.0.
            if type(value) is not type(a.default) or value != a.default:
                arguments.append(f"{a.name}={values.write(value)}")
        return f"{op.NAME}({', '.join(arguments)})"


def single(value: float) -> str:
    """The shortest decimal that reads back as the same IEEE single."""
    # `parse` reads a double and rounds it to single, which is not quite the same as reading a
    # single: only what survives that counts. All digits of the double always do.
    forms = (str(np.float32(value)), repr(value))
    return min((f for f in forms if np.float32(float(f)) == np.float32(value)), key=len)


def _columns(rows: Sequence[tuple[str, ...]], separators: tuple[str, ...]) -> list[str]:
    """Rows as lines with their cells below each other; separators stand before the cells."""
    widths = [
        max((len(cell) for cell in column if len(cell) <= WIDEST), default=0)
        for column in zip(*rows, strict=True)
    ]
    return [
        "".join(
            sep + cell.ljust(width)
            for sep, cell, width in zip(separators, row, widths, strict=True)
        ).rstrip()
        for row in rows
    ]
