"""llvm-mca as the source of timings and as the judge of kernels.

    python -m benchmarks.mca [MODEL ...]    loops of a model's assembly kernels, per core
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
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from benchmarks import runner
from qgen.asm import cores
from qgen.asm.cores import CORES, Core
from qgen.asm.isa import Instruction, macs, parse
from qgen.asm.machine import bound
from qgen.asm.statement import Block, rewrite
from qgen.emit import Provenance, emit
from qgen.errors import QgenError
from qgen.frontend import load_model
from qgen.lower import lower
from qgen.targets import machine

PROGRAMS = ("llvm-mca-22", "llvm-mca")
FEATURES = "+dotprod,+i8mm"


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


@dataclass(frozen=True)
class Loop:
    """A loop of a kernel that multiplies, as a core runs it.

    Attributes:
        kernel: C name of the function.
        instructions: of one round, without the branch.
        macs: products of one round.
        cycles: of one round, by llvm-mca.
        least: cycles of the multiplying instructions alone.
    """

    kernel: str
    instructions: int
    macs: int
    cycles: float
    least: float

    @property
    def percent(self) -> float:
        return 100 * self.least / self.cycles


CPUS = ("cortex-a53", "cortex-a55", "cortex-a72", "cortex-a76", "neoverse-n1", "cortex-a510")
_FUNCTION = re.compile(r"^(?:static|\w+_OP static) void (\w+)\(", re.MULTILINE)


def loops(model: Path, cpu: str, target: str | None = None) -> Iterator[Loop]:
    """Innermost loops of the assembly kernels of a model that was compiled for a core."""
    lowered = lower(load_model(model), *machine(target, cpu))
    core = lowered.core
    assert core is not None
    name = lowered.name
    text = emit(lowered, Provenance("benchmark", model.name, "0" * 64), split=True)[f"{name}.c"]
    starts = [*_FUNCTION.finditer(text)]
    for this, following in zip(starts, [*starts[1:], None], strict=True):
        end = following.start() if following else len(text)
        for block in _loops_of(text[this.start() : end]):
            yield _loop(core, this[1].removeprefix(f"{name}_"), block)


def _loops_of(text: str) -> list[Block]:
    found: list[Block] = []

    def see(blocks: tuple[Block, ...]) -> tuple[Block, ...]:
        found.extend(b for b in blocks if b.loop and any(map(macs, b.body)))
        return blocks

    rewrite(text, see)
    return found


def _loop(core: Core, kernel: str, block: Block) -> Loop:
    products = [i for i in block.body if macs(i)]
    return Loop(
        kernel,
        len(block.body),
        sum(map(macs, products)),
        cycles(core, concrete(block.body)),
        bound(core, products),
    )


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
    parser = argparse.ArgumentParser(prog="benchmarks.mca", description="loops of kernels per core")
    parser.add_argument("models", nargs="*", metavar="MODEL", help="names in the folder, or paths")
    parser.add_argument("--models", dest="folder", type=Path, default=runner.FOLDER)
    parser.add_argument("--cpu", nargs="+", default=list(CPUS))
    parser.add_argument("--target")
    parser.add_argument("--timing", action="store_true", help="measure the table of timings anew")
    options = parser.parse_args(argv)
    try:
        if options.timing:
            write_timing()
            return 0
        head = f"{'core':12} {'kernel':44} {'instr':>5} {'MACs':>5} {'cycles':>7} {'MAC/c':>6}"
        print(f"{head} {'% of bound':>10}")
        for cpu in options.cpu:
            seen: dict[tuple[str, int, float], Loop] = {}
            for model in runner.models(options.models, options.folder):
                for loop in loops(model, cpu, options.target):
                    seen.setdefault((loop.kernel, loop.instructions, loop.cycles), loop)
            for x in seen.values():
                rate = x.macs / x.cycles
                row = f"{cpu:12} {x.kernel:44} {x.instructions:5} {x.macs:5} {x.cycles:7.1f}"
                print(f"{row} {rate:6.2f} {x.percent:10.1f}")
    except QgenError as e:
        print(e, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
