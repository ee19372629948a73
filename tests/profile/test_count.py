"""The counting plugin against programs whose counts are known by construction."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from qgen.errors import QgenError
from qgen.profile import count
from qgen.profile.count import Block
from tests.profile.conftest import EMULATOR, Build

# An empty function entered four times, with 5 and then 7 instructions between; a loop of 4.
MARKED = r"""
#include <stdlib.h>
__attribute__((noinline)) static void mark(void) { __asm__ volatile(""); }
__attribute__((noinline, noclone)) static void work(long n)
{
    __asm__ volatile("1: nop\n\tsub %0, %0, #1\n\tnop\n\tcbnz %0, 1b" : "+r"(n));
}
int main(int argc, char **argv)
{
    mark();
    __asm__ volatile("bl mark\n\t.rept 5\n\tnop\n\t.endr\n\tbl mark\n\t"
                     ".rept 7\n\tnop\n\t.endr\n\tbl mark" : : : "x30", "memory");
    work(argc > 1 ? atol(argv[1]) : 1);
    return 0;
}
"""


@pytest.fixture
def marked(build: Build) -> Path:
    return build(MARKED, "marked")


def test_every_instruction_is_counted_once(bare: Path) -> None:
    assert count.count(bare, EMULATOR) == 2004
    assert count.count(bare, EMULATOR) == 2004


def test_ranges_split_the_count(bare: Path) -> None:
    start = count.address(bare, "_start")
    ranges = [
        (start + 4, start + 12, "the loop"),
        (start, start + 4, "ends"),
        (start + 12, start + 20, "ends"),
    ]
    counts = count.run(bare, EMULATOR, ranges=ranges)
    assert counts.total == 2004
    assert counts.by_name == {"the loop": 2000, "ends": 3}


def test_blocks_are_counted_exactly(bare: Path) -> None:
    start = count.address(bare, "_start")
    (blocks,) = count.run(bare, EMULATOR, blocks=True).blocks
    # The first round of the loop belongs to the block that enters it.
    assert sorted(blocks, key=lambda b: b.start) == [
        Block(start, start + 12, 1),
        Block(start + 4, start + 12, 999),
        Block(start + 12, start + 24, 1),
    ]
    assert count.run(bare, EMULATOR).blocks == ((),)


def test_marks_part_the_run(marked: Path) -> None:
    mark = count.address(marked, "mark")
    run = count.run(marked, EMULATOR, ["1"], mark=mark, blocks=True)
    # The call and the return of the empty function stand between two marks as well.
    a, b, c, d = run.marks
    assert (c - b, d - c) == (5 + 2, 7 + 2)
    assert len(run.blocks) == 5
    between = [sum((b.end - b.start) // 4 * b.count for b in blocks) for blocks in run.blocks]
    assert between == [a, b - a, c - b, d - c, run.total - d]
    assert count.run(marked, EMULATOR, ["1"]).marks == ()


def test_blocks_of_a_loop_follow_its_rounds(marked: Path) -> None:
    mark = count.address(marked, "mark")
    rounds = []
    for n in ("10", "13"):
        *_, last = count.run(marked, EMULATOR, [n], mark=mark, blocks=True).blocks
        rounds.append(max(b.count for b in last if b.end - b.start == 16))
    assert rounds[1] - rounds[0] == 3


def test_count_repeats_and_grows_linearly(calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ten = count.count(calls, EMULATOR, ["10"])
    monkeypatch.setenv("QGEN_TEST_NOISE", "x" * 1000)  # the environment does not matter
    assert count.count(calls, EMULATOR, ["10"]) == ten
    twenty, thirty = (count.count(calls, EMULATOR, [n]) for n in ("20", "30"))
    assert twenty - ten == thirty - twenty
    assert 204 < count.per_inference(calls, EMULATOR, ["10"], ["30"], 20) < 230


def test_comma_in_a_path(bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "a,b"
    folder.mkdir()
    monkeypatch.setattr(count.tempfile, "tempdir", str(folder))
    start = count.address(bare, "_start")
    ranges = [(start, start + 24, "all")]
    assert count.run(bare, EMULATOR, ranges=ranges).by_name == {"all": 2004}


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ([(0, 16, "a"), (8, 24, "b")], "range overlaps the one before it: b"),
        ([(16, 16, "a")], "not a range 'start end name': 10 10 a"),
        ([(16, 32, "")], "not a range 'start end name': 10 20"),
    ],
)
def test_bad_ranges(bare: Path, ranges: list[count.Range], message: str) -> None:
    with pytest.raises(QgenError, match=message):
        count.run(bare, EMULATOR, ranges=ranges)


def test_errors(bare: Path, calls: Path, tmp_path: Path, only: Callable[..., Path]) -> None:
    with pytest.raises(QgenError, match="no function 'nobody' in bare"):
        count.address(bare, "nobody")
    with pytest.raises(QgenError, match="unable to find CPU model 'nonsense'"):
        count.run(bare, ("qemu-aarch64", "-cpu", "nonsense"))
    with pytest.raises(QgenError, match=r"cannot run .*gone: no such file"):
        count.run(tmp_path / "gone", EMULATOR)
    with pytest.raises(QgenError, match=r"calls crashed: aborted \(SIGABRT\)"):
        count.run(calls, EMULATOR)
    with pytest.raises(QgenError, match=r"calls failed with exit code 1: is it an executable"):
        count.run(calls, EMULATOR, ["1", "more"])
    with pytest.raises(QgenError, match=r"calls did not end within 0\.2 s"):
        count.run(calls, EMULATOR, ["2000000000"], timeout=0.2)
    with pytest.raises(QgenError, match=r"cannot run .*bare: .*gone: no such file"):
        count.run(bare, EMULATOR, stdin=tmp_path / "gone")
    (tmp_path / "text").write_text("text")
    with pytest.raises(QgenError, match="is it an executable for this emulator"):
        count.run(tmp_path / "text", EMULATOR)
    only()
    with pytest.raises(QgenError, match=r"emulator 'qemu-aarch64' not found \(apt-get install"):
        count.run(bare, EMULATOR)


def test_plugin_needs_a_host_compiler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, only: Callable[..., Path]
) -> None:
    monkeypatch.setattr(count, "_SOURCE", tmp_path / "gone.c")
    with pytest.raises(QgenError, match=r"counting plugin does not compile: .*No such file"):
        count.build_plugin(tmp_path)
    only()
    with pytest.raises(QgenError, match=r"no host C compiler .*\(apt-get install gcc\)"):
        count.build_plugin(tmp_path)
