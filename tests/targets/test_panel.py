"""Dot-product kernels: packing of weights and rows, what leaves int8, every way into a panel."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from qgen.errors import Loc
from qgen.ir.graph import Graph
from qgen.ir.linear import Linear
from qgen.ir.op import Op
from qgen.ir.ops.conv2d import Conv2D
from qgen.ir.ops.fully_connected import FullyConnected
from qgen.ir.types import Activation, DType, Padding, QParams, Rounding, Tensor
from qgen.lower import Lowered, lower
from qgen.passes.legalize import legalize
from qgen.targets import TARGETS, gemm_sdot, gemm_smmla
from qgen.targets.blocks import block_starts
from qgen.targets.dot import DotKernel, excess_table, instance, pack, split
from qgen.targets.finish import plan_finish
from qgen.targets.panel import balanced, split_rows
from qgen.targets.panel_asm import CHUNK, DIRECT, PAIRED, Layout
from qgen.verify.compare import verify_lowered
from tests.ops.draw import Draw

KERNELS = (gemm_sdot.KERNEL, gemm_smmla.KERNEL)
DOT_TARGETS = ("aarch64+dotprod", "aarch64+i8mm")

# Kernel, stride, columns, channels in, channels out: each way into a panel with each rest.
SHAPES = (
    (1, 1, 5, 16, 8), (1, 1, 7, 40, 24), (1, 1, 13, 24, 12), (1, 1, 9, 4, 9), (1, 1, 6, 12, 16),
    (1, 1, 31, 96, 8), (1, 2, 24, 16, 8), (1, 1, 1, 136, 36), (2, 1, 4, 16, 10), (3, 1, 12, 16, 8),
    (3, 2, 16, 3, 16), (3, 1, 20, 1, 8), (2, 1, 12, 5, 8), (3, 1, 5, 3, 17), (3, 2, 7, 6, 8),
    (4, 1, 16, 4, 8), (1, 1, 8, 3, 8), (5, 1, 9, 8, 8), (3, 2, 23, 32, 9), (1, 2, 26, 32, 8),
    (2, 1, 14, 48, 16), (3, 3, 31, 16, 8), (5, 2, 40, 16, 8), (1, 1, 32, 16, 24),
)  # fmt: skip
# Rows, products, channels.
DENSE = (
    (1, 640, 32), (1, 128, 40), (1, 20, 17), (1, 8, 128), (2, 64, 9), (3, 24, 8), (13, 48, 8),
    (9, 5, 8), (1, 30, 8), (21, 31, 24), (1, 100, 70),
)  # fmt: skip


def drawn_linear(d: Draw, x: Tensor, shape: tuple[int, ...], wide: bool) -> dict[str, object]:
    """Weights and bias; those of `wide` leave int8, sparsely or everywhere."""
    zero = d.choose((0, 100, 255)) if wide else 128
    data = np.clip(zero + d.rng.normal(0, 25, shape), 0, 255)
    some = d.rng.random(shape) < d.choose((0.01, 0.01, 0.5))
    data = np.where(some & wide, d.rng.integers(0, 256, shape), data).round().astype(np.uint8)
    scales = tuple(d.log(-9, -7) for _ in range(shape[0] if d.chance(0.5) else 1))
    quant = QParams(scales, zero, 0 if len(scales) > 1 else None)
    bias = d.rng.integers(-4000, 4000, (shape[0],), np.int32)
    return {"w": d.constant("w", data, quant), "b": d.constant("b", bias, QParams((1.0,), 0))}


def built(case: int, rounding: Rounding) -> Op:
    d = Draw((42, case), f"o{case}", Loc("drawn", case + 1))
    wide, kind = case % 3 == 0, DType.U8 if case % 4 == 3 else DType.I8
    # Most multipliers shift to the right, some leave most of the type unused, some are above 1.
    scale = d.choose((0.5, 0.5, 0.2, 0.02, 2.0**-12))
    if case < len(SHAPES):
        k, stride, columns, channels, out = SHAPES[case]
        shape: tuple[int, ...] = (1 + case % 2, 3 if k > 1 else 1, columns, channels)
        x = d.tensor("x", kind, shape, QParams((0.05,), d.zero(kind)))
        fields = drawn_linear(d, x, (out, k, k, channels), wide)
        rows, width = -(-shape[1] // stride), -(-columns // stride)
        y = d.tensor("y", kind, (shape[0], rows, width, out), QParams((scale,), d.zero(kind)))
        return Conv2D(
            x=x, out=y, loc=d.loc, stride=(stride, stride), padding=Padding.SAME,
            activation=d.activation(), **fields,
        )  # fmt: skip
    count, depth, out = DENSE[case - len(SHAPES)]
    x = d.tensor("x", kind, (count, depth), QParams((0.05,), d.zero(kind)))
    fields = drawn_linear(d, x, (out, depth), wide)
    y = d.tensor("y", kind, (count, out), QParams((scale,), d.zero(kind)))
    return FullyConnected(
        x=x, out=y, loc=d.loc, requant=rounding, activation=d.activation(), **fields
    )


@cache
def bank(rounding: Rounding) -> Graph:
    """All shapes side by side, under one rounding."""
    ops = tuple(built(case, rounding) for case in range(len(SHAPES) + len(DENSE)))
    inputs = tuple(op.x for op in ops if isinstance(op, Linear))
    return Graph("panels", inputs, tuple(op.out for op in ops), ops, rounding=rounding)


def lowered(rounding: Rounding, target: str) -> Lowered:
    return lower(bank(rounding), TARGETS[target])


def linear_ops(rounding: Rounding) -> list[Linear]:
    return [op for op in legalize(bank(rounding)).ops if isinstance(op, Linear)]


@pytest.mark.parametrize("target", DOT_TARGETS)
@pytest.mark.parametrize("rounding", Rounding)
def test_equals_golden(rounding: Rounding, target: str) -> None:
    verdict = verify_lowered(lowered(rounding, target), inputs=7, seed=1, timeout=60)
    assert verdict.equal, str(verdict)


@pytest.mark.parametrize("target", DOT_TARGETS)
def test_every_way_is_taken(target: str) -> None:
    steps = [s for rounding in Rounding for s in lowered(rounding, target).steps]
    used = {s.spec.name for s in steps}
    matrix = [r for r in TARGETS[target].kernels if r.op in ("conv2d", "fully_connected")]
    own = matrix[0].name.split("__")[1].split("_")[0]
    assert {r.name for r in matrix if f"__{own}_" in r.name} <= used
    helpers = {h.name for s in steps for h in s.prepared.helpers}
    instances = [tuple(h.split("_")) for h in helpers if h.startswith(("sdot_", "smmla_"))]
    for tile, wide in itertools.product(("8x8", "4x8", "1x8"), (True, False)):
        assert any(tile in i and ("wide" in i) == wide for i in instances), (tile, wide)
    for trait in (
        "left",
        "single",
        "once",
        "ssra",
        "unsigned",
        "low",
        "high",
        "flip",
        "loop",
        "top",
    ):
        assert any(trait in i for i in instances), trait


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: k.mnemonic)
@pytest.mark.parametrize("channels", [8, 16, 32])
def test_packing_loses_nothing(kernel: DotKernel, channels: int) -> None:
    excesses = 0
    for op in linear_ops(Rounding.GEMMLOWP):
        if op.channels < channels:
            continue
        weights = op.weight_matrix().astype(np.int64)
        depth = len(weights)
        order = [*range(depth), *[-1] * (-depth % kernel.group)]
        finish = plan_finish(op, Rounding.GEMMLOWP)
        packed = pack(kernel, op, finish, channels, order)
        starts = block_starts(op.channels, channels)
        assert packed.blocks == op.channels // channels
        assert packed.overlap == (len(starts) != packed.blocks)
        blocks = packed.weights.reshape(len(starts), -1, channels, kernel.group).astype(np.int64)
        again = iter(packed.excess)
        counts = packed.parameters[:, -4] if packed.excess else [0] * len(starts)
        for block, start, count in zip(blocks, starts, counts, strict=True):
            for group, more in itertools.islice(again, count):
                block[group] += more
            found = block.transpose(0, 2, 1).reshape(-1, channels)
            assert np.array_equal(found[:depth], weights[:, start : start + channels])
            assert not found[depth:].any()
        excesses += len(packed.excess)
    assert excesses


def dead_at_the_end() -> Graph:
    """A first layer and a matrix product whose last four channels have no weights."""
    ops: list[Op] = []
    for case, (k, columns, channels) in enumerate(((3, 24, 3), (1, 24, 16), (3, 24, 16))):
        d = Draw((43, case), f"o{case}", Loc("drawn", case + 1))
        x = d.tensor("x", DType.I8, (1, 4, columns, channels), QParams((0.05,), -128))
        fields = drawn_linear(d, x, (16, k, k, channels), wide=case == 1)
        w = fields["w"]
        assert isinstance(w, Tensor)
        data = w.const.copy()
        data[12:] = w.zero
        if case == 1:
            # The last group of products has no weights either.
            data[..., 12:] = w.zero
        quant = QParams((0.01,), w.zero)
        fields["w"] = replace(w, data=data, type=replace(w.type, quant=quant))
        y = d.tensor("y", DType.I8, (1, 4, columns, 16), QParams((0.3,), -128))
        ops.append(
            Conv2D(
                x=x, out=y, loc=d.loc, padding=Padding.SAME, activation=Activation.RELU, **fields
            )
        )
    inputs = tuple(op.x for op in ops if isinstance(op, Linear))
    return Graph("dead", inputs, tuple(op.out for op in ops), tuple(ops))


def test_halves_without_weights_equal_golden() -> None:
    made = lower(dead_at_the_end(), TARGETS["aarch64+dotprod"])
    verdict = verify_lowered(made, inputs=7, seed=1, timeout=60)
    assert verdict.equal, str(verdict)
    for step in made.steps:
        assert any("half" in h.name.split("_") for h in step.prepared.helpers), step.spec.name
    assert any("_k12_" in h.name for h in made.steps[1].prepared.helpers)
    assert [s.spec.name.rsplit("_", 1)[1] for s in made.steps] == ["pixels", "rows", "planes"]


def test_weights_are_split_into_int8() -> None:
    every = np.arange(-255, 256).reshape(-1, 1)
    terms = split(every)
    assert len(terms) == 3 and all(term.dtype == np.int8 for term in terms)
    assert np.array_equal(sum(term.astype(int) for term in terms), every)
    assert len(split(np.zeros((4, 1)))) == 1


@pytest.mark.parametrize("rows", [1, 4, 8])
def test_a_paired_panel_is_what_st4_makes_of_it(rows: int) -> None:
    group = PAIRED.group
    for depth in range(group, 65, group):
        at = {
            (k, row): PAIRED.position(k, row, rows, depth)
            for k, row in itertools.product(range(depth), range(rows))
        }
        assert sorted(at.values()) == list(range(PAIRED.bytes(rows, depth)))
        for (k, row), place in at.items():
            if rows > 1 and k % group == 0 and row % 4 < 3:
                # ST4 puts elements of four registers side by side.
                assert at[k, row + 1] == place + group


@pytest.mark.parametrize("rows", [1, 4, 8])
def test_a_direct_panel_has_rows_side_by_side(rows: int) -> None:
    for depth in range(4, 69, 4):
        at = {
            (k, row): DIRECT.position(k, row, rows, depth)
            for k, row in itertools.product(range(depth), range(rows))
        }
        assert len(set(at.values())) == len(at)
        assert max(at.values()) < DIRECT.bytes(rows, depth) <= rows * (depth + CHUNK - 1)
        for (k, row), place in at.items():
            if rows > 1:
                assert place == k // CHUNK * CHUNK * rows + row * CHUNK + k % CHUNK


@pytest.mark.parametrize("rows", [1, 4, 8])
@pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: k.mnemonic)
def test_offsets_of_what_is_multiplied_again(kernel: DotKernel, rows: int) -> None:
    """Groups lie in front of the end of the panel, where the pointer is behind the loop."""
    for op in linear_ops(Rounding.GEMMLOWP):
        depth = op.weight_matrix().shape[0]
        order = [*range(depth), *[-1] * (-depth % kernel.group)]
        packed = pack(kernel, op, plan_finish(op, Rounding.GEMMLOWP), 8, order)
        if not packed.excess:
            continue
        table = excess_table(kernel, packed, rows).reshape(len(packed.excess), -1)
        assert table.shape[1] == 16 + 8 * kernel.group
        for entry, (group, weights) in zip(table, packed.excess, strict=True):
            first, second = entry[:16].copy().view("<i4")[:2].tolist()
            layout: Layout = kernel.layout
            end = layout.bytes(rows, packed.depth)
            k = group * kernel.group
            assert first + end == layout.position(k, 0, rows, packed.depth)
            other = layout.position(k, min(4, rows - 1), rows, packed.depth)
            assert second + end == other < end
            assert np.array_equal(entry[16:], weights.reshape(-1))


def test_names_of_instances_tell_them_apart() -> None:
    """Two instances of one name would be printed once: the traits must say all that differs."""
    seen: dict[str, list[object]] = {}
    for rounding, kernel, rows in itertools.product(Rounding, KERNELS, (1, 4, 8)):
        for op in linear_ops(rounding):
            if kernel.refuses(op, rounding):
                continue
            depth = op.weight_matrix().shape[0]
            order = [*range(depth), *[-1] * (-depth % kernel.group)]
            finish = plan_finish(op, op.rounding(rounding))
            for width in kernel.alone if rows == 1 else (8,):
                if width <= op.channels:
                    made = instance(kernel, pack(kernel, op, finish, width, order), finish, rows)
                    values = made.helper.vars
                    printed = [values[k] for k in ("bias", "loop", "tails", "end", "words", "wide")]
                    assert seen.setdefault(made.helper.name, printed) == printed
    assert len(seen) > 40


def test_rows_are_split_into_tiles() -> None:
    for count in range(1, 60):
        parts = split_rows(count)
        assert sum(rows * tiles for rows, _, tiles in parts) == count
        assert [first for _, first, _ in parts] == [
            sum(rows * tiles for rows, _, tiles in parts[:i]) for i in range(len(parts))
        ]
    assert [balanced(12, 5), balanced(12, 100), balanced(13, 6)] == [4, 12, 5]
