"""Cores as the scheduler sees them: how much may start per cycle, and what each instruction takes.

The figures are LLVM's scheduling models, read with ``llvm-mca -instruction-tables``
(`benchmarks/mca.py`) into ``timing.txt``; no compiler is needed to use them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources

from qgen.asm.isa import Instruction, parse


@dataclass(frozen=True)
class Timing:
    """What one instruction takes on one core.

    Attributes:
        latency: cycles until its result can be used.
        uops: share of the core's width.
        pipes: busy cycles by kind of unit, summed over units.
        leads: it starts only as the first of its cycle.
        fixed: those that only some units of a kind can do, by name of these.
    """

    latency: int
    uops: int
    pipes: Mapping[str, float]
    fixed: Mapping[str, float]
    leads: bool = False


@dataclass(frozen=True, eq=False)
class Core:
    """A core.

    Attributes:
        name: LLVM's name of the model, ``llvm-mca -mcpu``.
        width: micro-ops that start per cycle.
        in_order: they start in the order of the text, and their results arrive in that order.
        units: how many units there are of a kind, where it is more than one.
        pools: units of different names that are one kind to the scheduler.
        forward: latency of one integer instruction for the next.
        also: other names, of cores for which LLVM takes the same model, or a close one.
    """

    name: str
    width: int
    in_order: bool = False
    units: Mapping[str, int] = field(default_factory=dict)
    pools: Mapping[str, str] = field(default_factory=dict)
    forward: int = 1
    also: tuple[str, ...] = ()

    def timing(self, instruction: Instruction) -> Timing:
        """Latency and occupancy; those of a plain addition where the table has no row."""
        table = _tables()[self.name]
        row = table.get(instruction.key)
        return row or table[_FALLBACK_VECTOR if _is_vector(instruction) else _FALLBACK_SCALAR]

    def knows(self, instruction: Instruction) -> bool:
        return instruction.key in _tables()[self.name]


_FALLBACK_VECTOR = parse("add v0.4s, v1.4s, v2.4s").key
_FALLBACK_SCALAR = parse("add x0, x1, x2").key

_ALL = (
    Core("cortex-a53", 2, True, {"ALU": 2}),
    Core("cortex-a55", 2, True, {"ALU": 2, "FPALU": 2, "FPMAC": 2}),
    Core(
        "cortex-a510",
        3,
        True,
        {"ALU": 3, "VALU": 2, "VMAC": 2, "Load": 2},
        {"ALU0": "ALU", "ALU12": "ALU", "VALU0": "VALU", "VALU1": "VALU"}
        | {"Ld1": "Load", "LdSt": "Load"},
    ),
    Core(
        "cortex-a57",
        3,
        units={"I": 2, "V": 2},
        pools={"W": "V", "X": "V"},
        also=("cortex-a72", "cortex-a73", "cortex-a75", "cortex-a76"),
    ),
    Core(
        "neoverse-n1",
        3,
        units={"D": 2, "L": 2, "I": 3, "S": 2, "V": 2},
        pools={"M": "I", "S": "I", "V0": "V", "V1": "V"},
    ),
    Core(
        "neoverse-n2",
        5,
        units={"B": 2, "D": 2, "Flg": 3, "L": 3, "L01": 2, "I": 4, "S": 2, "V": 2},
        pools={"L01": "L", "L2": "L", "M0": "I", "M1": "I", "S": "I", "V0": "V", "V1": "V"},
        also=("cortex-a710", "cortex-a715", "neoverse-v1"),
    ),
)
CORES: dict[str, Core] = {c.name: c for c in _ALL}


def core_with(model: str) -> Core | None:
    """The core of LLVM's name `model`; None for one whose instructions are not known here."""
    return next((c for c in _ALL if model == c.name or model in c.also), None)


TIMING_FILE = "timing.txt"


def _is_vector(instruction: Instruction) -> bool:
    return any(r[0] == "v" for r in instruction.writes | instruction.reads)


def timing_rows(text: str) -> Iterator[tuple[list[str], list[str]]]:
    """(cells per core, instructions) of each paragraph of the table."""
    cells: list[str] = []
    for line in text.splitlines():
        if line.startswith("#") or not line.strip():
            continue
        if line.startswith(" "):
            yield cells, [part.strip() for part in line.split(";") if part.strip()]
        else:
            cells = [part.strip() for part in line.split("|")]


@cache
def _tables() -> dict[str, dict[str, Timing]]:
    found: dict[str, dict[str, Timing]] = {name: {} for name in CORES}
    text = resources.files("qgen.asm").joinpath(TIMING_FILE).read_text(encoding="ascii")
    for cells, examples in timing_rows(text):
        for core, cell in zip(_ALL, cells, strict=True):
            latency, uops, *busy = cell.split()
            pipes: dict[str, float] = {}
            fixed: dict[str, float] = {}
            leads = busy[-1:] == ["first"]
            for part in busy[: len(busy) - leads]:
                unit, _, amount = part.partition(":")
                kind = core.pools.get(unit, unit)
                pipes[kind] = pipes.get(kind, 0.0) + float(amount)
                if kind != unit and float(amount) >= 1:
                    fixed[unit] = float(amount) / core.units.get(unit, 1)
            row = Timing(int(latency), int(uops), pipes, fixed, leads)
            found[core.name] |= {parse(example).key: row for example in examples}
    return found
