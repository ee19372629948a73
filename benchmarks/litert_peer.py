"""LiteRT beside qgen: executed instructions per inference under the same emulator, one thread.

    python -m benchmarks.litert_peer
    python -m benchmarks.litert_peer kws_ref_model --cpu cortex-a53 cortex-a76 max --json

The first run fetches LiteRT's AArch64 wheel by its package name into ``build/litert`` and links
`litert_peer.c` with the library in it. The cross-compiler's C++ library is needed:
``apt-get install g++-aarch64-linux-gnu qemu-user``.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks import count, runner
from benchmarks.models import markdown, millions, render
from qgen.errors import QgenError
from qgen.report.units import console

VERSION = "1.4.0"
KERNELS = ("xnn", "ruy")
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


def instructions(peer: Peer, model: Path, kernels: str, cpu: str, macs: int) -> float:
    """Executed instructions per inference of LiteRT, first inferences left out.

    Args:
        kernels: ``xnn`` for the XNNPACK delegate, ``ruy`` for none.
        macs: of the model; decides over how many inferences the mean is taken.
    """
    n = 4 if macs > 50e6 else 20
    few, many = ([str(model), kernels, str(times)] for times in (2, 2 + n))
    return count.per_inference(peer.exe, cpu, few, many, n, sysroot=peer.sysroot)


@dataclass(frozen=True)
class Comparison:
    """One model on one CPU: executed instructions per inference."""

    name: str
    macs: int
    cpu: str
    target: str
    xnn: float
    ruy: float
    qgen: int

    @property
    def better(self) -> float:
        """Those of the better peer."""
        return min(self.xnn, self.ruy)

    @property
    def ratio(self) -> float:
        """qgen's over the better peer's: below 1 where qgen is ahead."""
        return self.qgen / self.better


def compare(
    peer: Peer,
    paths: Sequence[Path],
    cpus: Sequence[str],
    target: str = "",
    progress: Callable[[str], None] = lambda what: None,
) -> list[Comparison]:
    """All models on all CPUs; qgen's target is that of the CPU unless `target` names one.

    Raises QgenError where something does not build or run.
    """
    found = []
    for path in paths:
        for cpu in cpus:
            progress(f"{path.stem}, {cpu}")
            generated = runner.generate(path, target or runner.target_for(cpu))
            macs, name = generated.macs, generated.lowered.target.name
            with tempfile.TemporaryDirectory(prefix="qgen-bench-") as folder:
                ours = runner.instructions(runner.build(generated, Path(folder)), cpu)
            xnn, ruy = (instructions(peer, path, k, cpu, macs) for k in KERNELS)
            found.append(Comparison(path.stem, macs, cpu, name, xnn, ruy, ours))
    return found


HEADINGS = (
    "model", "MACs (M)", "cpu", "qgen target", "xnn (M)", "ruy (M)", "qgen (M)",
    "xnn/MAC", "ruy/MAC", "qgen/MAC", "qgen / better",
)  # fmt: skip


def rows(found: Sequence[Comparison]) -> tuple[list[str], list[list[str]]]:
    """Headings and cells, as `models.rows`."""
    return list(HEADINGS), [
        [
            c.name,
            millions(c.macs),
            c.cpu,
            c.target,
            *(millions(n) for n in (c.xnn, c.ruy, c.qgen)),
            *(f"{n / c.macs:.3f}" for n in (c.xnn, c.ruy, c.qgen)),
            f"{c.ratio:.2f}",
        ]
        for c in found
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; 0 when done, 2 when it could not be."""
    parser = argparse.ArgumentParser(description="LiteRT's instructions beside qgen's")
    parser.add_argument("models", nargs="*", metavar="MODEL", help="names in the folder, or paths")
    parser.add_argument("--models", dest="folder", type=Path, default=runner.FOLDER)
    parser.add_argument("--cpu", nargs="+", default=list(runner.CPUS), help="of the emulator")
    parser.add_argument("--target", default="", help="of qgen; default: what the CPU has")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--markdown", action="store_true")
    options = parser.parse_args(argv)
    status = (lambda what: print(what, file=sys.stderr)) if sys.stderr.isatty() else lambda _: None
    try:
        paths = runner.models(options.models, options.folder)
        peer = set_up()
        found = compare(peer, paths, options.cpu, options.target, status)
    except QgenError as e:
        print(e, file=sys.stderr)
        return 2
    if options.json:
        extra = [{"ratio": c.ratio} for c in found]
        print(json.dumps([asdict(c) | e for c, e in zip(found, extra, strict=True)], indent=2))
    elif options.markdown:
        print(markdown(*rows(found)), end="")
    else:
        title = f"executed instructions per inference, LiteRT {VERSION} and qgen, one thread"
        console().print(render(title, *rows(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
