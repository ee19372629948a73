"""What gcc's analyzer and clang-tidy find in the portable C: nothing."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from qgen.targets.portable import PORTABLE
from qgen.toolchain.cc import find_compiler
from tests.safety.programs import EVERY_OP, ONE_OF_EVERY_OP, SMALL, lowered, need, write

CHECKS = (
    "-*",
    "bugprone-*",
    "cert-*",
    "clang-analyzer-*",
    # Parameters of one type beside each other: what a kernel takes is not to be wrapped in structs.
    "-bugprone-easily-swappable-parameters",
    # Offsets are int32_t: they are bounded when the file is generated, and 32-bit cores are spared
    # 64-bit arithmetic.
    "-bugprone-implicit-widening-of-multiplication-result",
)
# int8_t holds numbers here, not characters.
OPTIONS = ", ".join(
    f"{{key: {check}.CharTypdefsToIgnore, value: int8_t}}"
    for check in ("bugprone-signed-char-misuse", "cert-str34-c")
)


def said(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("name", [*SMALL, EVERY_OP[0]])
def test_gcc_analyzer(name: str, tmp_path: Path) -> None:
    compiler = find_compiler(PORTABLE.toolchain)
    if "Free Software Foundation" not in said(compiler, "--version"):
        pytest.skip("the compiler is not gcc")
    source = write(lowered(name), tmp_path)
    flags = ("-std=c99", "-O2", "-Wall", "-Wextra", "-fanalyzer")
    assert said(compiler, *flags, "-c", source, "-o", tmp_path / "model.o") == ""


@pytest.mark.parametrize("name", ["digits", ONE_OF_EVERY_OP])
def test_clang_tidy(name: str, tmp_path: Path) -> None:
    need("clang-tidy")
    source = write(lowered(name), tmp_path)
    config = f"{{Checks: '{','.join(CHECKS)}', WarningsAsErrors: '*', CheckOptions: [{OPTIONS}]}}"
    said("clang-tidy", "--quiet", f"--config={config}", source, "--", "-std=c99")


def test_clang_tidy_finds_what_is_planted(tmp_path: Path) -> None:
    need("clang-tidy")
    source = tmp_path / "planted.c"
    source.write_text("int f(int a) { int b; if (a) { b = 1; } return b; }\n")
    with pytest.raises(AssertionError, match=r"clang-analyzer-core\.uninitialized"):
        said("clang-tidy", "--quiet", f"--config={{Checks: '{','.join(CHECKS)}',"
             " WarningsAsErrors: '*'}", source, "--", "-std=c99")  # fmt: skip
