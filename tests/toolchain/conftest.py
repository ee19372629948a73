"""Toolchains and a way to write C files; the compilers and the emulator must be there."""

from collections.abc import Callable
from pathlib import Path

import pytest

from qgen.toolchain.cc import Toolchain

HINT = "apt-get install gcc-aarch64-linux-gnu qemu-user"
NATIVE = Toolchain("portable", ("gcc", "cc", "clang"), install_hint="apt-get install gcc")
AARCH64 = Toolchain(
    "aarch64",
    ("aarch64-linux-gnu-gcc",),
    flags=("-march=armv8-a",),
    emulator=("qemu-aarch64", "-cpu", "cortex-a53"),
    install_hint=HINT,
)

WriteC = Callable[..., Path]


@pytest.fixture(autouse=True)
def no_override(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QGEN_CC", raising=False)


@pytest.fixture
def native() -> Toolchain:
    return NATIVE


@pytest.fixture
def aarch64() -> Toolchain:
    return AARCH64


@pytest.fixture(params=[NATIVE, AARCH64], ids=lambda tc: tc.name)
def each(request: pytest.FixtureRequest) -> Toolchain:
    tc = request.param
    assert isinstance(tc, Toolchain)
    return tc


@pytest.fixture
def write_c(tmp_path: Path) -> WriteC:
    def write(text: str, name: str = "unit.c") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write
