"""int16 lanes of the aarch64 matrix kernels, replayed from what is packed: exact, in range, tight.

Each replay reads weights and flags in the kernel's order and notes the widest lane on the way.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from qgen.ir.graph import Graph
from qgen.ir.linear import Linear
from qgen.ir.ops.conv2d import Conv2D
from qgen.ir.ops.fully_connected import FullyConnected
from qgen.ir.types import Array, DType, QParams, Rounding, Tensor, TensorType
from qgen.lower import lower
from qgen.passes.legalize import legalize
from qgen.passes.storage import signed_storage
from qgen.targets import (
    TARGETS,
    gemm,
    gemm_mla,
    gemm_window,
    matvec,
    matvec_runs,
    product_window,
)
from qgen.targets.fold import fold_input_zero, fold_zero_points
from qgen.targets.gemm import INT16_MAX, lane_range
from qgen.verify.compare import verify_lowered
from qgen.verify.inputs import lane_operands
from tests.ops.strategies import one

R = Rounding.GEMMLOWP


def ops(name: str, row: str, count: int = 300) -> Iterator[Linear]:
    """Random ops that a row takes, as it sees them."""
    spec = next(k for k in TARGETS["aarch64"].kernels if row in k.name and k.op == name)
    for case in range(count):
        op = one(name, 3, case)
        model = signed_storage(legalize(Graph("g", tuple(op.inputs()), (op.out,), (op,))))
        found = next(o for o in model.ops if isinstance(o, Linear))
        if not spec.refuses(found, R):
            yield found


def widest(lanes: Array) -> int:
    return int(np.maximum(lanes, -lanes - 1).max())


def replay_smull(op: Linear, x: Array) -> tuple[int, Array]:
    packed = gemm.pack(op, R)
    w = fold_zero_points(op)[0].astype(np.int64)
    row = np.zeros(packed.row, np.int64)
    row[: len(x)] = x
    wide, sums = 0, np.zeros(op.channels, np.int64)
    starts = gemm.block_starts(op.channels, 4)
    for start, deep in zip(starts, packed.deep, strict=True):
        block = np.zeros((packed.row, 4), np.int64)
        block[: len(w)] = w[:, start : start + 4]
        products = block * row[:, None]
        total, at = np.zeros(4, np.int64), 0
        depths = [4 if d else packed.pairs for d in deep]
        for size, depth in [(32, d) for d in depths] + [(16, packed.pairs), (8, 1)]:
            if at + size > packed.row or (size < 32 and not packed.row % 32 & size):
                continue
            lanes = products[at : at + size].reshape(-1, depth, 8, 4).sum(axis=1)
            wide, at = max(wide, widest(lanes)), at + size
            total += lanes.sum(axis=(0, 1))
        assert at == packed.row
        sums[start : start + 4] = total
    return wide, sums


def replay_channels(op: Linear, x: Array, starts: list[Array], channels: int) -> tuple[int, Array]:
    """Lanes that are channels: `starts` says per block before which inputs they start anew."""
    w = fold_input_zero(op)[0]
    wide, sums = 0, np.zeros(op.channels, np.int64)
    for first, fresh in zip(gemm.block_starts(op.channels, channels), starts, strict=True):
        block = w[:, first : first + channels]
        lane = total = np.zeros(channels, np.int64)
        for k, value in enumerate(x.astype(np.int64)):
            if fresh[k]:
                total, lane = total + lane, np.zeros(channels, np.int64)
            lane = lane + value * block[k]
            wide = max(wide, widest(lane))
        sums[first : first + channels] = total + lane
    return wide, sums


def replay_mla(op: Linear, x: Array) -> tuple[int, Array]:
    packed = gemm_mla.pack(op, R)
    starts = []
    for fresh in packed.fresh:
        every = np.zeros(len(x), bool)
        every[:: packed.grain] = fresh
        starts.append(every)
    return replay_channels(op, x, starts, 8)


def replay_window(op: Linear, x: Array) -> tuple[int, Array]:
    assert isinstance(op, Conv2D)
    packed = gemm_window.pack(op, R)
    every = np.isin(np.arange(len(x)), packed.starts)
    return replay_channels(op, x, [every] * packed.blocks, 8)


def replay_matvec(op: Linear, x: Array) -> tuple[int, Array]:
    packed = matvec.pack(op, R)
    assert packed is not None
    w = fold_zero_points(op)[0].astype(np.int64)
    turn = packed.steps * 4
    wide, sums = 0, np.zeros(op.channels, np.int64)
    for first, flags in zip(gemm.block_starts(op.channels, 8), packed.fresh, strict=True):
        products = (w[:, first : first + 8] * x[:, None].astype(np.int64)).reshape(-1, 8, 8)
        points = iter(flags.tolist())
        lane = total = np.zeros((8, 8), np.int64)
        for i, product in enumerate(products):
            at = i % turn
            if at == 0 or (at % packed.grain == 0 and next(points)):
                total, lane = total + lane, np.zeros((8, 8), np.int64)
            lane = lane + product
            # Inside a group lanes are summed before they are looked at.
            if (i + 1) % packed.grain == 0:
                wide = max(wide, widest(lane))
        sums[first : first + 8] = (total + lane).sum(axis=0)
    return wide, sums


Replay = Callable[[Linear, Array], tuple[int, Array]]
KERNELS: dict[str, tuple[str, str, Replay, Callable[[Linear, Rounding], object]]] = {
    "smull": ("conv2d", "neon_4x4c32", replay_smull, gemm.pack),
    "smull rows": ("fully_connected", "neon_4x4c32", replay_smull, gemm.pack),
    "mla": ("conv2d", "neon_7x8k8", replay_mla, gemm_mla.pack),
    "window": ("conv2d", "neon_lines_7x8", replay_window, gemm_window.pack),
    "matvec": ("fully_connected", "neon_1x8c128", replay_matvec, matvec.pack),
}


@pytest.mark.parametrize("name", KERNELS)
def test_lanes_are_exact_and_reach_their_bound(name: str) -> None:
    kind, row, replay, pack = KERNELS[name]
    rng = np.random.default_rng(0)
    seen = 0
    for op in itertools.islice(ops(kind, row), 12):
        packed = pack(op, R)
        folded = fold_zero_points(op)[0] if name in ("smull", "smull rows", "matvec") else None
        w = fold_input_zero(op)[0] if folded is None else folded.astype(np.int64)
        reached = []
        for x in (*packed.extremes, rng.integers(-128, 128, len(w))):  # type: ignore[attr-defined]
            wide, sums = replay(op, x)
            assert np.array_equal(sums, x.astype(np.int64) @ w)
            assert wide <= packed.lane_bound <= INT16_MAX  # type: ignore[attr-defined]
            reached.append(wide)
        assert max(reached[:2]) == packed.lane_bound  # type: ignore[attr-defined]
        seen += 1
    assert seen > 5


@pytest.mark.parametrize("grain", [2, 4])
def test_lanes_start_anew_as_late_as_they_can(grain: int) -> None:
    rng = np.random.default_rng(grain)
    block = rng.integers(-60, 60, (48, 8))
    fresh, bounds = gemm_mla.runs(block, grain)
    assert fresh[0] and bounds.max() <= INT16_MAX
    firsts = [grain * i for i in np.flatnonzero(fresh)] + [48]
    for a, b in itertools.pairwise(firsts[:-1]):
        down, up = lane_range(block[None, a : b + grain])
        assert up.max() > INT16_MAX or down.min() < -INT16_MAX - 1


def dense(w: Array) -> FullyConnected:
    x = Tensor("x", TensorType(DType.I8, (1, w.shape[1]), QParams((0.5,), 0)))
    weights = Tensor("w", TensorType(DType.I8, w.shape, QParams((0.5,), 0)), w)
    out = Tensor("y", TensorType(DType.I8, (1, w.shape[0]), QParams((64.0,), 0)))
    return FullyConnected(x=x, w=weights, out=out)


def test_verify_runs_the_widest_lane(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proof that is off by a product is found; in the widest sum of all, lanes stay narrow."""
    rng = np.random.default_rng(0)
    w = rng.choice(np.array([-15, 15], np.int8), (16, 128))
    # 17 in all 16 products of one lane, in the channel whose sum is the narrowest.
    w[5] = 0
    w[5, ::8] = rng.choice(np.array([-17, 17]), 16)
    op = dense(w)
    graph = Graph("g", (op.x,), (op.out,), (op,))
    verdict = verify_lowered(lower(graph, TARGETS["aarch64"]), inputs=2, seed=0, timeout=60)
    assert verdict.equal
    monkeypatch.setattr(matvec_runs, "INT16_MAX", 16 * 17 * 128)
    again = op.replace()
    low = lower(Graph("g", (op.x,), (again.out,), (again,)), TARGETS["aarch64"])
    (step,) = low.steps
    assert "matvec" in step.prepared.helpers[-1].name
    assert len(list(lane_operands(step, rng))) == 2
    found = verify_lowered(low, inputs=1, seed=0, timeout=60).first_difference
    assert found is not None and found.kind == "widest lane"


