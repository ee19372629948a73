"""compile: a model file becomes a C file on disk, with the figures of its object code."""

from __future__ import annotations

import hashlib
import shlex
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qgen.emit import Provenance, emit
from qgen.errors import QgenError
from qgen.files import write_files
from qgen.frontend import load_model, syntax
from qgen.lower import Lowered, lower
from qgen.package import check, package, source_beside, systems
from qgen.targets import machine
from qgen.toolchain import elf
from qgen.toolchain.cc import compile_c, find_compiler, stack_bound

Progress = Callable[[str, int, int], None]
BUG = "this is a bug of qgen, please report it"


@dataclass(frozen=True)
class Sizes:
    """What the target's compiler makes of a generated file at -O2.

    Attributes:
        text_bytes: code.
        rodata_bytes: constants.
        stack_bytes: bound on the stack below the caller of ``<name>_run``.
        compiler: file name of the compiler.
        cc_seconds: time it took.
    """

    text_bytes: int
    rodata_bytes: int
    stack_bytes: int
    compiler: str
    cc_seconds: float


@dataclass(frozen=True)
class Budget:
    """Limits in bytes, None for no limit: RAM is arena and stack, flash is text and rodata."""

    ram: int | None = None
    flash: int | None = None

    def __bool__(self) -> bool:
        return self.ram is not None or self.flash is not None

    def check(self, lowered: Lowered, sizes: Sizes) -> None:
        """Raise QgenError, naming every broken limit."""
        arena_bytes = lowered.plan.arena_bytes
        ram = arena_bytes + sizes.stack_bytes
        flash = sizes.text_bytes + sizes.rodata_bytes
        broken = []
        if self.ram is not None and ram > self.ram:
            broken.append(
                f"{ram} bytes of RAM ({arena_bytes} arena + {sizes.stack_bytes} stack), "
                f"the budget is {self.ram}"
            )
        if self.flash is not None and flash > self.flash:
            broken.append(
                f"{flash} bytes of flash ({sizes.text_bytes} text + {sizes.rodata_bytes} rodata), "
                f"the budget is {self.flash}"
            )
        if broken:
            hint = unmet(lowered) if self.ram is not None and ram > self.ram else ""
            raise QgenError(f"{lowered.name} needs " + "; and ".join(broken), hint=hint)


def unmet(lowered: Lowered) -> str:
    """The smallest budget of RAM that stripes can meet and what is in the way of less.

    Empty where the budget was met or there was none.
    """
    found = lowered.stripes
    if found is None or found.obstacle is None:
        return ""
    stack = lowered.target.stack_bytes
    return (
        f"the smallest that stripes keep to is {found.arena_bytes + stack} ({found.arena_bytes} "
        f"arena + {stack} stack at most), the obstacle is {found.obstacle.NAME} "
        f"'{found.obstacle.name}'"
    )


NO_BUDGET = Budget()


@dataclass(frozen=True)
class Compiled:
    """What `compile_model` wrote.

    Attributes:
        name, target, cpu: of the model and the machine; no cpu is None.
        files: header first, then the C file of a split one.
        package: files that make it a library of build systems.
        sha256: of the model.
        source_bytes: size of `files`.
        arena_bytes: working memory the caller provides.
        chains: of ops that run in stripes, to fit a budget of RAM.
        macs, macs_again: multiply-accumulates of the model, and those that stripes repeat.
        sizes: None where they could not be measured; `note` then says why.
        seconds: from reading the model to the finished text.
    """

    name: str
    target: str
    cpu: str | None
    files: tuple[Path, ...]
    package: tuple[Path, ...]
    sha256: str
    source_bytes: int
    arena_bytes: int
    chains: int
    macs: int
    macs_again: int
    sizes: Sizes | None
    note: str
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; sizes that were not measured are None."""
        return {
            "name": self.name,
            "target": self.target,
            "cpu": self.cpu,
            "file": str(self.files[0]),
            "files": [str(f) for f in self.files],
            "package": [str(f) for f in self.package],
            "sha256": self.sha256,
            "source_bytes": self.source_bytes,
            "arena_bytes": self.arena_bytes,
            "chains": self.chains,
            "macs": self.macs,
            "macs_again": self.macs_again,
            **sizes_dict(self.sizes),
            "note": self.note,
            "seconds": round(self.seconds, 3),
        }


def sizes_dict(sizes: Sizes | None) -> dict[str, Any]:
    """Sizes as plain values; None for those that are not known."""
    if sizes is None:
        return dict.fromkeys(Sizes.__dataclass_fields__)
    return vars(sizes) | {"cc_seconds": round(sizes.cc_seconds, 3)}


def model_sha256(path: Path) -> str:
    """SHA-256 of a model's bytes: the file, and for the text language also the weights it names."""
    try:
        data = path.read_bytes()
        digest = hashlib.sha256(data)
        if path.suffix.lower() == ".qg":
            weights = syntax.read(data.decode(), str(path)).weights
            if weights:
                digest.update((path.parent / weights.file).read_bytes())
    except OSError as e:
        raise QgenError(f"cannot read {e.filename}: {(e.strerror or '').lower()}") from e
    return digest.hexdigest()


