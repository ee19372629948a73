"""All figures on one page: goals, beside LiteRT, cycles, per model, and the dearest layers.

python -m benchmarks --write docs/benchmarks.md
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import goals, litert_peer, results, runner
from benchmarks.page import page
from qgen.errors import QgenError
from qgen.files import write_files


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; 0 when done, 2 when it could not be."""
    parser = argparse.ArgumentParser(prog="benchmarks", description="all figures on one page")
    parser.add_argument("models", nargs="*", metavar="MODEL", help="names in the folder, or paths")
    parser.add_argument("--models", dest="folder", type=Path, default=runner.FOLDER)
    parser.add_argument("--cpu", nargs="+", default=list(runner.CPUS), help="of the emulator")
    parser.add_argument("--no-peer", action="store_true", help="leave LiteRT out")
    parser.add_argument("--write", type=Path, metavar="FILE", help="Markdown; default: print it")
    options = parser.parse_args(argv)
    try:
        paths = runner.models(options.models, options.folder)
        peer = None if options.no_peer else litert_peer.set_up()
        found = results.measure(paths, options.cpu, runner.TIMED, goals.LOOP_CPUS, peer, _say)
        text = page(found)
        if options.write:
            write_files({options.write: text.encode()})
        else:
            print(text, end="")
    except QgenError as e:
        print(e, file=sys.stderr)
        return 2
    return 0


def _say(what: str) -> None:
    if sys.stderr.isatty():
        print(what, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
