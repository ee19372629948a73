"""qgen import: any model file becomes text."""

from __future__ import annotations

import argparse
from pathlib import Path

from qgen.cli import common
from qgen.errors import QgenError
from qgen.frontend import load_model
from qgen.frontend.printer import save
from qgen.frontend.tables import Tables


def add(commands: common.Commands) -> None:
    parser = common.command(
        commands,
        "import",
        run,
        "write a model in the text language",
        "Write a model as readable text (.qg), its weights in an .npz beside it.",
        """
qgen import kws.tflite
qgen import kws.tflite -o models/kws.qg --name wake_word
qgen import gate.tflite --tables always
""",
    )
    common.add_model(parser)
    parser.add_argument("-o", dest="out", type=Path, metavar="FILE", help="default: NAME.qg")
    parser.add_argument("--name", metavar="NAME", help="name of the model, default: file name")
    parser.add_argument(
        "--tables",
        choices=[t.value for t in Tables],
        default=Tables.AUTO.value,
        help="256-entry tables for logistic and tanh: auto (default) where fixed point would "
        "differ from LiteRT's reference, always (faster) or never",
    )


def run(args: argparse.Namespace) -> int:
    graph = load_model(args.model, tables=Tables(args.tables))
    if args.name is not None:
        graph = graph.replace(name=args.name)
    out: Path = args.out or Path(f"{graph.name}.qg")
    if out.suffix != ".qg":
        raise QgenError(f"{out} would be written as text", hint="end its name in .qg")
    save(graph, out)
    print(f"{out}: {graph.name}, {len(graph.ops)} ops")
    return 0
