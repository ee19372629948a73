"""Runs a C compiler and reads what it reports: errors, stack frames, the call graph.

The worst-case stack is computed, not guessed: gcc writes every function's frame and every call
(``-fcallgraph-info=su``), and the bound is the heaviest path from a root through that graph. Frames
are the compiler's own figures; stack that inline assembly takes by hand is not among them.
"""

from __future__ import annotations

import functools
import os
import re
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import networkx as nx

from qgen.errors import QgenError

DEFAULT_FLAGS = ("-O2", "-std=c99")

# The node that stands in gcc's graph for every function called through a pointer.
_INDIRECT_CALL = "__indirect_call"

_STRING = r'"((?:[^"\\]|\\.)*)"'
_NODE = re.compile(rf"^node: {{ title: {_STRING} label: {_STRING}", re.MULTILINE)
_EDGE = re.compile(rf"^edge: {{ sourcename: {_STRING} targetname: {_STRING}", re.MULTILINE)
_FRAME = re.compile(r"(\d+) bytes \(([a-z,]+)\)")
_LINK_ONLY = ("-l", "-L", "-Wl,", "-static", "-shared", "-nostdlib", "-nostartfiles", "-no-pie")


@dataclass(frozen=True)
class Toolchain:
    """How to build and run C for one target.

    Attributes:
        name: as it stands in messages.
        compilers: candidates, first found wins; each may carry arguments of its own, as in
            ``"clang --target=aarch64-linux-gnu"``.
        flags: for every compilation, e.g. ``-march=armv8-a``.
        emulator: command before the executable, e.g. ``("qemu-aarch64", "-cpu", "cortex-a53")``;
            empty runs natively.
        install_hint: what to type when one of them is missing.
        tune: one more flag, which a compiler that does not know it goes without.
        probe: a C file that only a compiler and assembler new enough take; empty asks for nothing.
        needs: what takes `probe`, e.g. ``"gcc >= 8 or clang >= 7"``.
    """

    name: str
    compilers: tuple[str, ...]
    flags: tuple[str, ...] = ()
    emulator: tuple[str, ...] = ()
    install_hint: str = ""
    tune: str = ""
    probe: str = ""
    needs: str = ""


@dataclass(frozen=True)
class CompileResult:
    """What one call of `compile_c` did.

    Attributes:
        compiler: path of the compiler that ran.
        seconds: wall-clock time of compiling and linking.
        stack_usage: frame in bytes per function, from the ``.su`` files.
        dynamic: functions whose frame has no bound (alloca, variable-length array).
        callgraph: the ``.ci`` files merged, or None where the compiler writes none. Nodes carry
            `stack` (bytes) and `dynamic`, except functions defined elsewhere.
        red_zone: bytes below the stack pointer that the ABI lets a function use (x86-64: 128);
            frames leave them out.
        stderr: warnings.
    """

    compiler: str
    seconds: float
    stack_usage: Mapping[str, int]
    dynamic: frozenset[str]
    callgraph: nx.DiGraph | None
    red_zone: int
    stderr: str


@dataclass(frozen=True)
class StackBound:
    """Worst-case stack below the caller of a function.

    Attributes:
        bytes: the bound.
        path: the chain of calls that reaches it; empty if there was no call graph.
        external: called functions whose frames are unknown and not counted.
        exact: True if `bytes` is the heaviest chain of calls and nothing on any chain is unknown.
            False without a call graph: then it is the root's frame and the largest other frame,
            which deeper chains exceed.
    """

    bytes: int
    path: tuple[str, ...]
    external: tuple[str, ...]
    exact: bool


def compiler_command(tc: Toolchain) -> list[str]:
    """Resolve the compiler of `tc`: its path, then the arguments that belong to it.

    The environment variable QGEN_CC replaces the candidates.

    Raises:
        QgenError: none of them is on PATH.
    """
    override = os.environ.get("QGEN_CC", "").strip()
    candidates = (override,) if override else tc.compilers
    for candidate in candidates:
        program, *arguments = shlex.split(candidate)
        path = shutil.which(program)
        if path:
            return [path, *arguments]
    if override:
        raise QgenError(f"QGEN_CC: compiler '{override}' not found", hint="correct it or unset it")
    names = " or ".join(f"'{c}'" for c in candidates)
    raise QgenError(f"no C compiler for {tc.name}: {names} not found", hint=tc.install_hint)


def find_compiler(tc: Toolchain) -> str:
    """Path of the compiler that `compile_c` would run for `tc`.

    Raises:
        QgenError: none is on PATH.
    """
    return compiler_command(tc)[0]


@functools.cache
def _writes_callgraph(command: tuple[str, ...]) -> bool:
    """True for gcc 10 and later; clang has no such option, whatever name it goes by."""
    version = _call([*command, "--version"]).stdout
    if "clang" in version:
        return False
    major = _call([*command, "-dumpversion"]).stdout.split(".")[0].strip()
    return major.isdigit() and int(major) >= 10


