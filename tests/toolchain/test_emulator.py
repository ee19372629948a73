"""Running executables, natively and emulated: output, streaming and every way to go wrong."""

import platform
import shutil
from dataclasses import replace

import pytest

from qgen.errors import QgenError
from qgen.toolchain import emulator
from qgen.toolchain.cc import compile_c

# What it does is its first argument.
PROGRAM = r"""
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "echo";
    volatile int *nowhere = 0;
    int c;
    if (!strcmp(what, "echo"))
        while ((c = getchar()) != EOF) { putchar(c ^ 255); if (c == '\n') fflush(stdout); }
    else if (!strcmp(what, "segv")) *nowhere = 1;
    else if (!strcmp(what, "abort")) abort();
    else if (!strcmp(what, "hang")) for (;;) { volatile int spin = 0; (void)spin; }
    else if (!strcmp(what, "exit")) { fputs("why\n", stderr); return atoi(argv[2]); }
    return 0;
}
"""


@pytest.fixture
def exe(each, write_c, tmp_path):
    compile_c(each, [write_c(PROGRAM)], tmp_path / "program")
    return tmp_path / "program"


def test_streams_files_and_exit_codes(each, exe, tmp_path):
    data = bytes(range(256)) * 500
    expected = bytes(255 - b for b in range(256)) * 500
    (tmp_path / "in").write_bytes(data)
    with (tmp_path / "in").open("rb") as source, (tmp_path / "out").open("wb") as sink:
        result = emulator.run(each, exe, stdin=source, stdout=sink, timeout=30)
    assert (tmp_path / "out").read_bytes() == expected
    assert (result.returncode, result.stdout, result.stderr) == (0, b"", "")
    with (tmp_path / "in").open("rb") as source:
        assert emulator.run(each, exe, stdin=source, timeout=30).stdout == expected
    assert emulator.run(each, exe, timeout=30).stdout == b""
    failed = emulator.run(each, exe, args=["exit", "3"], timeout=30)
    assert (failed.returncode, failed.stderr) == (3, "why\n")


def test_conversation_over_pipes(each, exe):
    with emulator.open_process(each, exe) as process:
        for line in (b"one\n", b"two\n"):
            process.stdin.write(line)
            process.stdin.flush()
            assert process.stdout.read(4) == bytes(255 - b for b in line)
        process.stdin.write(b"x")
        rest = emulator.finish(process, exe, timeout=30)
    assert (rest.stdout, rest.returncode) == (bytes([255 - ord("x")]), 0)


def test_relative_path_is_not_looked_up(each, exe, monkeypatch):
    monkeypatch.chdir(exe.parent)
    assert emulator.run(each, exe.relative_to(exe.parent), timeout=30).returncode == 0


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("segv", r"program crashed: segmentation fault \(SIGSEGV\) \(a bad access"),
        ("abort", r"program crashed: aborted \(SIGABRT\)$"),
    ],
)
def test_crash_is_named(each, exe, how, message):
    with pytest.raises(QgenError, match=message):
        emulator.run(each, exe, args=[how], timeout=30)


def test_instruction_that_the_cpu_lacks(aarch64, write_c, tmp_path):
    """SDOT runs on a CPU with dot products and is an illegal instruction on one without."""
    text = """
#include <arm_neon.h>
int main(void) {
    return vgetq_lane_s32(vdotq_s32(vdupq_n_s32(1), vdupq_n_s8(2), vdupq_n_s8(3)), 0);
}
"""
    tc = replace(aarch64, flags=("-march=armv8.2-a+dotprod",))
    compile_c(tc, [write_c(text)], tmp_path / "dot", extra=["-O0"])
    with pytest.raises(QgenError, match=r"dot crashed: illegal instruction \(SIGILL\) \(the CPU"):
        emulator.run(tc, tmp_path / "dot", timeout=30)
    tc = replace(tc, emulator=("qemu-aarch64", "-cpu", "max"))
    assert emulator.run(tc, tmp_path / "dot", timeout=30).returncode == 25


def test_shell_style_exit_codes(each, exe):
    with pytest.raises(QgenError, match=r"illegal instruction \(SIGILL\)"):
        emulator.run(each, exe, args=["exit", "132"], timeout=30)
    assert emulator.run(each, exe, args=["exit", "129"], timeout=30).returncode == 129


def test_signal_without_a_name(exe):
    with pytest.raises(QgenError, match="program crashed: signal 200"):
        emulator.raise_on_crash(exe, -200)


def test_timeout_ends_the_program(each, exe):
    with pytest.raises(QgenError, match=r"program did not end within 0\.5 s \(raise the time"):
        emulator.run(each, exe, args=["hang"], timeout=0.5)


def test_finish_names_timeout_and_crash(each, exe):
    with emulator.open_process(each, exe, ["hang"]) as process:
        with pytest.raises(QgenError, match=r"program did not end within 0\.5 s"):
            emulator.finish(process, exe, timeout=0.5)
        assert process.returncode is not None
    with emulator.open_process(each, exe, ["segv"]) as process:
        process.stdin.write(b"never read")
        with pytest.raises(QgenError, match="program crashed: segmentation fault"):
            emulator.finish(process, exe, timeout=30)


def test_missing_emulator(aarch64, write_c, tmp_path):
    (tmp_path / "exe").write_bytes(b"")
    tc = replace(aarch64, emulator=("qemu-no-such",))
    message = r"^emulator 'qemu-no-such' for aarch64 not found \(apt-get install .*qemu-user\)$"
    with pytest.raises(QgenError, match=message):
        emulator.run(tc, tmp_path / "exe", timeout=1)
    with pytest.raises(QgenError, match=message):
        emulator.open_process(tc, tmp_path / "exe")


def test_missing_executable(each, tmp_path):
    with pytest.raises(QgenError, match=r"cannot run .*gone: no such file"):
        emulator.run(each, tmp_path / "gone", timeout=1)


def test_file_that_cannot_run(native, tmp_path):
    path = tmp_path / "broken"
    path.write_bytes(b"\x7fELF")
    path.chmod(0o755)
    with pytest.raises(QgenError, match=r"cannot run .*broken: exec format error"):
        emulator.run(native, path, timeout=1)
    with pytest.raises(QgenError, match=r"cannot run .*broken: exec format error"):
        emulator.open_process(native, path)


def test_host_of_the_target_architecture_needs_no_emulator(aarch64, tmp_path, monkeypatch):
    exe = tmp_path / "exe"
    exe.write_bytes(b"")
    for machine, emulated in (("aarch64", False), ("arm64", False), ("x86_64", True)):
        monkeypatch.setattr(platform, "machine", lambda machine=machine: machine)
        command = emulator.run_command(aarch64, exe, ["5"])
        qemu = [shutil.which("qemu-aarch64"), "-cpu", "cortex-a53"] if emulated else []
        assert command == [*qemu, str(exe), "5"]
