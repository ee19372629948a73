"""qgen profile: figures that add up, stable JSON, a picture, one line where a tool is missing."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import qgen
from qgen.__main__ import main
from qgen.frontend.printer import save
from qgen.lower import lower
from qgen.profile import layers, machines, mca, profile_model
from qgen.profile.layers import Profile
from qgen.report.profile import render
from qgen.report.profile_plot import render_svg
from qgen.report.units import console
from qgen.targets import CPUS
from tests.models import forked, tiny

KEYS = {
    "name", "op", "kernel", "macs", "fewest_instructions", "instructions", "predicted", "share",
    "macs_per_instruction", "cycles", "macs_per_cycle", "percent_of_peak", "loop_percent_of_peak",
    "loop_percent_of_bound",
    "index",
}  # fmt: skip
TOOLS = ("qemu-aarch64", "aarch64-linux-gnu-gcc", "gcc")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    save(tiny(), tmp_path / "tiny.qg")
    save(forked(), tmp_path / "forked.qg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def json_of(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    assert main(["profile", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_json(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = json_of(capsys, "tiny.qg")
    assert report == json_of(capsys, "tiny.qg"), "the same every time"
    assert (report["target"], report["cpu"]) == ("aarch64", "cortex-a53")
    assert report["cycles_are"] == "estimate" and report["note"] == ""
    assert [layer["name"] for layer in report["layers"]] == ["c1", "c2", "total", "flat"]
    for layer in report["layers"]:
        assert set(layer) == KEYS
    for key in ("instructions", "cycles"):
        parts = sum(layer[key] for layer in (*report["layers"], report["rest"]))
        # Each layer's cycles are rounded.
        assert abs(parts - report[key]) <= (0 if key == "instructions" else len(KEYS))
    assert report["macs"] == report["model_macs"] == 64 * 8 * 27 + 64 * 8 * 8
    assert report["layers"][0]["fewest_instructions"] == 64 * 27
    assert 0 < report["percent_of_peak"] < 100
    free = report["layers"][3]
    assert (free["kernel"], free["instructions"], free["cycles"]) == ("", 0, 0)


@pytest.mark.parametrize(
    ("words", "target", "cpu", "emulated"),
    [
        (["--cpu", "cortex-a76"], "aarch64+dotprod", "cortex-a76", "cortex-a76"),
        (["--target", "aarch64", "--cpu", "cortex-a55"], "aarch64", "cortex-a55", "cortex-a76"),
        (["--target", "aarch64+i8mm"], "aarch64+i8mm", "cortex-a510", "max"),
        (["--target", "portable"], "portable", "cortex-a53", "cortex-a53"),
        (["--target", "portable", "--cpu", "neoverse-n1"], "portable", "neoverse-n1",
         "neoverse-n1"),
    ],
)  # fmt: skip
def test_machines(
    here: Path, capsys: pytest.CaptureFixture[str], words: list[str], target: str, cpu: str,
    emulated: str,
) -> None:  # fmt: skip
    report = json_of(capsys, "forked.qg", *words)
    assert (report["target"], report["cpu"], report["emulated"]) == (target, cpu, emulated)
    assert report["instructions"] > 0 and report["cycles"] > 0
    assert report["percent_of_peak"] is None, "a model without MACs"


def test_blocks_and_marks_count_the_same(here: Path) -> None:
    """Every executed instruction is in a block whose cycles are estimated."""
    profile = qgen.profile_model("tiny.qg")
    assert isinstance(profile, Profile)
    a53 = CPUS["cortex-a53"]
    # One cycle for each instruction: the estimate is then their number, and the call of the mark.
    one = replace(a53, in_order=True)
    lowered = lower(tiny(), machines(None, None)[0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            mca, "costs", lambda *a, **k: {t: mca.Cost(t.count("\n") + 1.0, 1.0) for t in a[3]}
        )
        timed = layers.measure(lowered, lowered.target, one)
    for layer in timed.layers:
        assert layer.cycles == (layer.instructions + 1 if layer.kernel else 0)


def test_table(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", "tiny.qg", "--top", "2"]) == 0
    out = capsys.readouterr().out
    assert "cycles (est.)" in out and "predicted" in out and "an estimate" in out
    assert len(re.findall(r"^ *\d+ +\w+ +\w+__\w+ ", out, re.MULTILINE)) == 2
    assert main(["profile", "tiny.qg"]) == 0
    assert "(rest)" in capsys.readouterr().out


def test_prediction_is_beside_the_measured(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    profile = qgen.profile_model("tiny.qg")
    guessed = tuple(replace(layer, predicted=4321) for layer in profile.layers)
    known = replace(profile, layers=guessed)
    assert known.total.predicted == 3 * 4321, "what is free is not counted"
    console().print(render(known))
    assert "4,321" in capsys.readouterr().out
    assert "cost model predicted" in render_svg(known)
    nothing = replace(profile, layers=tuple(replace(x, predicted=None) for x in profile.layers))
    assert nothing.total.predicted is None


@pytest.mark.parametrize("name", ["tiny", "forked"])
def test_picture(here: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert main(["profile", f"{name}.qg", "--plot", "p.svg"]) == 0
    text = (here / "p.svg").read_text()
    root = ET.fromstring(text)
    assert root.tag.endswith("svg")
    width, height = (float(root.attrib[k]) for k in ("width", "height"))
    for element in root.iter():
        x, y = (float(element.get(k, 0)) for k in ("x", "y"))
        assert 0 <= x <= width and 0 <= y <= height
    for layer in qgen.profile_model(f"{name}.qg").layers:
        assert layer.name in text
    assert "estimate" in text


def test_without_llvm_mca(
    here: Path, capsys: pytest.CaptureFixture[str], only: Callable[..., Path]
) -> None:
    only(*TOOLS)
    report = json_of(capsys, "tiny.qg")
    assert report["note"].startswith("no cycles: llvm-mca not found (apt-get install llvm")
    assert report["instructions"] > 0
    assert report["cycles"] is None and report["peak_macs_per_cycle"] is None
    assert {layer["cycles"] for layer in report["layers"]} == {None}
    assert main(["profile", "tiny.qg", "--plot", "p.svg"]) == 0
    assert "No cycles: llvm-mca not found" in " ".join(capsys.readouterr().out.split())
    text = (here / "p.svg").read_text()
    assert "cycles (estimate)" not in text and "llvm-mca not found" in text


def test_a_core_without_model(here: Path) -> None:
    lowered = lower(tiny(), machines(None, None)[0])
    profile = layers.measure(lowered, lowered.target, replace(CPUS["cortex-a53"], model=""))
    assert profile.note.startswith("no cycles: LLVM has no scheduling model of cortex-a53")
    assert profile.total.cycles is None and profile.total.instructions > 0


@pytest.mark.parametrize(
    ("there", "message"),
    [
        (TOOLS[1:], "emulator 'qemu-aarch64' not found (apt-get install"),
        (TOOLS[:2], "no host C compiler for the counting plugin (apt-get install gcc)"),
        ((TOOLS[0], TOOLS[2]), "no C compiler for aarch64: "),
    ],
)
def test_missing_tools(
    here: Path, capsys: pytest.CaptureFixture[str], only: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch, there: tuple[str, ...], message: str,
) -> None:  # fmt: skip
    only(*there)
    # Built once per process: here as in a new one.
    monkeypatch.setattr(layers.count, "_plugin", layers.count._plugin.__wrapped__)
    for words in ([], ["--target", "portable"]):
        assert main(["profile", "tiny.qg", *words]) == 2
        said = capsys.readouterr()
        assert said.out == "" and said.err.count("\n") == 1
        assert message in said.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["absent.tflite"], "absent.tflite: cannot read the model"),
        (["tiny.qg", "--target", "aarch46"], "unknown target 'aarch46' (did you mean aarch64?)"),
        (["tiny.qg", "--cpu", "a53"], "unknown cpu 'a53' (did you mean cortex-a53?)"),
        (["tiny.qg", "--target", "aarch64+dotprod", "--cpu", "cortex-a53"],
         "cpu cortex-a53 lacks dotprod, which target aarch64+dotprod needs"),
        (["tiny.qg", "--top", "0"], "--top: '0' is not a positive number"),
        (["tiny.qg", "--plot", "no/such/p.svg"], "cannot write no/such/p.svg"),
    ],
)  # fmt: skip
def test_refused(
    here: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert main(["profile", *words]) == 2
    said = capsys.readouterr()
    assert said.out == "" and message in said.err and "Traceback" not in said.err


@pytest.mark.parametrize("target", ["aarch64", "aarch64+dotprod", "aarch64+i8mm", "armv7a"])
def test_predictions_are_close_to_what_is_counted(target: str) -> None:
    model = Path(__file__).parents[2] / "examples" / "digits" / "digits.qg"
    profile = profile_model(model, target)
    known = [layer for layer in profile.layers if layer.predicted is not None]
    assert {"conv2d", "depthwise_conv2d", "fully_connected"} <= {layer.op for layer in known}
    counted, predicted = (sum(getattr(x, k) for x in known) for k in ("instructions", "predicted"))
    # Rows are chosen by differences that are larger than that.
    assert abs(predicted - counted) <= 0.1 * counted
