"""The page of benchmarks, made of one small model, and its goals."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import goals, loops, results, runner, tables
from benchmarks.__main__ import main
from benchmarks.goals import Goal
from benchmarks.litert_peer import PeerFigures
from benchmarks.results import Results
from qgen.errors import QgenError
from qgen.frontend.printer import save
from tests.models import tiny


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """A small model under the name of one that has goals."""
    folder = tmp_path_factory.mktemp("models")
    path = folder / "kws_ref_model.qg"
    save(tiny("kws_ref_model"), path)
    found = results.measure([path], runner.CPUS, ["cortex-a55"], [], None)
    better = PeerFigures({"xnn": 30_000.0, "ruy": 20_000.0}, {"xnn": 10, "ruy": 20})
    peers = {("kws_ref_model", cpu): better for cpu in runner.CPUS}
    return Results(found.names, found.cpus, found.ours, peers, found.golden_ms)


def test_ratio_is_to_the_better_peer(measured: Results) -> None:
    n = measured.instructions("kws_ref_model", "cortex-a53")
    assert n and measured.ratio("kws_ref_model", "cortex-a53") == n / 20_000
    assert measured.ratio("kws_ref_model", "cortex-a72") is None
    (row, *_), headings = tables.peers(measured)[1], tables.peers(measured)[0]
    cells = dict(zip(headings, row, strict=True))
    assert cells["qgen / better"] == f"{n / 20_000:.2f}"
    assert cells["LiteRT heap (B)"] == "10"


def test_every_cpu_has_its_target(measured: Results) -> None:
    used = {cpu: g.lowered.target.name for (_, cpu), g in measured.ours.items()}
    assert used == {
        "cortex-a53": "aarch64",
        "cortex-a76": "aarch64+dotprod",
        "max": "aarch64+i8mm",
        "cortex-a55": "aarch64+dotprod",
    }
    with pytest.raises(QgenError, match="unknown cpu 'vax'"):
        runner.machine_for("vax")


def test_goals(measured: Results) -> None:
    found = goals.goals(measured)
    shares = [g for g in found if g.what.startswith("kws_ref_model:")]
    assert [g.limit for g in shares] == [0.60, 0.75, 0.70]
    assert all(g.met == (g.measured is not None and g.measured <= g.limit) for g in shares)
    assert not any("mobilenet" in g.what for g in found), "not in this run"
    for what in ("main loop", "loops of"):
        loops = [g for g in found if g.what.startswith(what)]
        assert [g.cpu for g in loops] == list(goals.LOOP_CPUS)
        assert loops[0].measured and loops[3].measured is None


def test_a_goal_says_whether_it_is_met() -> None:
    assert Goal("a", "c", 1.0, "{:.1f}", None).row() == ["a", "c", "<= 1.0", "-", "-"]
    assert Goal("a", "c", 1.0, "{:.1f}", 1.0).row()[2:] == ["<= 1.0", "1.0", "yes"]
    assert Goal("a", "c", 85, "{:.0f}", 80, least=True).row()[2:] == [">= 85", "80", "**no**"]


def test_inner_loops(measured: Results) -> None:
    headings, rows = tables.loop_rows(measured)
    assert {row[0] for row in rows} == {cpu for _, cpu in measured.ours}
    for row in rows:
        cell = dict(zip(headings, row, strict=True))
        assert cell["in model"] == "kws_ref_model" and cell["loop over"] in ("inputs", "outputs")
        # No loop is faster than its own instructions allow, nor those than the multiplies alone.
        assert float(cell["% of peak"]) <= float(cell["bound"]) * 1.01 <= 102


def test_inner_loops_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(tiny(), tmp_path / "tiny.qg")
    assert loops.main([str(tmp_path / "tiny.qg"), "--cpu", "cortex-a53"]) == 0
    heading, *rows = capsys.readouterr().out.splitlines()
    assert heading.split()[0] == "cpu" and all(row.startswith("cortex-a53  ") for row in rows)
    assert loops.main(["absent", "--models", str(tmp_path)]) == 2
    assert "no model" in capsys.readouterr().err


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "tiny.qg"
    save(tiny(), path)
    page = tmp_path / "page.md"
    words = [str(path), "--no-peer", "--cpu", "cortex-a53"]
    assert main([*words, "--write", str(page)]) == 0
    text = page.read_text()
    for heading in ("Goals", "Beside LiteRT", "Estimated cycles", "The dearest layers"):
        assert f"\n## {heading}\n" in text
    assert "| tiny | cortex-a53 | aarch64 | - | - |" in text
    # Every row of a table has as many cells as its heading.
    for block in text.split("\n\n"):
        rows = [line.count("|") for line in block.splitlines() if line.startswith("|")]
        assert len(set(rows)) <= 1
    assert main(["absent", "--no-peer", "--models", str(tmp_path)]) == 2
    assert "no model" in capsys.readouterr().err


def test_models_are_found_by_name_or_path(tmp_path: Path) -> None:
    (tmp_path / "a.tflite").touch()
    assert runner.models(["a"], tmp_path) == [tmp_path / "a.tflite"]
    assert runner.models([str(tmp_path / "a.tflite")], Path("x")) == [tmp_path / "a.tflite"]
    with pytest.raises(QgenError, match=r"no model .*b\.tflite"):
        runner.models(["b"], tmp_path)


def test_millions() -> None:
    assert [tables.millions(n) for n in (7246376, 12.5e6, 641)] == ["7.25", "12.5", "0.0006"]
