"""qgen profile: where the instructions and cycles of a model go, without hardware."""

from __future__ import annotations

import argparse
from pathlib import Path

from qgen.cli import common
from qgen.files import write_files
from qgen.profile import profile_model
from qgen.report.profile import render
from qgen.report.profile_plot import render_svg
from qgen.report.units import console


def add(commands: common.Commands) -> None:
    parser = common.command(
        commands,
        "profile",
        run,
        "count instructions and estimate cycles per layer, without hardware",
        "Compile the generated C, run one inference under the emulator and show for every layer\n"
        "its executed instructions (exact) and, where llvm-mca is installed, the cycles they take\n"
        "on a core (an estimate: executed blocks x their cost in LLVM's model of the core).\n"
        "The portable target is measured as compiled for 64-bit Arm. QGEN_MCA names an llvm-mca.",
        """
qgen profile kws.tflite
qgen profile kws.tflite --target aarch64+dotprod --cpu cortex-a55
qgen profile kws.tflite --top 5 --plot kws.svg
qgen profile kws.tflite --json | jq '.layers[] | {name, instructions, cycles}'
""",
    )
    common.add_model(parser)
    common.add_target(parser)
    parser.add_argument(
        "--top", type=common.positive, metavar="N", help="show only the N dearest layers"
    )
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the layers as SVG")
    common.add_json(parser)


def run(args: argparse.Namespace) -> int:
    with common.progress() as progress:
        profile = profile_model(args.model, args.target, cpu=args.cpu, progress=progress)
    if args.plot:
        write_files({args.plot: render_svg(profile).encode()})
    if args.json:
        common.print_json(profile.as_dict())
    else:
        console().print(render(profile, args.top))
    return 0
