"""`qgen inspect --plot`: one picture of the dataflow graph and of the arena over time."""

from __future__ import annotations

from pathlib import Path

from qgen.errors import Loc, QgenError
from qgen.ir.graph import Graph
from qgen.plan.memory import MemoryPlan
from qgen.report.arena_plot import draw_arena
from qgen.report.inspect import Report, inspect
from qgen.report.lanes import layout
from qgen.report.svg import FAINT, GRID, INK, PAPER, Svg, colour, fit, text_width
from qgen.report.units import count, quantity, shape

MARGIN = 28
TOP = 96
ROW = 26
LANE = 20
NAME_WIDTH, KIND_WIDTH, SHAPE_WIDTH, MACS_WIDTH = 196, 122, 132, 96
RIGHT_WIDTH = 860
ENDS = "#2f3a4a"


def plot_svg(graph: Graph, plan: MemoryPlan, path: Path) -> None:
    """Write the picture to `path`. Raises QgenError where that is impossible."""
    text = render_svg(graph, plan)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as e:
        raise QgenError(f"cannot write the picture: {e.strerror}", Loc(str(path))) from e


def render_svg(graph: Graph, plan: MemoryPlan) -> str:
    """The picture as SVG text, a function of its arguments alone."""
    report = inspect(graph, plan)
    svg = Svg()
    left, bottom = _draw_graph(svg, graph, report)
    x = left + 44
    width = x + RIGHT_WIDTH + MARGIN
    height = max(bottom, draw_arena(svg, plan, report, x, TOP, RIGHT_WIDTH, bottom)) + MARGIN
    page = Svg()
    page.rect(0, 0, width, height, fill=PAPER)
    _draw_title(page, report, width)
    page.parts += svg.parts
    return page.document(width, height, f"{graph.name}: graph and memory plan")


def _draw_title(svg: Svg, report: Report, width: float) -> None:
    svg.text(MARGIN, 42, fit(report["model"], 22, width / 2), 22, font_weight=600)
    facts = [
        f"{quantity(report['macs'])} MACs",
        f"{count(report['weight_bytes'])} B weights",
        f"{count(report['arena_bytes'])} B arena",
        f"{count(report['liveness_peak_bytes'])} B liveness peak",
        f"{len(report['layers'])} ops",
        f"rounding {report['rounding']}",
    ]
    svg.text(MARGIN, 66, "   ·   ".join(facts), 13, fill=FAINT)
    svg.line(MARGIN, 80, width - MARGIN, 80, stroke=GRID)


def _draw_graph(svg: Svg, graph: Graph, report: Report) -> tuple[float, float]:
    """The graph, top to bottom. Returns its right and bottom edge."""
    n = len(graph.inputs)
    row_of = {t: i for i, t in enumerate(graph.inputs)}
    row_of.update({op.out: n + i for i, op in enumerate(graph.ops)})
    producers: list[list[int]] = [[] for _ in graph.inputs]
    producers += [sorted({row_of[t] for t in op.inputs()}) for op in graph.ops]
    producers += [[row_of[t]] for t in graph.outputs]
    plan = layout(producers)

    text = MARGIN + max(plan.width, 1) * LANE + 8
    columns: list[float] = [text]
    for column in (KIND_WIDTH, NAME_WIDTH, SHAPE_WIDTH):
        columns.append(columns[-1] + column)
    right = columns[-1] + MACS_WIDTH
    heads = ("op", "layer", "result", "MACs")
    for x, head in zip(columns, heads, strict=True):
        svg.text(x, TOP + 12, head, 11, fill=FAINT)
    top = TOP + 22

    def center(row: int) -> tuple[float, float]:
        return MARGIN + plan.lanes[row] * LANE + LANE / 2, top + row * ROW + ROW / 2

    for row in range(0, len(producers), 2):
        svg.rect(MARGIN, top + row * ROW, right - MARGIN, ROW, fill="#f6f8fa", rx=4)
    for edge in plan.edges:
        (x1, y1), (x2, y2) = center(edge.start), center(edge.end)
        skip = edge.end - edge.start > 1
        middle = MARGIN + edge.lane * LANE + LANE / 2
        svg.path(
            _curve(x1, y1, x2, y2, middle),
            fill="none",
            stroke="#8593a5" if skip else "#5b6675",
            stroke_width=1.6,
        )
    widest = max((layer["macs"] for layer in report["layers"]), default=0) or 1
    for i, t in enumerate(graph.inputs):
        _draw_end(svg, *center(i), columns, "input", t.name, f"{t.dtype.value} {shape(t.shape)}")
    for i, layer in enumerate(report["layers"]):
        x, y = center(n + i)
        kind = colour(layer["op"])
        result = f"{layer['dtype']} {shape(layer['shape'])}"
        tip = f"{layer['name']}: {layer['op']} {result}, {count(layer['macs'])} MACs"
        tip += f", {count(layer['weight_bytes'])} B weights"
        svg.element("circle", tip, cx=x, cy=y, r=5.5, fill=kind, stroke=PAPER, stroke_width=1.5)
        chip = text_width(layer["op"], 10.5) + 12
        svg.rect(columns[0], y - 8.5, min(chip, KIND_WIDTH - 6), 17, tip, fill=kind, rx=8.5)
        svg.text(columns[0] + 6, y + 3.6, layer["op"], 10.5, fill=PAPER)
        svg.text(columns[1], y + 4, fit(layer["name"], 12, NAME_WIDTH - 10), 12, tip)
        svg.text(columns[2], y + 4, result, 11.5, fill=FAINT)
        if layer["macs"]:
            length = max(MACS_WIDTH * layer["macs"] / widest, 1.0)
            svg.rect(columns[3], y - 7, length, 14, tip, fill=kind, fill_opacity=0.28, rx=2)
            svg.text(columns[3] + 4, y + 4, quantity(layer["macs"]), 11)
    first = n + len(graph.ops)
    for i, t in enumerate(graph.outputs):
        where = center(first + i)
        _draw_end(svg, *where, columns, "output", t.name, f"{t.dtype.value} {shape(t.shape)}")
    return right, top + len(producers) * ROW


def _draw_end(
    svg: Svg, x: float, y: float, columns: list[float], kind: str, name: str, result: str
) -> None:
    """A graph input or output."""
    svg.rect(x - 5.5, y - 5.5, 11, 11, f"{kind} {name}", fill=ENDS, rx=2)
    svg.text(columns[0] + 6, y + 3.6, kind, 10.5, fill=INK, font_weight=600)
    svg.text(columns[1], y + 4, fit(name, 12, NAME_WIDTH - 10), 12, f"{kind} {name}")
    svg.text(columns[2], y + 4, result, 11.5, fill=FAINT)


def _curve(x1: float, y1: float, x2: float, y2: float, middle: float) -> str:
    """Down from (x1, y1) to (x2, y2), along x = `middle` between the rows next to them."""

    def bend(xa: float, ya: float, xb: float, yb: float) -> str:
        half = (ya + yb) / 2
        return f"C{xa:.1f} {half:.1f} {xb:.1f} {half:.1f} {xb:.1f} {yb:.1f}"

    if y2 - y1 <= ROW + 0.5:
        return f"M{x1:.1f} {y1:.1f}{bend(x1, y1, x2, y2)}"
    upper, lower = y1 + ROW, y2 - ROW
    return (
        f"M{x1:.1f} {y1:.1f}{bend(x1, y1, middle, upper)}"
        f"L{middle:.1f} {lower:.1f}{bend(middle, lower, x2, y2)}"
    )
