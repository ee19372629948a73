"""Where the instructions of a model go: per layer, exact, from one run under the emulator.

    python -m benchmarks.profile_layers kws_ref_model --cpu cortex-a53

The program calls an empty function after every op and the counting plugin notes the total at each
call; what lies between two calls belongs to the op, with all the helpers it calls and its share of
``<name>_run``. The price of the marking call is measured and subtracted.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection
from rich import box
from rich.table import Table

from benchmarks import count, runner
from qgen.errors import QgenError
from qgen.lower import Lowered, Step
from qgen.report.units import console


@dataclass(frozen=True)
class Layer:
    """One op: `kernel` is empty where the memory plan made it free; `index` -1 is the rest."""

    index: int
    name: str
    op: str
    kernel: str
    macs: int
    instructions: int

    @property
    def per_mac(self) -> float | None:
        return self.instructions / self.macs if self.macs else None


def profile(generated: runner.Generated, cpu: str) -> list[Layer]:
    """Instructions of every op in one warm inference, in execution order, then those of no op."""
    lowered = generated.lowered
    with tempfile.TemporaryDirectory(prefix="qgen-bench-") as folder:
        exe = runner.build(generated, Path(folder), marks=True)
        marks = count.run(exe, cpu, ["2"], mark=_address(exe, runner.MARK)).marks
    steps = lowered.steps
    # Two before the loop; in each run one before it and one after each op; one at the end.
    if len(marks) != 2 * len(steps) + 5:
        raise AssertionError(f"{lowered.name}: {len(marks)} marks for 2 runs of {len(steps)} ops")
    spent = [b - a for a, b in itertools.pairwise(marks)]
    call = spent[0]
    *second, rest = [n - call for n in spent[3 + len(steps) :]]
    layers = [_layer(s, n, lowered) for s, n in zip(steps, second, strict=True)]
    return [*layers, Layer(-1, "(return)", "", "", 0, rest)]


def _layer(step: Step, instructions: int, lowered: Lowered) -> Layer:
    free = lowered.plan.copies.get(step.op) == ()
    kernel = "" if free else step.spec.name
    op = step.op
    return Layer(step.index, op.name, op.NAME, kernel, op.cost().macs, instructions)


def _address(exe: Path, function: str) -> int:
    with exe.open("rb") as stream:
        for section in ELFFile(stream).iter_sections():
            if isinstance(section, SymbolTableSection):
                for symbol in section.get_symbol_by_name(function) or ():
                    return int(symbol["st_value"])
    raise QgenError(f"no function '{function}' in {exe.name}")


def as_dicts(layers: Sequence[Layer]) -> list[dict[str, object]]:
    """Layers as plain values for JSON."""
    return [asdict(layer) | {"per_mac": layer.per_mac} for layer in layers]


def render(name: str, cpu: str, layers: Sequence[Layer], top: int | None = None) -> Table:
    """The table for a terminal; `top` keeps the dearest layers only, dearest first."""
    total = sum(layer.instructions for layer in layers)
    macs = sum(layer.macs for layer in layers)
    table = Table(
        title=f"{name}, {cpu}: {total:,} instructions per inference",
        box=box.SIMPLE_HEAD,
        show_footer=True,
        footer_style="bold",
    )
    table.add_column("#", justify="right")
    table.add_column("layer", "total", overflow="ellipsis", max_width=48)
    table.add_column("op")
    table.add_column("kernel")
    table.add_column("MACs", f"{macs:,}", justify="right")
    table.add_column("instructions", f"{total:,}", justify="right")
    table.add_column("share", justify="right")
    table.add_column("instr/MAC", ratio(total, macs), justify="right")
    for layer in dearest(layers, top) if top else layers:
        table.add_row(
            str(layer.index) if layer.index >= 0 else "",
            layer.name,
            layer.op,
            layer.kernel,
            f"{layer.macs:,}",
            f"{layer.instructions:,}",
            f"{layer.instructions / total:.1%}",
            ratio(layer.instructions, layer.macs),
        )
    return table


def dearest(layers: Sequence[Layer], top: int) -> list[Layer]:
    """The `top` layers with the most instructions, most first."""
    return sorted(layers, key=lambda layer: -layer.instructions)[:top]


def ratio(instructions: float, macs: int) -> str:
    """Instructions per MAC, empty where there are no MACs."""
    return f"{instructions / macs:.3f}" if macs else ""


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; 0 when done, 2 when it could not be."""
    parser = argparse.ArgumentParser(description="executed instructions per layer")
    parser.add_argument("models", nargs="+", metavar="MODEL", help="name in the folder, or path")
    parser.add_argument("--models", dest="folder", type=Path, default=runner.FOLDER)
    parser.add_argument("--target", default="aarch64")
    parser.add_argument("--cpu", default="cortex-a53", help="as in qemu-aarch64 -cpu")
    parser.add_argument("--top", type=int, metavar="N", help="only the N dearest layers")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    try:
        found = {}
        for path in runner.models(options.models, options.folder):
            generated = runner.generate(path, options.target)
            found[generated.name] = profile(generated, options.cpu)
    except QgenError as e:
        print(e, file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps({name: as_dicts(layers) for name, layers in found.items()}, indent=2))
    else:
        for name, layers in found.items():
            console().print(render(name, options.cpu, layers, options.top))
    return 0


if __name__ == "__main__":
    sys.exit(main())
