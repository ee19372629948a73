"""Counts executed AArch64 instructions: an exact, repeatable figure, unlike time under emulation.

    python benchmarks/count.py PROGRAM --cpu cortex-a53 -- 100
    python benchmarks/count.py PROGRAM --cpu cortex-a53 --per 100 --few 1 --many 101 --functions

The program must be an AArch64 executable of one thread. Start-up costs cancel when two runs
are subtracted: (count of N + n inferences - count of N) / n.
"""

from __future__ import annotations

import argparse
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from qgen.errors import Loc, QgenError
from qgen.toolchain.emulator import raise_on_crash

EMULATOR = "qemu-aarch64"
_SOURCE = Path(__file__).with_name("insn_count.c")

# [start, end) in guest addresses, and a name.
Range = tuple[int, int, str]


@dataclass(frozen=True)
class Counts:
    """Executed instructions of one run.

    Attributes:
        total: all of them.
        by_name: those in each named range.
        marks: the total at each time the mark was reached.
    """

    total: int
    by_name: Mapping[str, int]
    marks: tuple[int, ...] = ()


def build_plugin(directory: Path) -> Path:
    """Compile the counting plugin with the host's compiler into `directory`.

    Raises:
        QgenError: no host compiler, or it fails.
    """
    compiler = shutil.which("gcc") or shutil.which("cc") or shutil.which("clang")
    if compiler is None:
        raise QgenError("no host C compiler for the counting plugin", hint="apt-get install gcc")
    plugin = directory / "insn_count.so"
    done = subprocess.run(
        [compiler, "-shared", "-fPIC", "-O2", "-o", str(plugin), str(_SOURCE)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise QgenError(f"the counting plugin does not compile: {_first_line(done.stderr)}")
    return plugin


@functools.cache
def _plugin() -> Path:
    """The plugin, built once per process; its folder goes when the process ends."""
    folder = tempfile.TemporaryDirectory(prefix="qgen-count-")
    _FOLDERS.append(folder)
    return build_plugin(Path(folder.name))


_FOLDERS: list[tempfile.TemporaryDirectory[str]] = []


def run(
    exe: Path,
    cpu: str,
    args: Sequence[str] = (),
    *,
    ranges: Sequence[Range] = (),
    mark: int | None = None,
    stdin: Path | None = None,
    sysroot: Path | None = None,
    timeout: float = 600.0,
) -> Counts:
    """Run `exe` once under the emulator and count.

    Args:
        cpu: as in ``qemu-aarch64 -cpu``.
        ranges: disjoint address ranges; those of the same name are added up.
        mark: address of a function whose calls part the run; see `Counts.marks`.
        stdin: file the program reads; nothing if None.
        sysroot: where the loader and shared libraries are; None for a static program.
        timeout: in seconds.

    Raises:
        QgenError: missing emulator, a program that crashes, fails or takes too long, bad ranges.
    """
    emulator = shutil.which(EMULATOR)
    if emulator is None:
        raise QgenError(f"emulator '{EMULATOR}' not found", hint="apt-get install qemu-user")
    if not exe.is_file():
        raise QgenError(f"cannot run {exe}: no such file")
    with tempfile.TemporaryDirectory(prefix="qgen-count-") as scratch:
        out = Path(scratch) / "counts"
        options = [str(_plugin()), f"out={out}"]
        if ranges:
            table = Path(scratch) / "ranges"
            table.write_text("".join(f"{a:x} {b:x} {name}\n" for a, b, name in ranges))
            options.append(f"ranges={table}")
        if mark is not None:
            options.append(f"mark={mark:x}")
        # A comma separates options and is doubled inside one.
        libraries = ["-L", str(sysroot)] if sysroot else []
        plugin = ",".join(option.replace(",", ",,") for option in options)
        try:
            with stdin.open("rb") if stdin else Path(os.devnull).open("rb") as source:
                done = subprocess.run(
                    [emulator, "-cpu", cpu, *libraries, "-plugin", plugin, str(exe), *args],
                    stdin=source,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    text=True,
                    errors="replace",
                    # The C library walks the environment at start: an empty one keeps counts equal
                    # from shell to shell.
                    env={},
                    timeout=timeout,
                    check=False,
                )
        except subprocess.TimeoutExpired as e:
            raise QgenError(f"{exe.name} did not end within {timeout:g} s") from e
        except OSError as e:
            raise QgenError(f"cannot run {exe}: {e.filename}: {(e.strerror or '').lower()}") from e
        raise_on_crash(exe, done.returncode)
        if done.returncode:
            reason = _first_line(done.stderr) or "is it an AArch64 executable?"
            raise QgenError(f"{exe.name} failed with exit code {done.returncode}: {reason}")
        return _parse(out.read_text())


def _first_line(text: str) -> str:
    return next((line for line in text.splitlines() if line.strip()), "")


def _parse(text: str) -> Counts:
    first, *rest = text.splitlines()
    by_name: dict[str, int] = {}
    marks: list[int] = []
    for line in rest:
        number, _, name = line.partition(" ")
        if number == "mark":
            marks.append(int(name))
        else:
            by_name[name] = by_name.get(name, 0) + int(number)
    return Counts(int(first.removeprefix("total ")), by_name, tuple(marks))


def count(exe: Path, cpu: str, args: Sequence[str] = (), *, sysroot: Path | None = None) -> int:
    """Instructions that one run of `exe` executes; arguments and errors as in `run`."""
    return run(exe, cpu, args, sysroot=sysroot).total


def per_inference(
    exe: Path,
    cpu: str,
    args_few: Sequence[str],
    args_many: Sequence[str],
    n: int,
    *,
    sysroot: Path | None = None,
) -> float:
    """Instructions per inference: (count(args_many) - count(args_few)) / n.

    Args:
        args_few: arguments that make `exe` do N inferences.
        args_many: arguments that make it do N + n.
    """
    many = count(exe, cpu, args_many, sysroot=sysroot)
    return (many - count(exe, cpu, args_few, sysroot=sysroot)) / n


def profile(
    exe: Path, cpu: str, args_few: Sequence[str], args_many: Sequence[str], n: int
) -> dict[str, float]:
    """As `per_inference`, for every function that runs; what belongs to none is under ``other``.

    A call counts in the function called, not in its caller.
    """
    ranges = symbol_ranges(exe)
    few = run(exe, cpu, args_few, ranges=ranges)
    many = run(exe, cpu, args_many, ranges=ranges)
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
    exe, cpu = options.exe, options.cpu
    try:
        if options.per and options.functions:
            spent = profile(exe, cpu, [options.few], [options.many], options.per)
        elif options.per:
            few, many = [options.few], [options.many]
            spent = {"per inference": per_inference(exe, cpu, few, many, options.per)}
        else:
            ranges = symbol_ranges(exe) if options.functions else ()
            counts = run(exe, cpu, program_args, ranges=ranges)
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
