"""Convolutions of few inputs on NEON by MLA: first layers, whose windows overlap.

As in `gemm_mla`, lanes are 8 output channels. The image is widened to int16 once, line by line and
with its padding, and windows are read where they lie: those of neighbouring pixels share most of
their vectors, and an element is a lane of one of them. All inputs of a window are printed one after
the other, so where lanes are added to int32 is fixed for all blocks of an op.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qgen.ir.ops.conv2d import Conv2D
from qgen.ir.types import Array, Rounding
from qgen.targets.blocks import block_starts, by_blocks
from qgen.targets.finish import Constants, Finish, finish_lines, load_lines, plan_finish
from qgen.targets.fold import fold_input_zero
from qgen.targets.gemm import INT16_MAX, extremes, lane_range
from qgen.targets.gemm_mla import CHANNELS, add_up
from qgen.targets.requantize_asm import Lines, Sums
from qgen.targets.spec import RegPlan
from qgen.targets.work import Part, Work

LANES = 8
LEAST_WEIGHTS = 3  # registers
LOW_REGISTERS = 16  # of which MLA can take an element
LEAST_SPARE = 11  # registers that the end needs beside sums and products


@dataclass(frozen=True)
class Reach:
    """What a tile of `rows` neighbouring pixels reads of each line, in elements.

    Attributes:
        step: from one window to the next.
        run: of one window.
        lines: of a window.
    """

    rows: int
    step: int
    run: int
    lines: int

    @property
    def vectors(self) -> tuple[int, ...]:
        """Vectors of 8 elements that hold something of a window, by number."""
        places = {self.step * i + e for i in range(self.rows) for e in range(self.run)}
        return tuple(sorted({place // LANES for place in places}))

    @property
    def end(self) -> int:
        """Elements of a line that a tile may touch."""
        return (self.vectors[-1] + 1) * LANES


def reach_of(op: Conv2D, rows: int) -> Reach:
    win, channels = op.window, op.x.shape[3]
    return Reach(rows, win.w.stride * channels, win.w.kernel * channels, win.h.kernel)


def register_plan(reach: Reach) -> RegPlan | None:
    """Vector registers, or None where a tile needs too many."""
    rows, count = reach.rows, len(reach.vectors)
    left = 32 - 3 * rows - count
    if left < LEAST_WEIGHTS or left + count < LEAST_SPARE:
        return None
    # A second set of inputs, so that one line is loaded while the other is multiplied.
    sets = 2 if left - count >= 4 and 2 * count <= LOW_REGISTERS else 1
    # An element of int16 can only be one of the low registers.
    if count > LOW_REGISTERS:
        return None
    first = (0, sets * count, sets * count + rows, sets * count + 3 * rows)
    return RegPlan(
        {
            "x": tuple(range(first[0], first[1])),
            "product": tuple(range(first[1], first[2])),
            "acc": tuple(range(first[2], first[3])),
            "w": tuple(range(first[3], min(32, first[3] + 10))),
        }
    )


@dataclass(frozen=True)
class Packed:
    """Weights of one op in the order in which the kernel reads them.

    Attributes:
        weights: int16 [block][K][8], K in the order of the window.
        parameters: int32 [block][words]: bias[8], and per channel what the end needs.
        starts: inputs at which int16 lanes start anew.
        lane_bound: largest |int16 lane| that any input can produce.
        extremes: inputs [K] that drive a lane there, one of them from above, one from below.
        finish: the end of the op.
    """

    weights: Array
    parameters: Array
    starts: tuple[int, ...]
    lane_bound: int
    extremes: tuple[Array, ...]
    finish: Finish

    @property
    def blocks(self) -> int:
        return len(self.parameters)


def pack(op: Conv2D, rounding: Rounding) -> Packed:
    """Fold the zero point, prove where lanes are added up, and put weights into reading order."""
    weights, bias = fold_input_zero(op)
    channels = weights.shape[1]
    finish = plan_finish(op, rounding)
    first = block_starts(channels, CHANNELS)
    starts, bounds = runs(weights)
    widest = int(bounds.argmax())
    parts = by_blocks([bias, *finish.rows], first, CHANNELS).reshape(len(first), -1)
    blocks = [weights[:, s : s + CHANNELS].astype(np.int16).reshape(-1) for s in first]
    return Packed(
        weights=np.concatenate(blocks),
        parameters=parts.astype(np.int32),
        starts=starts,
        lane_bound=int(bounds[widest]),
        extremes=extremes(weights[:, widest]),
        finish=finish,
    )


def runs(weights: Array) -> tuple[tuple[int, ...], Array]:
    """(Q16) Inputs at which lanes of [K][channels] weights start anew, and their bounds."""
    downs, ups = lane_range(weights[:, None, :])
    starts: list[int] = []
    low = high = np.zeros(weights.shape[1], np.int64)
    widest = np.zeros(weights.shape[1], np.int64)
    for k, (down, up) in enumerate(zip(downs, ups, strict=True)):
        low, high = low + down, high + up
        if k == 0 or high.max() > INT16_MAX or low.min() < -INT16_MAX - 1:
            starts.append(k)
            low, high = down, up
        widest = np.maximum(widest, np.maximum(high, -low - 1))
    return tuple(starts), widest


@dataclass(frozen=True)
class Assembly:
    """The kernel's text in pieces: one block of channels."""

    start: Lines
    lines: tuple[Lines, ...]
    parameters: Lines
    load: Lines
    end: Lines
    results: tuple[int, ...]


