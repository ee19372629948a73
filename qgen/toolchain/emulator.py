"""Runs a built executable, in an emulator where the host is another machine."""

from __future__ import annotations

import contextlib
import platform
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from qgen.errors import QgenError
from qgen.toolchain.cc import Toolchain

# Machine names under which a host needs no emulator. armv7 code is not among an AArch64 host's:
# many such cores cannot run it.
_NATIVE_HOSTS = {
    "qemu-aarch64": ("aarch64", "arm64"),
    "qemu-arm": ("armv7l", "armv8l"),
    "qemu-x86_64": ("x86_64", "AMD64"),
}

# Only these mean a crash in the 128+n that a shell or an emulator reports; 128+SIGHUP and the like
# may be a program's own exit code.
_CRASHES = (
    signal.SIGILL,
    signal.SIGTRAP,
    signal.SIGABRT,
    signal.SIGBUS,
    signal.SIGFPE,
    signal.SIGKILL,
    signal.SIGSEGV,
)

_HINTS = {
    signal.SIGILL: "the CPU lacks an instruction that the target promises",
    signal.SIGBUS: "a misaligned or unmapped access in generated code is a bug of qgen",
    signal.SIGSEGV: "a bad access in generated code is a bug of qgen, please report it",
    signal.SIGKILL: "killed from outside, perhaps for want of memory",
}


@dataclass(frozen=True)
class RunResult:
    """How a program ended; `stdout` is empty if it went to a file, `seconds` is wall-clock time."""

    returncode: int
    stdout: bytes
    stderr: str
    seconds: float


def run_command(tc: Toolchain, exe: Path, args: Sequence[str] = ()) -> list[str]:
    """The command that runs `exe`: with the emulator of `tc`, or without where the host can run it.

    Raises:
        QgenError: the emulator is not on PATH, or `exe` does not exist.
    """
    if not exe.is_file():
        raise QgenError(f"cannot run {exe}: no such file")
    # A bare name would be looked up on PATH.
    program = [str(exe.absolute()), *args]
    if not tc.emulator:
        return program
    name = Path(tc.emulator[0]).name
    if platform.machine() in _NATIVE_HOSTS.get(name, ()):
        return program
    path = shutil.which(tc.emulator[0])
    if path is None:
        raise QgenError(
            f"emulator '{tc.emulator[0]}' for {tc.name} not found", hint=tc.install_hint
        )
    return [path, *tc.emulator[1:], *program]


def run(
    tc: Toolchain,
    exe: Path,
    *,
    args: Sequence[str] = (),
    stdin: IO[bytes] | None = None,
    stdout: IO[bytes] | int = subprocess.PIPE,
    timeout: float,
) -> RunResult:
    """Run `exe` to its end.

    Args:
        stdin: an open file; None is an empty input.
        stdout: an open file, or PIPE to get the output in the result.
        timeout: seconds after which the program is ended.

    Returns:
        The result for any exit code; judging it is the caller's.

    Raises:
        QgenError: missing emulator or executable, a crash, or no end within `timeout`.
    """
    command = run_command(tc, exe, args)
    started = time.perf_counter()
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL if stdin is None else stdin,
            stdout=stdout,
            stderr=subprocess.PIPE,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as e:
        raise _too_slow(exe, timeout) from e
    except OSError as e:
        raise _cannot_run(exe, e) from e
    raise_on_crash(exe, done.returncode)
    return RunResult(
        returncode=done.returncode,
        stdout=done.stdout or b"",
        stderr=done.stderr.decode(errors="replace"),
        seconds=time.perf_counter() - started,
    )


def open_process(tc: Toolchain, exe: Path, args: Sequence[str] = ()) -> subprocess.Popen[bytes]:
    """Start `exe` with binary pipes for stdin, stdout and stderr; end it with `finish`.

    stderr is read by `finish` only: a program that writes more there than a pipe holds (64 KiB on
    Linux) would wait for ever.

    Raises:
        QgenError: missing emulator or executable, or one that the host cannot start.
    """
    try:
        return subprocess.Popen(
            run_command(tc, exe, args),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    except OSError as e:
        raise _cannot_run(exe, e) from e


def finish(process: subprocess.Popen[bytes], exe: Path, *, timeout: float) -> RunResult:
    """Close the input of `process`, wait for its end and return what it had still to say.

    Call it as well when a pipe breaks: the crash behind it is then named.

    Raises:
        QgenError: a crash, or no end within `timeout` seconds; the process is gone in both cases.
    """
    started = time.perf_counter()
    if process.stdin is not None:
        # A program that ended before it read everything: its exit code says why.
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        process.stdin = None
    try:
        stdout, stderr = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired as e:
        process.kill()
        process.communicate()
        raise _too_slow(exe, timeout) from e
    raise_on_crash(exe, process.returncode)
    return RunResult(
        process.returncode,
        stdout,
        stderr.decode(errors="replace"),
        time.perf_counter() - started,
    )


def raise_on_crash(exe: Path, returncode: int) -> None:
    """Turn the exit code of a crash into words; other exit codes pass.

    Raises:
        QgenError: `returncode` is −n, or 128 + n for a signal n that programs do not exit with.
    """
    number = -returncode if returncode < 0 else returncode - 128
    if number <= 0 or (returncode > 0 and number not in _CRASHES):
        return
    try:
        what = f"{(signal.strsignal(number) or '').lower()} ({signal.Signals(number).name})"
    except ValueError:
        what = f"signal {number}"
    hint = next((text for key, text in _HINTS.items() if key == number), "")
    raise QgenError(f"{exe.name} crashed: {what}", hint=hint)


def _too_slow(exe: Path, timeout: float) -> QgenError:
    return QgenError(f"{exe.name} did not end within {timeout:g} s", hint="raise the time limit")


def _cannot_run(exe: Path, error: OSError) -> QgenError:
    return QgenError(f"cannot run {exe}: {(error.strerror or str(error)).lower()}")
