"""The page of benchmarks as Markdown."""

from __future__ import annotations

import datetime
import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks import goals, litert_peer, runner, tables
from benchmarks.results import FLOAT, TWIN, Results
from benchmarks.tables import markdown
from qgen import __version__
from qgen.errors import QgenError
from qgen.profile import mca
from qgen.toolchain.cc import compiler_command


def page(results: Results) -> str:
    """All tables, with what stands in them."""
    first = results.ours[results.names[0], results.cpus[0]]
    return f"""# Benchmarks

Made by `python -m benchmarks --write docs/benchmarks.md` on {datetime.date.today()}: change the
command, not the page. The models are those of `../shared/models` that qgen compiles completely;
`--models DIR` names another folder.

{_versions(first)}

## What is counted

Executed instructions per inference, by a plugin of the emulator (`qgen/profile/insn_count.c`): one
thread, the same pseudo-random bytes as input for all programs, start-up left out. qgen's figures
are the same in every run, LiteRT's to about 0.1 %. They are exact, but they are **not time**: an
emulator knows neither caches nor pipelines. **Cycles are an estimate**: executed blocks of code x
their cost in LLVM's model of the core, as `qgen profile` prints them.

Seconds and milliseconds vary from run to run and are those of whatever made this page, here
{platform.machine()} with {os.cpu_count()} cores and other work on it.

## Goals

{markdown(tables.goal_rows(results), left=2)}
{_verdict(results)}

## Beside LiteRT

LiteRT {litert_peer.VERSION} for AArch64, unchanged, from its wheel, under the same emulator
(`benchmarks/litert_peer.c`). `xnn` is its default, the XNNPACK delegate; `ruy` is without delegate.
LiteRT chooses kernels for the CPU it finds: cortex-a53 has no dot product, cortex-a76 has SDOT,
`max` also has SMMLA. qgen's code is that of `--cpu` of the same name, for `max` that of the target
with the same instructions. `qgen / better` is against the better of the two: below 1, qgen needs
fewer instructions. LiteRT's loading, packing and planning at start are not in these figures; qgen
has none.

Per MAC means per MAC of the model; qgen leaves out those of channels that are dead. `multiplies`
are the fewest multiply instructions that do the MACs that are left: 8, 16 or 32 of them each, what
the widest one that the layer's kernel may use does. Code that multiplies so cannot need fewer
instructions; `qgen / multiplies` is how far from that bound it is. RAM is qgen's arena and its
proven stack. LiteRT's heap is what it holds after an inference, the smaller of its two kernels; its
library has {_litert_code()} bytes of code for all ops.

{markdown(tables.peers(results), left=3)}
{_ahead(results)}

## int8 beside float

LiteRT with `{FLOAT}` (float32), qgen with `{TWIN}`, the same network.

{markdown(tables.floats(results))}
## Estimated cycles

{_cycles(results)}
## qgen, per model

Code for {results.cpus[0]}. Text and rodata are those of the object file that gcc makes at -O2; the
stack is a proven bound; `generate` is from the model file to the C text; `golden` is one inference
of the golden interpreter, warm, best of three.

{markdown(tables.models(results))}
## The dearest layers

The {tables.TOP} layers of each model with the most instructions on {results.cpus[0]}, helpers
included; `predicted` is what the cost model expected, `/ multiplies` as above.
`qgen profile MODEL` lists them all.

{markdown(tables.layers(results), left=4)}"""


def _versions(first: runner.Generated) -> str:
    compiler = compiler_command(first.lowered.target.toolchain)
    lines = [
        f"qgen {__version__}",
        f"LiteRT (`ai-edge-litert`) {litert_peer.VERSION}",
        _first_line([*compiler, "--version"]).replace(compiler[0], Path(compiler[0]).name),
        _first_line([shutil.which("qemu-aarch64") or "qemu-aarch64", "--version"]),
        f"CPython {platform.python_version()}, numpy {np.__version__}",
    ]
    try:
        found = subprocess.run(
            [mca.find_tools().mca, "--version"], capture_output=True, text=True, check=False
        )
        lines.append(f"llvm-mca, {found.stdout.splitlines()[0].strip()}")
    except QgenError as e:
        lines.append(f"no cycles: {e}")
    return "\n".join(f"- {line}" for line in lines)


def _first_line(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.splitlines()[0] if done.stdout else command[0]


def _litert_code() -> str:
    try:
        return f"{litert_peer.code_bytes():,}"
    except QgenError:
        return "unknown"


def _verdict(results: Results) -> str:
    """How many goals are met, in one sentence."""
    found = [goal.met for goal in goals.goals(results) if goal.met is not None]
    return f"{sum(found)} of {len(found)} measured goals are met."


def _ahead(results: Results) -> str:
    """One sentence per CPU: where qgen is ahead and where it is behind."""
    lines = []
    for cpu in results.cpus:
        ratios = [(name, ratio) for name in results.names if (ratio := results.ratio(name, cpu))]
        ahead = [f"{name} ({ratio:.2f})" for name, ratio in ratios if ratio < 1]
        behind = [f"{name} ({ratio:.2f})" for name, ratio in ratios if ratio >= 1]
        lines.append(
            f"- **{cpu}**: qgen is ahead on {', '.join(ahead) or 'none'}; "
            f"behind on {', '.join(behind) or 'none'}."
        )
    return "\n".join(lines)


def _cycles(results: Results) -> str:
    rows = tables.cycles(results)
    if not rows[1]:
        note = next(iter(results.ours.values())).profile.note
        return f"Not measured: {note or 'no core was asked for'}.\n"
    return f"""Executed blocks x their cost by llvm-mca for the core; no cache misses, and every
branch predicted. 100 % of peak is the rate of the core's widest multiply instruction alone; MACs
are those that are computed. The target is the widest that the core runs.

{markdown(rows, left=2)}
The inner loop of each kernel of matrix products by itself, in the steady state, from the layer
where it does most work (`python -m benchmarks.loops`). A loop over inputs multiplies and adds up,
nothing else. Where a sum has few inputs they are all printed one after the other; the loop then
runs over outputs and each round starts and finishes some. With one row the product is
matrix x vector, and waits for weights. The **bound** is what the loop's own instructions allow, in
percent of the peak, if none waits for another: they take the busiest unit, or the width of the
core, for so long. int16 lanes have to be added to int32 (SADALP), on in-order cores by the unit
that multiplies: with 4 products per lane no order gets beyond 80 % there, with 2 beyond 67 %.

{markdown(tables.loop_rows(results), left=6)}"""