@functools.cache
def _red_zone(command: tuple[str, ...]) -> int:
    """Bytes below the stack pointer that a leaf function may use and no frame size includes."""
    return 128 if _call([*command, "-dumpmachine"]).stdout.startswith("x86_64") else 0


@functools.cache
def _complaint(command: tuple[str, ...], source: str) -> str | None:
    """What a compiler says against a C file; None where it takes it."""
    with tempfile.TemporaryDirectory(prefix="qgen-probe-") as scratch:
        path = Path(scratch) / "probe.c"
        path.write_text(source)
        done = _call([*command, "-c", str(path), "-o", str(path.with_suffix(".o"))])
    return _first_error(done) if done.returncode else None


def require(tc: Toolchain) -> None:
    """Raise QgenError where the compiler of `tc` is missing, or does not know the instructions."""
    command = compiler_command(tc)
    said = _complaint((*command, *tc.flags), tc.probe) if tc.probe else None
    if said is not None:
        version = _call([*command, "-dumpversion"]).stdout.strip().splitlines()
        name = " ".join([Path(command[0]).name, *version[:1]])
        raise QgenError(f"{name} cannot compile for {tc.name}: {said}", hint=f"needs {tc.needs}")


def _tuning(command: Sequence[str], tc: Toolchain) -> list[str]:
    known = tc.tune and _complaint((*command, *tc.flags, tc.tune), "int x;") is None
    return [tc.tune] if known else []


def _call(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    # LC_ALL=C keeps messages in English: the word 'error:' is searched for.
    try:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            env={**os.environ, "LC_ALL": "C"},
            check=False,
        )
    except OSError as e:
        raise QgenError(f"cannot run compiler {command[0]}: {e.strerror}") from e


def _step(command: Sequence[str]) -> str:
    """Run one compiler step and return its warnings; a failure becomes its first error line."""
    done = _call(command)
    if done.returncode == 0:
        return done.stderr
    raise QgenError(
        f"{Path(command[0]).name}: {_first_error(done)}",
        hint="generated C that does not compile is a bug of qgen, please report it",
    )


