"""Machines as data: see spec.py for the contract, the other modules for the tables."""

from __future__ import annotations

import difflib

from qgen.errors import QgenError
from qgen.targets.aarch64 import AARCH64
from qgen.targets.portable import PORTABLE
from qgen.targets.spec import Target

TARGETS: dict[str, Target] = {t.name: t for t in (AARCH64, PORTABLE)}


def target(name: str) -> Target:
    """The target called `name`. Raises QgenError listing the known ones."""
    if name in TARGETS:
        return TARGETS[name]
    close = difflib.get_close_matches(name, TARGETS, n=1)
    hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(TARGETS)}"
    raise QgenError(f"unknown target '{name}'", hint=hint)
