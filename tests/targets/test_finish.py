"""The planned end of a kernel against golden: its instructions, run on sums around every tie."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from qgen.ir.graph import Graph
from qgen.ir.linear import Linear
from qgen.ir.numerics import requantize, saturate
from qgen.ir.types import Array, Rounding
from qgen.passes.legalize import legalize
from qgen.targets import target
from qgen.targets.finish import (
    OFFSETS,
    Constants,
    Finish,
    finish_lines,
    finish_values,
    load_lines,
    once,
    plan_finish,
    short_multipliers,
)
from qgen.targets.finish_top import last_lines, top_lines, with_top
from qgen.targets.requantize_asm import Sums
from qgen.toolchain.cc import compile_c
from qgen.toolchain.emulator import run
from tests.ops.strategies import one

LANES = 16
AT = Constants(m0=20, zero=21, low=22, high=23, flip=24)
FREE = (25, 26, 27, 28)
SUMS = [Sums(i, 4 + i, 8 + i, 12 + i) for i in range(4)]
OPS = ("conv2d", "depthwise_conv2d", "fully_connected")


def ops(count: int) -> list[Linear]:
    found = []
    for case in range(count):
        for name in OPS:
            op = one(name, 5, case)
            legal = legalize(Graph("g", tuple(op.inputs()), (op.out,), (op,))).ops[0]
            assert isinstance(legal, Linear)
            found.append(legal)
    return found


def sums_around_ties(op: Linear, channel: int) -> Array:
    """Sums inside the op's bound on both sides of every tie, and its ends."""
    assert op.m0 is not None and op.shift is not None
    real = int(op.m0.const[channel]) * 2.0 ** (int(op.shift.const[channel]) - 31)
    bound = op.bounds()
    ties = np.arange(-258, 259) + 0.5
    around = np.floor(ties / real)[:, None] + np.arange(-2, 4) if real else np.zeros((1, 1))
    every = np.concatenate([around.reshape(-1), [bound.low, bound.high, -1, 0, 1]])
    return np.unique(np.clip(every, bound.low, bound.high)).astype(np.int64)


def golden(op: Linear, rounding: Rounding, sums: Array, channel: int) -> Array:
    assert op.m0 is not None and op.shift is not None and op.clamp is not None
    m0, shift = int(op.m0.const[channel]), int(op.shift.const[channel])
    m1 = int(op.m1.const[channel]) if op.m1 is not None else 0
    y = requantize(sums, m0, shift, rounding, m1) + op.out.zero
    return saturate(y, *op.clamp, op.out.dtype)


def function(index: int, finish: Finish) -> str:
    """C: one vector of 16 sums of one channel to bytes, by the printed instructions."""
    lines = [f"ldr q{i}, [%[x], #{16 * i}]" for i in range(4)]
    for i in range(len(finish.rows)):
        lines += [f"ldr q{4 * (i + 1) + j}, [%[q], #{16 * i}]" for j in range(4)]
    if finish.offset is None:
        lines += load_lines(finish, AT).lines
        made, results = finish_lines(finish, SUMS, FREE, AT)
        lines += made.lines
    else:
        lines += [f"ldr q{12 + j}, [%[q], #32]" for j in range(4)]
        first, results = top_lines(finish, range(4), range(12, 16), range(4, 8), range(8, 12))
        lines += [*first, *last_lines(finish, results, FREE).lines]
    lines.append(f"str q{results[0]}, [%[y]]")
    body = "\n".join(f'        "{line}\\n\\t"' for line in lines)
    clobbers = ", ".join(f'"v{i}"' for i in range(29))
    return f"""
static void f{index}(const int32_t *x, const int32_t *q, const struct c *out, int8_t *y)
{{
    __asm__ volatile(
{body}
        : : [x] "r"(x), [q] "r"(q), [out] "r"(out), [y] "r"(y) : {clobbers}, "memory");
}}
"""


def table(kind: str, name: str, values: Array) -> str:
    return f"static const {kind} {name}[] = {{ {', '.join(map(str, values.tolist()))} }};\n"


HEAD = """#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
struct c { int32_t m0[4]; int16_t zero[8]; int8_t low[16], high[16], flip[16];
    int32_t shift[4]; };
"""


def plain(finish: Finish) -> Finish:
    return finish


