"""Which code ran and how often: the emulator's blocks as basic blocks with their text.

The emulator's own blocks overlap (the first round of a loop is the end of the block before it) and
end where a page ends. So they are first broken into counts per instruction; a basic block is then a
longest stretch of neighbours with the same count and no branch but at its end.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qgen.errors import QgenError
from qgen.profile.count import Block

# "  400b24:  b.ne  0x400b10 <kws_05+0x30>", perhaps with a comment of the instruction set's kind.
_LINE = re.compile(r"\s*([0-9a-f]+):\s+([^.\s]\S*)\s*(.*)")
_COMMENT = re.compile(r"\s*(?://|@|;).*")
_PLACE = re.compile(r"#?(0x[0-9a-f]+) <[^>]*>")
# Of a jump or an address computation: the last operand, whether or not it has a name.
_GOAL = re.compile(r"#?(0x[0-9a-f]+)(?: <[^>]*>)?$")
_CONDITIONS = "eq|ne|cs|cc|hs|lo|mi|pl|vs|vc|hi|ls|ge|lt|gt|le"
_JUMP = re.compile(rf"b\.?(?:{_CONDITIONS})?(?:\.[nw])?|cbn?z|tbn?z")
_CALL = re.compile(r"bl|blr|blx|ret|br|bx(?:lr)?")


@dataclass(frozen=True)
class Instruction:
    """One instruction; `target` is where a jump goes.

    `text` has no address in it, so that equal code has equal text wherever it lies.
    """

    address: int
    text: str
    branch: bool
    target: int | None


@dataclass(frozen=True)
class Executed:
    """A basic block that ran `count` times; `target` is where the jump at its end goes, if any."""

    address: int
    text: str
    instructions: int
    count: int
    target: int | None

    @property
    def loop(self) -> bool:
        """True where the block repeats itself."""
        return self.target == self.address


def inner_loops(blocks: Sequence[Executed]) -> Iterator[list[Executed]]:
    """The blocks of every innermost loop, from where the last one's jump goes to that jump.

    Args:
        blocks: of one stretch of a run, by address.
    """
    for i, last in enumerate(blocks):
        if last.target is None or last.target > last.address:
            continue
        body = [b for b in blocks[: i + 1] if b.address >= last.target]
        if not any(b.target is not None and b.target <= b.address for b in body[:-1]):
            yield body


class Code:
    """The instructions of an executable at [low, high), as the disassembler reads them.

    Raises QgenError where the disassembler fails.
    """

    def __init__(self, exe: Path, disassembler: str, low: int, high: int) -> None:
        command = [
            disassembler, "-d", "--no-show-raw-insn", "--mattr=+all", str(exe),
            f"--start-address={low:#x}", f"--stop-address={high:#x}",
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            said = next(iter(done.stderr.splitlines()), f"exit code {done.returncode}")
            raise QgenError(f"{Path(disassembler).name}: {said}")
        self.instructions = tuple(_parse(done.stdout))
        # Instructions of half a word are those of Thumb.
        self.thumb = any(i.address % 4 for i in self.instructions)
        self._at = np.array([i.address for i in self.instructions], np.int64)

    def executed(self, blocks: Sequence[Block]) -> list[Executed]:
        """The basic blocks of one stretch of a run."""
        change = np.zeros(len(self.instructions) + 1, np.int64)
        starts = np.searchsorted(self._at, [b.start for b in blocks])
        ends = np.searchsorted(self._at, [b.end for b in blocks])
        counts = [b.count for b in blocks]
        np.add.at(change, starts, counts)
        np.subtract.at(change, ends, counts)
        times = np.cumsum(change).tolist()
        return [
            Executed(
                self.instructions[first].address,
                "\n".join(i.text for i in self.instructions[first:end]),
                end - first,
                times[first],
                self.instructions[end - 1].target,
            )
            for first, end in self._stretches(times)
        ]

    def _stretches(self, times: Sequence[int]) -> Iterator[tuple[int, int]]:
        """First and end index of every basic block that ran."""
        first = 0
        for i, instruction in enumerate(self.instructions):
            end = i + 1
            if instruction.branch or times[end] != times[i]:
                if times[i]:
                    yield first, end
                first = end


def _parse(listing: str) -> Iterator[Instruction]:
    for line in listing.splitlines():
        found = _LINE.fullmatch(line)
        if not found:
            continue
        address, mnemonic, operands = int(found[1], 16), found[2], _COMMENT.sub("", found[3])
        call, jump = _CALL.fullmatch(mnemonic), _JUMP.fullmatch(mnemonic)
        form = _GOAL if jump or mnemonic.startswith("adr") else _PLACE
        place = form.search(operands)
        # A call or return costs what a jump costs; llvm-mca would add the time of what is called.
        text = "b #0" if call else f"{mnemonic} {form.sub('#0', operands)}".strip()
        target = int(place[1], 16) if jump and place else None
        yield Instruction(address, text, bool(call or jump), target)
