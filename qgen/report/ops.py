"""The table of `qgen ops`: what is supported, read off the registry."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass

from rich import box
from rich.table import Table

from qgen.ir.op import registry

Kernels = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class OpsTable:
    """One row per op: its name, its names in TFLite, and one cell per target."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def rich(self) -> Table:
        table = Table(*self.header, box=box.SIMPLE_HEAD, pad_edge=False)
        for row in self.rows:
            table.add_row(*(cell or "-" for cell in row))
        return table

    def markdown(self) -> str:
        lines = [self.header, tuple("---" for _ in self.header)]
        lines += [(f"`{row[0]}`", *(cell or "-" for cell in row[1:])) for row in self.rows]
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)

    def as_dict(self) -> list[dict[str, str]]:
        """For `--json`."""
        return [dict(zip(self.header, row, strict=True)) for row in self.rows]


def ops_table(kernels: Kernels, tflite: Mapping[str, str] | None = None) -> OpsTable:
    """Every registered op with the kernels of each target (target -> op -> kernel name).

    `tflite` says what each TFLite operator becomes ("concat, lookup"); by default the front end's
    own table is asked.
    """
    supported = _supported() if tflite is None else tflite
    rows = []
    for op in registry():
        sources = [name for name, made in supported.items() if op in made.split(", ")]
        cells = (kernels[target].get(op, "") for target in kernels)
        rows.append((op, ", ".join(sorted(sources)), *cells))
    return OpsTable(("op", "TFLite", *kernels), tuple(rows))


def _supported() -> Mapping[str, str]:
    """The front end's table; empty where the extra `tflite` is not installed."""
    try:
        module = importlib.import_module("qgen.frontend.tflite")
    except ImportError:
        return {}
    table: Mapping[str, str] = module.SUPPORTED
    return table
