"""The model that ships with qgen is as good as its README says, and its C program runs."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from qgen.emit import Provenance, emit
from qgen.frontend import load_model
from qgen.ir.graph import Graph
from qgen.ir.interp import run
from qgen.ir.types import Array
from qgen.lower import lower
from qgen.passes.legalize import legalize
from qgen.targets.portable import PORTABLE

FOLDER = Path(__file__).parents[2] / "examples" / "digits"


@pytest.fixture(scope="module")
def graph() -> Graph:
    return legalize(load_model(FOLDER / "digits.qg"))


def classify(graph: Graph, images: Array) -> Array:
    return np.array([run(graph, [image[None]])[0].argmax() for image in images])


def test_shipped_samples(graph: Graph) -> None:
    samples, labels = np.load(FOLDER / "samples.npy"), np.load(FOLDER / "labels.npy")
    assert sorted(labels.tolist()) == sorted(2 * [*range(10)])
    np.testing.assert_array_equal(classify(graph, samples), labels)


def test_held_out_accuracy(graph: Graph) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn holds the data set")
    from examples.digits.data import as_input, load

    _, held_out = load()
    hits = classify(graph, as_input(held_out.images)) == held_out.labels
    assert hits.size == 449
    assert hits.mean() >= 0.97


def test_weights_are_symmetric(graph: Graph) -> None:
    """-128 does not occur, so that two products fit an int16 lane (Appendix B)."""
    weights = [t.const for t in graph.constants if t.name.endswith("_w")]
    assert len(weights) == 5
    assert min(w.min() for w in weights) == -127


def test_program_classifies_every_sample(graph: Graph, tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler 'cc'")
    origin = Provenance("test", "digits.qg", "0" * 64)
    for name, text in emit(lower(graph, PORTABLE), origin).items():
        (tmp_path / name).write_text(text, encoding="ascii")
    program = tmp_path / "digits"
    flags = ["-std=c99", "-O2", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
    includes = [f"-I{tmp_path}", f"-I{FOLDER}"]
    source = str(FOLDER / "main.c")
    subprocess.run([compiler, *flags, *includes, source, "-o", str(program)], check=True)
    shown = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    assert shown.count(" ok ") == 20
    assert "WRONG" not in shown
