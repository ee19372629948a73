"""The command line: one subcommand per file of ``qgen/cli``."""

from __future__ import annotations

import os
import platform
import sys
import traceback
from collections.abc import Sequence

from qgen import __version__
from qgen.errors import QgenError

# Exit codes beside 0 and, of verify, 1.
REFUSED, BUG, INTERRUPTED, PIPE_CLOSED = 2, 70, 130, 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 2 for whatever qgen refuses, said in one line."""
    try:
        code = _run(argv)
        sys.stdout.flush()
        return code
    except QgenError as e:
        caret = e.caret()
        print(f"qgen: error: {e}" + (f"\n{caret}" if caret else ""), file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader has gone.
        _drop_output()
        return PIPE_CLOSED
    except OSError as e:
        # Files that are named on the command line have their own errors.
        _drop_output()
        reason = (e.strerror or str(e)).lower()
        print(f"qgen: error: {e.filename or 'standard output'}: {reason}", file=sys.stderr)
        return REFUSED
    except MemoryError:
        print("qgen: error: not enough memory for this model", file=sys.stderr)
        return REFUSED
    except Exception as e:
        if os.environ.get("QGEN_DEBUG") == "1":
            traceback.print_exc()
        what = f"{type(e).__name__}: {e}".splitlines()[0]
        print(
            f"qgen: this is a bug of qgen {__version__} (Python {platform.python_version()}): "
            f"{what}; please report it with the model and the output under QGEN_DEBUG=1",
            file=sys.stderr,
        )
        return BUG


def _drop_output() -> None:
    """What is still buffered must not raise again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(argv: Sequence[str] | None) -> int:
    # Here, so that an interrupt while the packages load is quiet too.
    from qgen.cli import common, compile, import_model, inspect, ops, profile, run, verify

    parser = common.Parser(
        prog="qgen",
        description="Compile a quantized neural network into one verified, integer-only C file.",
        epilog="`qgen COMMAND --help` shows options and examples.",
    )
    parser.add_argument("--version", action="version", version=f"qgen {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for module in (import_model, inspect, run, compile, verify, profile, ops):
        module.add(commands)
    args = parser.parse_args(argv)
    code: int = args.run(args)
    return code


if __name__ == "__main__":
    sys.exit(main())
