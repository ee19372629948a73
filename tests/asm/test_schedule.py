"""The pass keeps the meaning: of random blocks and loops, and of every kernel, on every core."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from qgen.asm.cores import CORES
from qgen.asm.schedule import scheduled
from qgen.asm.statement import Block, rewrite
from qgen.emit import emit
from qgen.ir.types import Rounding
from qgen.lower import lower
from qgen.targets import TARGETS
from qgen.verify.harness import UNKNOWN_ORIGIN
from tests.asm.symbolic import run
from tests.ops.strategies import program

STATEMENT = """void f(void)
{{
    __asm__ volatile(
{lines}
        : [p] "+&r"(p), [w] "+&r"(w), [n] "+&r"(n)
        :
        : "memory");
}}
"""

# What random blocks are made of: few registers, so that nearly everything depends on something.
POOL = (
    "ldr q{v}, [%[p]], #16",
    "ldr q{v}, [%[w], #{o}]",
    "ldp q{v}, q{u}, [%[w]], #32",
    "ldp q{v}, q{u}, [%[p], #{o}]",
    "ldr d{v}, [%[p]], #8",
    "ld1 {{v{v}.16b, v{u}.16b}}, [%[w]], #32",
    "ld1 {{v{v}.s}}[1], [%[p]], #4",
    "ld1r {{v{v}.4s}}, [%[w]]",
    "str q{v}, [%[y]], #16",
    "st1 {{v{v}.s}}[2], [%[y]], #4",
    "smull v{v}.8h, v{u}.8b, v{t}.8b",
    "smlal2 v{v}.8h, v{u}.16b, v{t}.16b",
    "sdot v{v}.4s, v{u}.16b, v{t}.4b[1]",
    "sadalp v{v}.4s, v{u}.8h",
    "add v{v}.4s, v{u}.4s, v{t}.4s",
    "sqxtn2 v{v}.8h, v{u}.4s",
    "mov v{v}.s[1], v{u}.s[0]",
    "movi v{v}.4s, #0",
    "add %[p], %[p], #{o}",
    "add %[y], %[y], %[w]",
    "cmp %[w], #{o}",
    "csel %[q], %[w], %[p], eq",
)


def blocks_of(text: str) -> list[tuple[Block, ...]]:
    """The blocks of each statement in a text."""
    found: list[tuple[Block, ...]] = []

    def see(blocks: tuple[Block, ...]) -> tuple[Block, ...]:
        found.append(blocks)
        return blocks

    rewrite(text, see)
    return found


def assert_same(before: str, after: str, *, disjoint: bool = False, seeds: int = 12) -> None:
    numbers: dict[Any, int] = {}
    ended = 0
    for old, new in zip(blocks_of(before), blocks_of(after), strict=True):
        for seed in range(seeds):
            expected = run(old, numbers, seed, disjoint)
            ended += expected is not None
            assert run(new, numbers, seed, disjoint) == expected, after
    assert ended


def statement(lines: list[str]) -> str:
    return STATEMENT.format(lines="\n".join(f'        "{line}\\n\\t"' for line in lines))


def random_lines(draw: random.Random, count: int, pool: tuple[str, ...]) -> list[str]:
    lines = []
    for _ in range(count):
        v, u, t = draw.sample(range(8), 3)
        offset = 16 * draw.randrange(4)
        lines.append(draw.choice(pool).format(v=v, u=u, t=t, o=offset))
    return lines


@pytest.mark.parametrize("core", CORES.values(), ids=lambda c: c.name)
@pytest.mark.parametrize("disjoint", [False, True])
def test_random_blocks(core: Any, disjoint: bool) -> None:
    draw = random.Random(core.name)
    for _ in range(60):
        text = statement(random_lines(draw, draw.randrange(2, 30), POOL))
        assert_same(text, scheduled(text, core, disjoint=disjoint), disjoint=disjoint, seeds=1)


@pytest.mark.parametrize("core", CORES.values(), ids=lambda c: c.name)
@pytest.mark.parametrize("tuned", [False, True])
def test_random_loops(core: Any, tuned: bool) -> None:
    """Loops of loads and products: many of them are rotated."""
    pool = tuple(line for line in POOL if not line.startswith(("cmp", "csel")))
    draw = random.Random(core.name)
    rotated = 0
    for n in range(12):
        body = random_lines(draw, draw.randrange(6, 24), pool[:7] + pool[8 + n % 3 :])
        count = ["subs %[n], %[n], #1"]
        at = draw.randrange(len(body) + 1)
        lines = ["1:", *body[:at], *count, *body[at:], "b.ne 1b", "movi v9.4s, #0"]
        text = statement(lines)
        after = scheduled(text, core, tuned=tuned)
        rotated += '"901:' in after or '"900:' in after
        assert_same(text, after)
    assert rotated > 0 or not core.in_order


@cache
def sources(target: str, op: str) -> str:
    """A file with many instances of an op's kernels, in source order."""
    plain = replace(TARGETS[target], generic_cpu="")
    lowered = lower(program(op, Rounding.GEMMLOWP, 20, 0), plain)
    return emit(lowered, UNKNOWN_ORIGIN, split=True)[f"{lowered.name}.c"]


CASES = [
    (target.name, op)
    for target in TARGETS.values()
    if target.generic_cpu
    for op in ("conv2d", "fully_connected", "depthwise_conv2d")
]


@pytest.mark.parametrize(("target", "op"), CASES)
@pytest.mark.parametrize("core", CORES.values(), ids=lambda c: c.name)
def test_kernels(target: str, op: str, core: Any) -> None:
    text = sources(target, op)
    assert all(core.knows(i) for blocks in blocks_of(text) for b in blocks for i in b.body)
    for tuned in (False, True):
        after = scheduled(text, core, tuned=tuned)
        if blocks_of(text):
            assert_same(text, after, seeds=6)
