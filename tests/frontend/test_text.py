"""The text language keeps every graph: parse(print(g)) is g, at every stage."""

from __future__ import annotations

import re
import typing
import zipfile
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from qgen.errors import QgenError
from qgen.frontend import load_model, syntax, values
from qgen.frontend.printer import print_graph, save, single
from qgen.frontend.text import load, parse
from qgen.ir.graph import Graph
from qgen.ir.op import registry
from qgen.ir.types import DType, QParams, Tensor, TensorType
from qgen.passes.legalize import legalize
from qgen.passes.storage import signed_storage
from tests.frontend.qg_graphs import any_types, graphs

MODELS = Path(__file__).parents[3] / "shared" / "models"
REAL = [
    "mobilenet_v1_0.25_128_quant",
    "mobilenet_v2_1.0_224_quant",
    "vww_96_int8",
    "kws_ref_model",
    "pretrainedResnet_quant",
    "ad01_int8",
    "hello_world_int8",
]

EXAMPLE = """\
qgen 1
model example rounding(single)
weights "example.npz"

input image : u8[1, 4, 4, 3] quant(scale=0.5, zero=128)
const w0    : i8[9, 1, 1, 3] quant(scale=w0.scale, zero=0, axis=0)
const b0    : i32[9]         = [1, -2, 3, 4, 5, 6, 7, 8, 9]

stem   = conv2d(image, w0, b0, activation=relu6, stride=(2, 2), padding=same) \
: u8[1, 2, 2, 9]  quant(scale=0.0235, zero=0)
both   = concat(stem, stem, axis=3)                                           \
: u8[1, 2, 2, 18] quant(scale=0.0235, zero=0)
output = reshape(both)                                                        \
: u8[1, 72]       quant(scale=0.0235, zero=0)

output output, stem
"""


def example_weights() -> dict[str, np.ndarray[Any, Any]]:
    return {
        "w0.scale": np.linspace(0.01, 0.09, 9, dtype=np.float32),
        "w0": np.arange(27, dtype=np.int8).reshape(9, 1, 1, 3),
    }


def check_round_trip(graph: Graph) -> None:
    """Any graph: the text says everything, and the same graph gives the same text."""
    text, arrays = print_graph(graph, "m.npz")
    again = parse(text, arrays, "m.qg")
    assert again.same(graph)
    assert print_graph(again, "m.npz")[0] == text
    assert ('weights "m.npz"' in text) == bool(arrays)


def check_all_stages(graph: Graph) -> None:
    check_round_trip(graph)
    integer = legalize(graph)
    check_round_trip(integer)
    check_round_trip(signed_storage(integer))


@settings(deadline=None, max_examples=120, suppress_health_check=[HealthCheck.too_slow])
@given(graphs())
def test_drawn_graphs(graph: Graph) -> None:
    check_round_trip(graph)
    try:
        integer = legalize(graph)
    except QgenError:
        assume(False)
    check_round_trip(integer)


@given(any_types())
def test_any_type(graph: Graph) -> None:
    check_round_trip(graph)


@given(st.floats(min_value=0.0, exclude_min=True, width=32, allow_infinity=False))
def test_scale_is_short_and_exact(scale: float) -> None:
    assert float(np.float32(float(single(scale)))) == scale
    assert len(single(scale)) <= len(repr(scale))


def test_every_op() -> None:
    pytest.importorskip("ai_edge_litert", reason="models are written with its schema")
    from qgen.frontend.tables import Tables
    from qgen.frontend.tflite import loads
    from tests.oracle.single_op import RANDOM_OPS

    seen = set()
    for make in RANDOM_OPS.values():
        for seed in range(6):
            data = make(np.random.default_rng(seed))
            model = loads(data, "m.tflite", tables=list(Tables)[seed % 3])
            check_all_stages(model)
            seen.update(op.NAME for op in model.ops)
    assert seen == registry().keys()


