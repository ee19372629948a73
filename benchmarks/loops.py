"""Inner loops of matrix products: what they reach of the core's peak, and of their own bound.

    python -m benchmarks.loops [MODEL ...] [--cpu C ...]

The peak is the rate of the core's widest multiply instruction alone. A loop also loads, and adds
products up, often on the same unit: its own bound is what its instructions take of the busiest
unit, or of the core's width, if none of them waits for another.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import runner
from benchmarks.results import Key, Results
from benchmarks.runner import Generated
from qgen.errors import QgenError
from qgen.ir.linear import Linear

PRODUCTS = ("conv2d", "fully_connected")
CPUS = ("cortex-a53", "cortex-a55", "cortex-a72", "cortex-a76", "neoverse-n1", "cortex-a510")


@dataclass(frozen=True)
class Loop:
    """The inner loop of a kernel, in the layer where most of its MACs are.

    Attributes:
        layer: of `model`.
        rows: of the left matrix.
        over: what the loop runs over: ``inputs`` of a sum, or ``outputs`` where a round finishes
            some.
        instructions, macs, cycles: of one round; cycles are an estimate.
        of_peak: MAC rate in percent of the core's peak.
        bound: the most that its instructions allow, likewise.
        total: MACs of the kernel in all layers.
    """

    kernel: str
    model: str
    layer: str
    rows: int
    over: str
    instructions: float
    macs: float
    cycles: float
    of_peak: float
    bound: float
    total: int

    @property
    def of_bound(self) -> float:
        return 100 * self.of_peak / self.bound

    @property
    def main(self) -> bool:
        """It multiplies two matrices and does nothing else."""
        return self.rows > 1 and self.over == "inputs"


def of(results: Results, cpu: str) -> list[Loop]:
    """One per kernel of matrix products that runs on `cpu`, by name."""
    return of_models(results.ours, cpu)


def of_models(made: Mapping[Key, Generated], cpu: str) -> list[Loop]:
    """The same of single models, by name and core."""
    found: dict[str, list[Loop]] = {}
    for (_, c), generated in made.items():
        if c == cpu:
            for loop in _of_layers(generated):
                found.setdefault(loop.kernel, []).append(loop)
    return [_joined(found[kernel]) for kernel in sorted(found)]


def _joined(layers: Sequence[Loop]) -> Loop:
    most = max(layers, key=lambda x: (x.main, x.total))
    return replace(most, total=sum(x.total for x in layers))


def _of_layers(generated: Generated) -> Iterator[Loop]:
    profile = generated.profile
    for layer, step in zip(profile.layers, generated.lowered.steps, strict=True):
        loop, percent = layer.loop, profile.loop_percent_of_peak(layer)
        if not isinstance(step.op, Linear) or loop is None or percent is None:
            continue
        if layer.op not in PRODUCTS or layer.fewest == layer.macs:  # no vectors
            continue
        yield Loop(
            layer.kernel, generated.name, layer.name, step.op.out.type.elements // step.op.channels,
            "outputs" if loop.ends else "inputs", loop.instructions, loop.macs, loop.cycles,
            percent, percent * loop.cycles / loop.bound, layer.macs,
        )  # fmt: skip


HEADINGS = (
    "cpu", "kernel", "in model", "layer", "rows", "loop over", "instructions", "MACs",
    "cycles (est.)", "% of peak", "bound", "% of bound",
)  # fmt: skip
TEXT = 6  # columns of words


def cells(cpu: str, loop: Loop) -> list[str]:
    """One row of the table."""
    return [
        cpu, loop.kernel, loop.model, loop.layer, f"{loop.rows:,}", loop.over,
        f"{loop.instructions:.0f}", f"{loop.macs:.0f}", f"{loop.cycles:.1f}",
        f"{loop.of_peak:.1f}", f"{loop.bound:.1f}", f"{loop.of_bound:.1f}",
    ]  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; 0 when done, 2 when it could not be."""
    parser = argparse.ArgumentParser(prog="benchmarks.loops", description="loops of kernels")
    parser.add_argument("models", nargs="*", metavar="MODEL", help="names in the folder, or paths")
    parser.add_argument("--models", dest="folder", type=Path, default=runner.FOLDER)
    parser.add_argument("--cpu", nargs="+", default=list(CPUS))
    options = parser.parse_args(argv)
    try:
        paths = runner.models(options.models, options.folder)
        made: dict[Key, Generated] = {
            (path.stem, cpu): runner.generate(path, cpu) for cpu in options.cpu for path in paths
        }
        rows = [cells(cpu, x) for cpu in options.cpu for x in of_models(made, cpu)]
    except QgenError as e:
        print(e, file=sys.stderr)
        return 2
    widths = [max(len(row[i]) for row in [HEADINGS, *rows]) for i in range(len(HEADINGS))]
    for row in [HEADINGS, *rows]:
        aligned = (
            c.ljust(w) if i < 5 else c.rjust(w)
            for i, (c, w) in enumerate(zip(row, widths, strict=True))
        )
        print("  ".join(aligned))
    return 0


if __name__ == "__main__":
    sys.exit(main())
