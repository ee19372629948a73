"""Kernels of 32-bit NEON: packing, proofs of the int16 lanes, registers, what is left to others."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

import numpy as np
import pytest

from qgen.ir.graph import Graph
from qgen.ir.linear import Linear
from qgen.ir.ops.depthwise_conv2d import DepthwiseConv2D
from qgen.ir.types import Array, Rounding
from qgen.passes.legalize import legalize
from qgen.targets import TARGETS, gemm_neon32, gemm_neon32_pairs
from qgen.targets.blocks import block_starts
from qgen.targets.depthwise_neon32 import PLAN, ROWS
from qgen.targets.fold import fold_zero_points
from qgen.targets.gemm_neon32 import INT16_MAX, lane_bound, widths
from tests.ops.strategies import one

KERNELS = {4: gemm_neon32, 8: gemm_neon32_pairs}
LANES = {4: 8, 8: 4}


def linear_ops(count: int, channels: int) -> Iterator[Linear]:
    for case, name in itertools.product(range(count), ("conv2d", "fully_connected")):
        op = one(name, 11, case)
        if isinstance(op, Linear) and op.channels >= channels:
            found = legalize(Graph("g", tuple(op.inputs()), (op.out,), (op,))).ops[0]
            assert isinstance(found, Linear)
            yield found


def unpacked(packed: gemm_neon32.Packed, channels: int, block: int) -> Array:
    """[row, channels] from the order in which a kernel reads; each element must come once."""
    w = np.zeros((packed.row, channels), np.int8)
    read = iter(packed.weights.tolist())
    step = gemm_neon32.STEP if block == 4 else gemm_neon32_pairs.STEP
    for start in block_starts(channels, block):
        at = 0
        for width in widths(packed.row, step):
            if block == 4:
                order = [(k, c) for c in range(4) for k in range(width)]
            else:
                order = [
                    (4 * group + k, 2 * pair + c)
                    for pair in range(4) for group in range(width // 4)
                    for c in range(2) for k in range(4)
                ]  # fmt: skip
            for k, c in order:
                w[at + k, start + c] = next(read)
            at += width
    assert next(read, None) is None
    return w


@pytest.mark.parametrize("block", KERNELS)
@pytest.mark.parametrize("rounding", Rounding)
def test_packing_loses_nothing(block: int, rounding: Rounding) -> None:
    for op in linear_ops(15, block):
        weights, bias, _ = fold_zero_points(op)
        packed = KERNELS[block].pack(op, rounding)
        w = unpacked(packed, weights.shape[1], block)
        k = len(weights)
        assert np.array_equal(w[:k], weights) and not w[k:].any() and len(w) - k < 8
        assert packed.lane_bound <= INT16_MAX
        flags = len(packed.depths) - 1
        order = [0, 1, 2, 3] if block == 4 else [0, 1, 1, 0]
        assert packed.parameters[0, flags:][:4].tolist() == bias[order].tolist()
        if flags:
            assert packed.parameters[:, 0].tolist() == [int(d) for d in packed.deep]


@pytest.mark.parametrize("block", KERNELS)
@pytest.mark.parametrize("depth", [1, 2, 4])
def test_lane_bound_is_the_maximum(block: int, depth: int) -> None:
    """By the worst input of every product that meets in a lane."""
    lanes, step = LANES[block], 4 * LANES[block]
    rng = np.random.default_rng(depth)
    w = rng.integers(-128, 128, (2 * step + step // 2 + 8, block), np.int64)
    worst, at = 0, 0
    for width in widths(len(w), step):
        groups = [range(g, min(g + depth, width // lanes)) for g in range(0, width // lanes, depth)]
        for run, lane, c in itertools.product(groups, range(lanes), range(block)):
            met = [int(w[at + lanes * g + lane, c]) for g in run]
            up = sum(max(127 * v, -128 * v) for v in met)
            down = sum(min(127 * v, -128 * v) for v in met)
            # An int16 lane holds one more below zero than above.
            worst = max(worst, up, -down - 1)
        at += width
    assert lane_bound(w.astype(np.int8), depth, step, lanes) == worst


def registers(text: str) -> set[int]:
    """Quad registers that assembly names, as such, as halves or as ranges of halves."""
    found = {int(q) for q in re.findall(r"\bq(\d+)\b", text)}
    found |= {int(d) // 2 for d in re.findall(r"\bd(\d+)\b", text)}
    for first, last in re.findall(r"\bd(\d+)-d(\d+)\b", text):
        found |= set(range(int(first) // 2, int(last) // 2 + 1))
    return found


@pytest.mark.parametrize("block", KERNELS)
@pytest.mark.parametrize("rounding", Rounding)
def test_ends_keep_to_the_plan(block: int, rounding: Rounding) -> None:
    kernel = KERNELS[block]
    seen: dict[str, object] = {}
    for op in linear_ops(20, block):
        if block == 8 and gemm_neon32_pairs.refuses(op, rounding):
            continue
        for rows in (1, 2) if block == 4 else (2,):
            helper = kernel.helper(rows, kernel.pack(op, rounding), rounding, op)
            used = registers(" ".join(helper.vars["end"].lines))
            assert used <= {int(c[1:]) for c in kernel.register_plan(rows).clobbers}
            # A frame pointer and a table of globals leave Thumb code no more.
            assert len(helper.vars["outputs"]) + len(helper.vars["operands"]) <= 9
            printed = {k: v for k, v in helper.vars.items() if k != "arrange"}
            assert seen.setdefault(helper.name, printed) == printed
    assert seen


def test_depthwise_keeps_to_the_plan() -> None:
    names: dict[str, object] = {}
    for case in range(60):
        op = one("depthwise_conv2d", 5, case)
        model = legalize(Graph("g", tuple(op.inputs()), (op.out,), (op,)))
        found = model.ops[0]
        assert isinstance(found, DepthwiseConv2D)
        rounding = found.rounding(Rounding.GEMMLOWP)
        if ROWS[0].refuses(found, rounding):
            continue
        helper = ROWS[0].prepare(found, rounding).helpers[-1]
        program = helper.vars["program"]
        sections = (program.head, *program.body, *program.tail)
        lines = [line for section in sections for line in section.lines]
        assert registers(" ".join(lines)) <= {int(c[1:]) for c in PLAN.clobbers}
        assert len(program.operands) + len(program.inputs) <= 9
        assert names.setdefault(helper.name, lines) == lines
    assert names


def test_rows_of_64_bit_arm_stay_there() -> None:
    armv7a = TARGETS["armv7a"]
    assert not any("aarch64" in row.requires for row in armv7a.kernels)
    assert "aarch64" not in armv7a.features
    shared = {row.name for row in armv7a.kernels} & {r.name for r in TARGETS["aarch64"].kernels}
    assert "qs8_depthwise_conv2d__neon_16" in shared and "q8_softmax__neon_8" in shared
    assert not any("_4x4c32" in name or "neon_3x3" in name for name in shared)
