"""Front ends: a model file in, a QUANTIZED graph out."""

from __future__ import annotations

from pathlib import Path

from qgen.errors import Loc, QgenError
from qgen.frontend.tables import Tables
from qgen.ir.graph import Graph


def load_model(path: Path, *, tables: Tables = Tables.AUTO) -> Graph:
    """The model in `path`, by its suffix, or by its contents where the suffix says nothing.

    `tables` says which logistic and tanh of a .tflite model become tables.

    Raises QgenError where the file is unreadable, of an unknown format, or not a valid model.
    """
    suffix = path.suffix.lower()
    if suffix == ".qg":
        from qgen.frontend.text import load as load_text

        return load_text(path)
    from qgen.frontend.tflite import load as load_tflite

    if suffix != ".tflite" and not _starts_as_tflite(path):
        raise QgenError(
            f"unknown model format '{path.suffix}'", Loc(str(path)), hint="use .qg or .tflite"
        )
    return load_tflite(path, tables=tables)


def _starts_as_tflite(path: Path) -> bool:
    from qgen.frontend.tflite import IDENTIFIER

    try:
        with path.open("rb") as f:
            return f.read(8)[4:] == IDENTIFIER
    except OSError as e:
        raise QgenError(f"cannot read the model: {e.strerror}", Loc(str(path))) from e
