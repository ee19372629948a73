"""``--emit``: the files make the header a library; CMake is really run, on three machines."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from qgen import compile_model
from qgen.__main__ import main
from qgen.package import SYSTEMS
from qgen.targets import TARGETS, target
from qgen.toolchain.cc import find_compiler
from qgen.toolchain.emulator import run

# A program that knows the library by its name alone; the selftest is its result.
PROJECT = """
cmake_minimum_required(VERSION 3.13)
project(program C)
add_subdirectory(net)
add_executable(program main.c)
target_link_libraries(program PRIVATE tiny::tiny)
"""
MAIN = """
#include "tiny.h"
static TINY_ALIGNED unsigned char memory[TINY_SELFTEST_BYTES];
int main(void) { return tiny_selftest(memory); }
"""

# Stand-ins: they take the arguments that the systems document, and build for the host.
IDF = """
cmake_minimum_required(VERSION 3.16)
project(firmware C)
set(ESP_PLATFORM 1)
function(idf_component_register)
  cmake_parse_arguments(C "" "" "SRCS;INCLUDE_DIRS" ${ARGN})
  if(C_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "unknown: ${C_UNPARSED_ARGUMENTS}")
  endif()
  add_library(idf_tiny STATIC ${C_SRCS})
  target_include_directories(idf_tiny PUBLIC ${C_INCLUDE_DIRS})
  target_compile_definitions(idf_tiny PUBLIC TINY_SELFTEST)
endfunction()
add_subdirectory(net)
add_executable(program main.c)
target_link_libraries(program PRIVATE idf_tiny)
"""
ZEPHYR = """
cmake_minimum_required(VERSION 3.20)
project(firmware C)
set(CONFIG_TINY y)
set(CONFIG_TINY_SELFTEST y)
add_library(zephyr_interface INTERFACE)
function(zephyr_library_named name)
  add_library(${name} STATIC)
  target_link_libraries(${name} PUBLIC zephyr_interface)
  set(ZEPHYR_CURRENT_LIBRARY ${name} PARENT_SCOPE)
endfunction()
function(zephyr_library_sources source)
  target_sources(${ZEPHYR_CURRENT_LIBRARY} PRIVATE ${source} ${ARGN})
endfunction()
function(zephyr_include_directories)
  foreach(folder ${ARGV})
    target_include_directories(zephyr_interface INTERFACE ${CMAKE_CURRENT_SOURCE_DIR}/${folder})
  endforeach()
endfunction()
function(zephyr_compile_definitions_ifdef feature)
  if(${${feature}})
    target_compile_definitions(zephyr_interface INTERFACE ${ARGN})
  endif()
