"""Matrix products on 32-bit NEON by pairs: a half register holds 4 products of two rows.

VTRN and VREV64 lay two rows side by side, as (row 0, row 1) and as (row 1, row 0), once for all
channels; times weights of channels (c, c') they give all four sums. Two int32 lanes belong to a sum
instead of four, so 2 rows x 8 channels fit the registers, and what comes after the products is half
as long per result.
"""

from __future__ import annotations

import numpy as np

from qgen.ir.linear import Linear
from qgen.ir.types import Array, Rounding
from qgen.targets.blocks import block_starts, by_blocks
from qgen.targets.finish import plan_finish
from qgen.targets.finish_neon32 import constant_registers, ends, finish_lines, quads
from qgen.targets.fold import fold_zero_points
from qgen.targets.gemm_neon32 import (
    DEEP,
    LANES,
    Packed,
    depths,
    flagged,
    lane_bound,
    lanes,
    load_lines,
    operands,
    traits,
    widths,
)
from qgen.targets.matmul import CALL, Arrangement, MatrixKernel
from qgen.targets.neon32 import NEON32, STATE
from qgen.targets.requantize_asm import Sums
from qgen.targets.spec import QUADS, Helper, RegPlan

ROWS = 2
CHANNELS = 8
STEP = 16
GROUP = 4  # products of a row in a half register, and so lanes in which they meet
# Over parameters that are used up.
CONSTANTS = quads(3)
# Channels of four sums as the kernel has them: of rows 0, 1, 0, 1.
ORDER = np.array([0, 1, 1, 0])


def register_plan(rows: int) -> RegPlan:
    """Quad registers of the kernel; it has 2 rows."""
    return RegPlan(
        {
            "a": (0, 1, 2, 3),
            "b": (4, 5),
            "product": (6, 7),
            "acc": tuple(range(8, 16)),
        },
        QUADS,
    )


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
    deep, pairs = depths(blocks, STEP, GROUP)
    rows = [bias, *([factor] if factor.any() else []), *finish.rows]
    words = by_blocks(rows, starts, CHANNELS)
    order = np.concatenate([2 * pair + ORDER for pair in range(CHANNELS // 2)])
    return Packed(
        weights=np.concatenate([_reading_order(b) for b in blocks]),
        parameters=flagged(words[:, :, order].reshape(len(starts), -1), deep).astype(np.int32),
        row=row,
        blocks=channels // CHANNELS,
        pairs=pairs,
        deep=tuple(deep),
        row_sums=bool(factor.any()),
        lane_bound=max(
            lane_bound(b, DEEP if d else pairs, STEP, GROUP)
            for b, d in zip(blocks, deep, strict=True)
        ),
        finish=finish,
    )


def _reading_order(block: Array) -> Array:
    """[K][8] as [step][pair of channels][K of the step / 4][channel of the pair][4]."""
    at = np.cumsum(widths(len(block), STEP))[:-1]
    return np.concatenate(
        [
            step.reshape(-1, GROUP, CHANNELS // 2, 2).transpose(2, 0, 3, 1).reshape(-1)
            for step in np.split(block, at)
        ]
    )


def refuses(op: Linear, rounding: Rounding) -> str:
    """Ends that need more registers than there are beside 16 sums."""
    finish = plan_finish(op, rounding)
    return "" if finish.multiply else "a 64-bit product needs more registers"


def helper(rows: int, packed: Packed, rounding: Rounding, op: Linear) -> Helper:
    """The instance of the kernel that an op needs."""
    regs, finish = register_plan(rows), packed.finish
    acc = regs["acc"]
    values, free = acc[::2], acc[1::2]
    # Parameters lie in q0-q3 and q4-q7: bias and row-sum factor, then M0 and shift.
    sums = [Sums(value, i, 4 + i, 0) for i, value in enumerate(values)]
    load = load_lines(constant_registers(finish, CONSTANTS))
    end, result = finish_lines(finish, sums, free, CONSTANTS, load)
    return Helper(
        "_".join([f"mlal_{rows}x{CHANNELS}", *traits(packed, STEP)]),
        "helpers/gemm_neon32_pairs.c.j2",
        {
            "regs": regs,
            "depths": packed.depths,
            "steps": min(packed.row // STEP, 2),
            "tail": packed.row % STEP,
            "rowsum": packed.row_sums,
            "long": finish.immediate is None,
            "result": result,
            "end": end,
            "arrange": arrange(packed),
            **operands(["a"], rows, regs),
        },
    )


ARRANGING = RegPlan({"a": (0, 1), "turned": (2, 3), "wide": (4, 5), "sum": (6, 7)}, QUADS)


def arrange(packed: Packed) -> Arrangement:
    """Two rows side by side, and their sums where some channel needs them."""
    found = {
        "steps": packed.row >= STEP,
        "tail": packed.row % STEP > 0,
        "sums": packed.row_sums,
    }
    name = "_".join(["pair_rows", *(trait for trait, there in found.items() if there)])
    clobbers = [f'"{c}"' for c in (*ARRANGING.clobbers, "cc", "memory")]
    values = {
        "regs": ARRANGING,
        "clobbers": clobbers,
        "steps": found["steps"],
        "tail": found["tail"],
        "rowsum": found["sums"],
    }
    helper = Helper(name, "helpers/pair_rows_neon32.c.j2", values)
    return Arrangement(helper, 2 * ROWS * packed.row + 16 * packed.row_sums)


def cost(rows: int, packed: Packed, instance: Helper) -> float:
    """Instructions of the blocks of one tile, and of laying its rows out."""

    def step(width: int, depth: int) -> int:
        parts = width // GROUP
        return 1 + parts + CHANNELS * (parts + -(-parts // depth))

    turns, tail = divmod(packed.row, STEP)
    end = len(instance.vars["end"].lines)
    fixed = 13 + 5 * packed.row_sums + bool(instance.vars["long"]) + end + 7
    fixed += 3 * (len(packed.depths) > 1) + (2 if turns > 1 else 0)
    total = 0.0
    for deep in packed.deep:
        depth = DEEP if deep else packed.pairs
        steps = [step(width, depth) for width in widths(packed.row, STEP)]
        total += fixed + sum(steps) + (2 * (turns - 1) if turns > 1 else 0)
    arranging = turns * (8 + 4 * packed.row_sums) + (6 if tail else 0) + 8 * packed.row_sums
    return total + arranging + CALL


KERNEL = MatrixKernel(
    name=f"neon32_{ROWS}x{CHANNELS}c{STEP}",
    requires=NEON32,
    channels=CHANNELS,
    step=STEP,
    fewest_rows=ROWS,
    most_rows=ROWS,
    pack=pack,
    helper=helper,
    lanes=lanes,
    cost=cost,
    registers=register_plan,
    ends=ends,
    refuses=refuses,
    before=(STATE,),
    arrange=arrange,
)
