"""What the commands share: arguments, tables of means, plots, errors in one line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.table import Table

from qgen.cli.common import Parser, positive
from qgen.errors import QgenError
from qgen.report.units import console
from qgen.train.processes import processes, rank


@dataclass(frozen=True)
class Options:
    """What the command line said.

    Attributes:
        seeds: how many runs are averaged, with seeds 0, 1 ...
        epochs: of the float phase; see `phases`.
        quick: a trial of seconds on few samples, whose figures mean nothing.
        plot: file of the plot; None for none.
        data: folder with data of the user's own; None for the small set.
        folder: of checkpoints, from which a run resumes; None for none.
    """

    seeds: int
    epochs: int
    quick: bool
    plot: Path | None
    data: Path | None
    folder: Path | None

    def checkpoints(self, *names: object) -> Path | None:
        """Folder of one run; runs of other lengths have others."""
        length = "quick" if self.quick else f"{self.epochs}epochs"
        return self.folder / "-".join(map(str, (*names, length))) if self.folder else None


@dataclass(frozen=True)
class Experiment:
    """One command.

    Attributes:
        name: of the module.
        title: of its table.
        description: first lines of its help.
        differs: how its protocol differs from the paper's, and why.
        run: does it, and prints.
        epochs: of the float phase, unless the command line says otherwise.
        data: what ``--data`` names; empty where the experiment has small data only.
    """

    name: str
    title: str
    description: str
    differs: Sequence[str]
    run: Callable[[Options], None]
    epochs: int
    data: str = ""

    def parser(self) -> Parser:
        module = f"python -m examples.paper.{self.name}"
        lines = ["", "--seeds 1 --epochs 5", "--quick", f"--folder build/{self.name}"]
        lines += ["--data imagenet --epochs 90"] if self.data else []
        parser = Parser(
            prog=module,
            description=self.description,
            epilog="examples:\n"
            + "".join(f"  {module} {line}".rstrip() + "\n" for line in lines)
            + f"  torchrun --nproc-per-node 2 -m examples.paper.{self.name}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        parser.add_argument(
            "--seeds", type=positive, default=3, metavar="N", help="runs to average, default 3"
        )
        parser.add_argument(
            "--epochs", type=positive, default=self.epochs, metavar="N",
            help=f"of the float phase, default {self.epochs}; the second phase is a part of it",
        )  # fmt: skip
        parser.add_argument(
            "--quick", action="store_true",
            help="one seed, one epoch, few samples: to see that it runs",
        )  # fmt: skip
        parser.add_argument(
            "--plot", type=Path, default=Path("build", f"{self.name}.svg"), metavar="FILE",
            help=f"where to draw the plot (svg, png, pdf), default build/{self.name}.svg",
        )  # fmt: skip
        parser.add_argument(
            "--folder", type=Path, metavar="DIR", help="keep checkpoints there and resume from them"
        )
        if self.data:
            parser.add_argument("--data", type=Path, metavar="DIR", help=self.data)
        return parser

    def main(self, argv: Sequence[str] | None = None) -> int:
        """Exit code: 0, or 2 for an error, which is said in one line."""
        try:
            args = self.parser().parse_args(argv)
            options = Options(
                seeds=1 if args.quick else args.seeds,
                epochs=1 if args.quick else args.epochs,
                quick=args.quick,
                plot=args.plot,
                data=getattr(args, "data", None),
                folder=args.folder,
            )
            # A small network is slower on several threads than on one.
            if options.data is None:
                torch.set_num_threads(1)
            with processes():
                self.run(options)
        except QgenError as e:
            print(f"error: {e}", file=sys.stderr)
            return 2
        return 0

    def show(self, columns: Sequence[str], rows: Iterable[Sequence[str]], options: Options) -> None:
        """Print the table and how the protocol differs, on process 0."""
        if rank():
            return
        runs = "seed 0" if options.seeds == 1 else f"mean ± deviation of {options.seeds} seeds"
        if options.quick:
            runs = "a quick trial, its figures mean nothing"
        table = Table(title=f"{self.title} ({runs})", title_justify="left")
        for i, column in enumerate(columns):
            table.add_column(column, justify="right" if i else "left")
        for row in rows:
            table.add_row(*row)
        out = console()
        out.print(table)
        out.print("What differs from the paper:")
        for line in self.differs:
            out.print(f"- {line}")
        if options.plot:
            out.print(f"Plot: {options.plot}")


def percent(values: Sequence[float], digits: int = 1) -> str:
    """Mean and standard deviation of parts of 1, as percentages; n/a if one is not defined."""
    if np.isnan(values).any():
        return "n/a"
    mean, deviation = 100 * np.mean(values), 100 * np.std(values)
    return (
        f"{mean:.{digits}f} ± {deviation:.{digits}f}" if len(values) > 1 else f"{mean:.{digits}f}"
    )


def change(values: Sequence[float], reference: Sequence[float]) -> str:
    """Mean difference of parts of 1 relative to the mean of `reference`, as a percentage."""
    base = float(np.mean(reference))
    return f"{100 * (float(np.mean(values)) - base) / base:+.1f} %" if base else "n/a"


def plot(
    options: Options,
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    x: str,
    y: str,
    title: str,
    ticks: Mapping[float, str] | None = None,
    log: bool = False,
) -> None:
    """Draw lines of (x, y) by name, on process 0. Raises QgenError without matplotlib."""
    if options.plot is None or rank():
        return
    try:
        import matplotlib
    except ImportError as e:
        raise QgenError("the plot needs matplotlib", hint="pip install 'qgen[train]'") from e
    # The same figures give the same bytes.
    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "qgen"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6.4, 4.2), layout="constrained")
    for i, (name, (xs, ys)) in enumerate(series.items()):
        dashes = "--" if "float" in name else "-"
        axes.plot(xs, ys, dashes, marker="os^Dv"[i % 5], label=name)
    axes.set(xlabel=x, ylabel=y, title=title)
    if log:
        axes.set_xscale("log")
    if ticks:
        axes.set_xticks(list(ticks), list(ticks.values()))
    axes.grid(alpha=0.3)
    axes.legend()
    try:
        options.plot.parent.mkdir(parents=True, exist_ok=True)
        metadata = {"Date": None} if options.plot.suffix == ".svg" else {}
        figure.savefig(options.plot, metadata=metadata)
    except (OSError, ValueError) as e:
        raise QgenError(f"cannot write the plot: {e}") from e
    finally:
        pyplot.close(figure)
