"""Cycles of code on a core, as llvm-mca estimates them from the core's scheduling model.

An estimate, not a measurement: every load hits the first cache, every branch is predicted, and the
model is LLVM's idea of the core. On an in-order core a block costs what it costs when repeated
back to back. On an out-of-order core that holds for loops; a block that runs once at a time
overlaps with its neighbours and costs what it takes of the busiest unit.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from qgen.errors import QgenError
from qgen.targets import Cpu

INSTALL = "apt-get install llvm, or set QGEN_MCA"
# Enough for the start and the end of the pipeline to be lost in the mean.
ITERATIONS = 100
_NEWEST, _OLDEST = 30, 14
# What LLVM calls features that it does not give to every core.
_ATTRIBUTES = ("neon", "dotprod", "i8mm")


@dataclass(frozen=True)
class Tools:
    """Paths of llvm-mca and of the disassembler that came with it."""

    mca: str
    objdump: str


@dataclass(frozen=True)
class Cost:
    """Cycles of one block: repeated back to back, and by the load of the busiest unit alone."""

    repeated: float
    throughput: float

    def on(self, core: Cpu, loop: bool) -> float:
        return self.repeated if core.in_order or loop else self.throughput


def find_tools() -> Tools:
    """llvm-mca and llvm-objdump: those that QGEN_MCA names, else the newest on PATH.

    Raises QgenError where one of them is missing.
    """
    override = os.environ.get("QGEN_MCA", "").strip()
    names = [override] if override else [f"llvm-mca-{n}" for n in range(_NEWEST, _OLDEST - 1, -1)]
    names += [] if override else ["llvm-mca"]
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None and override:
        raise QgenError(f"QGEN_MCA: '{override}' not found", hint="correct it or unset it")
    if path is None:
        raise QgenError("llvm-mca not found", hint=INSTALL)
    beside = Path(path).with_name(Path(path).name.replace("mca", "objdump"))
    objdump = shutil.which(str(beside))
    if objdump is None:
        raise QgenError(f"{path} has no {beside.name} beside it", hint=INSTALL)
    return Tools(path, objdump)


def costs(
    tools: Tools, core: Cpu, features: Iterable[str], texts: Sequence[str], *, thumb: bool = False
) -> Mapping[str, Cost]:
    """The cost of every block of assembly in `texts` on `core`.

    Args:
        features: ISA features that the code uses.
        thumb: of 32-bit code, that it is Thumb.

    Raises QgenError where llvm-mca has no model of the core, or cannot read the code.
    """
    if not core.model:
        raise QgenError(f"LLVM has no scheduling model of {core.name}", hint="choose another --cpu")
    attributes = ",".join(f"+{f}" for f in _ATTRIBUTES if f in features)
    triple = core.triple.replace("arm", "thumb", 1) if thumb else core.triple
    return _costs(tools.mca, triple, core.model, attributes, tuple(dict.fromkeys(texts)))


@functools.lru_cache(maxsize=64)
def _costs(
    mca: str, triple: str, model: str, attributes: str, texts: tuple[str, ...]
) -> Mapping[str, Cost]:
    code = "".join(
        f"# LLVM-MCA-BEGIN {i}\n{text}\n# LLVM-MCA-END\n" for i, text in enumerate(texts)
    )
    command = [
        mca, f"-mtriple={triple}", f"-mcpu={model}", *([f"-mattr={attributes}"] * bool(attributes)),
        f"-iterations={ITERATIONS}", "-json", "-instruction-info=0", "-resource-pressure=0",
        *_lenient(mca),
    ]  # fmt: skip
    done = subprocess.run(command, input=code, capture_output=True, text=True, check=False)
    said = re.search(r"error: (.*)", done.stderr) or re.search(r"(.+)", done.stderr)
    if done.returncode:
        # What follows is advice on options of llvm-mca.
        reason = said[1].split(", use ")[0].rstrip(".") if said else f"exit code {done.returncode}"
        raise QgenError(f"{Path(mca).name} cannot estimate cycles: {reason}")
    regions = json.loads(done.stdout)["CodeRegions"]
    found = {int(region["Name"]): region["SummaryView"] for region in regions}
    return {text: _cost(text, found.get(i)) for i, text in enumerate(texts)}


def _cost(text: str, summary: Mapping[str, float] | None) -> Cost:
    """What llvm-mca says; an instruction that the model does not know costs the others' mean."""
    lines = text.count("\n") + 1
    if summary is None or not summary["Instructions"]:
        return Cost(float(lines), float(lines))
    rounds = summary["Iterations"]
    more = lines * rounds / summary["Instructions"]
    return Cost(more * summary["TotalCycles"] / rounds, more * summary["BlockRThroughput"])


@functools.cache
def _lenient(mca: str) -> tuple[str, ...]:
    """The option to go on where the model lacks an instruction, of LLVM 19 and later.

    That happens on 32-bit Arm: the model of cortex-a9 has gaps.
    """
    option = "--skip-unsupported-instructions"
    done = subprocess.run([mca, "--help"], capture_output=True, text=True, check=False)
    return (f"{option}=lack-sched",) if option in done.stdout else ()
