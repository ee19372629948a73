"""The instruction counter against programs whose count is known by construction."""

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest

from qgen.errors import QgenError
from qgen.toolchain.cc import compile_c

_FILE = Path(__file__).parents[2] / "benchmarks" / "count.py"
_SPEC = importlib.util.spec_from_file_location("qgen_benchmark_count", _FILE)
count = importlib.util.module_from_spec(_SPEC)
sys.modules[_SPEC.name] = count
_SPEC.loader.exec_module(count)

CPU = "cortex-a53"

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


@pytest.fixture
def bare(aarch64, write_c, tmp_path):
    compile_c(aarch64, [write_c(BARE)], tmp_path / "bare", extra=["-nostdlib"])
    return tmp_path / "bare"


@pytest.fixture
def calls(aarch64, write_c, tmp_path):
    compile_c(aarch64, [write_c(CALLS)], tmp_path / "calls")
    return tmp_path / "calls"


def test_every_instruction_is_counted_once(bare):
    assert count.count(bare, CPU) == 2004
    assert count.count(bare, CPU) == 2004


def test_ranges_split_the_count(bare):
    ((start, end, name),) = count.symbol_ranges(bare)
    assert (name, end - start) == ("_start", 24)
    ranges = [
        (start + 4, start + 12, "the loop"),
        (start, start + 4, "ends"),
        (start + 12, start + 20, "ends"),
    ]
    counts = count.run(bare, CPU, ranges=ranges)
    assert counts.total == 2004
    assert counts.by_name == {"the loop": 2000, "ends": 3}


def test_count_repeats_and_grows_linearly(calls, monkeypatch):
    ten = count.count(calls, CPU, ["10"])
    monkeypatch.setenv("QGEN_TEST_NOISE", "x" * 1000)  # the environment does not matter
    assert count.count(calls, CPU, ["10"]) == ten
    twenty, thirty = (count.count(calls, CPU, [n]) for n in ("20", "30"))
    assert twenty - ten == thirty - twenty
    assert 204 < count.per_inference(calls, CPU, ["10"], ["30"], 20) < 230


def test_profile_per_function(calls):
    spent = count.profile(calls, CPU, ["10"], ["30"], 20)
    assert spent["body"] == 204
    assert 4 <= spent["twice"] <= 12
    assert sum(spent.values()) == count.per_inference(calls, CPU, ["10"], ["30"], 20)


def test_comma_in_a_path(bare, tmp_path, monkeypatch):
    folder = tmp_path / "a,b"
    folder.mkdir()
    monkeypatch.setattr(count.tempfile, "tempdir", str(folder))
    assert count.run(bare, CPU, ranges=count.symbol_ranges(bare)).by_name == {"_start": 2004}


def test_command_line(calls, capsys):
    assert count.main([str(calls), "--cpu", CPU, "--functions", "--", "10"]) == 0
    assert "           2,040 body\n" in capsys.readouterr().out
    assert count.main([str(calls), "--per", "20", "--few", "10", "--many", "30"]) == 0
    assert "per inference" in capsys.readouterr().out
    assert count.main([str(calls), "--", "1", "extra"]) == 2
    assert capsys.readouterr().err.startswith("calls failed with exit code 1")


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ([(0, 16, "a"), (8, 24, "b")], "range overlaps the one before it: b"),
        ([(16, 16, "a")], "not a range 'start end name': 10 10 a"),
        ([(16, 32, "")], "not a range 'start end name': 10 20"),
    ],
)
def test_bad_ranges(bare, ranges, message):
    with pytest.raises(QgenError, match=message):
        count.run(bare, CPU, ranges=ranges)


def test_errors(bare, calls, tmp_path, monkeypatch):
    with pytest.raises(QgenError, match="unable to find CPU model 'nonsense'"):
        count.run(bare, "nonsense")
    with pytest.raises(QgenError, match=r"cannot run .*gone: no such file"):
        count.run(tmp_path / "gone", CPU)
    with pytest.raises(QgenError, match=r"calls crashed: aborted \(SIGABRT\)"):
        count.run(calls, CPU)
    with pytest.raises(QgenError, match=r"calls did not end within 0\.2 s"):
        count.run(calls, CPU, ["2000000000"], timeout=0.2)
    with pytest.raises(QgenError, match=r"cannot run .*bare: .*gone: no such file"):
        count.run(bare, CPU, stdin=tmp_path / "gone")
    (tmp_path / "text").write_text("text")
    with pytest.raises(QgenError, match="text: not a usable ELF file"):
        count.symbol_ranges(tmp_path / "text")
    with pytest.raises(QgenError, match="is it an AArch64 executable"):
        count.run(tmp_path / "text", CPU)
    monkeypatch.setattr(count, "EMULATOR", "qemu-no-such")
    with pytest.raises(QgenError, match=r"emulator 'qemu-no-such' not found \(apt-get install"):
        count.run(bare, CPU)


def test_stripped_executable(aarch64, write_c, tmp_path):
    compile_c(aarch64, [write_c(BARE)], tmp_path / "bare", extra=["-nostdlib", "-Wl,-s"])
    with pytest.raises(QgenError, match=r"no function symbols \(do not strip"):
        count.symbol_ranges(tmp_path / "bare")


def test_plugin_needs_a_host_compiler(tmp_path, monkeypatch):
    monkeypatch.setattr(count, "_SOURCE", tmp_path / "gone.c")
    with pytest.raises(QgenError, match=r"counting plugin does not compile: .*No such file"):
        count.build_plugin(tmp_path)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(QgenError, match=r"no host C compiler .*\(apt-get install gcc\)"):
        count.build_plugin(tmp_path)
