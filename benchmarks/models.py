"""Figures of each model: time to generate and compile, bytes, instructions, golden's time.

    python -m benchmarks.models
    python -m benchmarks.models kws_ref_model --cpu cortex-a53 cortex-a76 --markdown

Instructions are exact and repeatable; seconds are of this machine.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich import box
from rich.table import Table

from benchmarks import runner
from qgen.compile import measure
from qgen.errors import QgenError
from qgen.ir import interp
from qgen.ir.graph import Graph
from qgen.report.units import console

GOLDEN_RUNS = 3


@dataclass(frozen=True)
class Figures:
    """Figures of one model.

    Attributes:
        generate_s: seconds from the model file to the C text.
        compile_s: seconds of the C compiler at -O2.
        header_bytes: size of the generated file.
        text_bytes, rodata_bytes: of the object, code and constants.
        arena_bytes, stack_bytes: working memory of one run.
        golden_ms: milliseconds per inference of the golden interpreter, warm, best of 3.
        instructions: executed per inference, by CPU of the emulator.
    """

    name: str
    macs: int
    generate_s: float
    compile_s: float
    header_bytes: int
    text_bytes: int
    rodata_bytes: int
    arena_bytes: int
    stack_bytes: int
    golden_ms: float
    instructions: dict[str, int]


def figures(generated: runner.Generated, cpus: Sequence[str]) -> Figures:
    """Compile and run one model. Raises QgenError where that is not possible."""
    lowered = generated.lowered
    sizes = measure(lowered, generated.texts)
    with tempfile.TemporaryDirectory(prefix="qgen-bench-") as folder:
        exe = runner.build(generated, Path(folder))
        instructions = {cpu: runner.instructions(exe, cpu) for cpu in cpus}
    return Figures(
        name=generated.path.stem,
        macs=generated.macs,
        generate_s=generated.seconds,
        compile_s=sizes.cc_seconds,
        header_bytes=sum(len(text) for text in generated.texts.values()),
        text_bytes=sizes.text_bytes,
        rodata_bytes=sizes.rodata_bytes,
        arena_bytes=lowered.plan.arena_bytes,
        stack_bytes=sizes.stack_bytes,
        golden_ms=golden_seconds(lowered.model) * 1e3,
        instructions=instructions,
    )


def golden_seconds(model: Graph) -> float:
    """Seconds per inference of the golden interpreter: best of three after one to warm up."""
    rng = np.random.default_rng(0)
    inputs = [
        rng.integers(t.dtype.min, t.dtype.max + 1, t.shape).astype(t.dtype.numpy)
        for t in model.inputs
    ]
    interp.run(model, inputs)
    taken = []
    for _ in range(GOLDEN_RUNS):
        started = time.perf_counter()
        interp.run(model, inputs)
        taken.append(time.perf_counter() - started)
    return min(taken)


HEADINGS = (
    "model", "MACs (M)", "generate (s)", "gcc -O2 (s)", "header (kB)", "text (B)", "rodata (B)",
    "arena (B)", "stack (B)", "golden (ms)",
)  # fmt: skip


def rows(found: Sequence[Figures]) -> tuple[list[str], list[list[str]]]:
    """Headings and cells of the table, the first column a name, the others numbers."""
    cpus = list(found[0].instructions) if found else []
    headings = [*HEADINGS, *(h for cpu in cpus for h in (f"{cpu} (M)", "per MAC"))]
    return headings, [
        [
            f.name,
            millions(f.macs),
            f"{f.generate_s:.2f}",
            f"{f.compile_s:.2f}",
            f"{f.header_bytes / 1e3:,.0f}",
            f"{f.text_bytes:,}",
            f"{f.rodata_bytes:,}",
            f"{f.arena_bytes:,}",
            f"{f.stack_bytes:,}",
            f"{f.golden_ms:.1f}",
            *(t for cpu in cpus for t in (millions(f.instructions[cpu]), _per_mac(f, cpu))),
        ]
        for f in found
    ]


def _per_mac(f: Figures, cpu: str) -> str:
    return f"{f.instructions[cpu] / f.macs:.3f}"


def millions(n: float) -> str:
    """Millions to about three digits: 7246376 -> '7.25', 641 -> '0.0006'."""
    value = n / 1e6
    digits = 1 if value >= 10 else 2 if value >= 1 else 3 if value >= 0.1 else 4
    return f"{value:.{digits}f}"


def markdown(headings: Sequence[str], cells: Sequence[Sequence[str]], left: int = 1) -> str:
    """A Markdown table, the first `left` columns to the left and the others to the right."""
    lines = [headings, ["---"] * left + ["---:"] * (len(headings) - left), *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def render(title: str, headings: Sequence[str], cells: Sequence[Sequence[str]]) -> Table:
    """The same table for a terminal."""
    table = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False)
    for i, heading in enumerate(headings):
        table.add_column(heading, justify="right" if i else "left", no_wrap=not i)
    for line in cells:
        table.add_row(*line)
    return table


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; 0 when done, 2 when it could not be."""
    parser = argparse.ArgumentParser(description="figures of generated code, per model")
    parser.add_argument("models", nargs="*", metavar="MODEL", help="names in the folder, or paths")
    parser.add_argument("--models", dest="folder", type=Path, default=runner.FOLDER)
    parser.add_argument("--cpu", nargs="+", default=["cortex-a53"], help="of the emulator")
    parser.add_argument("--target", default="aarch64")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--markdown", action="store_true")
    options = parser.parse_args(argv)
    try:
        paths = runner.models(options.models, options.folder)
        found = [figures(runner.generate(path, options.target), options.cpu) for path in paths]
    except QgenError as e:
        print(e, file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps([asdict(f) for f in found], indent=2))
    elif options.markdown:
        print(markdown(*rows(found)), end="")
    else:
        console().print(render(f"qgen for {options.target}", *rows(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