endfunction()
add_subdirectory(net/zephyr)
add_executable(program main.c)
target_link_libraries(program PRIVATE tiny)
"""


def cmake(folder: Path, project: str, *options: str) -> Path:
    """Configure and build; the program."""
    (folder / "CMakeLists.txt").write_text(project)
    (folder / "main.c").write_text(MAIN)
    for words in (
        ["-S", ".", "-B", "build", "-Werror=dev", *options],
        ["--build", "build"],
    ):
        done = subprocess.run(["cmake", *words], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "warning" not in done.stderr.lower(), done.stderr
    return folder / "build" / "program"


def emitted(here: Path, *systems: str, machine: str = "portable", split: bool = False) -> Path:
    (here / "net").mkdir(exist_ok=True)
    out = here / "net" / "tiny.h"
    done = compile_model("tiny.qg", machine, out=out, emit_for=systems, split=split)
    assert all(p.is_file() for p in (*done.files, *done.package))
    return here / "net"


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("machine", ["portable", "aarch64+dotprod", "armv7a"])
def test_cmake_builds_and_the_program_runs(here: Path, machine: str, split: bool) -> None:
    emitted(here, "cmake", machine=machine, split=split)
    tools = target(machine).toolchain
    options = ["-DTINY_SELFTEST=ON", f"-DCMAKE_C_COMPILER={find_compiler(tools)}"]
    if tools.emulator:
        options += ["-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_EXE_LINKER_FLAGS=-static"]
    program = cmake(here, PROJECT, *options)
    assert run(tools, program, timeout=60).returncode == 0


@pytest.mark.parametrize(("system", "project"), [("esp-idf", IDF), ("zephyr", ZEPHYR)])
@pytest.mark.parametrize("others", [(), ("cmake", "esp-idf", "zephyr")])
def test_files_call_the_systems_functions(
    here: Path, system: str, project: str, others: tuple[str, ...]
) -> None:
    emitted(here, *others, system)
    assert run(TARGETS["portable"].toolchain, cmake(here, project), timeout=60).returncode == 0


def test_zephyr_module_names_what_exists(here: Path) -> None:
    net = emitted(here, "zephyr")
    module = dict(re.findall(r"^ *(\w+): (.+)$", (net / "zephyr" / "module.yml").read_text(), re.M))
    assert module["name"] == "tiny"
    assert (net / module["cmake"] / "CMakeLists.txt").is_file()
    options = re.findall(r"^config (\w+)$", (net / module["kconfig"]).read_text(), re.M)
    assert options == ["TINY", "TINY_SELFTEST"]
    assert not (net / "CMakeLists.txt").exists()


def test_platformio(here: Path) -> None:
    net = emitted(here, "platformio")
    library = json.loads((net / "library.json").read_text())
    assert library["name"] == "tiny" and re.fullmatch(r"\d+\.\d+\.\d+", library["version"])
    assert (net / library["headers"]).is_file()
    assert library["build"]["srcFilter"] == ["-<*>", "+<tiny.c>"]


def test_bazel(here: Path) -> None:
    """A BUILD file of calls alone is Python as well."""
    net = emitted(here, "bazel", machine="armv7a")
    found: list[dict[str, Any]] = []
    calls = {"load": lambda *names: None, "cc_library": lambda **words: found.append(words)}
    exec((net / "BUILD.bazel").read_text(), calls)
    (library,) = found
    assert library["name"] == "tiny"
    assert all((net / f).is_file() for f in library["srcs"] + library["hdrs"])
    # How floats are passed is for the program to say: the NDK and hard-float Linux differ.
    assert library["copts"] == ["-march=armv7-a", "-mfpu=neon"]


def test_all_at_once(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [word for system in (*SYSTEMS, "cmake") for word in ("--emit", system)]
    command = ["compile", "tiny.qg", "--target", "portable", *words]
    assert main([*command, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["files"] == ["tiny.h"]
    assert said["package"] == [
        "tiny.c", "CMakeLists.txt", "zephyr/module.yml", "zephyr/CMakeLists.txt", "zephyr/Kconfig",
        "idf_component.yml", "library.json", "BUILD.bazel",
    ]  # fmt: skip
    before = {f: Path(f).read_bytes() for f in said["package"]}
    # Its own files are written again: same input, same bytes.
    assert main(command) == 0
    assert "\n  with tiny.c, CMakeLists.txt, zephyr/module.yml, " in capsys.readouterr().out
    assert {f: Path(f).read_bytes() for f in said["package"]} == before


def test_without_emit_nothing_is_added(here: Path) -> None:
    assert compile_model("tiny.qg", "portable").package == ()
    assert not Path("tiny.c").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--emit", "zephir"], "unknown build system 'zephir' (did you mean zephyr?)"),
        (["--emit", "make"], "unknown build system 'make' (did you mean cmake?)"),
        (["--emit", "xyz"], "unknown build system 'xyz' (known: cmake, zephyr, esp-idf, "),
        (["--emit"], "argument --emit: expected one argument"),
        (["--emit", "cmake", "-o", "x.c"], "x.c is to be the header (-o takes the name of the .h"),
        (["--emit", "esp-idf", "--target", "aarch64"], "builds for Xtensa and RISC-V, not for aa"),
        (["--emit", "cmake", "-o", "."], "cannot write .: it is a directory, not a header (give a"),
        (["--emit", "bazel"], "BUILD.bazel was not written by qgen, it is not overwritten (give"),
        (["--emit", "zephyr", "-o", "no/such.h"], "cannot write no/zephyr: no such file or dir"),
        (["--emit", "zephyr", "-o", "taken/t.h"], "cannot write taken/zephyr/module.yml: not a"),
        (["--emit", "zephyr", "-o", "net/t.h", "--max-ram", "1"], "the budget is 1"),
    ],
)
def test_refused(
    here: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    (here / "BUILD.bazel").write_text("# mine\n")
    for folder in ("net", "taken"):
        (here / folder).mkdir()
    (here / "taken" / "zephyr").write_text("")
    before = sorted(here.rglob("*"))
    assert main(["compile", "tiny.qg", "--target", "portable", *words]) == 2
    said = capsys.readouterr()
    assert message in said.err and said.err.count("\n") == 1 and said.out == ""
    assert sorted(here.rglob("*")) == before
    assert (here / "BUILD.bazel").read_text() == "# mine\n"
