"""qgen verify: the proof that the C file computes what golden computes."""

from __future__ import annotations

import argparse
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from qgen.cli import common
from qgen.compile import Sizes, measure, sizes_dict
from qgen.emit import emit
from qgen.frontend import load_model
from qgen.lower import lower
from qgen.targets import machine
from qgen.verify.compare import oracle_bytes, verify_lowered
from qgen.verify.harness import UNKNOWN_ORIGIN
from qgen.verify.verdict import Verdict


def add(commands: common.Commands) -> None:
    parser = common.command(
        commands,
        "verify",
        run,
        "prove that the C file equals golden bit for bit",
        "Compile the generated C, run it (in an emulator where the target is another machine) and\n"
        "compare every output and every op's result with the golden interpreter.\n"
        "Exit code 0: equal, 1: different, 2: cannot run.",
        """
qgen verify kws.tflite
qgen verify kws.tflite --cpu cortex-a72
qgen verify kws.tflite --target portable --oracle litert
qgen verify kws.tflite --inputs 100 --seed 7 --json
""",
    )
    common.add_model(parser)
    common.add_target(parser)
    parser.add_argument(
        "--inputs", type=common.positive, default=20, metavar="N", help="inputs to run, default 20"
    )
    parser.add_argument(
        "--seed", type=common.natural, default=0, metavar="S", help="of random values, default 0"
    )
    parser.add_argument(
        "--oracle", choices=["litert"], help="also compare golden with LiteRT's reference kernels"
    )
    common.add_budget(parser)
    common.add_json(parser)


def run(args: argparse.Namespace) -> int:
    path: Path = args.model
    lowered = lower(load_model(path), *machine(args.target, args.cpu), args.max_ram)
    oracle = oracle_bytes(path) if args.oracle else None
    # The object whose sizes count is compiled beside the test program: another core is often idle.
    with common.progress() as progress, ThreadPoolExecutor(1) as pool:
        facts = pool.submit(lambda: measure(lowered, emit(lowered, UNKNOWN_ORIGIN)))
        verdict = verify_lowered(
            lowered, inputs=args.inputs, seed=args.seed, oracle=oracle, progress=progress
        )
        sizes = facts.result()
    arena = lowered.plan.arena_bytes
    if args.json:
        common.print_json(verdict.as_dict() | {"arena_bytes": arena} | sizes_dict(sizes))
    else:
        print(_text(verdict, sizes, arena))
    if not verdict:
        return 1
    common.budget(args).check(lowered, sizes)
    return 0


def _text(verdict: Verdict, sizes: Sizes, arena: int) -> str:
    return (
        f"{verdict}\n  arena {arena:,}, stack {sizes.stack_bytes:,}, text {sizes.text_bytes:,}, "
        f"rodata {sizes.rodata_bytes:,} bytes ({sizes.compiler} -O2)"
    )