@pytest.mark.parametrize("name", ["mla", "window", "matvec"])
def test_assembly_stays_inside_its_plan_and_its_name(name: str) -> None:
    kind, row, _, _ = KERNELS[name]
    seen: dict[str, object] = {}
    for op in ops(kind, row):
        if name == "window":
            made = product_window.plan(op, R)
            assert made is not None
            plan, asm = made.regs, made.asm
            texts = [made.asm.start, *made.asm.lines, asm.parameters, asm.load, asm.end]
            lines = [line for text in texts for line in text.lines]
            # An element of MLA is one of the low registers.
            elements = re.findall(r"v(\d+)\.h\[", " ".join(lines))
            assert elements and max(map(int, elements)) < 16
            assert set(map(int, re.findall(r"\b[vqds](\d+)\b", " ".join(lines)))) <= {
                int(c[1:]) for c in plan.clobbers
            }
            continue
        packed = gemm_mla.pack(op, R) if name == "mla" else matvec.pack(op, R)
        for rows in gemm_mla.ROWS if name == "mla" else (1,):
            if isinstance(packed, gemm_mla.Packed):
                helper = gemm_mla.helper(rows, packed)
            else:
                assert packed is not None
                helper = matvec.helper(packed)
            assert seen.setdefault(helper.name, helper.vars) == helper.vars
            allowed = {c.strip('"') for c in helper.vars["clobbers"]}
            used = set(re.findall(r"\bv(\d+)\.", repr(helper.vars["asm"])))
            assert {f"v{n}" for n in used} <= allowed
