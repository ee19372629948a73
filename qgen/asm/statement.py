"""asm statements in generated C: found, cut into basic blocks, printed again."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from qgen.asm.isa import Instruction, parse
from qgen.errors import QgenError

_OPENS = re.compile(r"__asm__ (volatile )?\($|__asm__ volatile\($")
_LABEL = re.compile(r"(\d+):$")
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')
_OUTPUT = re.compile(r'"([=+][^"]*)"')


@dataclass(frozen=True)
class Block:
    """Instructions that run one after the other.

    Attributes:
        label: number of the local label in front, or empty.
        body: without the branch.
        branch: the last instruction, if it branches.
        comments: what the source says about these instructions.
        notes: printed as well: what qgen found out about them.
    """

    label: str
    body: tuple[Instruction, ...]
    branch: Instruction | None = None
    comments: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def instructions(self) -> tuple[Instruction, ...]:
        return (*self.body, self.branch) if self.branch else self.body

    @property
    def loop(self) -> bool:
        """It ends with a branch to its own start."""
        return (
            bool(self.label) and self.branch is not None and self.branch.label == f"{self.label}b"
        )


Rewrite = Callable[[tuple[Block, ...]], Iterable[Block]]


def rewrite(text: str, change: Rewrite) -> str:
    """`text` with the blocks of every asm statement as `change` returns them.

    Statements without instructions stay as they are, and so do those with an output that may share
    a register with an input (one without ``&``): their order is the compiler's assumption.

    Raises QgenError for an instruction that is not known.
    """
    lines = text.split("\n")
    out: list[str] = []
    at = 0
    while at < len(lines):
        out.append(lines[at])
        at += 1
        if not _OPENS.search(out[-1]):
            continue
        end = next(i for i in range(at, len(lines)) if lines[i].lstrip().startswith(":"))
        close = next(i for i in range(end, len(lines)) if lines[i].rstrip().endswith(");"))
        template = lines[at:end]
        if template and _apart(lines[end : close + 1]):
            indent = template[0][: len(template[0]) - len(template[0].lstrip())]
            template = list(_printed(change(tuple(blocks(template))), indent))
        out += template
        at = end
    return "\n".join(out)


def _apart(operands: list[str]) -> bool:
    """No output shares a register with an input."""
    outputs = " ".join(operands).lstrip(" :").split(":")[0]
    return all("&" in constraint for constraint in _OUTPUT.findall(outputs))


def blocks(template: Iterable[str]) -> Iterator[Block]:
    """Basic blocks of the template of an asm statement, line by line."""
    label, body, comments = "", list[Instruction](), list[str]()
    for item in _items(template):
        found = _LABEL.match(item)
        if item.startswith("/*"):
            comments.append(item)
            continue
        instruction = None if found else parse(item)
        if instruction is not None and not instruction.branch:
            body.append(instruction)
            continue
        if body or instruction is not None or label:
            yield Block(label, tuple(body), instruction, tuple(comments))
            comments = []
        label, body = found[1] if found else "", []
    if body or label:
        yield Block(label, tuple(body), None, tuple(comments))


def _items(template: Iterable[str]) -> Iterator[str]:
    """Instructions, labels and comments. Raises QgenError for anything else."""
    comment = ""
    for raw in template:
        line = raw.strip()
        if comment or line.startswith("/*"):
            comment = f"{comment} {line}".strip()
            if comment.endswith("*/"):
                yield comment
                comment = ""
            continue
        strings = _STRING.fullmatch(line)
        if not strings:
            raise QgenError(f"no assembly: '{line}'", hint="one string or comment per line")
        yield from (part.strip() for part in re.split(r"\\n|\\t|;", strings[1]) if part.strip())


def _printed(found: Iterable[Block], indent: str) -> Iterator[str]:
    for block in found:
        for comment in (*block.comments, *block.notes):
            yield f"{indent}{comment}"
        if block.label:
            yield f'{indent}"{block.label}:\\n\\t"'
        for instruction in (*block.body, *([block.branch] if block.branch else [])):
            yield f'{indent}"{instruction.text}\\n\\t"'
