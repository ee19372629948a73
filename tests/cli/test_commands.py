"""Every command does its work; its JSON has the promised keys."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qgen import __version__, compile_model
from qgen.__main__ import main
from qgen.frontend import load_model
from qgen.ir import interp
from qgen.passes.legalize import legalize
from tests.models import forked, tiny
from tests.oracle.single_op import RANDOM_OPS

pytestmark = pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")


def json_of(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> Any:
    assert main(words) == code
    return json.loads(capsys.readouterr().out)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"qgen {__version__}\n"


@pytest.mark.parametrize(
    "command", ["import", "inspect", "run", "compile", "verify", "profile", "ops"]
)
def test_help_has_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    assert f"examples:\n  qgen {command}" in capsys.readouterr().out


def test_import_renames(here: Path) -> None:
    assert main(["import", "tiny.qg", "-o", "copy.qg", "--name", "copy"]) == 0
    assert load_model(here / "copy.qg").same(tiny().replace(name="copy"))


def test_import_tables(here: Path) -> None:
    (here / "gate.tflite").write_bytes(RANDOM_OPS["logistic"](np.random.default_rng(0)))
    for words, kinds in (([], ["logistic"]), (["--tables", "always"], ["lookup"])):
        assert main(["import", "gate.tflite", "-o", "gate.qg", *words]) == 0
        model = legalize(load_model(here / "gate.qg"))
        assert [op.NAME for op in model.ops] == kinds


def test_import_default_place(here: Path) -> None:
    (here / "there").mkdir()
    assert main(["import", "tiny.qg", "--name", "other"]) == 0
    assert (here / "other.qg").exists() and (here / "other.npz").exists()


def test_inspect(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = json_of(capsys, "inspect", "tiny.qg", "--json", "--plot", "tiny.svg")
    assert {"macs", "weight_bytes", "arena_bytes", "liveness_peak_bytes", "layers"} <= set(report)
    assert report["macs"] == 64 * 8 * 27 + 64 * 8 * 8
    assert [layer["name"] for layer in report["layers"]] == ["c1", "c2", "total", "flat"]
    assert (here / "tiny.svg").read_text().startswith("<svg")
    assert main(["inspect", "tiny.qg"]) == 0
    assert "conv2d" in capsys.readouterr().out


def test_run_is_golden(here: Path) -> None:
    x = np.arange(192, dtype=np.uint8).reshape(1, 8, 8, 3)
    np.save("x.npy", x)
    assert main(["run", "tiny.qg", "--input", "x.npy", "-o", "y.npy"]) == 0
    assert np.array_equal(np.load("y.npy"), interp.run(legalize(tiny()), [x])[0])


def test_run_with_several_outputs(here: Path) -> None:
    a, b = (np.full((1, 4, 5), v, np.uint8) for v in (3, 200))
    np.save("a.npy", a)
    np.save("b.npy", b)
    assert main(["run", "forked.qg", "--input", "a.npy", "--input", "b.npy", "-o", "y.npz"]) == 0
    expected = interp.run(legalize(forked()), [a, b])
    with np.load("y.npz") as found:
        assert found.files == ["total", "top", "left"]
        assert all(np.array_equal(found[n], e) for n, e in zip(found.files, expected, strict=True))


def test_compile(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = json_of(capsys, "compile", "tiny.qg", "--target", "portable", "--json")
    assert report["file"] == "tiny.h" and report["files"] == ["tiny.h"]
    assert (here / "tiny.h").stat().st_size == report["source_bytes"]
    assert f'#define TINY_MODEL_SHA256 "{report["sha256"]}"' in (here / "tiny.h").read_text()
    assert report["text_bytes"] > 100 and report["rodata_bytes"] >= 216 + 64
    assert report["stack_bytes"] > 0 and report["arena_bytes"] > 0
    assert report["note"] == "" and report["seconds"] > 0
    assert main(["compile", "tiny.qg", "--target", "portable"]) == 0
    assert "tiny.h: tiny for portable" in capsys.readouterr().out


def test_compile_is_a_function_of_the_model(here: Path) -> None:
    """Other folder, other path, other output: same bytes."""
    folder = here / "some where"
    folder.mkdir()
    for name in ("tiny.qg", "tiny.npz"):
        shutil.copy(here / name, folder)
    assert main(["compile", "tiny.qg", "--target", "portable", "-o", "a.h"]) == 0
    path = str(folder / "tiny.qg")
    assert main(["compile", path, "--target", "portable", "-o", str(folder / "b.h")]) == 0
    assert main(["compile", path, "--target=portable", "--name=tiny", "-o", "c.h"]) == 0
    text = (here / "a.h").read_bytes()
    assert text == (folder / "b.h").read_bytes() == (here / "c.h").read_bytes()
    assert b"qgen compile tiny.qg --target portable\n" in text
    assert str(here).encode() not in text


def test_model_hash_covers_the_weights(here: Path) -> None:
    before = compile_model("tiny.qg", "portable", out="a.h").sha256
    archive = dict(np.load("tiny.npz"))
    archive["w1"] = archive["w1"] ^ 1
    np.savez("tiny.npz", **archive)
    assert compile_model("tiny.qg", "portable", out="b.h").sha256 != before


def test_compile_name_and_split(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compile", "tiny.qg", "--target", "portable", "--name", "wake", "--split"]
    report = json_of(capsys, *words, "-o", "word.h", "--json")
    assert report["files"] == ["word.h", "word.c"] and report["name"] == "wake"
    assert (here / "word.c").read_text().startswith('#include "word.h"\n')
    assert "int wake_run(" in (here / "word.h").read_text()
    assert "--name wake --split\n" in (here / "word.h").read_text()


def test_model_name_may_be_any_text(here: Path) -> None:
    """The header stays ASCII whatever the file is called."""
    for suffix in (".qg", ".npz"):
        shutil.copy(f"tiny{suffix}", f"größe {suffix}")
    text = (here / "größe .qg").read_text().replace("tiny.npz", "größe .npz")
    (here / "größe .qg").write_text(text)
    assert main(["compile", "größe .qg", "--target", "portable"]) == 0
    assert (here / "tiny.h").read_bytes().isascii()


def test_budget_kept(here: Path) -> None:
    words = ["compile", "tiny.qg", "--target", "portable", "--max-ram", "64k", "--max-flash", "1M"]
    assert main(words) == 0
    assert (here / "tiny.h").exists()


HEAD = """qgen 1
model head rounding(gemmlowp)
input x : u8[1, 32, 32, 8] quant(scale=0.1, zero=128)
a = max_pool2d(x, kernel=(3, 3)) : u8[1, 30, 30, 8] quant(scale=0.1, zero=128)
b = max_pool2d(a, kernel=(3, 3)) : u8[1, 28, 28, 8] quant(scale=0.1, zero=128)
c = average_pool2d(b, kernel=(14, 14), stride=(14, 14)) : u8[1, 2, 2, 8] quant(scale=0.1, zero=128)
output c
"""


def test_stripes_fit_a_budget(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whole, a and b take 13,472 bytes: 30 * 30 * 8 and 28 * 28 * 8."""
    (here / "head.qg").write_text(HEAD)
    whole = json_of(capsys, "inspect", "head.qg", "--target", "portable", "--json")
    assert whole["arena_bytes"] == 13_472 and whole["stripes"] == []
    budget = ("--target", "portable", "--max-ram", "8K")
    report = json_of(capsys, "inspect", "head.qg", *budget, "--json")
    assert report["arena_bytes"] + 1024 <= 8192 and report["stripes"]
    assert report["gap_bytes"] == report["arena_bytes"] - report["liveness_peak_bytes"]
    assert main(["inspect", "head.qg", *budget]) == 0
    assert "Stripes: " in capsys.readouterr().out
    assert main(["compile", "head.qg", *budget]) == 0
    assert "MACs twice" in capsys.readouterr().out
    assert "--target portable --max-ram 8192" in (here / "head.h").read_text()
    verdict = json_of(capsys, "verify", "head.qg", *budget, "--inputs", "2", "--json")
    assert verdict["equal"] is True and verdict["arena_bytes"] == report["arena_bytes"]


