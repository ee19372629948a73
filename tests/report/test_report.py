"""Reports: numbers against the graph and the plan, the terminal's table, the picture, the ops."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from qgen.emit import Provenance, emit
from qgen.errors import QgenError
from qgen.ir.graph import Graph
from qgen.ir.op import registry
from qgen.lower import lower
from qgen.plan.memory import plan_memory
from qgen.report.inspect import inspect, render
from qgen.report.lanes import layout
from qgen.report.ops import ops_table
from qgen.report.plot import plot_svg, render_svg
from qgen.report.units import bound_bits, quantity
from qgen.targets import TARGETS
from tests.models import tiny
from tests.plan.graphs import Builder, graphs

SVG = "{http://www.w3.org/2000/svg}"


def residual() -> Graph:
    b = Builder()
    stem = b.pool(b.input(1, 4, 4, 16))
    y = b.add(b.pool(stem), stem)
    return b.graph(b.reshape(b.pool(y), 1, 256))


def test_inspect_says_what_graph_and_plan_hold() -> None:
    graph = residual()
    scratch = {graph.ops[1]: 40}
    report = inspect(graph, plan_memory(graph, scratch))
    assert json.loads(json.dumps(report)) == report
    assert report == inspect(graph, plan_memory(graph, scratch))
    assert (report["arena_bytes"], report["liveness_peak_bytes"]) == (560, 560)
    assert report["inputs"] == [
        {"name": "t0", "dtype": "u8", "shape": [1, 4, 4, 16], "bytes": 256, "scale": 1.0, "zero": 0}
    ]
    pooled, added, last, view = report["layers"][1:]
    assert pooled["scratch_bytes"] == 40 and pooled["scratch_offset"] is not None
    assert added["in_place"] == "a" and added["offset"] == pooled["offset"]
    assert [i["name"] for i in added["inputs"]] == ["t2", "t1"]
    assert (last["space"], view["space"], view["free"]) == ("output", "output", True)
    assert (view["first"], view["last"]) == (4, 5)


def test_inspect_says_kernels_and_the_proof_that_stands_in_the_c() -> None:
    for target in ("aarch64", "aarch64+dotprod"):
        lowered = lower(tiny(), TARGETS[target])
        report = inspect(lowered.graph, lowered.plan, lowered.model, lowered.steps)
        out = io.StringIO()
        Console(file=out, width=120).print(render(report))
        code = "".join(emit(lowered, Provenance("qgen", "tiny.qg", "0" * 64)).values())
        for layer, step in zip(report["layers"], lowered.steps, strict=True):
            assert layer["kernel"] == step.spec.name in out.getvalue()
            assert layer["predicted_instructions"] == step.predicted
        lanes = [layer["lanes"] for layer in report["layers"][:2]]
        assert lanes == [None, None] or target == "aarch64"
        for found in filter(None, lanes):
            assert found["depth"] >= 1 and 0 < found["bound"] <= found["limit"] == 32767
            assert f"{found['bound']:,}" in out.getvalue()
            assert f"at most {found['bound']} of 32767" in code


def test_table_in_a_pipe_is_plain_and_complete() -> None:
    graph = residual()
    out = io.StringIO()
    report = inspect(graph, plan_memory(graph, {graph.ops[1]: 40}))
    Console(file=out, width=200).print(render(report))
    text = out.getvalue()
    assert "\x1b" not in text and "…" not in text
    for word in ("max_pool2d", "u8 1x4x4x16", "over a", "free", "scratch 40", "560"):
        assert word in text


@settings(max_examples=60, deadline=None)
@given(graphs(), st.sampled_from([0, 40]))
def test_picture_of_any_graph(graph: Graph, scratch: int) -> None:
    plan = plan_memory(graph, dict.fromkeys(graph.ops, scratch))
    text = render_svg(graph, plan)
    assert text == render_svg(graph, plan)
    root = ElementTree.fromstring(text)
    words = list(root.itertext())
    for op in graph.ops:
        assert op.name in words and op.NAME in words
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    for e in root.iter(f"{SVG}rect"):
        x, y, w, h = (float(e.attrib[k]) for k in ("x", "y", "width", "height"))
        assert x >= 0 and y >= 0 and w >= 0 and h >= 0
        assert x + w <= width and y + h <= height
    storages = [e for e in root.iter(f"{SVG}rect") if e.get("class") == "storage"]
    arena = [s for s in plan.storages if s.space == "arena"]
    assert len(storages) == len(arena) + len(plan.scratch)
    _check_scale(storages, plan.arena_bytes)


def _check_scale(storages: list[ElementTree.Element], arena_bytes: int) -> None:
    """Rectangles stand at the bytes their tooltips name, on one scale, inside the arena."""
    seen = []
    for e in storages:
        title = e.find(f"{SVG}title")
        assert title is not None and title.text
        match = re.search(r"bytes ([\d,]+) to ([\d,]+)", title.text)
        assert match
        low, high = (int(g.replace(",", "")) for g in match.groups())
        assert 0 <= low < high <= arena_bytes
        seen.append((low, high, float(e.attrib["y"]), float(e.attrib["height"])))
    if seen:
        low, high, y, h = max(seen, key=lambda s: s[1] - s[0])
        scale = h / (high - low)
        floor = y + h + low * scale
        for low, high, y, h in seen:
            assert h == pytest.approx((high - low) * scale, abs=0.1)
            assert y + h == pytest.approx(floor - low * scale, abs=0.5)


def test_picture_that_cannot_be_written(tmp_path: Path) -> None:
    graph = residual()
    with pytest.raises(QgenError, match="cannot write the picture"):
        plot_svg(graph, plan_memory(graph), tmp_path / "missing" / "x.svg")
    plot_svg(graph, plan_memory(graph), tmp_path / "x.svg")
    assert (tmp_path / "x.svg").read_text().startswith("<svg")


@given(st.data())
def test_no_edge_crosses_a_node(data: st.DataObject) -> None:
    rows = data.draw(st.integers(1, 14))
    producers = [
        sorted(data.draw(st.sets(st.integers(0, i - 1), max_size=3))) if i else []
        for i in range(rows)
    ]
    found = layout(producers)
    assert {(e.start, e.end) for e in found.edges} == {
        (p, i) for i, sources in enumerate(producers) for p in sources
    }
    cells = [(row, lane) for row, lane in enumerate(found.lanes)]
    cells += [(row, e.lane) for e in found.edges for row in range(e.start + 1, e.end)]
    assert len(set(cells)) == len(cells)
    assert all(lane < found.width for _, lane in cells)


def test_a_chain_is_one_lane_and_a_skip_one_more() -> None:
    assert layout([[], [0], [1], [2]]).width == 1
    skip = layout([[], [0], [1], [0, 2], [3]])
    assert skip.lanes == (0, 0, 0, 0, 0) and skip.width == 2


def test_ops_table_has_every_op_and_its_kernels() -> None:
    kernels = {"portable": {name: f"c_{name}" for name in registry()}, "m9": {"add": "fast"}}
    table = ops_table(kernels, {"ADD": "add", "CONCATENATION": "concat, lookup"})
    rows = {row[0]: row[1:] for row in table.rows}
    assert list(rows) == list(registry())
    assert rows["add"] == ("ADD", "c_add", "fast")
    assert rows["lookup"] == ("CONCATENATION", "c_lookup", "")
    assert "| `add` | ADD | c_add | fast |" in table.markdown()
    assert {"op": "add", "TFLite": "ADD", "portable": "c_add", "m9": "fast"} in table.as_dict()
    out = io.StringIO()
    Console(file=out, width=120).print(table.rich())
    assert re.search(r"add +ADD +c_add +fast", out.getvalue())


def test_ops_table_asks_the_front_end() -> None:
    pytest.importorskip("tflite", reason="the extra 'tflite' is not installed")
    rows = {row[0]: row[1] for row in ops_table({}).rows}
    assert rows["clamp"] == "RELU, RELU6, RELU_N1_TO_1"


def test_numbers() -> None:
    assert [quantity(n) for n in (0, 999, 1000, 13_633_536, 569_800_000)] == [
        "0", "999", "1.0 k", "13.6 M", "570 M",
    ]  # fmt: skip
    assert bound_bits(None) is None
    bounds = [(-128, 127), (-129, 0), (0, 128), (-(2**31), 2**31 - 1)]
    assert [bound_bits({"low": a, "high": b}) for a, b in bounds] == [8, 9, 9, 32]
