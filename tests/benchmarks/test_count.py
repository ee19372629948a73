"""Counted instructions equal those that stand in the program, one by one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmarks import count, profile_layers, runner
from qgen.errors import QgenError
from qgen.targets import target
from qgen.toolchain.cc import compile_c

pytestmark = pytest.mark.skipif(
    not (shutil.which("aarch64-linux-gnu-gcc") and shutil.which("qemu-aarch64")),
    reason="needs aarch64-linux-gnu-gcc and qemu-aarch64",
)

ROOT = Path(__file__).parents[2]

# An empty function entered three times with 5 and then 7 instructions between; a loop of 4.
PROGRAM = r"""
#include <stdlib.h>
__attribute__((noinline)) static void bench_mark(void) { __asm__ volatile(""); }
__attribute__((noinline, noclone)) static void work(long n)
{
    __asm__ volatile("1: nop\n\tsub %0, %0, #1\n\tnop\n\tcbnz %0, 1b" : "+r"(n));
}
int main(int argc, char **argv)
{
    bench_mark();
    __asm__ volatile("bl bench_mark\n\t.rept 5\n\tnop\n\t.endr\n\tbl bench_mark\n\t"
                     ".rept 7\n\tnop\n\t.endr\n\tbl bench_mark" : : : "x30", "memory");
    work(argc > 1 ? atol(argv[1]) : 1);
    return 0;
}
"""


@pytest.fixture(scope="module")
def exe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("count")
    (folder / "main.c").write_text(PROGRAM)
    compile_c(target("aarch64").toolchain, [folder / "main.c"], folder / "program")
    return folder / "program"


def test_marks_count_every_instruction(exe: Path) -> None:
    at = profile_layers._address(exe, "bench_mark")
    marks = count.run(exe, "cortex-a53", ["1"], mark=at).marks
    # The call and the return of the empty function stand between two marks as well.
    assert len(marks) == 4
    assert (marks[2] - marks[1], marks[3] - marks[2]) == (5 + 2, 7 + 2)


def test_counts_are_linear_in_the_work(exe: Path) -> None:
    few, many = (count.count(exe, "cortex-a53", [n]) for n in ("10", "13"))
    assert many - few == 3 * 4
    assert count.profile(exe, "cortex-a53", ["10"], ["30"], 20) == {"work": 4}


def test_no_mark_no_bucket(exe: Path) -> None:
    assert count.run(exe, "cortex-a53", ["1"]).marks == ()
    with pytest.raises(QgenError, match="no function 'nobody' in program"):
        profile_layers._address(exe, "nobody")


def test_bad_runs(exe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(QgenError, match="no such file"):
        count.run(tmp_path / "absent", "cortex-a53")
    with pytest.raises(QgenError, match="overlaps"):
        count.run(exe, "cortex-a53", ranges=[(16, 32, "a"), (24, 40, "b")])
    with pytest.raises(QgenError, match="not a usable ELF file"):
        count.symbol_ranges(Path(__file__))
    with pytest.raises(QgenError, match=r"failed with exit code 1: .*CPU model"):
        count.run(exe, "no-such-cpu")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(QgenError, match="emulator 'qemu-aarch64' not found"):
        count.run(exe, "cortex-a53")
    with pytest.raises(QgenError, match="no host C compiler for the counting plugin"):
        count.build_plugin(tmp_path)


def test_a_profile_adds_up(tmp_path: Path) -> None:
    generated = runner.generate(ROOT / "examples" / "digits" / "digits.qg")
    ops = generated.lowered.graph.ops
    layers = profile_layers.profile(generated, "cortex-a53")
    assert [layer.name for layer in layers[:-1]] == [op.name for op in ops]
    assert all((layer.instructions > 0) == bool(layer.kernel) for layer in layers[:-1])
    # Without marks the compiler may arrange the calls otherwise: a few instructions for each.
    unmarked = runner.instructions(runner.build(generated, tmp_path), "cortex-a53")
    assert abs(sum(layer.instructions for layer in layers) - unmarked) <= 8 * len(layers)


def test_models_are_found_by_name_or_path(tmp_path: Path) -> None:
    (tmp_path / "a.tflite").touch()
    assert runner.models(["a"], tmp_path) == [tmp_path / "a.tflite"]
    assert runner.models([str(tmp_path / "a.tflite")], Path("x")) == [tmp_path / "a.tflite"]
    with pytest.raises(QgenError, match=r"no model .*b\.tflite"):
        runner.models(["b"], tmp_path)
