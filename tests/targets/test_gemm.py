"""The matrix kernel's data: packing, folded zero points, proof of the int16 lanes."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

import numpy as np
import pytest

from qgen.ir.graph import Graph
from qgen.ir.linear import Linear
from qgen.ir.ops.fully_connected import FullyConnected
from qgen.ir.types import Array, DType, QParams, Rounding, Tensor, TensorType
from qgen.passes.legalize import legalize
from qgen.targets import gemm, gemm_lines
from qgen.targets.fold import fold_zero_points, overflow_reason
from qgen.targets.gemm import CHANNELS, LANES, STEP
from tests.ops.strategies import one


def linear_ops(count: int) -> Iterator[Linear]:
    for case in range(count):
        for name in ("conv2d", "fully_connected"):
            op = one(name, 11, case)
            if isinstance(op, Linear) and op.channels >= CHANNELS:
                model = Graph("g", tuple(op.inputs()), (op.out,), (op,))
                found = legalize(model).ops[0]
                assert isinstance(found, Linear)
                yield found


def dense(w: Array, x_zero: int = 0, w_zero: int = 0, x_kind: DType = DType.I8) -> FullyConnected:
    kind = DType.U8 if w.dtype == np.uint8 else DType.I8
    x = Tensor("x", TensorType(x_kind, (1, w.shape[1]), QParams((0.5,), x_zero)))
    weights = Tensor("w", TensorType(kind, w.shape, QParams((0.5,), w_zero)), w)
    out = Tensor("y", TensorType(DType.I8, (1, w.shape[0]), QParams((0.5,), 0)))
    return FullyConnected(x=x, w=weights, out=out).legalize()


def unpacked(packed: gemm.Packed, channels: int) -> Array:
    """[row, channels] from the order in which the kernel reads."""
    starts = [*range(0, channels - CHANNELS + 1, CHANNELS)]
    starts += [channels - CHANNELS] if channels % CHANNELS else []
    widths = [STEP] * (packed.row // STEP)
    widths += [w for w in (16, 8) if packed.row % STEP & w]
    w = np.zeros((packed.row, channels), np.int8)
    read = iter(packed.weights.tolist())
    for start in starts:
        at = 0
        for width in widths:
            for j, k in itertools.product(range(CHANNELS), range(width)):
                w[at + k, start + j] = next(read)
            at += width
    assert next(read, None) is None
    return w


@pytest.mark.parametrize("rounding", Rounding)
def test_packing_loses_nothing(rounding: Rounding) -> None:
    for op in linear_ops(15):
        weights, bias, factor = fold_zero_points(op)
        k, channels = weights.shape
        packed = gemm.pack(op, rounding)
        w = unpacked(packed, channels)
        assert np.array_equal(w[:k], weights) and not w[k:].any()
        assert w.shape[0] - k < LANES and packed.blocks == channels // CHANNELS
        words = packed.parameters
        last = channels - CHANNELS
        assert np.array_equal(words[-1, :4], bias[last:]) and np.array_equal(words[0, :4], bias[:4])
        assert read_flags(words[-1, 4:]) == packed.deep[-1].tolist()
        at = 4 + gemm.flag_words(packed.deep[0]).size
        for row in packed.finish.rows:
            assert np.array_equal(words[-1, at : at + 4], row[last:])
            at += 4
        if packed.row_sums:
            assert np.array_equal(words[0, at : at + 4], factor[:4])
            at += 4
        assert at == words.shape[1]


def read_flags(words: Array) -> list[bool]:
    """What the kernel does: shift words left until nothing is left of them."""
    found: list[bool] = []
    for i, word in enumerate(np.ascontiguousarray(words).view(np.uint64).tolist()):
        if word == 0:
            break
        while True:
            carry, word = word >> 63, (word << 1) & (2**64 - 1)
            if word == 0:
                assert carry
                break
            found.append(bool(carry))
        if len(found) != (i + 1) * gemm.WORD_STEPS:
            break
    return found


@pytest.mark.parametrize("steps", [0, 1, 5, 62, 63, 64, 126, 130])
def test_flags_of_any_number_of_steps(steps: int) -> None:
    deep = np.random.default_rng(steps).random(steps) < 0.5
    words = gemm.flag_words(deep)
    assert read_flags(words) == deep.tolist()
    # A chain of words ends in 0.
    assert (words.size > 2) == (steps > gemm.WORD_STEPS)
    assert words.size == 2 or not words[-2:].any()


def test_folded_zero_points_keep_the_sum() -> None:
    """(Q15): sum((x - Zx)(w - Zw)) + b = sum(x w') + f sum(x) + b', x stored as int8."""
    rng = np.random.default_rng(0)
    factors = 0
    for op in linear_ops(40):
        weights, bias, factor = fold_zero_points(op)
        factors += int(factor.any())
        assert weights.dtype == np.int8
        k = weights.shape[0]
        kind = op.x.dtype
        x = rng.integers(kind.min, kind.max, (5, k), np.int64, endpoint=True)
        exact = (x - op.x.zero) @ op.weight_matrix().astype(np.int64) + op.bias()
        stored = x - 128 if kind is DType.U8 else x
        folded = stored @ weights.astype(np.int64) + stored.sum(1, keepdims=True) * factor + bias
        assert np.array_equal(exact, folded)
    assert factors > 3


def test_any_weights_fit_int8_after_the_fold() -> None:
    for zero, low, high in itertools.product(
        (0, 1, 127, 128, 254, 255), (0, 1, 127), (128, 254, 255)
    ):
        w = np.array([[low, high], [zero, zero]] * 2, np.uint8)
        weights, _, factor = fold_zero_points(dense(w, w_zero=zero))
        assert np.array_equal(weights + factor, w.astype(int).T - zero)


@pytest.mark.parametrize("depth", [1, 2, 4])
@pytest.mark.parametrize("seed", range(4))
def test_lane_bound_is_the_maximum(seed: int, depth: int) -> None:
    """By trying both ends of x for every product that meets in a lane."""
    rng = np.random.default_rng(seed)
    w = rng.integers(-128 if seed % 2 else -100, 128, (STEP + 16 + LANES, CHANNELS), np.int64)
    worst = 0
    # Products 8 apart meet: four in a step of 32, two in the 16 behind it, none in the last 8.
    for first, length in ((0, STEP), (STEP, 16)):
        meeting = min(depth, length // LANES)
        for run in range(first, first + length, meeting * LANES):
            for lane, channel in itertools.product(range(LANES), range(CHANNELS)):
                ws = [int(w[run + lane + LANES * d, channel]) for d in range(meeting)]
                for xs in itertools.product((-128, 127), repeat=meeting):
                    total = sum(a * b for a, b in zip(xs, ws, strict=True))
                    # An int16 lane holds one more below zero than above.
                    worst = max(worst, total, -total - 1)
    assert gemm.lane_bound(w.astype(np.int8), depth) == worst


def test_depth_follows_the_weights_of_each_step() -> None:
    w = np.ones((8, 64), np.int8)
    assert gemm.pack(dense(w.copy()), Rounding.GEMMLOWP).deep.tolist() == [[True] * 2] * 2
    w[5, 0:32:8] = 100
    packed = gemm.pack(dense(w.copy()), Rounding.GEMMLOWP)
    assert (packed.deep.tolist(), packed.pairs) == ([[True, True], [False, True]], 2)
    w[5, 0] = w[5, 8] = -128
    packed = gemm.pack(dense(w.copy()), Rounding.GEMMLOWP)
    assert (packed.deep.tolist(), packed.pairs) == ([[True, True], [False, True]], 1)
    w[5, 8] = -127
    assert gemm.pack(dense(w), Rounding.GEMMLOWP).pairs == 2
    # The last eight products have lanes of their own.
    tail = np.full((4, 8), -128, np.int8)
    packed = gemm.pack(dense(tail), Rounding.GEMMLOWP)
    assert (packed.deep.shape, packed.lane_bound) == ((1, 0), 128 * 128)


def test_int32_overflow_is_refused() -> None:
    w = np.full((4, 16), -128, np.int8)
    op = dense(w)
    assert overflow_reason(op) == ""
    bias = np.full(4, 2**31 - 1, np.int32)
    huge = op.replace(b=Tensor("b", TensorType(DType.I32, (4,)), bias))
    assert overflow_reason(huge) == "partial sums may exceed int32"


def test_names_of_instances_tell_them_apart() -> None:
    """Two instances of one name would be printed once: the traits must say all that differs."""
    seen: dict[str, object] = {}
    for op in linear_ops(25):
        for rounding, rows in itertools.product(Rounding, (1, 3, 4)):
            helper = gemm.helper(rows, gemm.pack(op, rounding))
            assert seen.setdefault(helper.name, helper.vars) == helper.vars
    assert len(seen) > 12


def test_the_loop_changes_no_register_of_an_input() -> None:
    """Without early clobber, a compiler may give `row` the register of an equal block count."""
    op = next(linear_ops(1))
    for rounding, rows in itertools.product(Rounding, (1, 3, 4)):
        helper = gemm.helper(rows, gemm.pack(op, rounding))
        assert len(helper.vars["outputs"]) == 2 * rows + (5 if rows == 3 else 4)
        for operand in helper.vars["outputs"]:
            assert re.fullmatch(r'\[(\w+)\] "[+=]&r"\(\1\)', operand), operand


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("rows", [1, 3, 4])
def test_assembly_names_no_register_outside_the_plan(rows: int, rounding: Rounding) -> None:
    plan = {c[1:] for c in gemm_lines.register_plan(rows).clobbers}
    for op in linear_ops(15):
        asm = gemm.assembly(rows, gemm.pack(op, rounding))
        for part in (asm.start, asm.deep, asm.shallow, *asm.tails, asm.sums, asm.load, asm.end):
            assert set(re.findall(r"\b[vqds](\d+)\b", " ".join(part.lines))) <= plan