@pytest.mark.parametrize("way", [plain, with_top])
@pytest.mark.parametrize("rounding", Rounding)
def test_equals_golden_around_every_tie(
    rounding: Rounding, way: Callable[[Finish], Finish], tmp_path: Path
) -> None:
    machine = target("aarch64+dotprod").toolchain
    functions, calls, wanted = [HEAD], [], []
    seen: Counter[str] = Counter()
    for index, op in enumerate(ops(40)):
        finish = way(plan_finish(op, rounding))
        if index % 2:
            finish = finish.sharing()
        seen.update(finish.traits)
        channel = index % op.channels
        sums = sums_around_ties(op, channel)
        count = -(-sums.size // LANES)
        padded = np.resize(sums, count * LANES)
        wanted.append(golden(op, rounding, padded, channel))
        more = [] if finish.offset is None else [finish.offset]
        rows = np.repeat([int(r[channel]) for r in [*finish.rows, *more]] or [0], 4)
        c = finish_values(finish, op)
        lanes = {"m0": 4, "zero": 8, "low": 16, "high": 16, "flip": 16, "shift": 4}
        values = [[c[name]] * count for name, count in lanes.items()]
        fields = ", ".join("{ " + ", ".join(map(str, v)) + " }" for v in values)
        functions.append(function(index, finish))
        functions.append(table("int32_t", f"x{index}", padded))
        functions.append(table("int32_t", f"q{index}", rows))
        functions.append(f"static const struct c c{index} = {{ {fields} }};\n")
        calls.append(
            f"    for (i = 0; i < {count * LANES}; i += {LANES}) {{\n"
            f"        f{index}(x{index} + i, q{index}, &c{index}, y);\n"
            f"        fwrite(y, 1, {LANES}, stdout);\n    }}\n"
        )
    main = f"int main(void)\n{{\n    int8_t y[16];\n    int i;\n{''.join(calls)}    return 0;\n}}\n"
    source, exe, out = (tmp_path / name for name in ("finish.c", "finish", "out"))
    source.write_text("".join(functions) + main)
    compile_c(machine, [source], exe)
    with out.open("wb") as stream:
        assert run(machine, exe, stdout=stream, timeout=60).returncode == 0
    got = np.frombuffer(out.read_bytes(), np.int8)
    expected = np.concatenate([w.view(np.int8) for w in wanted])
    assert np.array_equal(got, expected)
    assert {"unsigned", "flip", "low", "high", "shift"} <= set(seen)
    assert bool(seen["top"]) == (way is with_top and rounding is Rounding.GEMMLOWP)
    if rounding is Rounding.GEMMLOWP:
        assert seen["ssra"] and seen["mask"] and seen["left"]


def test_offsets_are_those_of_the_struct() -> None:
    assert OFFSETS == {"m0": 0, "zero": 16, "low": 32, "high": 48, "flip": 64, "shift": 80}


def test_a_truncated_product_rounds_once() -> None:
    """(Q4a): SQDMULH and SRSHL are (Q4) with ties up, for every sum and multiplier."""
    rng = np.random.default_rng(0)
    sums = rng.integers(-(2**31), 2**31, 20_000)
    m0, shift = rng.integers(2**30, 2**31, sums.size), -rng.integers(1, 31, sums.size)
    assert np.array_equal(once(sums, m0, shift), requantize(sums, m0, shift, Rounding.SINGLE))


def test_short_multipliers_equal_long_ones_for_every_sum() -> None:
    """(Q4b), by trying all sums of ops small enough."""
    proven = 0
    for op in ops(60):
        bound = op.bounds()
        if bound.high - bound.low > 200_000 or op.shift is None or (op.shift.const >= 0).any():
            continue
        short = short_multipliers(op)
        if short is None:
            continue
        proven += 1
        sums = np.arange(bound.low, bound.high + 1)
        assert op.clamp is not None
        low, high = op.clamp[0] - op.out.zero, op.clamp[1] - op.out.zero
        for channel in range(op.channels):
            y = once(sums, np.int64(short[channel]), op.shift.const[channel].astype(np.int64))
            wanted = golden(op, Rounding.NEAREST, sums, channel).astype(np.int64) - op.out.zero
            assert np.array_equal(np.clip(y, low, high), wanted)
    assert proven > 10