@pytest.mark.parametrize("name", REAL)
def test_real_models(name: str, tmp_path: Path) -> None:
    path = MODELS / f"{name}.tflite"
    if not path.exists():
        pytest.skip("shared/models is not there")
    graph = load_model(path)
    check_all_stages(graph)
    save(graph, tmp_path / "m.qg")
    assert load_model(tmp_path / "m.qg").same(graph)


def of_type(kind: Any) -> st.SearchStrategy[Any]:
    """Values of an attribute's type."""
    if typing.get_origin(kind) is tuple:
        first, *rest = typing.get_args(kind)
        if rest == [...]:
            return st.lists(of_type(first), max_size=4).map(tuple)
        return st.tuples(of_type(first), *map(of_type, rest))
    if hasattr(kind, "_fields"):
        hints = typing.get_type_hints(kind)
        return st.builds(kind, *(of_type(hints[f]) for f in kind._fields))
    if args := typing.get_args(kind):
        return st.one_of(*map(of_type, args))
    if kind is float:
        return st.floats(allow_nan=False)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return st.sampled_from(kind)
    return st.none() if kind is type(None) else st.from_type(kind)


ATTRIBUTES = {
    f"{op.NAME}.{a.name}": a.type for op in registry().values() for a in op.schema().attributes
}


@pytest.mark.parametrize("kind", ATTRIBUTES.values(), ids=ATTRIBUTES.keys())
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_attribute_values(kind: Any, data: st.DataObject) -> None:
    value = data.draw(of_type(kind))
    text = f"qgen 1\nmodel m\ny = op(a={values.write(value)}) : u8[1]"
    (statement,) = syntax.read(text, "").statements
    assert isinstance(statement, syntax.Operation)
    (argument,) = statement.arguments.items
    assert isinstance(argument, syntax.Keyword)
    again = values.read(kind, argument.value)
    assert again == value
    assert type(again) is type(value)


def test_layout() -> None:
    """The example of the documentation: columns, defaults left out, few values in the text."""
    graph = parse(EXAMPLE, example_weights())
    text, arrays = print_graph(graph, "example.npz")
    assert text == EXAMPLE
    assert arrays.keys() == {"w0", "w0.scale"}
    stem = graph.ops[0]
    assert (stem.loc.line, stem.loc.column) == (9, 1)
    assert graph.outputs == (graph.ops[2].out, stem.out)


