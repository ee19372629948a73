"""package: the few files that make a generated header a library of a build system.

They lie beside the header; what a system looks for in a folder of its own goes there. Systems are
data: a row here and a template per file.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qgen import __version__
from qgen.errors import QgenError
from qgen.lower import Lowered
from qgen.render import render

# Every file that is written here says so: a file without it is the user's own.
MARK = "enerated by qgen"
# These say how a program is called, not what its processor can do: the program decides.
ABI_FLAGS = ("-mfloat-abi=",)


@dataclass(frozen=True)
class System:
    """A build system.

    Attributes:
        name: as ``--emit`` takes it.
        files: names below the header's folder; each has a template of that name.
        cores: what it builds for, empty for everything: no file for another machine is of use.
    """

    name: str
    files: tuple[str, ...]
    cores: str = ""


SYSTEMS = {
    s.name: s
    for s in (
        System("cmake", ("CMakeLists.txt",)),
        System("zephyr", ("zephyr/module.yml", "zephyr/CMakeLists.txt", "zephyr/Kconfig")),
        System("esp-idf", ("CMakeLists.txt", "idf_component.yml"), cores="Xtensa and RISC-V"),
        System("platformio", ("library.json",)),
        System("bazel", ("BUILD.bazel",)),
    )
}


def systems(names: Iterable[str]) -> tuple[System, ...]:
    """The systems called `names`, each once. Raises QgenError with the nearest known name."""
    for name in names:
        if name not in SYSTEMS:
            close = difflib.get_close_matches(name, SYSTEMS, n=1)
            hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(SYSTEMS)}"
            raise QgenError(f"unknown build system '{name}'", hint=hint)
    return tuple(SYSTEMS[name] for name in dict.fromkeys(names))


def check(wanted: Sequence[System], lowered: Lowered) -> None:
    """Raise QgenError where a system builds for no machine that could run the file."""
    for system in wanted:
        if system.cores and lowered.target.guard:
            raise QgenError(
                f"{system.name} builds for {system.cores}, not for {lowered.target.name}",
                hint="use --target portable",
            )


def source_beside(header: Path) -> Path:
    """The C file of a header. Raises QgenError where that is no file, or the header itself."""
    if header.is_dir():
        raise QgenError(
            f"cannot write {header}: it is a directory, not a header", hint="give a file name"
        )
    if header.suffix == ".c":
        raise QgenError(f"{header} is to be the header", hint="-o takes the name of the .h file")
    return header.with_suffix(".c")


def package(
    wanted: Sequence[System], lowered: Lowered, header: Path, *, split: bool
) -> dict[Path, str]:
    """The files of all systems, by path; of a single header also the C file that compiles it.

    Raises QgenError where a file of that name exists that qgen did not write.
    """
    if not wanted:
        return {}
    name = lowered.name
    source = source_beside(header)
    flags = [f for f in lowered.target.toolchain.flags if not f.startswith(ABI_FLAGS)]
    values = {
        "p": name,
        "P": name.upper(),
        "version": __version__,
        "target": lowered.target,
        "flags": flags,
        "header": header.name,
        "source": source.name,
        "systems": [s.name for s in wanted],
    }
    found: dict[Path, str] = {}
    if not split:
        found[source] = _render("library.c", values)
    for file in dict.fromkeys(file for system in wanted for file in system.files):
        found[header.parent / file] = _render(file, values)
    for path in found:
        _check_ours(path)
    return found


def _render(file: str, values: dict[str, Any]) -> str:
    return render(f"package/{file}.j2", values)


def _check_ours(path: Path) -> None:
    if path.is_file() and not _is_ours(path):
        raise QgenError(
            f"{path} was not written by qgen, it is not overwritten",
            hint="give the header a folder of its own with -o",
        )


def _is_ours(path: Path) -> bool:
    try:
        return MARK in path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
