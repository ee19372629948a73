"""Cost of a network: instructions of its C for 64-bit Arm."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from qgen.errors import QgenError
from qgen.frontend.printer import save
from qgen.ir.graph import Graph
from qgen.lower import lower
from qgen.profile import profile_model
from qgen.targets import machine


@dataclass(frozen=True)
class Cost:
    """Of one inference.

    Attributes:
        macs: multiplications.
        instructions: executed in the emulator, else the sum of what kernels with a cost model
            are predicted to execute.
        executed: which of the two.
    """

    macs: int
    instructions: int
    executed: bool


def cost(graph: Graph, target: str = "aarch64") -> Cost:
    """The cost of one inference; predicted where a compiler or the emulator is missing."""
    macs = sum(op.cost().macs for op in graph.ops)
    with tempfile.TemporaryDirectory(prefix="qgen-cost-") as folder:
        path = Path(folder) / "network.qg"
        save(graph, path)
        try:
            return Cost(macs, profile_model(path, target).total.instructions, True)
        except QgenError:
            lowered = lower(graph, *machine(target, None))
            return Cost(macs, sum(step.predicted or 0 for step in lowered.steps), False)
