"""Every mistake in a text model gives one error with its place; `@@` marks it in the texts here."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qgen.errors import QgenError
from qgen.frontend.printer import print_graph, save
from qgen.frontend.syntax import either
from qgen.frontend.text import load, parse
from qgen.ir.types import Rounding
from tests.frontend.qg_graphs import graphs
from tests.frontend.test_text import EXAMPLE, example_weights

HEAD = """\
qgen 1
model m rounding(gemmlowp)
weights "m.npz"
input  x : u8[1, 4, 4, 3] quant(scale=0.5, zero=128)
const  w : u8[2, 1, 1, 3] quant(scale=0.1, zero=7) = [1, 2, 3, 4, 5, 6]
"""
OUT = " : u8[1, 4, 4, 2] quant(scale=0.5, zero=0)"
WEIGHTS: dict[str, Any] = {
    "w0": np.zeros((2, 3), np.int8),
    "ones": np.ones(2, np.float32),
    "bad": np.array([1.0, -1.0], np.float32),
    "double": np.ones(2),
}


def check(text: str, message: str, hint: str = "") -> None:
    """Parsing `text` fails at the mark with exactly this message; the hint contains `hint`."""
    before, mark, after = text.partition("@@")
    assert mark, "the case marks the place of its mistake"
    with pytest.raises(QgenError) as caught:
        parse(before + after, WEIGHTS, "m.qg")
    error = caught.value
    assert error.message == message
    assert hint in error.hint
    assert bool(hint) == bool(error.hint)
    assert error.loc is not None
    line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
    assert (error.loc.file, error.loc.line, error.loc.column) == ("m.qg", line, column)
    assert error.source == (before + after).split("\n")[line - 1]
    assert str(error).startswith(f"m.qg:{line}:{column}: ")


# Whole files: the first lines, and what is never closed.
FILES = [
    ("@@", "the file is empty", "begin with 'qgen 1'"),
    ("# nothing\n  @@model m", "the first line must be 'qgen 1'", ""),
    ("@@qgen 2", "unknown version of the language: 2", "reads version 1"),
    ("@@qgen\nmodel m", "unknown version of the language: nothing", "reads version 1"),
    ("@@qgen 1 2", "unknown version of the language: 1 2", "reads version 1"),
    ("qgen 1@@\n", "expected 'model', got the end of the file", ""),
    ("qgen 1\n@@input x : u8[1]", "expected 'model', got 'input'", ""),
    ("qgen 1\nmodel@@\n", "expected a name, got the end of the line", ""),
    ("qgen 1\nmodel @@int", "model name 'int' is a keyword of C or C++", "rename it"),
    ("qgen 1\n@@model a.b\ninput x : u8[1]\noutput x", "model name 'a.b' contains a dot", ""),
    ("qgen 1\nmodel m @@round(single)", "expected 'rounding', got 'round'", ""),
    (
        "qgen 1\nmodel m rounding(@@Gemlowp)",
        f"unknown rounding 'Gemlowp', expected {either(r.value for r in Rounding)}",
        "did you mean 'gemmlowp'?",
    ),
    ("qgen 1\nmodel m\nweights @@x", "expected a file name in \"quotes\", '=' or ',', got 'x'", ""),
    ('qgen 1\nmodel m\nweights @@"x', "the string does not end on its line", ""),
    ("qgen 1\nmodel m\noutput@@", "expected a name, '=' or ',', got the end of the line", ""),
    ("qgen 1\n@@model m\n", "model 'm' has no input", ""),
    ("qgen 1\n@@model m\ninput x : u8[1]", "model 'm' has no output", ""),
    (
        "qgen 1\nmodel m\nconst @@w : u8[20]",
        "'w' needs a weights file",
        'add a line: weights "file.npz"',
    ),
]

# Statements after HEAD.
STATEMENTS = [
    # Syntax
    ("inptu @@y : u8[1]", "expected '=' or ',', got 'y'", "did you mean 'input'?"),
    ("input y : u8[1@@", "expected ',' or ']', got the end of the file", "'[' of line 6 is not"),
    ("y = concat(x @@w)" + OUT, "expected '=', ',' or ')', got 'w'", ""),
    ("y = concat(x, axis=0)@@", "expected ':', got the end of the line", ""),
    ("y = concat(x, axis=@@3x)" + OUT, "'3x' is neither a number nor a name", ""),
    ("y = concat(x, axis=0) @@$" + OUT, "unexpected character '$'", ""),
    (
        "y = reshape(x\n@@z = reshape(x)",
        "expected '=', ',' or ')', got 'z'",
        "'(' of line 6 is not closed",
    ),
    ("const c : u8[2] = [1,@@, 2]", "expected a name, a number, '(', '[' or ']', got ','", ""),
    ("y = f(" + "(" * 15 + "@@(", "brackets are nested more than 16 deep", ""),
    # Names
    ("input @@x : u8[1]", "'x' is defined twice", "first on line 4"),
    ("@@x = reshape(x) : u8[48]", "'x' is defined twice", "first on line 4"),
    ("input @@while : u8[1]", "tensor name 'while' is a keyword of C or C++", "rename it"),
    ("input @@NULL : u8[1]", "tensor name 'NULL' is a macro of C", "rename it"),
    (
        "input x : @@u8[65536, 65536]",
        "a tensor of shape [65536, 65536] has more bytes than an int32 can count",
        "",
    ),
    ("y = reshape(@@w1) : u8[48]", "'w1' is not defined", "did you mean 'w'?"),
    ("input image : u8[1]\ny = reshape(@@imagge) : u8[1]", "'imagge' is not defined", "'image'?"),
    (
        "y = reshape(@@late) : u8[48]\nlate = reshape(x) : u8[48]",
        "'late' is not defined",
        "its definition on line 7 must come before",
    ),
    ("output @@q", "'q' is not defined", ""),
    ("output x, @@x", "'x' is an output twice", "remove one"),
    ("output @@w", "output 'w' is a constant", ""),
    # Ops
    ("y = @@conv3d(x, w)" + OUT, "unknown op 'conv3d'", "did you mean 'conv2d'?"),
    ("y = @@zzz(x)" + OUT, "unknown op 'zzz'", "'qgen ops' lists"),
    ("y = @@conv2d(x)" + OUT, "conv2d needs operand 'w'", "operands: x, w, b"),
    ("y = @@concat(axis=0)" + OUT, "concat needs operand 'x'", "it has 1 operand: x"),
    ("y = reshape(x, @@w)" + OUT, "reshape has 1 operand: x, got one more", "name=value"),
    (
        "y = conv2d(x, stride=(1, 1), @@w)" + OUT,
        "an operand without a name comes before those with names",
        "",
    ),
    (
        "y = concat(@@x=x, axis=0)" + OUT,
        "the operands 'x' of concat are written without a name",
        "",
    ),
    ("y = conv2d(x, w, @@w=w)" + OUT, "'w' of conv2d is given twice", ""),
    ("y = conv2d(x, @@5)" + OUT, "operand 'w' must be the name of a tensor", "with const"),
    (
        "y = concat(x, @@(x, x), axis=0)" + OUT,
        "an operand must be the name of a tensor",
        "with const",
    ),
    ("y, @@z = reshape(x) : u8[48], u8[48]", "reshape has one result, got 2 names", ""),
    ("y = reshape(x) : u8[48], @@u8[48]", "reshape has one result, got 2 types", ""),
    (
        "@@y = reshape(x) : u8[47] quant(scale=0.5, zero=128)",
        "reshape 'y': cannot turn [1, 4, 4, 3] into [47]",
        "",
    ),
    (
        "@@y = conv2d(x, w) : u8[1, 4, 4, 3] quant(scale=0.5, zero=0)",
        "conv2d 'y' yields [1, 4, 4, 2], but its type says [1, 4, 4, 3]",
        "",
    ),
    # Attributes
    (
        "y = conv2d(x, w, @@strides=(1, 1))" + OUT,
        "conv2d has no 'strides'",
        "did you mean 'stride'?",
    ),
    ("y = reshape(x, @@zzz=1)" + OUT, "reshape has no 'zzz'", "it has x"),
    ("y = @@concat(x)" + OUT, "concat needs attribute 'axis'", "write axis=an integer"),
    ("y = concat(x, axis=1, @@axis=1)" + OUT, "'axis' of concat is given twice", ""),
    ("y = concat(x, axis=@@1.5)" + OUT, "'axis' of concat must be an integer, got 1.5", ""),
    ("y = concat(x, axis=@@w)" + OUT, "'axis' of concat must be an integer, got w", ""),
    (
        "y = conv2d(x, w, padding=@@SAME)" + OUT,
        "'padding' of conv2d must be same, valid or (top, bottom, left, right), got SAME",
        "did you mean 'same'?",
    ),
    (
        "y = conv2d(x, w, padding=@@(1, 1))" + OUT,
        "'padding' of conv2d must be same, valid or (top, bottom, left, right)",
        "",
    ),
    (
        "y = conv2d(x, w, stride=@@2)" + OUT,
        "'stride' of conv2d must be (integer, integer), got 2",
        "",
    ),
    (
        "y = conv2d(x, w, stride=@@[1, 1])" + OUT,
        "'stride' of conv2d must be (integer, integer)",
        "",
    ),
    (
        "y = conv2d(x, w, stride=(1, @@no))" + OUT,
        "'stride' of conv2d must be (integer, integer), got no",
        "",
    ),
    ("y = softmax(x, beta=@@true)" + OUT, "'beta' of softmax must be a number, got true", ""),
    (
        "y = mean(x, axes=(1,), keep_dims=@@1)" + OUT,
        "'keep_dims' of mean must be true or false, got 1",
        "",
    ),
    # Types
    (
        "input y : @@f32[1]",
        "unknown type 'f32', expected u8, i8, i16 or i32",
        "did you mean 'i32'?",
    ),
    ("input y : u8[1, @@0]", "dimension 0 is not a positive integer", ""),
    ("input y : u8[@@1.5]", "dimension 1.5 is not a positive integer", ""),
    ("input y : u8[@@99999999999]", "dimension 99999999999 is not a positive integer", ""),
    ("input y : u8[1] @@quantum(zero=1)", "expected 'quant', got 'quantum'", "write quant(...)"),
    ("input y : u8[1] quant(@@0.5)", "the values of quant need names", "scale=..."),
    ("input y : u8[1] quant(@@skale=1)", "quant has no 'skale'", "did you mean 'scale'?"),
    ("input y : u8[1] quant(zero=1, @@zero=2)", "'zero' of quant is given twice", ""),
    ("input y : u8[1] quant(scale=@@0)", "scale 0.0 is not a positive number", ""),
    ("input y : u8[1] quant(zero=1, scale=@@nan)", "scale nan is not a positive number", ""),
    ("input y : u8[1] quant(scale=@@-0.5)", "scale -0.5 is not a positive number", ""),
    ("input y : u8[1] quant(scale=@@1e999)", "scale inf is not a positive number", ""),
    (
        "input y : u8[1] quant(scale=@@1e-60)",
        "scale 1e-60 is outside the range of single precision",
        "",
    ),
    (
        "input y : u8[1] quant(scale=@@(1, 2))",
        "scale must be a number, [number, ...] or the name of an array",
        "",
    ),
    ("input y : u8[2] quant(scale=@@[1, 2])", "2 scales but no axis", ""),
    (
        "input y : u8[2] quant(scale=[1, @@b])",
        "scale must be a number, [number, ...] or the name of an array",
        "",
    ),
    ("input y : u8[3] @@quant(scale=[1, 2], axis=0)", "2 scales for 3 slices along axis 0", ""),
    ("input y : u8[3] @@quant(zero=1, axis=1)", "quantization axis 1 does not exist in [3]", ""),
    ("input y : u8[1] @@quant(zero=1, bits=9)", "a bit depth of 9 is not one of 4 to 8", ""),
    ("input y : u8[1] @@quant(zero=32, bits=5)", "zero point 32 is outside u8 [0, 31]", ""),
    ("input y : u8[1] @@quant(zero=256)", "zero point 256 is outside u8 [0, 255]", ""),
    ("input y : u8[1] quant(zero=@@1.0)", "'zero' of quant must be an integer, got 1.0", ""),
    ("input y : u8[2] quant(scale=@@onse, axis=0)", "'onse' is missing in 'm.npz'", "'ones'?"),
    ("input y : u8[2] quant(scale=@@bad, axis=0)", "scale -1.0 is not a positive number", ""),
    (
        "input y : u8[2] quant(scale=@@double, axis=0)",
        "scales 'double' must be a one-dimensional float32 array, got float64[2]",
        "",
    ),
    # Constants
    ("const c : u8[3] = @@[1, 2]", "'c' has 3 elements, got 2 values", ""),
    ("const c : i8[2] = [1, @@128]", "value 128 is outside i8 [-128, 127]", ""),
    ("const c : i8[2] = [@@x, 1]", "a value of constant 'c' must be an integer, got x", ""),
    ("const c : i8[2] = [@@1.0, 1]", "a value of constant 'c' must be an integer, got 1.0", ""),
    ("const @@w00 : i8[2, 3]", "'w00' is missing in 'm.npz'", "did you mean 'w0'?"),
    (
        "const @@w0 : u8[2, 3]",
        "'w0' is int8[2, 3] in the weights file, its type here is uint8[2, 3]",
        "write both files again",
    ),
    (
        "const @@w0 : i8[3, 2]",
        "'w0' is int8[2, 3] in the weights file, its type here is int8[3, 2]",
        "write both files again",
    ),
]


@pytest.mark.parametrize(("text", "message", "hint"), FILES)
def test_file(text: str, message: str, hint: str) -> None:
    check(text, message, hint)


@pytest.mark.parametrize(("text", "message", "hint"), STATEMENTS)
def test_statement(text: str, message: str, hint: str) -> None:
    check(HEAD + text, message, hint)


def test_caret() -> None:
    with pytest.raises(QgenError) as caught:
        parse(HEAD + "y = \tconv3d(x)" + OUT, {}, "m.qg")
    assert caught.value.caret() == f"  y = \tconv3d(x){OUT}\n      \t^"


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save(parse(EXAMPLE, example_weights()), tmp_path / "m.qg")
    return tmp_path / "m.qg"


def test_missing_files(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(QgenError, match=r"no\.qg: cannot read the model: No such file"):
        load(tmp_path / "no.qg")
    with pytest.raises(QgenError, match="cannot read the model: Is a directory"):
        load(tmp_path)
    saved.with_suffix(".npz").unlink()
    match = r"m\.qg:3:1: cannot read weights 'm\.npz': No such file .*\(keep it beside the model\)"
    with pytest.raises(QgenError, match=match) as caught:
        load(saved)
    assert caught.value.source == 'weights "m.npz"'
    saved.write_bytes(b"\xff\xfe")
    with pytest.raises(QgenError, match="the model is not UTF-8 text"):
        load(saved)


def test_broken_weights(saved: Path) -> None:
    npz = saved.with_suffix(".npz")
    good = npz.read_bytes()
    match = r"m\.qg:3:1: weights 'm\.npz' are not a valid \.npz \(write it again\)"
    for bad in (
        b"",
        b"no zip",
        good[: len(good) // 2],
        good.replace(b"descr", b"\xff\xff\xff\xff\xff"),
    ):
        npz.write_bytes(bad)
        with pytest.raises(QgenError, match=match):
            load(saved)
    with npz.open("wb") as f:
        np.save(f, np.zeros(3))
    with pytest.raises(QgenError, match=match):
        load(saved)
    np.savez(npz, w0=np.array([{}], dtype=object))
    with pytest.raises(QgenError, match=match):
        load(saved)
    with zipfile.ZipFile(npz, "w") as archive:
        archive.writestr("w0.npy", "not an array")
    with pytest.raises(QgenError, match=r"m\.qg:6:\d+: .*'w0.scale' is missing in 'm\.npz'"):
        load(saved)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damaged_weights_never_crash(data: st.DataObject, tmp_path_factory: Any) -> None:
    folder = tmp_path_factory.mktemp("npz")
    save(parse(EXAMPLE, example_weights()), folder / "m.qg")
    raw = bytearray((folder / "m.npz").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    (folder / "m.npz").write_bytes(raw[: data.draw(st.integers(0, len(raw)))])
    accepts(lambda: load(folder / "m.qg"))


def accepts(read: Any) -> None:
    """Reading succeeds or says what is wrong in one line; nothing else is raised."""
    try:
        read()
    except QgenError as e:
        assert "\n" not in str(e)
        assert e.loc is not None
        assert e.loc.line


PIECES = st.sampled_from(
    [*'()[],=:.#"-+019eaxu \n\t\\\x00é', "none", "nan", "const ", "1e9", "i32"]
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(graph=graphs(), data=st.data())
def test_damaged_text_never_crashes(graph: Any, data: st.DataObject) -> None:
    text, arrays = print_graph(graph, "m.npz")
    for _ in range(data.draw(st.integers(1, 4))):
        i = data.draw(st.integers(0, len(text)))
        n = data.draw(st.sampled_from([0, 1, 1, 2, 8]))
        change = data.draw(st.sampled_from(["delete", "duplicate", "replace", "swap"]))
        if change == "delete":
            text = text[:i] + text[i + n :]
        elif change == "duplicate":
            text = text[: i + n] + text[i:]
        elif change == "replace":
            text = text[:i] + data.draw(PIECES) + text[i + n :]
        else:
            # A word or number in the place of another one.
            words = list(re.finditer(r"[\w.]+", text)) or [re.match("", text)]
            a, b = (words[data.draw(st.integers(0, len(words) - 1))] for _ in range(2))
            assert a and b
            text = text[: a.start()] + b[0] + text[a.end() :]
    accepts(lambda: parse(text, arrays, "m.qg"))
