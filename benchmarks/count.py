"""Counts the instructions of any program under the emulator, by function too.

    python -m benchmarks.count PROGRAM --cpu cortex-a53 -- 100
    python -m benchmarks.count PROGRAM --cpu cortex-a53 --per 100 --few 1 --many 101 --functions

The program must be an AArch64 executable of one thread. Start-up costs cancel when two runs
are subtracted: (count of N + n inferences - count of N) / n.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from qgen.errors import Loc, QgenError
from qgen.profile.count import Range, per_inference, run


def profile(
    exe: Path, emulator: Sequence[str], args_few: Sequence[str], args_many: Sequence[str], n: int
) -> dict[str, float]:
    """As `per_inference`, for every function that runs; what belongs to none is under ``other``.

    A call counts in the function called, not in its caller.
    """
    ranges = symbol_ranges(exe)
    few = run(exe, emulator, args_few, ranges=ranges)
    many = run(exe, emulator, args_many, ranges=ranges)
    spent = {name: (many.by_name[name] - few.by_name[name]) / n for name in many.by_name}
    spent["other"] = (many.total - few.total) / n - sum(spent.values())
    return {name: value for name, value in spent.items() if value}


def symbol_ranges(exe: Path) -> list[Range]:
    """Address ranges of the functions in the symbol table of `exe`, disjoint and ascending.

    Aliases count under the name that comes first in the alphabet. A function inside another takes
    its part from there on: the outer one ends where it starts.

    Raises:
        QgenError: not ELF, or stripped.
    """
    starts: dict[int, tuple[int, str]] = {}
    try:
        with exe.open("rb") as stream:
            for section in ELFFile(stream).iter_sections():
                if not isinstance(section, SymbolTableSection):
                    continue
                for symbol in section.iter_symbols():
                    if symbol["st_info"]["type"] != "STT_FUNC" or not symbol["st_size"]:
                        continue
                    start, end = symbol["st_value"], symbol["st_value"] + symbol["st_size"]
                    known = starts.get(start)
                    if known is None or symbol.name < known[1]:
                        starts[start] = (end, symbol.name)
    except Exception as e:  # pyelftools lets many kinds out when the bytes make no sense
        raise QgenError("not a usable ELF file", Loc(str(exe))) from e
    if not starts:
        raise QgenError("no function symbols", Loc(str(exe)), hint="do not strip the executable")
    ordered = sorted((start, end, name) for start, (end, name) in starts.items())
    following = [start for start, _, _ in ordered[1:]] + [ordered[-1][1]]
    return [
        (a, min(b, limit), name) for (a, b, name), limit in zip(ordered, following, strict=True)
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; 0 when counted, 2 when it could not be."""
    parser = argparse.ArgumentParser(
        description="count executed AArch64 instructions",
        epilog="Arguments of PROGRAM (without --per) follow '--'.",
    )
    parser.add_argument("exe", type=Path, metavar="PROGRAM")
    parser.add_argument("--cpu", default="cortex-a53", help="as in qemu-aarch64 -cpu")
    parser.add_argument("--functions", action="store_true", help="list functions, dearest first")
    parser.add_argument("--per", type=int, metavar="n", help="inferences by which the runs differ")
    parser.add_argument("--few", default="1", help="argument of the short run (with --per)")
    parser.add_argument("--many", default="101", help="argument of the long run (with --per)")
    given = list(sys.argv[1:] if argv is None else argv)
    # argparse binds PROGRAM and its arguments in one go, and so loses those after an option.
    split = given.index("--") if "--" in given else len(given)
    options, program_args = parser.parse_args(given[:split]), given[split + 1 :]
    exe, emulator = options.exe, ("qemu-aarch64", "-cpu", options.cpu)
    try:
        if options.per and options.functions:
            spent = profile(exe, emulator, [options.few], [options.many], options.per)
        elif options.per:
            few, many = [options.few], [options.many]
            spent = {"per inference": per_inference(exe, emulator, few, many, options.per)}
        else:
            ranges = symbol_ranges(exe) if options.functions else ()
            counts = run(exe, emulator, program_args, ranges=ranges)
            spent = dict(counts.by_name) if options.functions else {"total": counts.total}
    except QgenError as e:
        print(e, file=sys.stderr)
        return 2
    for name, value in sorted(spent.items(), key=lambda item: -item[1]):
        if value:
            print(f"{value:>16,.10g} {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
