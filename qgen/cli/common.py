"""What several commands share: arguments, sizes, output, progress."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from qgen.compile import Budget, Progress
from qgen.errors import QgenError

Commands = Any  # argparse's class for subcommands is private
LARGEST = 10**9
Run = Callable[[argparse.Namespace], int]


class Parser(argparse.ArgumentParser):
    """Argument errors in one line, as all other errors of qgen."""

    def error(self, message: str) -> NoReturn:
        raise QgenError(message, hint=f"see {self.prog} --help")


def command(
    commands: Commands, name: str, run: Run, help: str, description: str, examples: str
) -> argparse.ArgumentParser:
    """Declare a subcommand with examples below its help."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=help,
        description=description,
        epilog="examples:\n" + "\n".join(f"  {line}" for line in examples.strip().splitlines()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL", help="a .tflite or .qg file")


def add_target(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--target", metavar="T", help="instruction set, default that of the cpu, or aarch64"
    )
    parser.add_argument(
        "--cpu", metavar="C", help="core to arrange the code for, as gcc calls it: cortex-a55"
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON for machines")


def add_ram(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--max-ram",
        type=size,
        metavar="BYTES",
        help="use stripes until arena and stack fit, fail if none do; K and M are 1024 and 1024^2",
    )


def add_budget(parser: argparse.ArgumentParser) -> None:
    add_ram(parser)
    parser.add_argument(
        "--max-flash", type=size, metavar="BYTES", help="fail if text and rodata need more"
    )


def budget(args: argparse.Namespace) -> Budget:
    return Budget(args.max_ram, args.max_flash)


def size(text: str) -> int:
    """``65536``, ``64K`` or ``1M`` in bytes."""
    found = re.fullmatch(r"(\d+)([KM]?)", text, re.IGNORECASE)
    if not found:
        raise argparse.ArgumentTypeError(f"'{text}' is not a size such as 65536, 64K or 1M")
    return int(found[1]) * {"": 1, "K": 1024, "M": 1024**2}[found[2].upper()]


def positive(text: str) -> int:
    if not re.fullmatch(r"\d+", text) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a positive number")
    if int(text) > LARGEST:
        raise argparse.ArgumentTypeError(f"'{text}' is more than {LARGEST}")
    return int(text)


def natural(text: str) -> int:
    if not re.fullmatch(r"\d+", text):
        raise argparse.ArgumentTypeError(f"'{text}' is not a number from 0")
    return int(text)


def check_out(out: Path | None, model: Path) -> None:
    """Raise QgenError if `out` is the model itself."""
    if out and out.exists() and model.exists() and out.samefile(model):
        raise QgenError(f"{out} is the model, it is not overwritten", hint="give -o another name")


def print_json(values: Mapping[str, Any] | list[Any]) -> None:
    print(json.dumps(values, indent=2))


@contextmanager
def progress() -> Iterator[Progress]:
    """A bar on stderr while it is a terminal, else silence."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda what, done, total: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda what, done, total: bar.update(
            task, description=what, completed=done, total=total
        )
