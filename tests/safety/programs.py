"""Files that are checked: small models, and programs that hold every op."""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path

import pytest

from qgen.emit import Provenance, emit
from qgen.frontend import load_model
from qgen.ir.graph import Graph
from qgen.ir.types import Rounding
from qgen.lower import Lowered, lower
from qgen.targets import TARGETS
from tests.ops.strategies import OPS, program

ROOT = Path(__file__).parents[2]
MODELS = ROOT.parent / "shared" / "models"
SMALL = (
    "digits",
    "hello_world_int8",
    "ad01_int8",
    "kws_ref_model",
    "pretrainedResnet_quant",
    "vww_96_int8",
)
# One case of every op, always the same one: for tools that take their time.
ONE_OF_EVERY_OP = "one_of_every_op"
EVERY_OP = tuple(f"every_op_{r.value}" for r in Rounding)


@cache
def graph(name: str) -> Graph:
    """A small model, or two random cases of every op. Skips where the model is absent."""
    if name == ONE_OF_EVERY_OP:
        return every_op(Rounding.GEMMLOWP, 1, seed=0)
    if name in EVERY_OP:
        return every_op(Rounding(name.removeprefix("every_op_")), 2)
    path = ROOT / "examples" / "digits" / "digits.qg"
    if name != "digits":
        path = MODELS / f"{name}.tflite"
        if not path.exists():
            pytest.skip("the folder of shared models is absent")
    return load_model(path)


def every_op(rounding: Rounding, cases: int, seed: int | None = None) -> Graph:
    """`cases` random ops of every kind, side by side; of seed QGEN_SEED by default."""
    parts = [program(op, rounding, cases, seed) for op in OPS]
    return Graph(
        f"every_op_{rounding.value}",
        tuple(t for part in parts for t in part.inputs),
        tuple(t for part in parts for t in part.outputs),
        tuple(op for part in parts for op in part.ops),
        rounding,
    )


@cache
def lowered(name: str, target: str = "portable") -> Lowered:
    return lower(graph(name), TARGETS[target])


def write(low: Lowered, folder: Path) -> Path:
    """The C file of a model, beside its header."""
    for name, text in emit(low, Provenance("test", "model", "0" * 64), split=True).items():
        (folder / name).write_text(text, encoding="ascii", errors="backslashreplace")
    return folder / f"{low.name}.c"


def need(program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"no '{program}'")
