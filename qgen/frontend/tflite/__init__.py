"""Import of quantized .tflite models (uint8 and int8, per tensor and per channel)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from qgen.errors import Loc, QgenError
from qgen.frontend.tables import Tables
from qgen.frontend.tflite.flatbuffer import IDENTIFIER, RawModel, read_model
from qgen.frontend.tflite.importers import IMPORTERS
from qgen.frontend.tflite.names import model_name, short_names
from qgen.frontend.tflite.site import FLOATS, QUANTIZE_HINT, Site, Tensors
from qgen.ir.graph import Graph
from qgen.ir.op import Op
from qgen.ir.types import located

__all__ = ["IDENTIFIER", "SUPPORTED", "load", "loads", "tensor_names"]

# TFLite operator -> the ops of the IR it becomes.
SUPPORTED: Mapping[str, str] = {name: entry.makes for name, entry in IMPORTERS.items()}


def load(path: Path, *, tables: Tables = Tables.AUTO) -> Graph:
    """The model in file `path` as a QUANTIZED graph named after the file.

    Args:
        path: a .tflite file.
        tables: which LOGISTIC and TANH become tables; the others are fixed-point arithmetic (A.1).

    Raises QgenError where the file is unreadable, broken, or holds what qgen does not support.
    """
    try:
        data = path.read_bytes()
    except OSError as e:
        raise QgenError(f"cannot read the model: {e.strerror}", Loc(str(path))) from e
    return loads(data, str(path), tables=tables)


def loads(data: bytes, file: str, *, tables: Tables = Tables.AUTO) -> Graph:
    """As `load`, from the contents of a file; `file` names the model and appears in errors."""
    raw = read_model(data, file)
    _refuse_float(raw, file)
    tensors = Tensors(raw, _names(raw), file)
    inputs = tuple(tensors(i) for i in raw.inputs)
    ops: list[Op] = []
    for op in raw.ops:
        if op.name not in IMPORTERS:
            raise QgenError(
                f"operator {op.name} is not supported",
                op.loc(file),
                hint=f"supported: {', '.join(IMPORTERS)}",
            )
        ops += located(op.loc(file), IMPORTERS[op.name].build, Site(op, tensors, tables))
    outputs = tuple(tensors(i) for i in raw.outputs)
    name = model_name(Path(file).stem)
    return located(Loc(file), Graph, name, inputs, outputs, tuple(ops), loc=Loc(file))


def tensor_names(data: bytes, file: str = "") -> dict[str, str]:
    """Name in the IR of each tensor by its name in the file.

    The second and later tensors of the same name are listed as ``name#index``.
    """
    raw = read_model(data, file)
    found: dict[str, str] = {}
    for t, short in zip(raw.tensors, _names(raw), strict=True):
        found[f"{t.name}#{t.index}" if t.name in found else t.name] = short
    return found


def _names(raw: RawModel) -> list[str]:
    tensors = raw.tensors
    return short_names([t.name for t in tensors], [t.data is not None for t in tensors])


def _refuse_float(raw: RawModel, file: str) -> None:
    """Say so in one line when it is not one tensor but the model that is float."""
    for i in (*raw.inputs, *raw.outputs):
        t = raw.tensors[i]
        if t.type_name in FLOATS:
            raise QgenError(
                f"the model is float: its {'input' if i in raw.inputs else 'output'} "
                f"'{t.label}' is {t.type_name.lower()}",
                Loc(file),
                hint=QUANTIZE_HINT,
            )