def test_verify(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("verify", "tiny.qg", "--target", "portable", "--inputs", "2", "--json")
    report = json_of(capsys, *words)
    assert report["equal"] is True and report["first_difference"] is None
    assert report["target"] == "portable" and report["inputs"] == 2
    assert report["tensors"] == 2 * 5 + report["op_runs"]
    assert report["text_bytes"] > 100 and report["arena_bytes"] > 0 and report["stack_bytes"] > 0
    assert main(words[:-1]) == 0
    assert "tiny: target portable equals golden bit for bit" in capsys.readouterr().out


def test_verify_finds_a_difference(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from qgen.verify import harness

    def wrong(*args: Any) -> dict[str, str]:
        files = right(*args)
        return {k: v.replace("(px[c] - 128)", "(px[c] - 129)") for k, v in files.items()}

    right = harness.emit
    monkeypatch.setattr(harness, "emit", wrong)
    words = ["verify", "tiny.qg", "--target", "portable", "--json"]
    report = json_of(capsys, *words, code=1)
    assert report["equal"] is False
    found = report["first_difference"]
    assert found["name"] == "c1" and found["op"] == "conv2d" and len(found["element"]) == 4
    assert found["location"].startswith("tiny.qg:") and found["expected"] != found["got"]
    assert main(words[:-1]) == 1
    assert "conv2d 'c1' (op 0), input 0 (random)" in capsys.readouterr().out


def test_ops(capsys: pytest.CaptureFixture[str]) -> None:
    rows = json_of(capsys, "ops", "--json")
    conv = next(row for row in rows if row["op"] == "conv2d")
    assert conv["portable"] == "q8_conv2d__c99" and "aarch64" in conv
    assert main(["ops", "--markdown"]) == 0
    assert capsys.readouterr().out.startswith("| op | TFLite | ")
    assert main(["ops"]) == 0
    assert "depthwise_conv2d" in capsys.readouterr().out
