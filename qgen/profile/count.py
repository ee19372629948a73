"""Counts executed instructions: exact, repeatable figures, unlike time under emulation.

A plugin of the emulator (`insn_count.c`, built here with the host's compiler) counts programs of
one thread. Start-up costs cancel when two runs are subtracted, or are left out by marks.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from qgen.errors import QgenError
from qgen.toolchain.emulator import raise_on_crash

_SOURCE = Path(__file__).with_name("insn_count.c")
_HOST_COMPILERS = ("gcc", "cc", "clang")

# [start, end) in guest addresses, and a name.
Range = tuple[int, int, str]


@dataclass(frozen=True)
class Block:
    """Code at [start, end) in guest addresses that ran `count` times from its first instruction.

    These are the emulator's translation blocks: they may overlap each other.
    """

    start: int
    end: int
    count: int


@dataclass(frozen=True)
class Counts:
    """Executed instructions of one run.

    Attributes:
        total: all of them.
        by_name: those in each named range.
        marks: the total at each time the mark was reached.
        blocks: what ran before the first mark, between each two, and after the last one.
    """

    total: int
    by_name: Mapping[str, int]
    marks: tuple[int, ...] = ()
    blocks: tuple[tuple[Block, ...], ...] = ()


def build_plugin(directory: Path) -> Path:
    """Compile the counting plugin with the host's compiler into `directory`.

    Raises:
        QgenError: no host compiler, or it fails.
    """
    compiler = next(filter(None, map(shutil.which, _HOST_COMPILERS)), None)
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
    emulator: Sequence[str],
    args: Sequence[str] = (),
    *,
    ranges: Sequence[Range] = (),
    mark: int | None = None,
    blocks: bool = False,
    stdin: Path | None = None,
    sysroot: Path | None = None,
    timeout: float = 600.0,
) -> Counts:
    """Run `exe` once under the emulator and count.

    Args:
        emulator: the command, e.g. ``("qemu-aarch64", "-cpu", "cortex-a53")``.
        ranges: disjoint address ranges; those of the same name are added up.
        mark: address of a function whose calls part the run; see `Counts.marks`.
        blocks: count how often every block of code runs; see `Counts.blocks`.
        stdin: file the program reads; nothing if None.
        sysroot: where the loader and shared libraries are; None for a static program.
        timeout: in seconds.

    Raises:
        QgenError: missing emulator, a program that crashes, fails or takes too long, bad ranges.
    """
    program = shutil.which(emulator[0])
    if program is None:
        raise QgenError(f"emulator '{emulator[0]}' not found", hint="apt-get install qemu-user")
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
        if blocks:
            options.append("blocks=1")
        # A comma separates options and is doubled inside one.
        libraries = ["-L", str(sysroot)] if sysroot else []
        plugin = ",".join(option.replace(",", ",,") for option in options)
        try:
            with stdin.open("rb") if stdin else Path(os.devnull).open("rb") as source:
                done = subprocess.run(
                    [program, *emulator[1:], *libraries, "-plugin", plugin, str(exe), *args],
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
            reason = _first_line(done.stderr) or "is it an executable for this emulator?"
            raise QgenError(f"{exe.name} failed with exit code {done.returncode}: {reason}")
        with out.open() as lines:
            return _parse(lines)


def _first_line(text: str) -> str:
    return next((line for line in text.splitlines() if line.strip()), "")


def _parse(lines: Iterable[str]) -> Counts:
    total = 0
    by_name: dict[str, int] = {}
    marks: list[int] = []
    intervals: list[tuple[Block, ...]] = []
    current: list[Block] = []
    for line in lines:
        first, _, rest = line.rstrip("\n").partition(" ")
        if first == "block":
            start, end, n = rest.split()
            current.append(Block(int(start, 16), int(end, 16), int(n)))
        elif first == "mark":
            marks.append(int(rest))
            intervals.append(tuple(current))
            current = []
        elif first == "total":
            total = int(rest)
        else:
            by_name[rest] = by_name.get(rest, 0) + int(first)
    return Counts(total, by_name, tuple(marks), (*intervals, tuple(current)))


def count(
    exe: Path, emulator: Sequence[str], args: Sequence[str] = (), *, sysroot: Path | None = None
) -> int:
    """Instructions that one run of `exe` executes; arguments and errors as in `run`."""
    return run(exe, emulator, args, sysroot=sysroot).total


def per_inference(
    exe: Path,
    emulator: Sequence[str],
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
    many = count(exe, emulator, args_many, sysroot=sysroot)
    return (many - count(exe, emulator, args_few, sysroot=sysroot)) / n


def address(exe: Path, function: str) -> int:
    """Address of a function of `exe`. Raises QgenError where there is none."""
    with exe.open("rb") as stream:
        for section in ELFFile(stream).iter_sections():
            if isinstance(section, SymbolTableSection):
                for symbol in section.get_symbol_by_name(function) or ():
                    # Bit 0 tells Thumb code on 32-bit Arm; it is not part of the address.
                    return int(symbol["st_value"]) & ~1
    raise QgenError(f"no function '{function}' in {exe.name}")
