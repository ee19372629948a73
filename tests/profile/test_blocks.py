"""Basic blocks from what ran: text, counts, loops."""

from __future__ import annotations

from pathlib import Path

import pytest

from qgen.errors import QgenError
from qgen.profile import count, mca
from qgen.profile.blocks import Code, Executed, inner_loops
from tests.profile.conftest import EMULATOR, Build

# A loop of two blocks, of which one runs every second round, inside one of three rounds.
NESTED = """
__asm__(".global _start\\n.type _start, %function\\n_start: mov x0, #3\\n"
        "1: mov x1, #100\\n"
        "2: tbz x1, #0, 3f\\n add x2, x2, x1\\n"
        "3: subs x1, x1, #1\\n b.ne 2b\\n"
        " bl 4f\\n subs x0, x0, #1\\n b.ne 1b\\n mov x8, #94\\n svc #0\\n"
        "4: adrp x3, _start\\n ret\\n .size _start, . - _start\\n");
"""


def executed(exe: Path) -> list[Executed]:
    (blocks,) = count.run(exe, EMULATOR, blocks=True).blocks
    low, high = min(b.start for b in blocks), max(b.end for b in blocks)
    return Code(exe, mca.find_tools().objdump, low, high).executed(blocks)


def test_overlapping_blocks_become_basic_ones(bare: Path) -> None:
    found = executed(bare)
    assert [(b.instructions, b.count, b.loop) for b in found] == [
        (1, 1, False),
        (2, 1000, True),
        (3, 1, False),
    ]
    words = [line.replace("#0x1", "#1").split() for line in found[1].text.splitlines()]
    assert words == [["subs", "x1,", "x1,", "#1"], ["b.ne", "#0"]]


def test_loops_of_several_blocks(build: Build) -> None:
    found = executed(build(NESTED, "nested", "-nostdlib"))
    assert sum(b.instructions * b.count for b in found) == count.count(
        build(NESTED, "nested", "-nostdlib"), EMULATOR
    )
    # Two loops; the outer one is not an innermost.
    (inner,) = inner_loops(found)
    assert [b.count for b in inner] == [300, 150, 300]
    # Neither calls nor addresses are left in the text.
    text = "\n".join(b.text for b in found)
    assert "bl" not in text.split() and "ret" not in text
    assert "0x4" not in text


def test_no_disassembly(bare: Path, tmp_path: Path) -> None:
    tool = tmp_path / "llvm-objdump"
    tool.write_text("#!/bin/sh\necho broken >&2; exit 3\n")
    tool.chmod(0o755)
    with pytest.raises(QgenError, match="llvm-objdump: broken"):
        Code(bare, str(tool), 0, 8)
