"""The bare-metal example, built by its own makefile: what it computes on a board equals golden."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from qgen.frontend import load_model
from qgen.ir.interp import run
from qgen.passes.legalize import legalize
from qgen.toolchain import elf

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "firmware"
BOARDS = {
    "aarch64": ("aarch64-linux-gnu-gcc", "qemu-system-aarch64"),
    "armv7a": ("arm-linux-gnueabihf-gcc", "qemu-system-arm"),
}
# Level that the core starts in: EL1, EL3 over EL1, EL2, EL3 over EL2; likewise for 32 bits.
MACHINES = ("", ",secure=on", ",virtualization=on", ",secure=on,virtualization=on")
LINE = re.compile(r"digit (\d) +(\d+) % +(\d+) cycles, output((?: [0-9a-f]{2})+)")

# Addresses above RAM: no memory answers there on this machine.
FAULTY = """
#include "board.h"
int main(void)
{
    *(volatile int *)0xc0000000u = 1;
    leave(0);
}
"""


def make(
    build: Path, goal: str, board: str = "aarch64", *variables: str
) -> subprocess.CompletedProcess[str]:
    qgen = f"PYTHONPATH={shlex.quote(str(ROOT))} {shlex.quote(sys.executable)} -m qgen"
    words = ["make", "-s", "-C", str(FOLDER), goal, f"BOARD={board}", f"BUILD={build}"]
    return subprocess.run(
        [*words, f"QGEN={qgen}", *variables],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def need(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"no '{program}'")


@pytest.mark.parametrize("board", BOARDS)
def test_board_equals_golden(board: str, tmp_path: Path) -> None:
    need("make", *BOARDS[board])
    graph = legalize(load_model(ROOT / "examples" / "digits" / "digits.qg"))
    samples = np.load(ROOT / "examples" / "digits" / "samples.npy")
    golden = [run(graph, [image[None]])[0].ravel() for image in samples]
    shown = []
    for machine in MACHINES:
        done = make(tmp_path, "run", board, f"MACHINE={machine}")
        assert done.returncode == 0, done.stderr
        found = LINE.findall(done.stdout)
        outputs = [np.frombuffer(bytes.fromhex(text), np.int8) for *_, text in found]
        np.testing.assert_array_equal(outputs, golden)
        for (digit, percent, cycles, _), values in zip(found, golden, strict=True):
            assert int(digit) == values.argmax()
            assert int(percent) == ((int(values.max()) + 128) * 100 + 128) // 256
            assert int(cycles) > 0
        # The header is generated in the first run, whose output then says so.
        shown.append([line for line in done.stdout.splitlines() if LINE.fullmatch(line)])
    assert all(lines == shown[0] for lines in shown)


@pytest.mark.parametrize("board", BOARDS)
def test_fault_is_reported(board: str, tmp_path: Path) -> None:
    need("make", *BOARDS[board])
    program = tmp_path / "faulty.c"
    program.write_text(FAULTY)
    done = make(tmp_path, "run", board, f"MAIN={program}")
    assert done.returncode != 0
    assert re.search(r"^fault: cause \w+, at 0*401\w+, address 0*c0000000$", done.stdout, re.M)


def test_microcontrollers(tmp_path: Path) -> None:
    need("make", "arm-none-eabi-gcc")
    done = make(tmp_path, "cortex-m")
    assert done.returncode == 0, done.stderr
    objects = sorted((tmp_path / "portable").glob("*.o"))
    assert [o.stem for o in objects] == ["cortex-m4", "cortex-m55", "cortex-m7"]
    for found in map(elf.facts, objects):
        assert found.undefined == ()
        assert found.data == found.bss == 0