def test_documentation() -> None:
    """The model and the error in docs/language.md are what qgen prints."""
    page = (Path(__file__).parents[2] / "docs" / "language.md").read_text()
    model, error = re.findall(r"^```\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    weights = example_weights()
    assert print_graph(parse(model, weights), "example.npz")[0] == model
    lines = model.splitlines()
    lines[8] = error.splitlines()[1].strip()
    with pytest.raises(QgenError) as caught:
        parse("\n".join(lines), weights, "model.qg")
    assert f"{caught.value}\n{caught.value.caret()}\n" == error


def test_lines_and_comments_are_free() -> None:
    text = """# a model

    qgen 1  # version
    model m
    input x : u8[2,]
    y = concat(x,  # twice
               x,

               axis=0,
        ) : u8[4]
    output x
    output y"""
    graph = parse(text.replace("\n", "\r\n"), {})
    assert [t.name for t in graph.outputs] == ["x", "y"]
    assert graph.ops[0].loc.line == 6
    assert str(graph.rounding.value) == "gemmlowp"


def test_absent_optional_operand_is_skipped_by_name() -> None:
    text = EXAMPLE.replace("w0, b0, ", "w0, m0=b0, ")
    conv = parse(text, example_weights()).ops[0]
    assert [t.name for t in conv.operands()] == ["image", "w0", "b0"]
    assert "conv2d(image, w0, m0=b0, " in print_graph(parse(text, example_weights()), "")[0]


def test_scale_array_avoids_names_in_use() -> None:
    weights = {"w.scale": np.ones(9, np.float32)}
    text = 'qgen 1\nmodel m\nweights "m.npz"\n' + "input w : u8[9] quant(scale=w.scale, axis=0)\n"
    text += "input w.scale : u8[1]\noutput w"
    printed, arrays = print_graph(parse(text, weights), "m.npz")
    assert arrays.keys() == {"w.scale_"}
    assert parse(printed, arrays).same(parse(text, weights))


def test_arrays_are_copied_in_c_order() -> None:
    weights = example_weights()
    weights["w0"] = np.asfortranarray(weights["w0"])
    graph = parse(EXAMPLE, weights)
    assert weights["w0"].flags.writeable
    weights["w0"][:] = 0
    assert graph.same(parse(EXAMPLE, example_weights()))


def listing(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_save_is_deterministic(tmp_path: Path) -> None:
    graph = parse(EXAMPLE, example_weights())
    names = ["example.npz", "example.qg"]
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        save(graph, tmp_path / folder / "example.qg")
        assert listing(tmp_path / folder) == names
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    with zipfile.ZipFile(tmp_path / "a" / "example.npz") as archive:
        assert {i.date_time for i in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    assert load(tmp_path / "a" / "example.qg").same(graph)
    with np.load(tmp_path / "a" / "example.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["w0"], example_weights()["w0"])


def test_save_without_arrays_and_with_awkward_names(tmp_path: Path) -> None:
    kind = TensorType(DType.U8, (20,))
    x, c = Tensor("x", kind), Tensor("file", kind, np.zeros(20, np.uint8))
    plain = Graph("m", (x,), (x,), ())
    save(plain, tmp_path / "plain.qg")
    assert listing(tmp_path) == ["plain.qg"]
    add = registry()["concat"](x=(x, c), axis=0, out=Tensor("y", TensorType(DType.U8, (40,))))
    save(Graph("m", (x,), (add.out,), (add,)), tmp_path / "m.qg")
    assert load(tmp_path / "m.qg").ops[0].constants()[0].name == "file"


def test_save_fails_cleanly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = parse(EXAMPLE, example_weights())
    with pytest.raises(QgenError, match="cannot write the model: this is a folder"):
        save(graph, tmp_path)
    with pytest.raises(QgenError, match="this is the place of the weights"):
        save(graph, tmp_path / "m.npz")
    with pytest.raises(QgenError, match=r"m\.qg: cannot write the model: No such file"):
        save(graph, tmp_path / "missing" / "m.qg")
    with pytest.raises(QgenError, match="cannot be written into a model"):
        save(graph, tmp_path / 'a".qg')
    (tmp_path / "taken.npz").mkdir()
    with pytest.raises(QgenError, match=r"'taken\.npz' is a folder"):
        save(graph, tmp_path / "taken.qg")
    (tmp_path / "taken.npz").rmdir()

    save(graph, tmp_path / "m.qg")
    before = (tmp_path / "m.qg").read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("qgen.frontend.printer.write_npz", full)
    with pytest.raises(QgenError, match="No space left"):
        save(graph, tmp_path / "m.qg")
    assert (tmp_path / "m.qg").read_bytes() == before
    assert listing(tmp_path) == ["m.npz", "m.qg"]


def test_bits_are_kept() -> None:
    """Depths below 8 bits are printed; 8 is what a type has anyway."""
    text = (
        "qgen 1\nmodel m rounding(gemmlowp)\n\n"
        "input x : u8[4] quant(scale=0.5, zero=128)\n\n"
        "y = clamp(x) : u8[4] quant(scale=0.5, zero=1, bits=4)\n\noutput y\n"
    )
    graph = parse(text, {})
    assert graph.ops[0].out.type.quant == QParams((0.5,), 1, bits=4)
    assert print_graph(graph, "m.npz")[0] == text
    assert parse(text.replace(", bits=4", ", bits=8"), {}).same(
        parse(text.replace(", bits=4", ""), {})
    )
