"""qgen compile: a model file becomes a C file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from qgen.cli import common
from qgen.compile import Compiled, compile_model
from qgen.package import SYSTEMS


def add(commands: common.Commands) -> None:
    parser = common.command(
        commands,
        "compile",
        run,
        "write the C file of a model",
        "Write a model as one self-contained C file, and report what it costs.",
        """
qgen compile kws.tflite
qgen compile kws.tflite --cpu cortex-a76
qgen compile kws.tflite --target portable -o firmware/kws.h
qgen compile vww.tflite --max-ram 40K
qgen compile kws.tflite --split --max-ram 32K --max-flash 96K
qgen compile kws.tflite --emit cmake -o libs/kws/kws.h
""",
    )
    common.add_model(parser)
    common.add_target(parser)
    parser.add_argument("-o", dest="out", type=Path, metavar="FILE", help="default: NAME.h")
    parser.add_argument("--name", metavar="NAME", help="prefix of C names, default: file name")
    parser.add_argument("--split", action="store_true", help="NAME.c and NAME.h, not one header")
    parser.add_argument(
        "--emit",
        action="append",
        default=[],
        metavar="SYSTEM",
        help=f"make it a library of a build system as well: {', '.join(SYSTEMS)}; repeatable",
    )
    common.add_budget(parser)
    common.add_json(parser)


def run(args: argparse.Namespace) -> int:
    common.check_out(args.out, args.model)
    with common.progress() as progress:
        done = compile_model(
            args.model,
            args.target,
            cpu=args.cpu,
            out=args.out,
            name=args.name,
            split=args.split,
            emit_for=args.emit,
            budget=common.budget(args),
            progress=progress,
        )
    if done.note:
        print(f"qgen: {done.note}", file=sys.stderr)
    if args.json:
        common.print_json(done.as_dict())
    else:
        print(_text(done))
    return 0


def _text(done: Compiled) -> str:
    files = " and ".join(map(str, done.files))
    machine = done.target + (f" on {done.cpu}" if done.cpu else "")
    lines = [f"{files}: {done.name} for {machine}, {done.source_bytes:,} bytes of C"]
    if done.package:
        lines.append(f"  with {', '.join(map(str, done.package))}")
    lines.append(f"  arena   {done.arena_bytes:>10,} bytes")
    if done.chains:
        share = 100 * done.macs_again / done.macs if done.macs else 0.0
        lines.append(f"  stripes {done.macs_again:>10,} MACs twice ({share:.1f} %)")
    if done.sizes:
        s = done.sizes
        lines.append(f"  stack   {s.stack_bytes:>10,} bytes at most")
        lines.append(f"  text    {s.text_bytes:>10,} bytes")
        lines.append(f"  rodata  {s.rodata_bytes:>10,} bytes ({s.compiler} -O2)")
    return "\n".join(lines)
