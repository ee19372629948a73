"""All figures on one page: per model, beside LiteRT, and the dearest layers.

python -m benchmarks --write docs/benchmarks.md
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks import litert_peer, models, profile_layers, runner
from benchmarks.litert_peer import Comparison
from benchmarks.models import Figures
from benchmarks.profile_layers import Layer
from qgen import __version__
from qgen.errors import QgenError
from qgen.files import write_files
from qgen.targets import target as target_by_name
from qgen.toolchain.cc import compiler_command

PROFILED = "cortex-a53"
TOP = 3


def page(
    found: Sequence[Figures],
    compared: Sequence[Comparison],
    layers: dict[str, list[Layer]],
    target: str,
) -> str:
    """The page as Markdown."""
    tables = {
        "figures": models.markdown(*models.rows(found)),
        "peer": models.markdown(*litert_peer.rows(compared)),
        "layers": models.markdown(*_layer_rows(layers), left=4),
    }
    return f"""# Benchmarks

Made by `python -m benchmarks --write docs/benchmarks.md` on {datetime.date.today()}: change the
command, not the page. The models are the eight of `../shared/models` that qgen compiles
completely; `--models DIR` names another folder.

{_versions(target)}

## What is counted

Executed instructions per inference, by a plugin of the emulator (`benchmarks/insn_count.c`): the
count of a run with N + n inferences less that of a run with N, divided by n, so that start-up
cancels. One thread; inputs are the same pseudo-random bytes for all programs. qgen's figures
are the same in every run, LiteRT's to about 0.1 %. They are exact, but they are **not time**: an
emulator knows neither caches nor pipelines, and a core may take one cycle for one instruction and
four for another.

Seconds and milliseconds vary
from run to run and are those of whatever made this page, here {platform.machine()} with
{os.cpu_count()} cores and other work on it.

## qgen, per model

Target `{target}`. Text and rodata are those of the object file that gcc makes at -O2; the stack is
a proven bound; `generate` is from the model file to the C text; `golden` is one inference of the
golden interpreter, warm, best of three.

{tables["figures"]}
## Beside LiteRT

LiteRT {litert_peer.VERSION} for AArch64, unchanged, from its wheel, under the same emulator
(`benchmarks/litert_peer.c`). `xnn` is its default, the XNNPACK delegate; `ruy` is without delegate.
LiteRT chooses kernels for the CPU it finds: cortex-a53 has no dot product, cortex-a76 has SDOT,
`max` also has SMMLA. qgen's file is the one of the target with the same instructions. The last
column is qgen against the better of the two: below 1, qgen needs fewer instructions. LiteRT's
loading, packing and planning at start are not in these figures; qgen has none.

{tables["peer"]}
{_verdict(compared)}

## The dearest layers

The {TOP} layers of each model with the most instructions on {PROFILED}, helpers included.
`python -m benchmarks.profile_layers MODEL` lists them all.

{tables["layers"]}"""


def _versions(target: str) -> str:
    compiler = compiler_command(target_by_name(target).toolchain)
    emulator = _first_line([shutil.which("qemu-aarch64") or "qemu-aarch64", "--version"])
    lines = [
        f"qgen {__version__}",
        f"LiteRT (`ai-edge-litert`) {litert_peer.VERSION}",
        _first_line([*compiler, "--version"]).replace(compiler[0], Path(compiler[0]).name),
        emulator,
        f"CPython {platform.python_version()}, numpy {np.__version__}",
    ]
    return "\n".join(f"- {line}" for line in lines)


def _first_line(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.splitlines()[0] if done.stdout else command[0]


def _verdict(compared: Sequence[Comparison]) -> str:
    """One sentence per CPU: where qgen is ahead and where it is behind."""
    lines = []
    for cpu in dict.fromkeys(c.cpu for c in compared):
        ahead = [f"{c.name} ({c.ratio:.2f})" for c in compared if c.cpu == cpu and c.ratio < 1]
        behind = [f"{c.name} ({c.ratio:.2f})" for c in compared if c.cpu == cpu and c.ratio >= 1]
        lines.append(
            f"- **{cpu}**: qgen is ahead on {', '.join(ahead) or 'none'}; "
            f"behind on {', '.join(behind) or 'none'}."
        )
    return "\n".join(lines)


def _layer_rows(profiles: dict[str, list[Layer]]) -> tuple[list[str], list[list[str]]]:
    headings = ["model", "layer", "op", "kernel", "MACs", "instructions", "share", "per MAC"]
    cells = []
    for name, layers in profiles.items():
        total = sum(layer.instructions for layer in layers)
        for layer in profile_layers.dearest(layers, TOP):
            cells.append(
                [
                    name,
                    f"{layer.index} {layer.name}" if layer.index >= 0 else layer.name,
                    layer.op,
                    layer.kernel,
                    f"{layer.macs:,}",
                    f"{layer.instructions:,}",
                    f"{layer.instructions / total:.0%}",
                    profile_layers.ratio(layer.instructions, layer.macs),
                ]
            )
    return headings, cells


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; 0 when done, 2 when it could not be."""
    parser = argparse.ArgumentParser(prog="benchmarks", description="all figures on one page")
    parser.add_argument("models", nargs="*", metavar="MODEL", help="names in the folder, or paths")
    parser.add_argument("--models", dest="folder", type=Path, default=runner.FOLDER)
    parser.add_argument("--cpu", nargs="+", default=list(runner.CPUS), help="of the emulator")
    parser.add_argument("--target", default="aarch64")
    parser.add_argument("--write", type=Path, metavar="FILE", help="Markdown; default: print it")
    options = parser.parse_args(argv)
    try:
        paths = runner.models(options.models, options.folder)
        peer = litert_peer.set_up()
        # Once: all tables are then of the same code.
        generated = [runner.generate(path, options.target) for path in paths]
        found = [models.figures(g, [PROFILED]) for g in generated]
        compared = litert_peer.compare(peer, paths, options.cpu)
        layers = {g.path.stem: profile_layers.profile(g, PROFILED) for g in generated}
        text = page(found, compared, layers, options.target)
        if options.write:
            write_files({options.write: text.encode()})
        else:
            print(text, end="")
    except QgenError as e:
        print(e, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
