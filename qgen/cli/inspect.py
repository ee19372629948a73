"""qgen inspect: layers, costs and memory of a model."""

from __future__ import annotations

import argparse
from pathlib import Path

from qgen.cli import common
from qgen.compile import unmet
from qgen.errors import QgenError
from qgen.files import write_files
from qgen.frontend import load_model
from qgen.lower import lower
from qgen.report.inspect import inspect, render
from qgen.report.plot import render_svg
from qgen.report.units import console
from qgen.targets import machine


def add(commands: common.Commands) -> None:
    parser = common.command(
        commands,
        "inspect",
        run,
        "show layers, costs and memory of a model",
        "Show every layer with shape, work, weights and place in the arena, as the target has it.",
        """
qgen inspect kws.tflite
qgen inspect kws.tflite --plot kws.svg
qgen inspect vww.tflite --max-ram 40K
qgen inspect kws.tflite --json | jq .macs
""",
    )
    common.add_model(parser)
    common.add_target(parser)
    common.add_ram(parser)
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw graph and arena as SVG")
    common.add_json(parser)


def run(args: argparse.Namespace) -> int:
    common.check_out(args.plot, args.model)
    lowered = lower(load_model(args.model), *machine(args.target, args.cpu), args.max_ram)
    if problem := unmet(lowered):
        raise QgenError(f"{lowered.name} does not fit {args.max_ram} bytes of RAM", hint=problem)
    if args.plot:
        if args.plot.suffix not in (".svg", ""):
            raise QgenError(f"{args.plot} would be a picture in SVG", hint="end its name in .svg")
        write_files({args.plot: render_svg(lowered.graph, lowered.plan).encode()})
    report = {"target": lowered.target.name, "cpu": lowered.cpu.name if lowered.cpu else None}
    report |= inspect(lowered.graph, lowered.plan, lowered.model, lowered.steps, lowered.stripes)
    if args.json:
        common.print_json(report)
    else:
        console().print(render(report))
    return 0
