"""Cores as data: each fits its target, its emulator runs it, and its choice shows in the file."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from qgen import compile_model
from qgen.emit import emit
from qgen.frontend.printer import save
from qgen.lower import lower
from qgen.targets import CPUS, TARGETS, machine
from qgen.targets.aarch64 import AARCH64
from qgen.verify import assert_equal, verify
from qgen.verify.harness import UNKNOWN_ORIGIN
from tests.models import tiny

needs_arm = pytest.mark.skipif(
    not (shutil.which("qemu-aarch64") and shutil.which("aarch64-linux-gnu-gcc")),
    reason="needs the aarch64 compiler and emulator",
)


@pytest.mark.parametrize("name", CPUS)
def test_a_core_alone_means_the_widest_target_it_runs(name: str) -> None:
    chosen, core = machine(None, name)
    assert core is CPUS[name] and core.name == name and core.fits(chosen)
    widest = [t for t in TARGETS.values() if core.fits(t)]
    assert all(t.features <= chosen.features for t in widest) and chosen.features == core.features


def test_defaults() -> None:
    assert machine(None, None) == (AARCH64, None)
    assert machine("portable", None)[1] is None
    assert machine("aarch64", "cortex-a76") == (AARCH64, CPUS["cortex-a76"])
    for known in TARGETS.values():
        assert not known.generic_cpu or machine(known, known.generic_cpu)[0] is known


def test_the_core_shows_in_the_file(tmp_path: Path) -> None:
    text = emit(lower(tiny(), *machine(None, "cortex-a72")), UNKNOWN_ORIGIN)["tiny.h"]
    assert " * target   aarch64 (ARMv8.0-A with NEON), arranged for cortex-a72; rounding" in text
    assert "arranged" not in emit(lower(tiny(), AARCH64), UNKNOWN_ORIGIN)["tiny.h"]
    save(tiny(), tmp_path / "tiny.qg")
    done = compile_model(tmp_path / "tiny.qg", cpu="cortex-a72", out=tmp_path / "tiny.h")
    assert (done.target, done.cpu, done.as_dict()["cpu"]) == ("aarch64", *["cortex-a72"] * 2)
    command = "qgen compile tiny.qg --target aarch64 --cpu cortex-a72"
    assert f": {command}\n" in (tmp_path / "tiny.h").read_text()


@needs_arm
@pytest.mark.parametrize("name", CPUS)
def test_the_emulator_has_the_core(name: str) -> None:
    chosen, core = machine(None, name)
    assert core is not None
    tool = core.tuned(chosen).toolchain
    assert tool.tune == f"-mtune={core.tune}" and tool.emulator[-1] == core.emulator
    known = subprocess.run([tool.emulator[0], "-cpu", "help"], capture_output=True, text=True)
    assert core.emulator in known.stdout.split()


@needs_arm
@pytest.mark.parametrize("name", ["cortex-a53", "cortex-a73", "cortex-a55", "neoverse-n2"])
def test_equal_on_the_core(name: str, tmp_path: Path) -> None:
    verdict = verify(tiny(), cpu=name, inputs=2)
    assert verdict and verdict.cpu == name and f" on {name} equals golden" in str(verdict)
    save(tiny(), tmp_path / "tiny.qg")
    assert_equal(tmp_path / "tiny.qg", cpu=name, inputs=1)
