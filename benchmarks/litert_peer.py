"""LiteRT beside qgen: executed instructions per inference under the same emulator, one thread.

The first run fetches LiteRT's AArch64 wheel by its package name into ``build/litert`` and links
`litert_peer.c` with the library in it. The cross-compiler's C++ library is needed:
``apt-get install g++-aarch64-linux-gnu qemu-user``.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from qgen.errors import QgenError
from qgen.profile import count
from qgen.toolchain.elf import facts

VERSION = "1.4.0"
KERNELS = ("xnn", "ruy")
# The mean is over these, beside two more; LiteRT's own bookkeeping varies by about 0.1 %.
INFERENCES = 2
BUILD = Path(__file__).resolve().parent.parent / "build" / "litert"

_COMPILER = "aarch64-linux-gnu-gcc"
_INSTALL = "apt-get install gcc-aarch64-linux-gnu g++-aarch64-linux-gnu qemu-user"
_SOURCE = Path(__file__).with_name("litert_peer.c")
_LIBRARY = "LiteRtRuntimeCApi"
_WHEEL = Path("wheel") / VERSION
# Any Python will do: only the C library in the wheel is used.
_PIP = ("download", "--quiet", "--only-binary=:all:", "--no-deps", "--python-version", "3.11",
        "--platform", "manylinux_2_27_aarch64", "--platform", "manylinux_2_17_aarch64",
        "--platform", "manylinux2014_aarch64", f"ai-edge-litert=={VERSION}")  # fmt: skip


@dataclass(frozen=True)
class Peer:
    """The built program and where the emulator finds the libraries it needs."""

    exe: Path
    sysroot: Path


def set_up(folder: Path = BUILD) -> Peer:
    """Fetch LiteRT into `folder` unless it is there, and build the program.

    Raises QgenError where the wheel cannot be fetched, or a tool is missing.
    """
    sysroot = _sysroot()
    library = folder / _WHEEL / "ai_edge_litert" / f"lib{_LIBRARY}.so"
    if not library.is_file():
        _fetch(library, folder)
    exe = folder / "litert_peer"
    _call(
        [
            _COMPILER, "-O2", "-std=c99", str(_SOURCE), "-o", str(exe), f"-L{library.parent}",
            f"-l{_LIBRARY}", "-ldl", f"-Wl,-rpath,$ORIGIN/{library.parent.relative_to(folder)}",
            # libstdc++ is looked for when the program starts.
            "-Wl,--unresolved-symbols=ignore-in-shared-libs",
        ],
        "the LiteRT program does not build",
    )  # fmt: skip
    return Peer(exe, sysroot)


def _sysroot() -> Path:
    """Folder with ``lib/libstdc++.so.6`` of the cross-compiler, for the emulator's -L."""
    if shutil.which(_COMPILER) is None:
        raise QgenError(f"cross-compiler '{_COMPILER}' not found", hint=_INSTALL)
    found = _call([_COMPILER, "-print-file-name=libstdc++.so.6"], "the compiler fails").strip()
    if not Path(found).is_absolute():
        raise QgenError("no C++ library for AArch64, which LiteRT needs", hint=_INSTALL)
    return Path(found).parent.resolve().parent


def _fetch(library: Path, folder: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="qgen-litert-") as scratch:
        _call(
            [sys.executable, "-m", "pip", *_PIP, "--dest", scratch],
            f"cannot fetch ai-edge-litert {VERSION}",
        )
        wheel = next(Path(scratch).glob("*.whl"))
        member = f"ai_edge_litert/{library.name}"
        # Complete or absent: a library half-written would be taken for a good one the next time.
        with zipfile.ZipFile(wheel) as archive:
            made = Path(archive.extract(member, scratch))
        library.parent.mkdir(parents=True, exist_ok=True)
        partial = library.with_suffix(".part")
        shutil.move(made, partial)
        partial.replace(library)


def _call(command: Sequence[str], failure: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise QgenError(f"{failure}: {lines[-1] if lines else f'exit code {done.returncode}'}")
    return done.stdout


@dataclass(frozen=True)
class PeerFigures:
    """One model on one CPU: executed instructions per inference, by the kernels used.

    `heap_bytes` is what LiteRT holds on the heap after an inference: tensors, plan, packed weights.
    """

    instructions: Mapping[str, float]
    heap_bytes: Mapping[str, int]

    @property
    def better(self) -> float:
        """Instructions with the better kernels."""
        return min(self.instructions.values())


def measure(peer: Peer, model: Path, cpu: str) -> PeerFigures:
    """Run LiteRT with each kind of kernels, first inferences left out.

    Raises QgenError where LiteRT cannot run the model.
    """
    emulator = ("qemu-aarch64", "-cpu", cpu)
    instructions, heap = {}, {}
    for kernels in KERNELS:
        few, many = ([str(model), kernels, str(times)] for times in (2, 2 + INFERENCES))
        instructions[kernels] = count.per_inference(
            peer.exe, emulator, few, many, INFERENCES, sysroot=peer.sysroot
        )
        said = _call(
            [*emulator, "-L", str(peer.sysroot), str(peer.exe), str(model), kernels, "1", "heap"],
            f"LiteRT cannot run {model.name}",
        )
        heap[kernels] = int(said.split()[-1])
    return PeerFigures(instructions, heap)


def code_bytes(folder: Path = BUILD) -> int:
    """Code of the library that was measured, with the kernels of all ops."""
    return facts(folder / _WHEEL / "ai_edge_litert" / f"lib{_LIBRARY}.so").text
