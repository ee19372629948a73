"""qgen ops: the table of supported ops."""

from __future__ import annotations

import argparse

from qgen.cli import common
from qgen.report.ops import ops_table
from qgen.report.units import console
from qgen.targets import TARGETS
from qgen.targets.spec import Target


def add(commands: common.Commands) -> None:
    parser = common.command(
        commands,
        "ops",
        run,
        "list supported ops per front end and target",
        "List every op with its names in TFLite and the kernel it prefers on each target.",
        """
qgen ops
qgen ops --markdown > ops.md
""",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON for machines")
    form.add_argument("--markdown", action="store_true", help="print a Markdown table")


def run(args: argparse.Namespace) -> int:
    table = ops_table({name: _kernels(t) for name, t in TARGETS.items()})
    if args.json:
        common.print_json(table.as_dict())
    elif args.markdown:
        print(table.markdown(), end="")
    else:
        console().print(table.rich())
    return 0


def _kernels(target: Target) -> dict[str, str]:
    """The kernel each op prefers; what it refuses falls to later rows, at last to those of C99."""
    found: dict[str, str] = {}
    for row in target.kernels:
        found.setdefault(row.op, row.name)
    return found
