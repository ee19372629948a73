"""`qgen profile --plot`: where instructions and cycles go, as one picture."""

from __future__ import annotations

from collections.abc import Callable

from qgen.profile.layers import Layer, Profile
from qgen.report.svg import FAINT, GRID, INK, PAPER, PEAK, Svg, colour, fit, text_width
from qgen.report.units import count, quantity

MARGIN = 28
ROW = 24
CHIP, NAME = 122, 196
BAR = 232  # width of a column of bars
GAP = 26
PERCENT = 150
LABEL = 10.5
STRIP, STRIP_GAP = 20, 10
STRIP_TITLE = 132

Value = Callable[[Layer], float | None]


def render_svg(profile: Profile) -> str:
    """The picture as SVG text, a function of its argument alone."""
    timed = profile.total.cycles is not None
    columns: list[tuple[str, Value]] = [("instructions", lambda layer: layer.instructions)]
    if timed:
        columns.append(("cycles (estimate)", lambda layer: layer.cycles))
    columns.append(("MACs", lambda layer: layer.macs))
    right = MARGIN + CHIP + NAME + len(columns) * (BAR + GAP)
    width = right + (PERCENT if timed else 0) + MARGIN
    svg = Svg()
    _title(svg, profile, width)
    top = _strips(svg, profile, columns, 100.0, width)
    bottom = _rows(svg, profile, columns, top + 34)
    if timed:
        _percents(svg, profile, right, top + 34)
    bottom = _note(svg, profile, bottom + 40, width)
    page = Svg()
    page.rect(0, 0, width, bottom + MARGIN, fill=PAPER)
    page.parts += svg.parts
    return page.document(width, bottom + MARGIN, f"{profile.model}: profile on {profile.cpu}")


def _title(svg: Svg, profile: Profile, width: float) -> None:
    total = profile.total
    svg.text(MARGIN, 42, fit(profile.model, 22, width / 2), 22, font_weight=600)
    facts = [
        f"target {profile.target}",
        profile.cpu,
        f"{quantity(total.instructions)} instructions",
    ]
    if total.macs_per_instruction:
        facts.append(f"{total.macs_per_instruction:.2f} MAC per instruction")
    if total.cycles is not None:
        facts.append(f"about {quantity(round(total.cycles))} cycles")
    percent = profile.percent_of_peak(total)
    if percent is not None:
        facts.append(f"{percent:.0f} % of peak")
    svg.text(MARGIN, 66, "   ·   ".join(facts), 13, fill=FAINT)
    svg.line(MARGIN, 80, width - MARGIN, 80, stroke=GRID)


def _strips(
    svg: Svg, profile: Profile, columns: list[tuple[str, Value]], y: float, width: float
) -> float:
    """One bar per quantity, parted by kind of op, and the legend. Returns the bottom edge."""
    kinds = list(dict.fromkeys(layer.op for layer in profile.layers))
    left = MARGIN + STRIP_TITLE
    for title, value in columns:
        sums = {k: sum(value(layer) or 0 for layer in profile.layers if layer.op == k)
                for k in kinds}  # fmt: skip
        whole = sum(sums.values())
        svg.text(MARGIN, y + 14, title, 12, font_weight=600)
        x = float(left)
        for kind, part in sums.items():
            w = (width - MARGIN - left) * part / whole if whole else 0.0
            if w <= 0:
                continue
            share = f"{part / whole:.0%}"
            tip = f"{kind}: {count(round(part))} {title}, {share}"
            svg.rect(x, y, max(w - 1, 0.5), STRIP, tip, class_="strip", fill=colour(kind), rx=2)
            if text_width(share, LABEL) <= w - 8:
                svg.text(x + 6, y + 14, share, LABEL, fill=PAPER, pointer_events="none")
            x += w
        y += STRIP + STRIP_GAP
    x, y = left, y + 12
    for kind in kinds:
        number = sum(layer.op == kind for layer in profile.layers)
        label = f"{kind}  {number}"
        if x + text_width(label, 11.5) + 34 > width - MARGIN:
            x, y = left, y + 20
        svg.rect(x, y - 9, 11, 11, fill=colour(kind), rx=2)
        svg.text(x + 17, y + 1, label, 11.5)
        x += text_width(label, 11.5) + 34
    return y + 8


