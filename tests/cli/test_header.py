"""The generated file as its users compile it: languages, compilers, several models together."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from qgen import compile_model
from qgen.frontend.printer import save
from qgen.verify.harness import WARNINGS
from tests.models import forked, tiny

ALL_COMPILERS = (
    "gcc", "clang", "aarch64-linux-gnu-gcc", "clang --target=aarch64-linux-gnu",
    "arm-linux-gnueabihf-gcc -mfpu=neon", "arm-linux-gnueabihf-gcc -mfpu=neon -marm",
    "clang --target=arm-linux-gnueabihf -mfpu=neon",
)  # fmt: skip
COMPILERS = [c for c in ALL_COMPILERS if shutil.which(c.split()[0])]
CXX_WARNINGS = [w for w in WARNINGS if w != "-Wstrict-prototypes"]
DIALECTS = {
    "c99": ["-xc", "-std=c99", *WARNINGS],
    "c99 freestanding": ["-xc", "-std=c99", "-ffreestanding", *WARNINGS],
    "c11": ["-xc", "-std=c11", "-Wshadow", "-Wundef", *WARNINGS],
    "c++17": ["-xc++", "-std=c++17", *CXX_WARNINGS],
}

pytestmark = pytest.mark.skipif(not COMPILERS, reason="needs a C compiler")


def made(folder: Path, target: str, *, split: bool = False) -> None:
    for graph in (tiny(), forked()):
        save(graph, folder / f"{graph.name}.qg")
        compile_model(
            folder / f"{graph.name}.qg", target, out=folder / f"{graph.name}.h", split=split
        )


def build(compiler: str, *words: str, folder: Path) -> None:
    done = subprocess.run([*compiler.split(), *words], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("model", ["tiny", "forked"])
def test_compiles_without_warnings(tmp_path: Path, compiler: str, dialect: str, model: str) -> None:
    if dialect == "c++17" and not _has_cxx(compiler):
        pytest.skip(f"{compiler} is installed without C++")
    targets = {"aarch64": "aarch64", "arm-linux": "armv7a"}
    made(tmp_path, next((t for word, t in targets.items() if word in compiler), "portable"))
    source = tmp_path / "use.c"
    source.write_text(f'#define {model.upper()}_IMPLEMENTATION\n#include "{model}.h"\n')
    selftest = f"-D{model.upper()}_SELFTEST"
    for flags in (["-O0"], ["-O2"], ["-Os"], ["-O2", selftest]):
        words = (*DIALECTS[dialect], *flags, "-c", "use.c", "-o", "use.o")
        build(compiler, *words, folder=tmp_path)


def _has_cxx(compiler: str) -> bool:
    command = [*compiler.split(), "-xc++", "-fsyntax-only", "/dev/null"]
    return subprocess.run(command, capture_output=True).returncode == 0


MAIN = """
#include "tiny.h"
#include "forked.h"
#include <stdio.h>
#include <string.h>
static TINY_ALIGNED unsigned char arena[TINY_ARENA_BYTES];
static FORKED_ALIGNED unsigned char other[FORKED_ARENA_BYTES + FORKED_ARENA_ALIGN];
static uint8_t image[TINY_INPUT_BYTES], flat[TINY_OUTPUT_BYTES];
static uint8_t a[FORKED_INPUT_LEFT_BYTES], b[FORKED_INPUT_RIGHT_BYTES];
static uint8_t total[FORKED_OUTPUT_TOTAL_BYTES], top[FORKED_OUTPUT_TOP_BYTES];
static uint8_t left[FORKED_OUTPUT_LEFT_BYTES];
int main(void)
{
    const forked_input in = {a, b};
    const forked_output out = {total, top, left};
    const forked_input halves[2] = {{NULL, b}, {a, NULL}};
    const forked_output holes[3] = {{NULL, top, left}, {total, NULL, left}, {total, top, NULL}};
    int i;
    memset(a, 9, sizeof a);
    if (tiny_run(image, flat, arena) != TINY_SUCCESS ||
        forked_run(&in, &out, other) != FORKED_SUCCESS)
        return 1;
    if (tiny_run(NULL, flat, arena) != TINY_ERROR_NULL ||
        tiny_run(image, NULL, arena) != TINY_ERROR_NULL ||
        tiny_run(image, flat, NULL) != TINY_ERROR_NULL)
        return 2;
    for (i = 1; i < TINY_ARENA_ALIGN; ++i)
        if (tiny_run(image, flat, arena + i) != TINY_ERROR_ALIGNMENT ||
            forked_run(&in, &out, other + i) != FORKED_ERROR_ALIGNMENT)
            return 3;
    for (i = 0; i < 2; ++i)
        if (forked_run(&halves[i], &out, other) != FORKED_ERROR_NULL)
            return 4;
    for (i = 0; i < 3; ++i)
        if (forked_run(&in, &holes[i], other) != FORKED_ERROR_NULL)
            return 4;
    if (forked_run(NULL, &out, other) != FORKED_ERROR_NULL ||
        forked_run(&in, NULL, other) != FORKED_ERROR_NULL ||
        forked_run(&in, &out, NULL) != FORKED_ERROR_NULL)
        return 4;
    if (memcmp(left, a, sizeof a) != 0 || sizeof arena % TINY_ARENA_ALIGN != 0)
        return 5;
    puts(tiny_strerror(TINY_ERROR_ALIGNMENT));
    puts(forked_strerror(-99));
    return 0;
}
"""


@pytest.mark.parametrize("split", [False, True])
def test_two_models_in_one_program(tmp_path: Path, split: bool) -> None:
    native = next((c for c in ("gcc", "clang") if c in COMPILERS), None)
    if native is None:
        pytest.skip("needs a native C compiler")
    made(tmp_path, "portable", split=split)
    heads = "" if split else "#define TINY_IMPLEMENTATION\n#define FORKED_IMPLEMENTATION\n"
    (tmp_path / "main.c").write_text(heads + MAIN)
    sources = ["main.c", *(["tiny.c", "forked.c"] if split else [])]
    build(native, "-std=c99", *WARNINGS, *sources, "-o", "both", folder=tmp_path)
    done = subprocess.run([tmp_path / "both"], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout == "arena must be aligned to 16 bytes\nunknown error\n"


def test_wrong_machine_is_refused(tmp_path: Path) -> None:
    if "gcc" not in COMPILERS:
        pytest.skip("needs gcc")
    made(tmp_path, "aarch64")
    (tmp_path / "use.c").write_text('#define TINY_IMPLEMENTATION\n#include "tiny.h"\n')
    done = subprocess.run(
        ["gcc", "-fsyntax-only", "use.c"], cwd=tmp_path, capture_output=True, text=True
    )
    native = subprocess.run(["gcc", "-dumpmachine"], capture_output=True, text=True).stdout
    if native.startswith("aarch64"):
        assert done.returncode == 0
    else:
        assert "tiny was generated for aarch64" in done.stderr


DOC = Path(__file__).parents[2] / "docs" / "c-api.md"


def test_docs_name_what_exists(tmp_path: Path) -> None:
    """Every macro and function of docs/c-api.md is in the header."""
    made(tmp_path, "portable")
    text, several = ((tmp_path / f"{m}.h").read_text() for m in ("tiny", "forked"))
    doc = DOC.read_text()
    macros = set(re.findall(r"\b(?:NAME|KWS)_(?!IMPLEMENTATION)([A-Z0-9_]*[A-Z0-9])", doc))
    assert {"ARENA_BYTES", "ERROR_ALIGNMENT", "INPUT_SHAPE", "TRACE", "MODEL_SHA256"} <= macros
    assert not [m for m in macros if f"TINY_{m}" not in text]
    for name in set(re.findall(r"\bname_(\w+)", doc)):
        assert f"forked_{name}" in several


def test_example_of_the_docs_compiles(tmp_path: Path) -> None:
    save(tiny("kws"), tmp_path / "kws.qg")
    compile_model(tmp_path / "kws.qg", "portable", out=tmp_path / "kws.h")
    blocks = re.findall(r"```c\n(.*?)```", DOC.read_text(), re.DOTALL)
    use = next(b for b in blocks if "classify" in b).replace("int8_t", "uint8_t")
    trace = next(b for b in blocks if "dump" in b)
    trace = trace.replace("/* ... */", "(void)op, (void)data, (void)bytes;")
    selftest = next(b for b in blocks if "wrong_op" in b)
    (tmp_path / "use.c").write_text(f"#include <stddef.h>\n#define KWS_SELFTEST\n{trace}\n{use}")
    (tmp_path / "board.c").write_text(selftest)
    flags = DIALECTS["c99 freestanding"]
    for source in ("use", "board"):
        build(COMPILERS[0], *flags, "-c", f"{source}.c", "-o", f"{source}.o", folder=tmp_path)
