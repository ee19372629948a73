"""Matrix products on 32-bit NEON: packing, proofs and register plan of the Appendix B kernel.

2 rows x 4 channels fill the 16 quad registers: VMULL.S8 and VMLAL.S8 into int16 lanes, VPADAL.S16
to int32 and the end of the kernel in registers. How many products meet in a lane between VPADALs is
proven per block of channels from its weights (Q16).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qgen.ir.linear import Linear
from qgen.ir.types import Array, Rounding
from qgen.targets.blocks import block_starts, by_blocks
from qgen.targets.finish import Finish, plan_finish
from qgen.targets.finish_neon32 import constant_registers, ends, finish_lines, quads
from qgen.targets.fold import fold_zero_points
from qgen.targets.matmul import MatrixKernel
from qgen.targets.neon32 import NEON32, STATE
from qgen.targets.requantize_asm import Sums
from qgen.targets.spec import QUADS, Helper, Lanes, RegPlan

ROWS = 2
CHANNELS = 4  # output channels of one block
STEP = 32  # products of one step
LANES = 8
DEEP = STEP // LANES  # products of one step that meet in a lane
INT16_MAX = 2**15 - 1

# Over parameters that are used up.
CONSTANTS = quads(3)


def register_plan(rows: int) -> RegPlan:
    """Quad registers of the kernel for 1 or 2 rows."""
    return RegPlan(
        {
            "a": (0, 1, 2, 3),
            "b": (4, 5),
            "product": (6, 7),
            "acc": tuple(range(8, 8 + CHANNELS * rows)),
        },
        QUADS,
    )


@dataclass(frozen=True)
class Packed:
    """Weights of one op in the order in which the kernel reads them.

    Attributes:
        weights: int8, blocks of 4 channels; the last overlaps its neighbour if channels are not
            a multiple of 4.
        parameters: int32 [block][word]: whether the block is deep, if that differs between blocks;
            then bias[4] and what the end of the kernel reads; the factor of row sums last.
        row: bytes of an input row, K rounded up to a multiple of 8.
        blocks: blocks without the overlapping one.
        pairs: 2 if any two products of a lane fit int16 in every block, else 1.
        deep: per block, whether the 4 products of a step fit.
        row_sums: some channel needs the sum of its input row, (Q15).
        lane_bound: largest |int16 lane| that any input can produce.
        finish: the end of the kernel.
    """

    weights: Array
    parameters: Array
    row: int
    blocks: int
    pairs: int
    deep: tuple[bool, ...]
    row_sums: bool
    lane_bound: int
    finish: Finish

    @property
    def depths(self) -> tuple[int, ...]:
        """Products between VPADALs: one number, or two that a block's flag chooses from."""
        return tuple(DEEP if d else self.pairs for d in sorted(set(self.deep), reverse=True))


