"""Bytes of flash and RAM, and unresolved symbols, read from an ELF file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from qgen.errors import Loc, QgenError

# Allocated, but not part of what the program computes with: unwind tables and notes. Firmware
# builds without them, so they count neither as flash nor as constants.
_BOOKKEEPING = (".eh_frame", ".ARM.ex", ".note")


@dataclass(frozen=True)
class ElfFacts:
    """Sizes in bytes of a relocatable object.

    Attributes:
        text: executable sections.
        rodata: read-only sections (``.rodata*``).
        data: writable sections with contents, and ``.data.rel.ro``, which a loader must write.
        bss: zeroed sections and common symbols.
        undefined: symbols that another object must define, in alphabetical order.
        symbols: size of every function and object defined here.
    """

    text: int
    rodata: int
    data: int
    bss: int
    undefined: tuple[str, ...]
    symbols: Mapping[str, int]


def facts(obj: Path) -> ElfFacts:
    """Read the facts of an ELF file.

    Raises:
        QgenError: the file cannot be read, is not ELF, or is truncated or corrupt.
    """
    try:
        with obj.open("rb") as stream:
            return _facts(ELFFile(stream))
    except OSError as e:
        raise QgenError(f"cannot read: {e.strerror}", Loc(str(obj))) from e
    except Exception as e:
        # pyelftools lets many kinds of exception out when the bytes make no sense.
        raise QgenError(f"not a usable ELF file: {e}".rstrip(": "), Loc(str(obj))) from e


def _facts(elf: Any) -> ElfFacts:
    sizes = {"text": 0, "rodata": 0, "data": 0, "bss": 0}
    undefined: set[str] = set()
    symbols: dict[str, int] = {}
    if not elf.num_sections():
        raise ValueError("no sections")
    for section in elf.iter_sections():
        kind = _kind(section)
        if kind:
            if kind != "bss":
                section.data()  # fails if the file ends before the section does
            sizes[kind] += section["sh_size"]
        if not isinstance(section, SymbolTableSection):
            continue
        for symbol in section.iter_symbols():
            if symbol["st_shndx"] == "SHN_UNDEF":
                if symbol.name:
                    undefined.add(symbol.name)
            elif symbol["st_info"]["type"] in ("STT_FUNC", "STT_OBJECT"):
                if symbol["st_shndx"] == "SHN_COMMON":
                    sizes["bss"] += symbol["st_size"]
                symbols[symbol.name] = symbols.get(symbol.name, 0) + symbol["st_size"]
    return ElfFacts(**sizes, undefined=tuple(sorted(undefined)), symbols=symbols)


def _kind(section: Any) -> str:
    """Which total a section adds to; empty for those that are not loaded."""
    flags = section["sh_flags"]
    if not flags & SH_FLAGS.SHF_ALLOC or section.name.startswith(_BOOKKEEPING):
        return ""
    if section["sh_type"] == "SHT_NOBITS":
        return "bss"
    if flags & SH_FLAGS.SHF_EXECINSTR:
        return "text"
    if flags & SH_FLAGS.SHF_WRITE:
        return "data"
    return "rodata" if section["sh_type"] == "SHT_PROGBITS" else ""
