"""The pass keeps the meaning: of random blocks and loops, and of every kernel, on every core."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from qgen.asm import schedule
from qgen.asm.cores import CORES, core_with
from qgen.asm.isa import parse
from qgen.asm.order import dependences
from qgen.asm.schedule import scheduled
from qgen.asm.statement import Block, rewrite
from qgen.emit import emit
from qgen.ir.types import Rounding
from qgen.lower import lower
from qgen.targets import CPUS, TARGETS
from qgen.verify.harness import UNKNOWN_ORIGIN
from tests.asm.symbolic import MOST_STEPS, run
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
            if expected is not None:
                # Instructions may have been added.
                assert run(new, numbers, seed, disjoint, 2 * MOST_STEPS) == expected, after
                ended += 1
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
def test_random_loops(core: Any, tuned: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loops that are entered from several places; all that can be are rotated."""
    monkeypatch.setattr(schedule, "WORTH_ROTATING", (10.0, 10.0))
    pool = tuple(line for line in POOL if not line.startswith(("cmp", "csel")))
    draw = random.Random(core.name)
    rotated = 0
    for n in range(12):
        body = random_lines(draw, draw.randrange(6, 24), pool[:7] + pool[8 + n % 3 :])
        count = ["subs %[n], %[n], #1"]
        at = draw.randrange(len(body) + 1)
        loop = ["1:", *body[:at], *count, *body[at:], "b.ne 1b", "movi v9.4s, #0"]
        lines = ["cbz %[q], 1f", "mov v3.16b, v5.16b", *loop, "cbnz %[n], 1b", "movi v8.4s, #0"]
        text = statement(lines)
        after = scheduled(text, core, tuned=tuned)
        rotated += "901:" in after or "905:" in after or "903:" in after
        assert_same(text, after)
    assert rotated > 3 or not core.in_order


def test_an_order_that_breaks_a_dependence_is_found() -> None:
    """The judge itself: neighbours change places. Some results die unread, most do not."""
    draw = random.Random(0)
    tied = found = 0
    for _ in range(60):
        lines = random_lines(draw, 8, POOL)
        at = draw.randrange(7)
        graph = dependences(CORES["cortex-a53"], [parse(x) for x in lines], disjoint=False)
        other = [*lines[:at], lines[at + 1], lines[at], *lines[at + 2 :]]
        try:
            assert_same(statement(lines), statement(other), seeds=1)
        except AssertionError:
            assert at in graph.before[at + 1]
            found += 1
        tied += at in graph.before[at + 1]
    assert found > tied / 2 > 5


@cache
def sources(target: str, op: str) -> str:
    """The asm statements of many instances of an op's kernels, in source order."""
    plain = replace(TARGETS[target], generic_cpu="")
    lowered = lower(program(op, Rounding.GEMMLOWP, 20, 0), plain)
    text = emit(lowered, UNKNOWN_ORIGIN, split=True)[f"{lowered.name}.c"]
    return "\n".join(dict.fromkeys(re.findall(r"__asm__ volatile\(\n.*?\);\n", text, re.DOTALL)))


# Out of order there is but one way to order a block.
IN_ORDER = [c for c in CORES.values() if c.in_order]
CASES = [
    (target.name, op)
    for target in TARGETS.values()
    if target.generic_cpu and core_with(CPUS[target.generic_cpu].model)
    for op in ("conv2d", "fully_connected", "depthwise_conv2d")
]


@pytest.mark.parametrize(("target", "op"), CASES)
@pytest.mark.parametrize("core", [*IN_ORDER, CORES["cortex-a57"]], ids=lambda c: c.name)
def test_kernels(target: str, op: str, core: Any) -> None:
    text = sources(target, op)
    assert len(blocks_of(text)) == text.count("__asm__ volatile(\n"), "an output lacks its &"
    assert all(core.knows(i) for blocks in blocks_of(text) for b in blocks for i in b.body)
    for tuned in (False, True):
        after = scheduled(text, core, tuned=tuned)
        if blocks_of(text):
            assert_same(text, after, seeds=4)