def assembly(reach: Reach, regs: RegPlan, packed: Packed, pitch: int) -> Assembly:
    """The instance of the kernel that a packed op needs; lines are `pitch` bytes apart."""
    product, acc, x, w = (regs[role] for role in ("product", "acc", "x", "w"))
    spare = (*x, *w)
    at = Constants(m0=spare[0], zero=spare[1], low=spare[2], high=spare[3], flip=spare[4])
    halves = [(spare[5 + i], spare[7 + i], spare[9 + i]) for i in range(2)]
    sums = [Sums(a, *halves[i % 2]) for i, a in enumerate(acc)]
    end, results = finish_lines(packed.finish, sums, product, at)
    parameters = [
        f"ldp q{halves[0][i]}, q{halves[1][i]}, [%[q]], #32" for i in range(len(packed.finish.rows))
    ]
    start = [f"ldp q{acc[2 * i]}, q{acc[2 * i + 1]}, [%[q]]" for i in range(reach.rows)]
    start[-1] += ", #32"
    reader = _Weights(w, reach.lines * reach.run)
    lines = [_line(reach, regs, packed, reader, i, pitch) for i in range(reach.lines)]
    lines.append(Lines("Lanes to int32.", tuple(add_up(regs))))
    return Assembly(
        start=Lines("Accumulators start at the bias.", tuple(start)),
        lines=tuple(lines),
        parameters=Lines("Parameters of the channels.", tuple(parameters)),
        load=load_lines(packed.finish, at),
        end=end,
        results=results,
    )


class _Weights:
    """Loads weights in pairs, as soon as their registers are free."""

    def __init__(self, registers: tuple[int, ...], count: int) -> None:
        self.registers = registers[: len(registers) // 2 * 2]
        self.count = count
        self.loaded = 0

    def ahead_of(self, k: int) -> list[str]:
        """What is loaded before input k is multiplied."""
        lines = []
        n = len(self.registers)
        while self.loaded < self.count and self.loaded + 2 - n <= k:
            a, b = (self.registers[(self.loaded + i) % n] for i in (0, 1))
            if self.loaded + 1 < self.count:
                lines.append(f"ldp q{a}, q{b}, [%[w]], #32")
            else:
                lines.append(f"ldr q{a}, [%[w]], #16")
            self.loaded += 2
        return lines

    def __getitem__(self, k: int) -> int:
        return self.registers[k % len(self.registers)]


def _line(
    reach: Reach, regs: RegPlan, packed: Packed, weights: _Weights, index: int, pitch: int
) -> Lines:
    """All products of one line of the windows."""
    vectors = reach.vectors
    mine = regs["x"][(index * len(vectors)) % len(regs["x"]) :][: len(vectors)]
    register = dict(zip(vectors, mine, strict=True))
    lines = _load_line(register)
    if index + 1 < reach.lines:
        lines.append(f"add %[x], %[x], #{pitch}")
    for e in range(reach.run):
        k = index * reach.run + e
        fresh = k in packed.starts
        if fresh and k:
            lines += add_up(regs)
        lines += weights.ahead_of(k)
        for i, p in enumerate(regs["product"]):
            vector, lane = divmod(i * reach.step + e, LANES)
            x = f"v{register[vector]}.h[{lane}]"
            lines.append(f"{'mul' if fresh else 'mla'} v{p}.8h, v{weights[k]}.8h, {x}")
    return Lines(f"Line {index} of the windows.", tuple(lines))


def _load_line(register: dict[int, int]) -> list[str]:
    lines, left = [], sorted(register)
    while left:
        a, b = left[0], left[1] if len(left) > 1 else -1
        if b == a + 1:
            lines.append(f"ldp q{register[a]}, q{register[b]}, [%[x], #{16 * a}]")
            left = left[2:]
        else:
            lines.append(f"ldr q{register[a]}, [%[x], #{16 * a}]")
            left = left[1:]
    return lines


def block_work(asm: Assembly, rows: int, blocks: int) -> Work:
    """One of `blocks` for one tile: the printed lines, and what moves on to the next."""
    parts = (asm.start, *asm.lines, asm.parameters, asm.load, asm.end)
    lines = tuple(line for p in parts for line in p.lines)
    # Where the windows start, the count of blocks, and where each row goes on.
    return Work((Part(lines, 1, blocks),), 1 + rows + 1 + 2)