def _rows(svg: Svg, profile: Profile, columns: list[tuple[str, Value]], y: float) -> float:
    """A row per layer. Returns the bottom edge."""
    starts = [MARGIN + CHIP + NAME + i * (BAR + GAP) for i in range(len(columns))]
    svg.text(MARGIN, y, "op", 11, fill=FAINT)
    svg.text(MARGIN + CHIP, y, "layer", 11, fill=FAINT)
    right = starts[-1] + BAR + (PERCENT if len(columns) > 2 else 0)
    for i in range(0, len(profile.layers), 2):
        svg.rect(MARGIN, y + 8 + i * ROW, right - MARGIN + 8, ROW, fill="#f6f8fa", rx=4)
    for i, layer in enumerate(profile.layers):
        middle = y + 8 + i * ROW + ROW / 2
        kind = colour(layer.op)
        tip = f"{layer.index} {layer.name}: {layer.kernel or 'free'}"
        chip = min(text_width(layer.op, LABEL) + 12, CHIP - 6)
        svg.rect(MARGIN, middle - 8.5, chip, 17, tip, fill=kind, rx=8.5)
        svg.text(MARGIN + 6, middle + 3.6, layer.op, LABEL, fill=PAPER, pointer_events="none")
        svg.text(MARGIN + CHIP, middle + 4, fit(layer.name, 12, NAME - 12), 12, tip)
    for x, (title, value) in zip(starts, columns, strict=True):
        svg.text(x, y, title, 11, fill=FAINT)
        most = max((value(layer) or 0 for layer in profile.layers), default=0) or 1
        for i, layer in enumerate(profile.layers):
            amount = value(layer) or 0
            if amount:
                middle = y + 8 + i * ROW + ROW / 2
                _bar(svg, layer, x, middle, amount, most, title)
    return y + 8 + len(profile.layers) * ROW


def _bar(
    svg: Svg, layer: Layer, x: float, middle: float, amount: float, most: float, title: str
) -> None:
    """A bar with its figure; where instructions were predicted, a mark at the prediction."""
    # Room for the figure beside the longest bar.
    room = BAR - 62
    length = max(room * amount / most, 1.0)
    tip = f"{layer.name}: {count(round(amount))} {title}"
    svg.rect(x, middle - 7, length, 14, tip, class_="bar", fill=colour(layer.op),
             fill_opacity=0.8, rx=2)  # fmt: skip
    if title == "instructions" and layer.predicted:
        at = x + min(room * layer.predicted / most, float(BAR))
        svg.line(at, middle - 9, at, middle + 9, stroke=INK, stroke_width=1.5)
        length = max(length, at - x)
    svg.text(x + length + 5, middle + 4, quantity(round(amount)), 11, fill=FAINT)


def _percents(svg: Svg, profile: Profile, x: float, y: float) -> None:
    """MAC rate of each layer as a dot between 0 and 100 % of the peak."""
    wide = PERCENT - 40
    svg.text(x, y, "% of peak MAC rate", 11, fill=FAINT)
    bottom = y + 8 + len(profile.layers) * ROW
    for percent in (0, 50, 100):
        at = x + wide * percent / 100
        svg.line(at, y + 8, at, bottom, stroke=GRID)
        svg.text(at, bottom + 14, str(percent), LABEL, fill=FAINT, text_anchor="middle")
    average = profile.percent_of_peak(profile.total)
    if average is not None:
        at = x + wide * min(average, 100.0) / 100
        svg.line(at, y + 8, at, bottom, stroke=PEAK, stroke_dasharray="4 3")
    for i, layer in enumerate(profile.layers):
        value = profile.percent_of_peak(layer)
        if value is None:
            continue
        middle = y + 8 + i * ROW + ROW / 2
        at = x + wide * min(value, 100.0) / 100
        svg.line(x, middle, at, middle, stroke=colour(layer.op), stroke_width=2)
        svg.element("circle", f"{layer.name}: {value:.1f} %", cx=at, cy=middle, r=4.5,
                    fill=colour(layer.op))  # fmt: skip
        svg.text(at + 8, middle + 4, f"{value:.0f}", 11, fill=FAINT)


def _note(svg: Svg, profile: Profile, y: float, width: float) -> float:
    """What the figures mean. Returns the bottom edge."""
    lines = ["Instructions are exact."]
    if profile.note:
        lines.append(f"{profile.note[0].upper()}{profile.note[1:]}.")
    else:
        lines.append(
            "Cycles are an estimate: executed blocks x their cost in LLVM's model of "
            f"{profile.scheduling}, without cache misses. The dashed line is the mean of the model."
        )
    if any(layer.predicted for layer in profile.layers):
        lines.append("An upright mark is what the cost model predicted.")
    for line in lines:
        svg.text(MARGIN, y, fit(line, 11, width - 2 * MARGIN), 11, fill=FAINT)
        y += 16
    return y - 16
