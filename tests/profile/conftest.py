"""Programs of a few instructions, and a PATH with chosen tools only."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from qgen.targets import DEFAULT
from qgen.toolchain.cc import compile_c

EMULATOR = ("qemu-aarch64", "-cpu", "cortex-a53")

# 1 + 2 * 1000 + 3 instructions, and nothing else: no C library, no start-up code.
BARE = """
__asm__(".global _start\\n.type _start, %function\\n_start: mov x1, #1000\\n"
        "0: subs x1, x1, #1\\n b.ne 0b\\n mov x0, #0\\n mov x8, #94\\n svc #0\\n"
        ".size _start, . - _start\\n");
"""

# `body` executes 1 + 2 * 50 + 1 instructions per call, `twice` calls it twice.
CALLS = """
#include <stdlib.h>
void body(void);
__asm__(".global body\\n.type body, %function\\nbody: mov w0, #50\\n0: subs w0, w0, #1\\n"
        " b.ne 0b\\n ret\\n.size body, . - body\\n");
__attribute__((noinline)) void twice(void) { body(); body(); __asm__ volatile(""); }
int main(int argc, char **argv) {
    if (argc < 2) abort();
    for (int i = atoi(argv[1]); i > 0; i--) twice();
    return argc - 2;
}
"""

Build = Callable[..., Path]


@pytest.fixture(autouse=True)
def no_overrides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QGEN_CC", raising=False)
    monkeypatch.delenv("QGEN_MCA", raising=False)


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """Compiles C for 64-bit Arm."""

    def make(source: str, name: str = "program", *flags: str) -> Path:
        (tmp_path / f"{name}.c").write_text(source)
        compile_c(DEFAULT.toolchain, [tmp_path / f"{name}.c"], tmp_path / name, extra=flags)
        return tmp_path / name

    return make


@pytest.fixture
def bare(build: Build) -> Path:
    return build(BARE, "bare", "-nostdlib")


@pytest.fixture
def calls(build: Build) -> Path:
    return build(CALLS, "calls")


@pytest.fixture
def only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Leaves the named tools on PATH and nothing else; returns the folder."""

    def leave(*names: str) -> Path:
        folder = tmp_path / "tools"
        folder.mkdir(exist_ok=True)
        for name in names:
            found = shutil.which(name)
            assert found, f"these tests need {name}"
            # A script: some tools look for their parts beside the name they are called by.
            (folder / name).write_text(f'#!/bin/sh\nexec "{found}" "$@"\n')
            (folder / name).chmod(0o755)
        monkeypatch.setenv("PATH", str(folder))
        return folder

    return leave
