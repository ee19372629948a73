"""Winograd convolutions: forms, bounds, packing, registers, every scheme with every block."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from qgen.compile import compile_model
from qgen.errors import Loc
from qgen.frontend.printer import save
from qgen.ir.graph import Graph
from qgen.ir.numerics import INT32_MAX
from qgen.ir.ops.add import Add
from qgen.ir.ops.conv2d import Conv2D
from qgen.ir.types import Array, DType, Padding, QParams, Rounding, Tensor, TensorType
from qgen.ir.windows import Pads
from qgen.lower import LEAST_ROOM, Lowered, lower
from qgen.passes.legalize import legalize
from qgen.profile import profile_model
from qgen.targets import TARGETS, portable, winograd
from qgen.targets.blocks import block_starts
from qgen.targets.winograd_forms import F2, F4, SCHEMES, Form, Scheme, matrix
from qgen.targets.winograd_plan import MOST_WEIGHT_BYTES, TILES, Plan, pack
from qgen.targets.winograd_products import CHANNELS, LANES, PAIRS, Turn, products
from qgen.targets.winograd_transforms import input_transform
from qgen.verify.compare import verify_lowered
from tests.ops.draw import Draw

# Images, height, width, channels in, channels out, padding: odd sizes, results of one tile, blocks
# of channels that overlap, one, two and more steps of 8 and of 16 channels.
SHAPES: tuple[tuple[int, int, int, int, int, Padding | Pads], ...] = (
    (1, 7, 9, 8, 8, Padding.SAME), (2, 6, 5, 19, 13, Padding.SAME),
    (1, 4, 4, 16, 24, Padding.SAME), (1, 6, 6, 8, 8, Padding.VALID),
    (1, 9, 8, 40, 9, Padding.VALID), (3, 5, 6, 12, 8, Padding.SAME),
    (1, 12, 10, 48, 16, Padding.SAME), (1, 4, 5, 24, 8, Pads(2, 1, 0, 2)),
    (1, 13, 8, 32, 11, Padding.SAME), (2, 4, 4, 10, 8, Padding.SAME),
)  # fmt: skip


def built(case: int, rounding: Rounding) -> Conv2D:
    n, height, width, inputs, outputs, padding = SHAPES[case]
    d = Draw((77, case), f"o{case}", Loc("drawn", case + 1))
    kind = DType.U8 if case % 3 == 1 else DType.I8
    zero = d.choose((100, 140)) if kind is DType.U8 else 0
    shape = (outputs, 3, 3, inputs)
    data = np.clip(zero + d.rng.normal(0, 30, shape), kind.min, kind.max).round()
    if case % 4 == 2:  # the largest that int8 weights can be
        data = d.rng.choice((-128, 127), shape)
    scales = tuple(d.log(-9, -7) for _ in range(outputs if d.chance(0.5) else 1))
    quant = QParams(scales, zero, 0 if len(scales) > 1 else None)
    x = d.tensor("x", kind, (n, height, width, inputs), QParams((0.05,), d.zero(kind)))
    pads = (1, 1, 1, 1) if padding is Padding.SAME else padding
    above, below, left, right = pads if isinstance(pads, tuple) else (0, 0, 0, 0)
    y = d.tensor(
        "y", kind, (n, height + above + below - 2, width + left + right - 2, outputs),
        QParams((d.choose((0.5, 0.2)),), d.zero(kind)),
    )  # fmt: skip
    bias = d.rng.integers(-4000, 4000, (outputs,), np.int32)
    return Conv2D(
        x=x, out=y, loc=d.loc, padding=padding, activation=d.activation(),
        w=d.constant("w", data.astype(kind.numpy), quant), b=d.constant("b", bias),
    )  # fmt: skip


@cache
def bank(rounding: Rounding) -> Graph:
    """All shapes side by side, under one rounding."""
    ops = tuple(built(case, rounding) for case in range(len(SHAPES)))
    return Graph("tiles", tuple(op.x for op in ops), tuple(op.out for op in ops), ops,
                 rounding=rounding)  # fmt: skip


def room_of(scheme: Scheme, tiles: int) -> int:
    """Scratch of so many tiles of the widest op."""
    return tiles * scheme.frequencies * (2 * 48 + 4 * CHANNELS)


def lowered(rounding: Rounding, scheme: Scheme, tiles: int) -> Lowered:
    """All shapes by one scheme with one number of tiles, where it fits."""
    target = TARGETS["aarch64"]
    row = next(r for r in winograd.ROWS if r.name.endswith(f"_{scheme}"))
    assert row.within
    row = replace(row.within(room_of(scheme, tiles)), within=None)
    return lower(bank(rounding), replace(target, kernels=(row, *portable.ROWS)))


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
@pytest.mark.parametrize(
    ("rounding", "tiles"), [(Rounding.GEMMLOWP, 4), (Rounding.SINGLE, 2), (Rounding.NEAREST, 1)]
)
def test_equals_golden(scheme: Scheme, rounding: Rounding, tiles: int) -> None:
    low = lowered(rounding, scheme, tiles)
    taken = [s for s in low.steps if "winograd" in s.spec.name]
    assert len(taken) > len(SHAPES) // 2
    verdict = verify_lowered(low, inputs=7, seed=3, timeout=60)
    assert verdict.equal, str(verdict)


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_scheme_is_a_convolution(scheme: Scheme) -> None:
    """All of (Q22) on integers, modulo 2^32, as the kernels compute it."""
    rng = np.random.default_rng(5)
    rows, columns = scheme.rows, scheme.columns
    x = rng.integers(-128, 128, (rows.size, columns.size, 3))
    w = rng.integers(-128, 128, (3, 3, 3, 2))
    v = np.einsum("ia,jb,abc->ijc", forward(rows), forward(columns), x)
    assert np.abs(v).max() <= scheme.input_bound <= 2**15 - 1
    u = scheme.transform_weights(w)
    m = np.einsum("fc,fco->fo", v.reshape(-1, 3), u).astype(np.int32).astype(np.int64)
    m = m.reshape(rows.size, columns.size, 2)
    found = np.einsum("ia,jb,abo->ijo", back(rows), back(columns), m).astype(np.int32)
    for i, j in itertools.product(range(scheme.height), range(scheme.width)):
        wanted = np.einsum("abc,abco->o", x[i : i + 3, j : j + 3], w)
        assert np.array_equal(found[i, j], (wanted * scheme.factor).astype(np.int32))


def forward(form: Form) -> Array:
    return matrix(form.input, "d", form.size, "v", form.size)


def back(form: Form) -> Array:
    return matrix(form.output, "m", form.size, "y", form.outputs)


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_input_bound_is_reached(scheme: Scheme) -> None:
    """Some int8 tile drives an element of V to its bound, but for 127 in place of 128."""
    widest = 0
    for row, column in itertools.product(forward(scheme.rows), forward(scheme.columns)):
        weights = np.outer(row, column)
        widest = max(widest, int(np.where(weights > 0, -128, 127).ravel() @ -weights.ravel()))
    assert scheme.input_bound * 127 // 128 <= widest <= scheme.input_bound


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_division_is_exact(scheme: Scheme) -> None:
    """(Q23) at both ends and around zero; the next sum beyond would not fit or not be exact."""
    most = scheme.most_sum
    sums = np.array([*range(-100, 101), -most, 1 - most, most - 1, most], np.int64)
    carried = sums * scheme.factor
    assert np.abs(carried).max() <= INT32_MAX
    # SQRDMULH
    assert np.array_equal((carried * scheme.reciprocal + 2**30) >> 31, sums)


def conv(
    *, shape: tuple[int, ...] = (1, 8, 8, 8), channels: int = 8, weight: int = 1, bias: int = 0,
    kernel: int = 3, stride: int = 1, padding: Padding | Pads = Padding.VALID,
) -> Conv2D:  # fmt: skip
    """A legal op with equal weights."""
    w = np.full((channels, kernel, kernel, shape[3]), weight, np.int8)
    unit = QParams((0.05,), 0)
    x = Tensor("x", TensorType(DType.I8, shape, unit))
    more = 2 * padding[0] if isinstance(padding, Pads) else 0
    size = (shape[1] + more - kernel) // stride + 1
    op = Conv2D(
        x=x, w=Tensor("w", TensorType(DType.I8, w.shape, unit), w), stride=(stride, stride),
        b=Tensor("b", TensorType(DType.I32, (channels,)), np.full(channels, bias, np.int32)),
        padding=padding, out=Tensor("y", TensorType(DType.I8, (1, size, size, channels), unit)),
    )  # fmt: skip
    found = legalize(Graph("g", (x,), (op.out,), (op,))).ops[0]
    assert isinstance(found, Conv2D)
    return found


@pytest.mark.parametrize(
    ("reason", "op"),
    [
        ("not 3 x 3 with stride 1", conv(kernel=2)),
        ("not 3 x 3 with stride 1", conv(stride=2)),
        ("fewer than 8 input or output channels", conv(channels=7)),
        ("fewer than 8 input or output channels", conv(shape=(1, 8, 8, 4))),
        ("windows inside padding", conv(padding=Pads(3, 3, 3, 3))),
        ("results smaller than a tile of 4x4", conv(shape=(1, 5, 5, 8))),
        (
            f"294912 bytes of transformed weights, more than {MOST_WEIGHT_BYTES}",
            conv(shape=(1, 8, 8, 64), channels=64),
        ),
        ("sums may exceed 3728270", conv(bias=4_000_000)),
        ("scratch of a tile exceeds 2048 bytes", conv(shape=(1, 8, 8, 16))),
    ],
)
def test_refuses(reason: str, op: Conv2D) -> None:
    row = next(r for r in winograd.ROWS if r.name.endswith("_4x4"))
    assert row.within
    assert row.within(2048).refuses(op, Rounding.GEMMLOWP).startswith(reason)


def test_refuses_weights_beyond_int16() -> None:
    w = np.zeros((8, 3, 3, 8), np.uint8)
    w[0, :, :, 0] = 255
    unit = QParams((0.05,), 0)
    x = Tensor("x", TensorType(DType.U8, (1, 8, 8, 8), unit))
    op = Conv2D(
        x=x, w=Tensor("w", TensorType(DType.U8, w.shape, unit), w),
        out=Tensor("y", TensorType(DType.U8, (1, 6, 6, 8), unit)),
    )  # fmt: skip
    op = legalize(Graph("g", (x,), (op.out,), (op,))).ops[0]
    reasons = [r.refuses(op, Rounding.GEMMLOWP) for r in winograd.ROWS]
    assert reasons == ["", "", "transformed weights leave int16"]


# -- packing -------------------------------------------------------------------------------------


@pytest.mark.parametrize("tiles", TILES)
@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_products_read_what_was_packed(scheme: Scheme, tiles: int) -> None:
    """The printed products, run line by line, on inputs where the transform puts them."""
    rng = np.random.default_rng(8)
    for op in legalize(bank(Rounding.GEMMLOWP)).ops:
        assert isinstance(op, Conv2D)
        plan = Plan(scheme, op, pack(scheme, op, Rounding.GEMMLOWP), tiles)
        inputs, real = plan.inputs, op.x.shape[3]
        v = rng.integers(-500, 500, (scheme.frequencies, tiles, real))
        memory = np.zeros(plan.input_bytes // 2, np.int64)
        for block, start in enumerate(block_starts(real, LANES)):
            for f, tile in itertools.product(range(scheme.frequencies), range(tiles)):
                first = plan.places[f] // 2 + tile * LANES + block * plan.turn.vector
                memory[first : first + LANES] = v[f, tile, start : start + LANES]
        packed = plan.packed.weights()
        assert packed.shape[1:] == (scheme.frequencies, inputs, CHANNELS)
        first_channel = block_starts(op.channels, CHANNELS)[-1]
        found = run(plan, memory, plan.turn.arranged(packed[-1]).astype(np.int64))
        u = plan.packed.transformed[:, :, first_channel : first_channel + CHANNELS]
        wanted = np.einsum("ftc,fco->fto", v, u)
        assert np.array_equal(found.reshape(wanted.shape), wanted)


def run(plan: Plan, x: Array, w: Array) -> Array:
    """Sums of one block of channels by the lines of the kernel."""
    kernel = products(plan.turn, plan.steps)
    lines: list[str] = []
    for _ in range(plan.scheme.frequencies // plan.turn.frequencies):
        first, *more = kernel.steps
        lines += first.lines
        for _ in range(plan.steps - 1):
            lines += more[-1].lines
        lines += kernel.store.lines
    source = {"x": iter(x.reshape(-1, LANES)), "w": iter(w.reshape(-1, LANES))}
    registers: dict[str, Array] = {}
    sums = []
    for line in lines:
        name, rest = line.split(" ", 1)
        numbers = re.findall(r"[qv](\d+)", rest)
        if name == "ldp":
            pointer = source["w" if "[w]" in rest else "x"]
            for number in numbers:
                registers[number] = next(pointer)
        elif name == "stp":
            sums += [registers[number] for number in numbers]
        else:
            half = slice(4, 8) if name.endswith("2") else slice(0, 4)
            target, weights, element = numbers
            lane = int(re.findall(r"\[(\d)\]", rest)[0])
            product = registers[weights][half] * registers[element][lane]
            old = registers[target] if name.startswith("smlal") else 0
            registers[target] = old + product
    assert all(next(rest, None) is None for rest in source.values())
    return np.concatenate(sums)


@pytest.mark.parametrize(("tiles", "step"), [*itertools.product(TILES, (8, 16))])
def test_eight_sums_whatever_the_tiles(tiles: int, step: int) -> None:
    turn = Turn(tiles, step)
    assert turn.tiles * turn.frequencies == PAIRS
    assert len(turn.regs["acc"]) == 2 * PAIRS
    assert max(turn.regs["x"]) < 16, "SMLAL takes an int16 element of the low registers only"


# -- registers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_rows_wait_in_scratch_only_where_registers_end(scheme: Scheme) -> None:
    lines = input_transform(scheme, range(0, 16 * 36, 16), flip=True).parts[0].lines
    waiting = sum(line.startswith("ldr") for line in lines)
    assert waiting % scheme.columns.size == 0
    assert (waiting > 0) == (scheme.rows is F4)


# -- scratch -------------------------------------------------------------------------------------


def residual(size: int, channels: int) -> Graph:
    """Four convolutions, of which the third lives beside a third tensor of its size."""
    unit = QParams((0.05,), 0)
    rng = np.random.default_rng(2)

    def tensor(name: str) -> Tensor:
        return Tensor(name, TensorType(DType.I8, (1, size, size, channels), unit))

    def block(x: Tensor, name: str) -> Conv2D:
        data = rng.integers(-60, 60, (channels, 3, 3, channels)).astype(np.int8)
        w = Tensor(f"w{name}", TensorType(DType.I8, data.shape, unit), data)
        return Conv2D(x=x, w=w, out=tensor(name), padding=Padding.SAME)

    image = tensor("image")
    first = block(image, "first")
    second = block(first.out, "second")
    third = block(second.out, "third")
    total = Add(a=third.out, b=first.out, out=tensor("total"))
    last = block(total.out, "last")
    return Graph("res", (image,), (last.out,), (first, second, third, total, last))


def test_scratch_takes_what_the_arena_leaves() -> None:
    low = lower(residual(32, 16), TARGETS["aarch64"])
    scratch = {s.op.name: s.prepared.scratch for s in low.steps}
    assert scratch["second"] > scratch["third"] >= LEAST_ROOM
    peak = 3 * 32 * 32 * 16
    assert peak < low.plan.arena_bytes <= 1.05 * peak
    assert low.plan.arena_bytes - peak >= scratch["third"]


@pytest.mark.parametrize(("size", "channels", "scheme"), [(13, 16, "4x4"), (8, 64, "2x4")])
def test_predictions_are_close_to_what_is_counted(
    size: int, channels: int, scheme: str, tmp_path: Path
) -> None:
    save(residual(size, channels), tmp_path / "res.qg")
    layers = profile_model(tmp_path / "res.qg", "aarch64").layers
    taken = [x for x in layers if x.kernel.endswith(f"winograd_{scheme}")]
    assert len(taken) >= 2
    for layer in taken:
        assert layer.predicted and layer.instructions
        assert abs(layer.predicted - layer.instructions) <= 0.05 * layer.instructions, layer.name


def test_edges_of_eight_channels_are_no_memcpy(tmp_path: Path) -> None:
    """Their pixels lie side by side, in the image and in its copy, and compilers see that."""
    save(residual(8, 8), tmp_path / "res.qg")
    compile_model(tmp_path / "res.qg", "aarch64", out=tmp_path / "res.h")
    assert "winograd" in (tmp_path / "res.h").read_text()


def test_no_room_is_any_room() -> None:
    op = conv(shape=(1, 32, 32, 16), channels=16)
    target = TARGETS["aarch64"]
    free = target.select(op, Rounding.GEMMLOWP)
    tight = target.select(op, Rounding.GEMMLOWP, room=1024)
    needs = [row.prepare(op, Rounding.GEMMLOWP).scratch for row in (free, tight)]
    assert free.name.endswith("_4x4") and needs[0] > 2304
    assert "winograd" in tight.name and needs[1] <= 1024


def test_costs_rise_with_what_is_multiplied() -> None:
    """At least the multiplications themselves, at most twice as many instructions."""
    for scheme in SCHEMES:
        op = conv(shape=(1, 34, 34, 32), channels=32)
        plan = Plan(scheme, op, pack(scheme, op, Rounding.GEMMLOWP), 4)
        multiplications = plan.count * scheme.frequencies * 32 * 32 / 4
        assert multiplications < plan.cost() < 2 * multiplications


def test_forms_differ() -> None:
    assert [str(s) for s in SCHEMES] == ["2x2", "2x4", "4x4"]
    assert (F2.size, F4.size) == (4, 6)