def pack(op: Linear, rounding: Rounding) -> Packed:
    """Fold zero points, prove the depth of each block, and put weights into reading order."""
    weights, bias, factor = fold_zero_points(op)
    finish = plan_finish(op, rounding)
    k, channels = weights.shape
    row = -(-k // LANES) * LANES
    w = np.zeros((row, channels), np.int8)
    w[:k] = weights
    starts = block_starts(channels, CHANNELS)
    blocks = [w[:, s : s + CHANNELS] for s in starts]
    deep, pairs = depths(blocks, STEP, LANES)
    rows = [bias, *finish.rows] + ([factor] if factor.any() else [])
    words = by_blocks(rows, starts, CHANNELS).reshape(len(starts), -1)
    words = flagged(words, deep)
    return Packed(
        weights=np.concatenate([_reading_order(b) for b in blocks]),
        parameters=words.astype(np.int32),
        row=row,
        blocks=channels // CHANNELS,
        pairs=pairs,
        deep=tuple(deep),
        row_sums=bool(factor.any()),
        lane_bound=max(
            lane_bound(b, DEEP if d else pairs) for b, d in zip(blocks, deep, strict=True)
        ),
        finish=finish,
    )


def flagged(words: Array, deep: Sequence[bool]) -> Array:
    """Parameters [block][word] behind the depth of each block, if that differs between blocks."""
    return np.concatenate([np.array(deep)[:, None], words], 1) if len(set(deep)) > 1 else words


def widths(row: int, step: int) -> list[int]:
    """Products of each step of a row: whole steps, then what is left, in one."""
    return [step] * (row // step) + ([row % step] if row % step else [])


def _reading_order(block: Array) -> Array:
    """[K][4] as [K / 32][4][32], then the rest of K as [4][K % 32]."""
    at = np.cumsum(widths(len(block), STEP))[:-1]
    return np.concatenate([step.T.reshape(-1) for step in np.split(block, at)])


def lane_bound(block: Array, depth: int, step: int = STEP, lanes: int = LANES) -> int:
    """(Q16) Largest magnitude of an int16 lane over all int8 inputs, for weights [K][channels].

    `depth` products at most meet in a lane between VPADALs: those of weights `lanes` apart within a
    step. A lane holds one more below zero than above, which the bound takes into account.
    """
    widest, at = 0, 0
    for width in widths(len(block), step):
        for start in range(0, width, depth * lanes):
            run = block[at + start : at + min(start + depth * lanes, width)].astype(np.int64)
            run = run.reshape(-1, lanes, block.shape[1])
            up = np.where(run < 0, -128 * run, 127 * run).sum(axis=0)
            down = np.where(run > 0, 128 * run, -127 * run).sum(axis=0) - 1
            widest = max(widest, int(up.max()), int(down.max()))
        at += width
    return widest


def depths(blocks: Sequence[Array], step: int, lanes: int) -> tuple[list[bool], int]:
    """Whether a whole step of each block meets in int16 lanes, and how many products do in all."""
    pairs = max(lane_bound(b, 2, step, lanes) for b in blocks) <= INT16_MAX
    return [lane_bound(b, DEEP, step, lanes) <= INT16_MAX for b in blocks], 2 if pairs else 1


def helper(rows: int, packed: Packed, rounding: Rounding, op: Linear) -> Helper:
    """The instance of the kernel that an op needs."""
    regs, finish = register_plan(rows), packed.finish
    # Quad registers of parameters: bias, what the end reads, the row-sum factor.
    parameters = 1 + len(finish.rows) + packed.row_sums
    acc = regs["acc"]
    values = acc[::CHANNELS]
    # The first of b may hold the factor, which is used up by then.
    free = [*(r for r in acc if r not in values), regs["b"][0]]
    load = load_lines(constant_registers(finish, CONSTANTS), table=rows > 1)
    inputs = ["table"] if rows > 1 else ["row", "ends", *(["sums"] if packed.row_sums else [])]
    sums = [Sums(value, 1, 2, 3) for value in values]
    end, result = finish_lines(finish, sums, free, CONSTANTS, load)
    return Helper(
        "_".join([f"mlal_{rows}x{CHANNELS}", *traits(packed, STEP)]),
        "helpers/gemm_neon32.c.j2",
        {
            "mr": rows,
            "regs": regs,
            "depths": packed.depths,
            "steps": min(packed.row // STEP, 2),
            "tail": packed.row % STEP,
            "rowsum": packed.row_sums,
            "parameters": parameters,
            "result": result,
            "end": end,
            **operands([f"a{i}" for i in range(rows)], rows, regs, inputs),
        },
    )


def traits(packed: Packed, step: int) -> list[str]:
    """What tells apart two instances: depths, the shape of K, row sums, the end."""
    steps = packed.row // step
    found = [f"d{'or'.join(map(str, packed.depths))}", f"k{'n' if steps > 1 else steps}"]
    found += [f"t{packed.row % step}"] if packed.row % step else []
    found += ["sums"] if packed.row_sums else []
    return [*found, *packed.finish.traits]


def load_lines(registers: str, *, table: bool = False) -> list[str]:
    """Lines that load `registers` from the struct of the end, which a table may point to."""
    if not registers:
        return []
    pointer = ["ldr %[left], [%[table], #4]"] if table else []
    return [*pointer, f"vldm %[{'left' if table else 'ends'}], {{{registers}}}"]


def operands(
    left: Sequence[str], rows: int, regs: RegPlan, inputs: Sequence[str] = ("row", "ends")
) -> dict[str, list[str]]:
    """Operands and clobbers of the asm statement: no more than nine.

    Thumb code with a frame pointer and a pointer to a table of globals has none to spare.

    Args:
        left: pointers to the left factor.
        rows: rows of the result.
        inputs: what the statement only reads.
    """
    changed = [*left, *(f"y{i}" for i in range(rows)), "w", "q", "blocks"]
    return {
        "outputs": [f'[{v}] "+&r"({v})' for v in changed] + ['[left] "=&r"(left)'],
        "operands": [f'[{v}] "r"({v})' for v in inputs],
        "clobbers": [f'"{c}"' for c in (*regs.clobbers, "cc", "memory")],
    }


def lanes(packed: Packed) -> Lanes:
    """What meets in a lane of int16, and the proof that it fits."""
    deep, blocks = sum(packed.deep), len(packed.deep)
    return Lanes(
        f"{DEEP} products in {deep} of {blocks} blocks, {packed.pairs} in the others",
        DEEP * blocks / (deep + (blocks - deep) * DEEP / packed.pairs),
        packed.lane_bound,
    )


def cost(rows: int, packed: Packed, instance: Helper) -> float:
    """Instructions of the blocks of one tile, as the template prints them."""

    def step(width: int, depth: int) -> int:
        parts = width // LANES
        loads = rows + -(-CHANNELS // (4 // parts))
        return loads + CHANNELS * rows * (parts + -(-parts // depth))

    several = packed.row > 2 * STEP - 1
    end = len(instance.vars["end"].lines)
    sums = packed.row_sums * (rows + 2)
    fixed = 1 + 7 * rows + sums + end + 2 * rows + 2 + (rows > 1)
    fixed += 3 * (len(packed.depths) > 1) + (3 + (rows > 1) if several else 0)
    total = 0.0
    for deep in packed.deep:
        depth = DEEP if deep else packed.pairs
        steps = [step(width, depth) for width in widths(packed.row, STEP)]
        total += fixed + sum(steps) + (2 * (packed.row // STEP - 1) if several else 0)
    return total + packed.row_sums * rows * (10 + packed.row / 4)


KERNEL = MatrixKernel(
    name=f"neon32_{ROWS}x{CHANNELS}c{STEP}",
    requires=NEON32,
    channels=CHANNELS,
    step=STEP,
    most_rows=ROWS,
    pack=pack,
    helper=helper,
    lanes=lanes,
    cost=cost,
    registers=register_plan,
    ends=ends,
    before=(STATE,),
)
