"""llvm-mca as the source of timings.

    python -m benchmarks.mca --timing       measure qgen/asm/timing.txt anew

LLVM's scheduling models are the only public ones for all of these cores. They are models: their
figures are estimates, good for comparing two orders of the same instructions.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from qgen.asm import cores
from qgen.asm.cores import CORES, Core
from qgen.asm.isa import Instruction, parse
from qgen.errors import QgenError

PROGRAMS = ("llvm-mca-22", "llvm-mca")
FEATURES = "+dotprod,+i8mm,+rdm"


@dataclass(frozen=True)
class Row:
    """What a model says of one instruction: latency, micro-ops, cycles per kind of unit.

    `leads`: it starts only as the first of its cycle.
    """

    latency: int
    uops: int
    pipes: tuple[tuple[str, float], ...]
    leads: bool = False


def run(core: Core, lines: Sequence[str], *options: str) -> str:
    """The report on a sequence of instructions. Raises QgenError without llvm-mca."""
    program = next((p for p in PROGRAMS if shutil.which(p)), None)
    if program is None:
        raise QgenError("llvm-mca not found", hint="apt-get install llvm-22")
    command = [program, "-mtriple=aarch64-linux-gnu", f"-mattr={FEATURES}", f"-mcpu={core.name}"]
    done = subprocess.run(
        [*command, *options], input="\n".join(lines) + "\n", capture_output=True, text=True
    )
    if done.returncode or "error:" in done.stderr:
        raise QgenError(f"{program}: {done.stderr.strip().splitlines()[0]}")
    return done.stdout


def cycles(core: Core, lines: Sequence[str], iterations: int = 50) -> float:
    """Cycles per iteration of a loop in the steady state: start and end are not counted."""

    def total(count: int) -> int:
        shown = run(core, lines, f"-iterations={count}")
        found = re.search(r"Total Cycles:\s+(\d+)", shown)
        assert found
        return int(found[1])

    return (total(2 * iterations) - total(iterations)) / iterations


def tables(core: Core, lines: Sequence[str]) -> list[Row]:
    """`Row` of each instruction."""
    shown = run(core, lines, "--instruction-tables")
    info = re.findall(r"^ (\d+)\s+(\d+)\s+\d+\.\d+ ", shown, re.MULTILINE)
    units = dict(re.findall(r"^\[([\d.]+)\]\s+- (\w+)", shown, re.MULTILINE))
    pressure = shown[shown.index("Resource pressure by instruction:") :].splitlines()
    columns = re.findall(r"\[([\d.]+)\]", pressure[1])
    rows = []
    for (uops, latency), line in zip(info, pressure[2:], strict=False):
        found: dict[str, float] = {}
        for column, value in zip(columns, line.split()[: len(columns)], strict=True):
            if value != "-":
                unit = re.sub(r"^\w*Unit", "", units[column])
                found[unit] = round(found.get(unit, 0.0) + float(value), 2)
        rows.append(Row(int(latency), int(uops), tuple(sorted(found.items()))))
    assert len(rows) == len(lines)
    if core.in_order:
        with ThreadPoolExecutor() as pool:
            leading = list(pool.map(partial(_leads, core), lines))
        rows = [replace(r, leads=leads) for r, leads in zip(rows, leading, strict=True)]
    return rows


def _leads(core: Core, line: str) -> bool:
    """True if `line` does not start beside an instruction that asks for nothing."""
    shown = run(core, ["nop", line], "-iterations=1", "-timeline")
    first, second = re.findall(r"^\[0,[01]\] +(.*?)D", shown, re.MULTILINE)
    return len(first) != len(second)


def write_timing() -> None:
    """Measure the instructions that the table lists, on every core, and write it anew."""
    path = Path(cores.__file__).parent / cores.TIMING_FILE
    known = [line for _, lines in cores.timing_rows(path.read_text()) for line in lines]
    examples = sorted({parse(line).key: line for line in known}.values())
    measured = [tables(core, examples) for core in CORES.values()]
    groups: dict[str, list[str]] = {}
    for example, *rows in zip(examples, *measured, strict=True):
        groups.setdefault(" | ".join(map(_cell, rows)), []).append(example)
    words = [
        "# latency, micro-ops and busy cycles of the units, by LLVM's models of "
        + ", ".join(CORES),
        "# To add an instruction, put it into any line and run python -m benchmarks.mca --timing",
    ]
    for cells, lines in sorted(groups.items()):
        words += ["", cells, *_wrapped(lines)]
    path.write_text("\n".join(words) + "\n")


def _cell(row: Row) -> str:
    busy = [f"{unit}:{amount:g}" for unit, amount in row.pipes]
    return " ".join([str(row.latency), str(row.uops), *busy, *(["first"] if row.leads else [])])


def _wrapped(lines: Sequence[str]) -> list[str]:
    """Instructions separated by semicolons, as many as a line holds."""
    found, now = [], "   "
    for line in lines:
        if len(now) + len(line) + 2 > 98:
            found.append(now)
            now = "   "
        now += f" {line};"
    return [*found, now]


def concrete(body: Sequence[Instruction]) -> list[str]:
    """Instructions with registers in place of the operands of the asm statement."""
    taken = {r for i in body for r in i.reads | i.writes}
    free = iter([f"{n}" for n in range(29) if f"x{n}" not in taken])
    names: dict[str, str] = {}

    def register(found: re.Match[str]) -> str:
        if found[2] not in names:
            names[found[2]] = next(free)
        return f"{found[1] or 'x'}{names[found[2]]}"

    return [re.sub(r"%([wx]?)\[(\w+)\]", register, i.text) for i in body]


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; 0 when done, 2 when it could not be."""
    parser = argparse.ArgumentParser(prog="benchmarks.mca", description="timings of instructions")
    parser.add_argument("--timing", action="store_true", required=True, help="write them anew")
    parser.parse_args(argv)
    try:
        write_timing()
    except QgenError as e:
        print(e, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