def _first_error(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    return next(
        (line for line in lines if re.search(r"[Ee]rror:|undefined reference", line)),
        lines[0] if lines else f"exit code {done.returncode}",
    )


def compile_c(
    tc: Toolchain,
    sources: Sequence[Path],
    out: Path,
    *,
    extra: Sequence[str] = (),
    link: bool = True,
) -> CompileResult:
    """Compile C files to an executable, or one C file to an object.

    Flags are ``-O2 -std=c99``, then those of `tc`, then `extra`, so later ones win. Executables for
    an emulator are static: they then need no libraries of the target beside the emulator. On
    failure `out` is not written.

    Args:
        sources: C files; when linking also objects and archives.
        out: executable or, with ``link=False``, relocatable object.
        extra: more flags; those for the linker (``-l``, ``-L``, ``-Wl,``, ``-static``)
            reach only it.

    Raises:
        QgenError: no compiler or one too old, C that does not compile or link, or an `out` that
            cannot be written.
        ValueError: ``link=False`` with other than one source.
    """
    if not link and len(sources) != 1:
        raise ValueError("an object is made from exactly one source")
    require(tc)
    command = compiler_command(tc)
    callgraph_known = _writes_callgraph(tuple(command))
    flags = [*DEFAULT_FLAGS, *tc.flags, *_tuning(command, tc)]
    reports = ["-fstack-usage", *(["-fcallgraph-info=su"] if callgraph_known else [])]
    compile_extra = [flag for flag in extra if not flag.startswith(_LINK_ONLY)]
    usage: dict[str, int] = {}
    dynamic: set[str] = set()
    graph = nx.DiGraph() if callgraph_known else None
    started = time.perf_counter()
    stderr = ""
    with tempfile.TemporaryDirectory(prefix="qgen-cc-") as scratch:
        inputs: list[str] = []
        for i, source in enumerate(sources):
            if link and source.suffix in (".o", ".a"):
                inputs.append(str(source))
                continue
            made = Path(scratch) / f"{i}.o"
            stderr += _step(
                [*command, *flags, *reports, *compile_extra, "-c", str(source), "-o", str(made)]
            )
            _read_stack_usage(made.with_suffix(".su"), usage, dynamic)
            if graph is not None:
                _read_callgraph(made.with_suffix(".ci"), graph)
            inputs.append(str(made))
        result = Path(scratch) / "linked" if link else Path(inputs[0])
        if link:
            static = ["-static"] if tc.emulator and "-shared" not in extra else []
            stderr += _step([*command, *flags, *inputs, *static, *extra, "-o", str(result)])
        try:
            shutil.move(result, out)
        except OSError as e:
            raise QgenError(f"cannot write {out}: {e.strerror}") from e
    return CompileResult(
        compiler=command[0],
        seconds=time.perf_counter() - started,
        stack_usage=usage,
        dynamic=frozenset(dynamic),
        callgraph=graph,
        red_zone=_red_zone(tuple(command)),
        stderr=stderr,
    )


def _read_stack_usage(path: Path, usage: dict[str, int], dynamic: set[str]) -> None:
    """Read lines ``file:line:column:function<tab>bytes<tab>kind``; clang leaves out the column."""
    if not path.exists():
        return  # gcc writes no file for a source without functions
    for line in path.read_text(errors="replace").splitlines():
        where, size, kind = line.split("\t")
        name = where.rpartition(":")[2]
        usage[name] = max(usage.get(name, 0), int(size))
        if kind == "dynamic":
            dynamic.add(name)


def _read_callgraph(path: Path, graph: nx.DiGraph) -> None:
    """Add a VCG file of gcc to `graph`.

    Titles are unique names: a bare symbol, or ``file:symbol`` for a static function. A node without
    a frame is a function that this file only calls.
    """
    text = path.read_text(errors="replace")
    for title, label in _NODE.findall(text):
        graph.add_node(title)
        frame = _FRAME.search(label)
        if frame:
            node = graph.nodes[title]
            node["stack"] = max(int(frame[1]), node.get("stack", 0))
            node["dynamic"] = frame[2] == "dynamic" or node.get("dynamic", False)
    for source, target in _EDGE.findall(text):
        graph.add_edge(source, target)


def _symbol(title: str) -> str:
    return title.rpartition(":")[2]


def stack_bound(result: CompileResult, root: str) -> StackBound:
    """Worst-case stack of `root` and all it calls, in bytes.

    A frame counts the saved registers and, where the machine pushes one, the return address. Tail
    calls count as calls, so the bound may be above what is used, never below. A red zone is added
    once, at the end of the chain.

    Raises:
        QgenError: `root` is not among the compiled functions; or something it reaches is recursive,
            takes stack of a size unknown at build time, or calls through a pointer.
    """
    if result.callgraph is None:
        return _stack_estimate(result, root)
    graph = result.callgraph
    roots = [n for n in graph if _symbol(n) == root and "stack" in graph.nodes[n]]
    if not roots:
        raise _no_such_function(root)
    top = roots[0]
    reached = graph.subgraph({top, *nx.descendants(graph, top)})
    cycle = next(iter(nx.simple_cycles(reached)), None)
    if cycle:
        # Began anywhere in the cycle: start at its first function in alphabet, to be repeatable.
        start = cycle.index(min(cycle))
        loop = [_symbol(n) for n in cycle[start:] + cycle[: start + 1]]
        raise QgenError(f"stack of '{root}' has no bound: recursion {' -> '.join(loop)}")
    external = []
    deepest: dict[str, int] = {}
    following: dict[str, str] = {}
    for node in reversed(list(nx.topological_sort(reached))):
        if _symbol(node) == _INDIRECT_CALL:
            callers = ", ".join(sorted(_symbol(n) for n in reached.predecessors(node)))
            raise QgenError(f"stack of '{root}' has no bound: call through a pointer in {callers}")
        facts = reached.nodes[node]
        if facts.get("dynamic"):
            raise _dynamic_frame(root, _symbol(node))
        if "stack" not in facts:
            external.append(_symbol(node))
        below = max(reached.successors(node), key=deepest.__getitem__, default=None)
        deepest[node] = facts.get("stack", 0) + (deepest[below] if below is not None else 0)
        if below is not None:
            following[node] = below
    path = [top]
    while path[-1] in following:
        path.append(following[path[-1]])
    return StackBound(
        bytes=deepest[top] + result.red_zone,
        path=tuple(_symbol(n) for n in path),
        external=tuple(sorted(external)),
        exact=not external,
    )


def _stack_estimate(result: CompileResult, root: str) -> StackBound:
    """Without a call graph: the root's frame and the largest of the others."""
    if root not in result.stack_usage:
        raise _no_such_function(root)
    if result.dynamic:
        raise _dynamic_frame(root, min(result.dynamic))
    others = [size for name, size in result.stack_usage.items() if name != root]
    size = result.stack_usage[root] + max(others, default=0) + result.red_zone
    return StackBound(size, (), (), exact=False)


def _no_such_function(root: str) -> QgenError:
    return QgenError(
        f"no function '{root}' in the compiled code",
        hint="a static function may have been inlined into its caller",
    )


def _dynamic_frame(root: str, function: str) -> QgenError:
    return QgenError(
        f"stack of '{root}' has no bound: {function} takes stack of a size unknown at build time"
    )