def provenance(path: Path, lowered: Lowered, named: bool, split: bool) -> Provenance:
    """What the header says of its origin: no folders, no options that leave it the same."""
    words = ["qgen", "compile", path.name, "--target", lowered.target.name]
    words += ["--cpu", lowered.cpu.name] if lowered.cpu else []
    words += ["--name", lowered.name] if named else []
    words += ["--split"] if split else []
    words += ["--max-ram", str(lowered.ram)] if lowered.parts else []
    return Provenance(shlex.join(words), path.name, model_sha256(path))


def compile_model(
    path: Path | str,
    target: str | None = None,
    *,
    cpu: str | None = None,
    out: Path | str | None = None,
    name: str | None = None,
    split: bool = False,
    emit_for: Sequence[str] = (),
    budget: Budget = NO_BUDGET,
    progress: Progress | None = None,
) -> Compiled:
    """Write the C file of a model.

    Args:
        path: a .tflite or .qg file.
        target: name of a target; by default that of `cpu`, or aarch64.
        cpu: name of a core to arrange the code for.
        out: the header; by default ``<name>.h`` in the current folder.
        name: prefix of all C names; by default the model's own.
        split: declarations in the header, the rest in a .c file beside it.
        emit_for: build systems (`package.SYSTEMS`) to make it a library of.
        budget: limits on RAM and flash; ops run in stripes to keep to that of RAM. Nothing is
            written where one is broken.
        progress: called with (what, done, total).

    Raises QgenError where the model is bad, a file cannot be written or a budget is broken. Without
    a compiler for the target the sizes stay unknown, unless a budget needs them.
    """
    path = Path(path)
    report = progress or (lambda what, done, total: None)
    started = time.perf_counter()
    report("generating", 0, 2)
    chosen, core = machine(target, cpu)
    wanted = systems(emit_for)
    graph = load_model(path)
    named = name is not None and name != graph.name
    lowered = lower(graph.replace(name=name) if named else graph, chosen, core, budget.ram)
    check(wanted, lowered)
    texts = emit(lowered, provenance(path, lowered, named, split), split=split)
    seconds = time.perf_counter() - started
    report("measuring", 1, 2)
    sizes, note = None, ""
    try:
        find_compiler(lowered.target.toolchain)
    except QgenError as e:
        if budget:
            raise
        note = f"sizes were not measured: {e}"
    else:
        sizes = measure(lowered, texts)
        budget.check(lowered, sizes)
    header = Path(out) if out is not None else Path(f"{lowered.name}.h")
    sources = _places(texts, header, lowered.name)
    beside = package(wanted, lowered, header, split=split)
    contents = {p: t.encode("ascii", "backslashreplace") for p, t in (sources | beside).items()}
    write_files(contents, folders={p.parent for p in beside} - {header.parent})
    return Compiled(
        name=lowered.name,
        target=chosen.name,
        cpu=core.name if core else None,
        files=tuple(sources),
        package=tuple(beside),
        sha256=model_sha256(path),
        source_bytes=sum(len(contents[p]) for p in sources),
        arena_bytes=lowered.plan.arena_bytes,
        chains=len(lowered.chains),
        macs=sum(op.cost().macs for op in lowered.model.ops),
        macs_again=lowered.macs_again,
        sizes=sizes,
        note=note,
        seconds=seconds,
    )


def _places(texts: Mapping[str, str], header: Path, name: str) -> dict[Path, str]:
    """Where each generated text goes; the C file includes the header under its real name."""
    found = {header: texts[f"{name}.h"]}
    source = texts.get(f"{name}.c")
    if source is not None:
        found[source_beside(header)] = source.replace(f'"{name}.h"', f'"{header.name}"', 1)
    return found


def measure(lowered: Lowered, texts: Mapping[str, str]) -> Sizes:
    """Compile generated files to an object as their user would, and read its figures.

    Hosted, without -ffreestanding: a compiler may then call memcpy where it likes, so that the
    check for undefined symbols is the stricter one.

    Raises QgenError where the compiler is missing, or the object needs a symbol, holds writable
    data, or has no bound on its stack.
    """
    name, tool = lowered.name, lowered.target.toolchain
    with tempfile.TemporaryDirectory(prefix="qgen-compile-") as scratch:
        folder = Path(scratch)
        for file, text in texts.items():
            (folder / file).write_text(text, encoding="ascii", errors="backslashreplace")
        source = folder / f"{name}.c"
        if f"{name}.c" not in texts:
            source.write_text(f'#define {name.upper()}_IMPLEMENTATION\n#include "{name}.h"\n')
        made = compile_c(tool, [source], folder / f"{name}.o", link=False)
        found = elf.facts(folder / f"{name}.o")
    if found.undefined:
        raise QgenError(f"{name}: generated code needs {', '.join(found.undefined)}", hint=BUG)
    if found.data or found.bss:
        raise QgenError(
            f"{name}: generated code holds {found.data + found.bss} bytes of writable data",
            hint=BUG,
        )
    stack = stack_bound(made, f"{name}_run")
    promised = lowered.target.stack_bytes
    if stack.bytes > promised:
        raise QgenError(f"{name}: takes {stack.bytes} bytes of stack, not {promised}", hint=BUG)
    return Sizes(found.text, found.rodata, stack.bytes, Path(made.compiler).name, made.seconds)
