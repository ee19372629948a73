"""A small writer of SVG: elements, text that fits, colours of ops."""

from __future__ import annotations

from xml.sax.saxutils import escape, quoteattr

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"
INK, FAINT, GRID, PAPER = "#1f2630", "#5b6675", "#e3e7ec", "#ffffff"
PEAK = "#c02942"

# White text on each of these has a contrast of at least 4.5.
_KINDS: dict[str, str] = {
    "conv2d": "#2b6cb0",
    "depthwise_conv2d": "#0f766e",
    "fully_connected": "#6d44b8",
    "add": "#b4540a",
    "sub": "#b4540a",
    "mul": "#b4540a",
    "average_pool2d": "#4d7c0f",
    "max_pool2d": "#4d7c0f",
    "mean": "#4d7c0f",
    "softmax": "#a8326a",
    "logistic": "#a8326a",
    "tanh": "#a8326a",
    "lookup": "#a8326a",
    "clamp": "#8a5a12",
    "quantize": "#8a5a12",
}
OTHER = "#566274"


def colour(kind: str) -> str:
    """The colour of an op, by its NAME."""
    return _KINDS.get(kind, OTHER)


def text_width(text: str, size: float) -> float:
    """Estimated width; system fonts differ, so it is on the wide side."""
    narrow = sum(c in "iIljt.,:;'|![]()1 " for c in text)
    wide = sum(c in "mwMW@%" for c in text)
    return size * (0.60 * (len(text) - narrow - wide) + 0.42 * narrow + 0.92 * wide)


def fit(text: str, size: float, width: float) -> str:
    """`text`, cut in its middle to fit into `width`; empty where nothing useful fits."""
    if text_width(text, size) <= width:
        return text
    for keep in range(len(text) - 1, 2, -1):
        head = (keep + 1) // 2
        short = f"{text[:head]}…{text[len(text) - (keep - head) :]}"
        if text_width(short, size) <= width:
            return short
    return ""


class Svg:
    """Elements in drawing order."""

    def __init__(self) -> None:
        self.parts: list[str] = []

    def element(self, tag: str, title: str = "", /, **attributes: object) -> None:
        """One element; underscores in attribute names become dashes, `title` is a tooltip."""
        named = "".join(
            f" {k.rstrip('_').replace('_', '-')}={quoteattr(_number(v))}"
            for k, v in attributes.items()
        )
        inner = f"<title>{escape(title)}</title>" if title else ""
        self.parts.append(f"<{tag}{named}>{inner}</{tag}>" if inner else f"<{tag}{named}/>")

    def rect(self, x: float, y: float, w: float, h: float, title: str = "", **more: object) -> None:
        self.element("rect", title, x=x, y=y, width=w, height=h, **more)

    def line(self, x1: float, y1: float, x2: float, y2: float, **more: object) -> None:
        self.element("line", x1=x1, y1=y1, x2=x2, y2=y2, **more)

    def path(self, d: str, title: str = "", **more: object) -> None:
        self.element("path", title, d=d, **more)

    def text(
        self, x: float, y: float, text: str, size: float = 12, title: str = "", **more: object
    ) -> None:
        attributes = {"x": x, "y": y, "font_size": size, "fill": INK, **more}
        named = "".join(
            f" {k.replace('_', '-')}={quoteattr(_number(v))}" for k, v in attributes.items()
        )
        inner = f"<title>{escape(title)}</title>" if title else ""
        self.parts.append(f"<text{named}>{inner}{escape(text)}</text>")

    def document(self, width: float, height: float, title: str) -> str:
        w, h = _number(width), _number(height)
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{w}" height="{h}" '
            f'viewBox="0 0 {w} {h}" font-family="{FONT}" role="img">'
        )
        body = "\n".join(self.parts)
        return f"{head}\n<title>{escape(title)}</title>\n{body}\n</svg>\n"


def _number(value: object) -> str:
    """Two decimals at most: the same picture on every machine."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
