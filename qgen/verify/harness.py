"""Builds a generated file with a C main around it and runs it, results streamed through pipes.

No more than one tensor is held at a time: a big model has megabytes of intermediate results per
run. The protocol is described in ``templates/verify/main.c.j2``.
"""

from __future__ import annotations

import os
import select
import struct
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from qgen.emit import Port, Provenance, emit
from qgen.errors import QgenError
from qgen.ir.types import Array, Tensor
from qgen.lower import Lowered, Step
from qgen.render import environment
from qgen.toolchain.cc import CompileResult, compile_c
from qgen.toolchain.emulator import RunResult, finish, open_process

# What the generated file promises to compile under.
WARNINGS = (
    "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-Wcast-qual", "-Wstrict-prototypes",
)  # fmt: skip
SANITIZE = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g")

# Exit codes of the C main. None is a signal number + 128, which would read as a crash.
ARENA, RESULT, STATUS, HOST = 64, 65, 66, 67
FAULTS = {
    ARENA: "wrote outside the arena",
    RESULT: "wrote outside its result",
    STATUS: "the run function returned an error",
    HOST: "the test program ran out of memory or input",
}
GUARDED = ": it reached past the end of a buffer, or wrote to an operand"

UNKNOWN_ORIGIN = Provenance("qgen verify", "model", "0" * 64)


class FaultError(Exception):
    """The generated code crashed, wrote where it must not, or did not end."""


@dataclass(frozen=True)
class Driver:
    """A built test program.

    Attributes:
        lowered: the model in it.
        exe: the program.
        build: what the compiler said.
    """

    lowered: Lowered
    exe: Path
    build: CompileResult


def callable_alone(lowered: Lowered, step: Step) -> bool:
    """True if the C function of `step` computes the whole result from its operands.

    Not so where the memory plan has put all or some of the result in place beforehand.
    """
    copies = lowered.plan.copies.get(step.op)
    return copies is None or len(copies) == len(list(step.op.operands()))


def build(
    lowered: Lowered, folder: Path, *, text: str | None = None, sanitize: bool = False
) -> Driver:
    """Compile the test program of a model in `folder`.

    Args:
        text: contents of the generated header; by default what `emit` prints.
        sanitize: with address and undefined-behaviour sanitizers, where the target is the host.

    Raises QgenError without compiler, or where the generated C does not compile.
    """
    name = lowered.name
    if text is None:
        text = emit(lowered, UNKNOWN_ORIGIN)[f"{name}.h"]
    (folder / f"{name}.h").write_text(text, encoding="ascii", errors="backslashreplace")
    source = folder / "verify_main.c"
    source.write_text(_main(lowered), encoding="ascii")
    exe = folder / name
    tool = lowered.target.toolchain
    extra = (*WARNINGS, *(SANITIZE if sanitize else ()))
    return Driver(lowered, exe, compile_c(tool, [source], exe, extra=extra))


def _main(lowered: Lowered) -> str:
    graph = lowered.graph
    steps = [
        {
            "index": s.index,
            "function": s.function,
            "operands": [t for _, t in s.parameters],
            "out": s.op.out,
            "scratch": s.prepared.scratch,
        }
        for s in lowered.steps
        if callable_alone(lowered, s) and s.parameters
    ]
    return environment().get_template("verify/main.c.j2").render(
        p=lowered.name,
        P=lowered.name.upper(),
        inputs=[Port(t) for t in graph.inputs],
        outputs=[Port(t) for t in graph.outputs],
        arena_align=lowered.plan.alignment,
        steps=steps,
        fault={"arena": ARENA, "result": RESULT, "status": STATUS, "host": HOST},
    )  # fmt: skip


class Session:
    """One running test program: jobs go in with `model` and `op`, results come with `receive`.

    `close` after the last job; leaving the context before that kills the program.

    `timeout` is how many seconds one result may take. Every method raises FaultError when the
    program has ended or takes too long.
    """

    def __init__(self, driver: Driver, *, timeout: float = 300.0) -> None:
        self.driver = driver
        self.timeout = timeout
        self.process: subprocess.Popen[bytes] = open_process(
            driver.lowered.target.toolchain, driver.exe
        )
        assert self.process.stdout is not None
        self._fd = self.process.stdout.fileno()
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN | select.POLLHUP)

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None and not pipe.closed:
                with _broken_pipe_is_fine():
                    pipe.close()
        self.process.wait()

    def model(self, inputs: Sequence[Array]) -> None:
        """Start a run of the whole model. Then receive every op's result and the outputs."""
        self._send(0, 0, inputs)

    def op(self, step: Step, operands: Sequence[Array]) -> None:
        """Start one op on `operands`, ordered as `step.parameters`. Then receive its result."""
        self._send(1, step.index, operands)

    def _send(self, kind: int, index: int, arrays: Sequence[Array]) -> None:
        pipe = self.process.stdin
        assert pipe is not None
        try:
            pipe.write(struct.pack("=II", kind, index))
            for a in arrays:
                pipe.write(np.ascontiguousarray(a).data)
            pipe.flush()
        except BrokenPipeError:
            raise self._ended() from None

    def receive(self, tensor: Tensor) -> Array:
        """The next result, of the type and shape of `tensor`."""
        value = np.empty(tensor.shape, tensor.dtype.numpy)
        left = value.reshape(-1).view(np.uint8).data
        while left:
            if not self._poll.poll(self.timeout * 1000):
                raise FaultError(f"no result within {self.timeout:g} s")
            count = os.readv(self._fd, [left])
            if not count:
                raise self._ended()
            left = left[count:]
        return value

    def close(self) -> None:
        """End the program after the last job."""
        result = self._finish()
        if result.returncode:
            raise FaultError(_reason(result.returncode, result.stderr))

    def _ended(self) -> FaultError:
        """Why there is no more to read."""
        result = self._finish()
        return FaultError(_reason(result.returncode, result.stderr))

    def _finish(self) -> RunResult:
        try:
            return finish(self.process, self.driver.exe, timeout=self.timeout)
        except QgenError as e:
            raise FaultError(e.message + GUARDED if "SIGSEGV" in e.message else str(e)) from e


def _reason(returncode: int, stderr: str) -> str:
    if returncode in FAULTS:
        return FAULTS[returncode]
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    said = next((line for line in lines if "error" in line.lower()), lines[0] if lines else "")
    return f"the test program ended with code {returncode}" + (f": {said}" if said else "")


@contextmanager
def _broken_pipe_is_fine() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        return
