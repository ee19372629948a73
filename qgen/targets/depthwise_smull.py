"""3 x 3 depthwise convolution with SMULL: blocks of channels, their patterns of taps, the row.

Blocks of one op differ in how many products fit an int16 lane. They are sorted into at most two
groups, each with the cheapest pattern of taps that is proven for all of its channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from qgen.ir.linear import Linear
from qgen.ir.ops.depthwise_conv2d import DepthwiseConv2D
from qgen.ir.types import Array, DType, Rounding
from qgen.targets import portable
from qgen.targets.blocks import block_starts, by_blocks
from qgen.targets.depthwise_asm import TALL, Form, Pattern, Program
from qgen.targets.depthwise_neon import INT16_MAX, folded_bias, groups, split, stored_zero
from qgen.targets.finish import Finish, finish_values, plan_finish
from qgen.targets.fold import overflow_reason
from qgen.targets.neon import FINISH_CONSTANTS, NEON, finish_vars
from qgen.targets.spec import Constant, Helper, KernelSpec, Prepared

TAPS = TALL * TALL
# What a second program must save, as a share of the multiplications, to be worth its code.
WORTHWHILE = 0.02
# Bytes of image and result that stay in the first-level cache while the blocks of a band pass.
CACHE = 24 * 1024
LINE = 64
# C around a call: pointers, arguments, the loop.
CALL = 40
LOOP = 12


@dataclass(frozen=True)
class Group:
    """Blocks that share a program.

    Attributes:
        starts: first channel of each block.
        pattern: of the taps.
        weights: int8 [block][row of pattern.order][lanes].
        reach: widest sum of an int16 lane.
    """

    starts: tuple[int, ...]
    pattern: Pattern
    weights: Array
    reach: int


def _lanes(op: Linear) -> int:
    return 16 if op.channels >= 16 else 8


def _columns_first(op: DepthwiseConv2D) -> Array:
    """w - Zw as int64 [3 * kx + ky, channels]."""
    w: Array = op.centered_weights()[0].astype(np.int64)
    return w.transpose(1, 0, 2).reshape(TAPS, op.channels)


def _group(taps: Array, starts: Sequence[int], lanes: int) -> Group:
    """One pattern for all blocks of `starts`."""
    chosen = np.concatenate([taps[:, s : s + lanes] for s in starts], axis=1)
    order, rows = split(chosen)
    runs, reach = groups(rows)
    packed = rows.reshape(len(rows), len(starts), lanes).transpose(1, 0, 2).astype(np.int8)
    pattern = Pattern(tuple(order), tuple(len(r) for r in runs))
    return Group(tuple(starts), pattern, packed, reach)


def _price(group: Group) -> int:
    """Multiplications and widening additions of one output of every block, in halves."""
    return len(group.starts) * (len(group.pattern.order) + 2 * len(group.pattern.runs))


@lru_cache(maxsize=8)
def group_blocks(op: DepthwiseConv2D) -> tuple[Group, ...]:
    """Blocks in one group or two, cheap ones first."""
    taps, lanes = _columns_first(op), _lanes(op)
    alone = [_group(taps, [s], lanes) for s in block_starts(op.channels, lanes)]
    alone.sort(key=_price)
    starts = [g.starts[0] for g in alone]
    best: tuple[Group, ...] = (_group(taps, starts, lanes),)
    limit = _price(best[0]) * (1 - WORTHWHILE)
    for cut in range(1, len(starts)):
        if _price(alone[cut]) > _price(alone[cut - 1]):
            two = _group(taps, starts[:cut], lanes), _group(taps, starts[cut:], lanes)
            if sum(map(_price, two)) < min(limit, sum(map(_price, best))):
                best = two
    return best


def _form(op: DepthwiseConv2D) -> Form:
    axis = op.window.w
    return Form(
        stride=axis.stride,
        lanes=_lanes(op),
        left=axis.before > 0,
        right=_over(op, 1) > 0,
        odd=axis.out % 2 == 1,
    )


def _over(op: DepthwiseConv2D, which: int) -> int:
    """How far the last window reaches beyond the image, along height (0) or width (1)."""
    axis = (op.window.h, op.window.w)[which]
    return (axis.out - 1) * axis.stride - axis.before + axis.extent - axis.size


def _refuses(op: DepthwiseConv2D, rounding: Rounding) -> str:
    if op.depth_multiplier != 1:
        return f"depth multiplier {op.depth_multiplier}"
    if op.channels < 8:
        return "fewer than 8 channels"
    win = op.window
    if (win.h.kernel, win.w.kernel, win.h.dilation, win.w.dilation) != (TALL, TALL, 1, 1):
        return "not a dense window of 3 x 3"
    if win.w.stride > 2:
        return f"columns {win.w.stride} apart"
    if max(win.h.before, win.w.before, _over(op, 0), _over(op, 1)) > 1:
        return "more than one row or column of padding on a side"
    if op.x.dtype is not DType.I8:
        return "input is not stored as int8"
    finish = plan_finish(op, rounding)
    if not finish.multiply or finish.left or finish.ties == "mask":
        return "an end that takes more registers than there are"
    return overflow_reason(op)


def program(op: DepthwiseConv2D, group: Group, finish: Finish) -> Program:
    return Program(_form(op), group.pattern, finish)


def helper(made: Program) -> Helper:
    """The instance that a group of blocks needs."""
    name = "_".join([made.form.name, made.pattern.name, *made.finish.traits])
    return Helper(name, "helpers/depthwise_asm.c.j2", {"program": made})


def _bands(op: DepthwiseConv2D) -> int:
    """Rows of outputs that one call computes, so that the next block finds the image in cache."""
    win, pixel = op.window, min(op.channels, LINE)
    per_row = pixel * (win.h.stride * win.w.size + win.w.out)
    rows = (CACHE - 2 * pixel * win.w.size) // per_row
    bands = -(-win.h.out // min(max(rows, 1), win.h.out))
    return -(-win.h.out // bands)


def _prepare(op: DepthwiseConv2D, rounding: Rounding) -> Prepared:
    finish = plan_finish(op, rounding)
    lanes, found = _lanes(op), group_blocks(op)
    programs = [program(op, g, finish) for g in found]
    helpers = [helper(p) for p in programs]
    starts = [s for g in found for s in g.starts]
    q = by_blocks([folded_bias(op), *finish.rows], starts, lanes).astype(np.int32)
    win = op.window
    bytes_, first = 0, 0
    calls = []
    for g, h in zip(found, helpers, strict=True):
        last = first + len(g.starts)
        calls.append({"kernel": h.name, "first": first, "last": last, "at": bytes_,
                      "taps": len(g.pattern.order)})  # fmt: skip
        first, bytes_ = last, bytes_ + g.weights.size
    in_order = starts == [lanes * i for i in range(len(starts))]
    constants = {
        "w": Constant(np.concatenate([g.weights.reshape(-1) for g in found]), _WEIGHTS),
        "q": Constant(q, f"per block: bias[{lanes}]" + _rows(finish, lanes)),
    }
    if not in_order:
        constants["c"] = Constant(np.array(starts, np.int16), "first channel of each block")
    pairs = win.w.out // 2 - (1 if programs[0].redirects else 0)
    return Prepared(
        constants=constants,
        helpers=(FINISH_CONSTANTS, *helpers),
        vars=portable.image_vars(op)
        | finish_vars(op)
        | {
            "lanes": lanes,
            "calls": calls,
            "band": _bands(op),
            "pairs": pairs,
            "zx": stored_zero(op),
            "q_words": lanes * (1 + len(finish.rows)),
            "in_order": in_order,
            "top": int(win.h.before > 0),
            "bottom": int(_over(op, 0) > 0),
            "constants": finish_values(finish, op),
        },
        notes=(
            *(_proof(g) for g in found),
            "zero point folded into the bias (Q15); padding reads the stored zero point",
            *dict.fromkeys(f"regs: {p.regs}" for p in programs),
        ),
    )


_WEIGHTS = "[block][tap, column by column][lane]; a tap comes twice where it leaves int8"


def _rows(finish: Finish, lanes: int) -> str:
    return f", M0[{lanes}], shift[{lanes}]" if finish.rows else ""


def _proof(group: Group) -> str:
    runs = ", ".join(map(str, group.pattern.runs))
    blocks = f"{len(group.starts)} block{'s' if len(group.starts) > 1 else ''}"
    return f"int16 lanes (Q16), {blocks}: runs of {runs} taps reach {group.reach} of {INT16_MAX}"


def _cost(op: DepthwiseConv2D, rounding: Rounding) -> float:
    finish = plan_finish(op, rounding)
    n, rows, columns, _ = op.out.shape
    bands = n * -(-rows // _bands(op))
    total = 0
    for group in group_blocks(op):
        blocks = len(group.starts)
        made = program(op, group, finish)
        total += made.instructions(bands * blocks, n * rows * blocks, columns)
        total += CALL * bands * blocks + LOOP * bands
    return total


ROWS: tuple[KernelSpec, ...] = (
    KernelSpec(
        name="qs8_depthwise_conv2d__neon_3x3",
        op="depthwise_conv2d",
        template="depthwise_conv2d/neon_3x3.c.j2",
        requires=NEON,
        prepare=_prepare,
        refuses=_refuses,
        cost=_cost,
        tile=(2, 16, TAPS),
    ),
)
