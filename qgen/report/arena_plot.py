"""The right half of the picture: the arena over time, and MACs and weights per op below it."""

from __future__ import annotations

from collections.abc import Callable

from qgen.plan.memory import MemoryPlan, Placement
from qgen.report.inspect import Report
from qgen.report.svg import FAINT, GRID, INK, PEAK, Svg, colour, fit, text_width
from qgen.report.units import count, quantity

# Heights grow with the graph beside them, within these limits.
ARENA_HEIGHT = (300, 840)
BARS_HEIGHT = (76, 170)
AXIS = 72  # room for the labels of the vertical axes
LABEL = 10.5
SCRATCH = "#8a94a3"


def draw_arena(
    svg: Svg, plan: MemoryPlan, report: Report, x: float, y: float, w: float, bottom: float
) -> float:
    """Draw at (x, y) in width `w`, down to about `bottom`. Returns the bottom edge."""
    arena_height = min(max(0.58 * (bottom - y), ARENA_HEIGHT[0]), ARENA_HEIGHT[1])
    bars_height = min(max(0.12 * (bottom - y), BARS_HEIGHT[0]), BARS_HEIGHT[1])
    steps = len(plan.graph.ops)
    left, width = x + AXIS, w - AXIS
    step = width / steps

    def at(index: float) -> float:
        return left + index * step

    bottom = _storages(svg, plan, left, y, width, arena_height, at)
    _time_axis(svg, steps, bottom, at)
    for key, title in (("macs", "MACs per op"), ("weight_bytes", "weight bytes per op")):
        bottom = _bars(svg, report, key, title, left, bottom + 58, width, bars_height, at)
    return _legend(svg, report, left, bottom + 34, width)


def _storages(
    svg: Svg,
    plan: MemoryPlan,
    left: float,
    y: float,
    width: float,
    tall: float,
    at: Callable[[float], float],
) -> float:
    svg.text(left, y + 12, "Arena over time", 13, font_weight=600)
    note = "x: op in execution order, y: byte of the arena"
    svg.text(left + width, y + 12, note, 11, fill=FAINT, text_anchor="end")
    top = y + 24
    bottom = top + tall
    svg.rect(left, top, width, tall, fill="#fbfcfd", stroke=GRID)
    if not plan.arena_bytes:
        middle = left + width / 2
        svg.text(
            middle, top + 40, "this model needs no arena", 13, fill=FAINT, text_anchor="middle"
        )
        return bottom
    # Room above the arena for the label of the peak.
    scale = (tall - 26) / plan.arena_bytes

    def height(offset: float) -> float:
        return bottom - offset * scale

    _byte_axis(svg, plan.arena_bytes, left, width, height)
    names: dict[int, list[str]] = {}
    kinds: dict[int, str] = {}
    for op in plan.graph.ops:
        key = plan.placements[op.out].storage_id
        names.setdefault(key, []).append(op.name)
        kinds.setdefault(key, op.NAME)
    rows = [
        (s, names[s.storage_id], colour(kinds[s.storage_id]))
        for s in plan.storages
        if s.space == "arena"
    ]
    rows += [(s, [f"scratch of {op.name}"], SCRATCH) for op, s in plan.scratch.items()]
    for s, inside, fill in rows:
        _storage(svg, s, inside, fill, at, height)
    _live(svg, plan, at, height)
    for s, inside, _ in rows:
        _label(svg, s, inside, at, height)
    _peak(svg, plan, at, height)
    return bottom


def _byte_axis(
    svg: Svg, size: int, left: float, width: float, height: Callable[[float], float]
) -> None:
    for i in range(5):
        offset = size * i // 4
        y = height(offset)
        svg.line(left, y, left + width, y, stroke=GRID)
        svg.text(left - 8, y + 4, count(offset), 11, fill=FAINT, text_anchor="end")


def _storage(
    svg: Svg,
    s: Placement,
    names: list[str],
    fill: str,
    at: Callable[[float], float],
    height: Callable[[float], float],
) -> None:
    x, y = at(s.first), height(s.end)
    w, h = at(s.last + 1) - x, height(s.offset) - y
    label = ", ".join(names)
    tip = f"{label}: bytes {count(s.offset)} to {count(s.end)}, ops {s.first} to {s.last}"
    svg.rect(
        x, y, w, h, tip, class_="storage", fill=fill, fill_opacity=0.22, stroke=fill,
        stroke_width=1, rx=min(2.0, w / 4, h / 4),
    )  # fmt: skip


