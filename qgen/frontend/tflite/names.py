"""Short identifiers for TFLite's long tensor names.

``MobilenetV1/MobilenetV1/Conv2d_0/Relu6`` becomes ``Conv2d_0_Relu6``: as many last components of
the path as tell the tensor from all others.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from qgen.ir.graph import C_HEADERS, LONGEST_NAME, taken_word

LONGEST = 48


def identifier(text: str, prefix: str) -> str:
    """`text` with everything but letters, digits and _ replaced; never a word or macro of C."""
    word = re.sub(r"\W+", "_", text, flags=re.ASCII).strip("_")
    if not word or word[0].isdigit():
        word = f"{prefix}_{word}".rstrip("_")
    return f"{word}_" if taken_word(word) else word


def model_name(stem: str) -> str:
    """The name of a model from that of its file."""
    name = identifier(stem, "model")[:LONGEST_NAME]
    return f"{name}_" if name in C_HEADERS else name


def short_names(names: Sequence[str], constant: Sequence[bool]) -> list[str]:
    """One identifier per name, all different; equal lists give equal results.

    Computed tensors choose first: a constant that shares a name gets a number behind it.
    """
    # A fused tensor lists all it was made of, separated by semicolons; the first is the result.
    paths = [name.split(";")[0].strip("/").split("/") for name in names]
    shorts = [""] * len(names)
    used: set[str] = set()
    for group in (False, True):
        members = [i for i, c in enumerate(constant) if c is group]
        tails = Counter(t for i in members for t in set(_tails(paths[i])))
        for i in members:
            short = next((t for t in _tails(paths[i]) if tails[t] == 1), "/".join(paths[i]))
            shorts[i] = _unused(identifier(short[-LONGEST:], "t"), used)
    return shorts


def _tails(path: list[str]) -> list[str]:
    """The last component, the last two, and so on."""
    return ["/".join(path[i:]) for i in reversed(range(len(path)))]


def _unused(name: str, used: set[str]) -> str:
    candidate, n = name, 1
    while candidate in used:
        n += 1
        candidate = f"{name}_{n}"
    used.add(candidate)
    return candidate
