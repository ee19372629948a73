"""Layout of generated C: indentation by braces, lines of at most 100 columns.

Templates are written for their reader and nest macros freely; what leaves them is brought into one
form here, so that the generated file reads as if written by hand.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

WIDTH = 100
INDENT = 4

# What may hide braces and parentheses: strings, characters, comments.
_OPAQUE = re.compile(r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'|/\*.*?\*/')
_LABEL = re.compile(r"(case .*|default):")
_ENDS = (";", "{", "}", ":", ",", "*/")


def tidy(text: str) -> str:
    """`text` with uniform indentation, single blank lines and no line over 100 columns.

    Preprocessor lines stay as they are. Strings are never broken.
    """
    lines: list[str] = []
    for line in _indented(text):
        if line or (lines and lines[-1] and not lines[-1].endswith("{")):
            lines.extend(_wrapped(line))
    while lines and not lines[-1]:
        lines.pop()
    return "\n".join(lines) + "\n"


def _indented(text: str) -> Iterator[str]:
    braces = parens = 0
    comment = continued = False
    for raw in text.splitlines():
        line = raw.strip()
        if not line or line.startswith("#"):
            # Inside a function an empty line is what an empty macro left behind.
            if line or braces == 0:
                yield line
            continue
        if comment:
            yield " " * (INDENT * braces + 1) + line
            comment = "*/" not in line
            continue
        code = _OPAQUE.sub("", line)
        if "/*" in code:
            comment, code = True, code[: code.index("/*")]
        closing = len(code) - len(code.lstrip("})"))
        depth = braces - code[:closing].count("}")
        inside = parens > code[:closing].count(")")
        follows = continued and not line.startswith("{")
        indent = depth + (1 if inside or follows else 0) - (1 if _LABEL.match(code) else 0)
        yield " " * (INDENT * indent) + line
        braces += code.count("{") - code.count("}")
        parens += code.count("(") - code.count(")")
        bare = code.strip()
        continued = bool(bare) and parens == 0 and not bare.endswith(_ENDS)


def _wrapped(line: str) -> Iterator[str]:
    """Break an over-long line after a comma, two levels deeper than it starts."""
    indent = " " * (len(line) - len(line.lstrip()) + 2 * INDENT)
    while len(line) > WIDTH and not line.lstrip().startswith(("/*", "*", "#")):
        cut = line.rfind(", ", len(indent), WIDTH)
        if cut < 0:
            break
        yield line[: cut + 1]
        line = indent + line[cut + 2 :]
    yield line