def _label(
    svg: Svg,
    s: Placement,
    names: list[str],
    at: Callable[[float], float],
    height: Callable[[float], float],
) -> None:
    """As much of the name and size as fits into the rectangle, upright where it is narrow."""
    x, y = at(s.first), height(s.end)
    w, h = at(s.last + 1) - x, height(s.offset) - y
    middle = (x + w / 2, y + h / 2)
    first = names[0] + (f" +{len(names) - 1}" if len(names) > 1 else "")
    size = f"{count(s.bytes)} B"
    style = {"text_anchor": "middle", "pointer_events": "none"}
    if h >= 30 and text_width(size, LABEL) <= w - 6 and fit(first, LABEL, w - 6):
        svg.text(middle[0], middle[1] - 2, fit(first, LABEL, w - 6), LABEL, **style)
        svg.text(middle[0], middle[1] + 11, size, 9.5, **{**style, "fill": FAINT})
    elif h >= 12 and text_width(first, LABEL) <= w - 6:
        svg.text(middle[0], middle[1] + 3.6, first, LABEL, **style)
    elif w >= 12 and h >= 40:
        turned = f"rotate(-90 {middle[0]:.1f} {middle[1]:.1f})"
        text = fit(first, LABEL, h - 8)
        svg.text(middle[0], middle[1] + 3.6, text, LABEL, transform=turned, **style)


def _live(
    svg: Svg, plan: MemoryPlan, at: Callable[[float], float], height: Callable[[float], float]
) -> None:
    """The live bytes as a line of steps."""
    live = plan.live()
    d = f"M{at(0):.1f} {height(0):.1f}"
    for i, n in enumerate(live):
        d += f"V{height(n):.1f}H{at(i + 1):.1f}"
    svg.path(
        d + f"V{height(0):.1f}",
        f"live bytes, {count(plan.liveness_peak_bytes)} at most",
        fill="none", stroke=INK, stroke_width=1.4, stroke_dasharray="4 3", stroke_opacity=0.5,
    )  # fmt: skip


def _peak(
    svg: Svg, plan: MemoryPlan, at: Callable[[float], float], height: Callable[[float], float]
) -> None:
    """The most live bytes, at the first op where they are reached."""
    live = plan.live()
    index = live.index(plan.liveness_peak_bytes)
    x, y = (at(index) + at(index + 1)) / 2, height(plan.liveness_peak_bytes)
    svg.line(at(0), y, at(len(live)), y, stroke=PEAK, stroke_width=1)
    svg.element("circle", f"peak at op {index}", cx=x, cy=y, r=4, fill=PEAK)
    text = f"peak {count(plan.liveness_peak_bytes)} B at {plan.graph.ops[index].name}"
    right = x > (at(0) + at(len(live))) / 2
    svg.text(
        x + (-8 if right else 8), y - 7, text, 11.5, fill=PEAK, font_weight=600,
        text_anchor="end" if right else "start",
    )  # fmt: skip


def _time_axis(svg: Svg, steps: int, y: float, at: Callable[[float], float]) -> None:
    every = next(n for n in (1, 2, 5, 10, 20, 50, 100, 200, 500, steps) if steps <= 24 * n)
    for i in range(0, steps, every):
        x = (at(i) + at(i + 1)) / 2
        svg.line(x, y, x, y + 4, stroke=FAINT)
        svg.text(x, y + 17, str(i), 11, fill=FAINT, text_anchor="middle")


def _bars(
    svg: Svg,
    report: Report,
    key: str,
    title: str,
    left: float,
    y: float,
    width: float,
    tall: float,
    at: Callable[[float], float],
) -> float:
    layers = report["layers"]
    most = max((layer[key] for layer in layers), default=0)
    svg.text(left, y - 8, title, 12, font_weight=600)
    bottom = y + tall
    svg.line(left, bottom, left + width, bottom, stroke=FAINT)
    if not most:
        return bottom
    svg.line(left, y, left + width, y, stroke=GRID)
    text = quantity(most) if key == "macs" else count(most)
    svg.text(left - 8, y + 4, text, 11, fill=FAINT, text_anchor="end")
    for i, layer in enumerate(layers):
        h = tall * layer[key] / most
        if h:
            gap = min((at(1) - at(0)) * 0.12, 6.0)
            tip = f"{layer['name']}: {count(layer[key])}"
            fill = colour(layer["op"])
            wide = min(at(1) - at(0) - 2 * gap, 40.0)
            x = (at(i) + at(i + 1)) / 2 - wide / 2
            svg.rect(x, bottom - h, wide, h, tip, fill=fill, fill_opacity=0.8)
    return bottom


def _legend(svg: Svg, report: Report, left: float, y: float, width: float) -> float:
    """Colour and number of ops of each kind."""
    kinds: dict[str, int] = {}
    for layer in report["layers"]:
        kinds[layer["op"]] = kinds.get(layer["op"], 0) + 1
    x = left
    for kind, number in kinds.items():
        label = f"{kind}  {number}"
        need = text_width(label, 11.5) + 34
        if x + need > left + width:
            x, y = left, y + 22
        svg.rect(x, y - 9, 11, 11, fill=colour(kind), rx=2)
        svg.text(x + 17, y + 1, label, 11.5)
        x += need
    return y + 10
