"""Registers of straight-line assembly: every value is there when it is read."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

import numpy as np
import pytest

from qgen.targets.straight import Operation, allocate, most_live


def programs() -> Iterator[list[Operation]]:
    """Random straight-line code, with accumulators that are read again and some that are not."""
    rng = np.random.default_rng(4)
    for _ in range(60):
        names = ["a", "b"]
        code = [Operation("load v{0}", name) for name in names]
        for i in range(30):
            live = names[-6:]
            a, b = (live[i] for i in rng.choice(len(live), 2, replace=False))
            update = bool(rng.random() < 0.4)
            text = "mla v{0}, v{1}" if update else "add v{0}, v{1}, v{2}"
            code.append(Operation(text, f"n{i}", (a, b), update))
            names.append(f"n{i}")
        code.append(Operation("add v{0}, v{1}, v{2}", "end", tuple(names[-2:])))
        yield code


def test_registers_hold_what_is_read() -> None:
    for code in programs():
        values: dict[str, int] = {}
        loads = itertools.count(3)
        for op in code:
            a, b = (values[n] for n in op.sources) if op.sources else (next(loads), 0)
            values[op.to] = (a * 5 + b if op.update else a + b) % 1_000_003
        used = {name for op in code for name in op.sources}
        code = [op for op in code if op.to in used | {"end"}]
        lines, at = allocate(code, range(most_live(code)), {"end"})
        registers: dict[int, int] = {}
        loads = itertools.count(3)
        for line in lines:
            name, *_ = line.split()
            target, *sources = (int(n) for n in re.findall(r"v(\d+)", line))
            read = [registers[r] for r in sources]
            if name == "load":
                registers[target] = next(loads)
            elif name == "mov":
                registers[target] = read[0]
            elif name == "mla":
                registers[target] = (registers[target] * 5 + read[0]) % 1_000_003
            else:
                registers[target] = sum(read) % 1_000_003
        assert registers[at["end"]] == values["end"]
        with pytest.raises(AssertionError, match="no register"):
            allocate(code, range(most_live(code) - 1), {"end"})
