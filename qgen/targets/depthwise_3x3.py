"""3 x 3 depthwise convolution in assembly: blocks of channels, their patterns of taps, the rows.

Blocks of one op differ in how many products fit an int16 lane. They are sorted into at most two
groups, each with the cheapest pattern of taps that is proven for all of its channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import numpy as np

from qgen.ir.linear import Linear
from qgen.ir.ops.depthwise_conv2d import DepthwiseConv2D
from qgen.ir.types import Array, DType, Rounding
from qgen.targets import portable
from qgen.targets.blocks import block_starts, by_blocks
from qgen.targets.depthwise_asm import TALL, Form, Pattern, Program
from qgen.targets.depthwise_groups import (
    MOST_HALVED,
    TAPS,
    Group,
    columns_of_taps,
    halves_of_taps,
    runs_of_taps,
    single_columns_of_taps,
)
from qgen.targets.depthwise_neon import folded_bias, stored_zero
from qgen.targets.depthwise_sdot2_asm import Sdot2Program
from qgen.targets.depthwise_sdot_asm import SdotProgram
from qgen.targets.depthwise_smull_asm import SmullProgram
from qgen.targets.empty import VECTOR, flips, last_is_empty
from qgen.targets.finish import Finish, finish_values, plan_finish
from qgen.targets.fold import overflow_reason
from qgen.targets.gemm_sdot import DOTPROD
from qgen.targets.neon import FINISH_CONSTANTS, NEON, finish_vars
from qgen.targets.spec import Constant, Helper, KernelSpec, Lanes, Prepared, with_sharing

SHAPE = Helper("depthwise_shape", "helpers/depthwise_shape_neon.c.j2")
# What a second program must save, as a share of the multiplications, to be worth its code.
WORTHWHILE = 0.02
# Share of the blocks for which no program of their own is printed.
FEW = 1 / 8
# Bytes of image and result that stay in the first-level cache while the blocks of a band pass.
CACHE = 24 * 1024
LINE = 64
# C around a call, and around each block in it.
CALL = 45
BLOCK = 24


@dataclass(frozen=True)
class Kind:
    """A family of programs: how it packs blocks, what it refuses.

    Attributes:
        program: its assembly.
        group: packs blocks of channels under one pattern: (taps [9, channels] column by column,
            starts, lanes).
        common: the same, under the pattern that takes any weights.
        price: instructions of one output of a group's blocks that depend on its pattern.
        strides: of columns that it takes.
        any_rows: whether rows of outputs may be further apart than 1.
        zeros: programs know `Pattern.zeros`.
    """

    program: Callable[[Form, Pattern, Finish], Program]
    group: Callable[[Array, Sequence[int], int], Group]
    common: Callable[[Array, Sequence[int], int], Group]
    price: Callable[[Group], int]
    strides: tuple[int, ...]
    any_rows: bool
    zeros: bool = False


def _lanes(op: Linear) -> int:
    return 16 if op.channels >= 16 else 8


def _columns_first(op: DepthwiseConv2D) -> Array:
    """w - Zw as int64 [3 * kx + ky, channels]."""
    w: Array = op.centered_weights()[0].astype(np.int64)
    return w.transpose(1, 0, 2).reshape(TAPS, op.channels)


SMULL = Kind(
    program=SmullProgram,
    group=runs_of_taps,
    common=halves_of_taps,
    # Multiplications and widening additions, in pairs.
    price=lambda g: len(g.starts) * (len(g.pattern.order) + 2 * len(g.pattern.runs)),
    strides=(1, 2),
    any_rows=True,
)
SDOT = Kind(
    program=SdotProgram,
    group=columns_of_taps,
    common=partial(columns_of_taps, common=True),
    price=lambda g: len(g.starts) * len(g.pattern.order),
    strides=(1,),
    any_rows=False,
    zeros=True,
)
SDOT2 = Kind(
    program=Sdot2Program,
    group=single_columns_of_taps,
    common=partial(single_columns_of_taps, common=True),
    price=lambda g: len(g.starts) * len(g.pattern.order),
    strides=(2,),
    any_rows=True,
)


@lru_cache(maxsize=16)
def group_blocks(kind: Kind, op: DepthwiseConv2D, *, sharing: bool = False) -> tuple[Group, ...]:
    """Blocks in one group or two, cheap ones first.

    With `sharing` a second group of few blocks has a program that suits many ops.
    """
    taps, lanes = _columns_first(op), _lanes(op)
    alone = [kind.group(taps, [s], lanes) for s in block_starts(op.channels, lanes)]
    alone.sort(key=kind.price)
    starts = [g.starts[0] for g in alone]
    best: tuple[Group, ...] = (kind.group(taps, starts, lanes),)
    limit = kind.price(best[0]) * (1 - WORTHWHILE)
    for cut in range(1, len(starts)):
        if kind.price(alone[cut]) > kind.price(alone[cut - 1]):
            parts = starts[:cut], starts[cut:]
            two = tuple(kind.group(taps, part, lanes) for part in parts)
            if sum(map(kind.price, two)) < min(limit, sum(map(kind.price, best))):
                best = two
    few = len(best) == 2 and len(best[1].starts) <= len(starts) * FEW
    if sharing and few and taps.max() <= MOST_HALVED:
        return best[0], kind.common(taps, best[1].starts, lanes)
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


def _refuses(kind: Kind, op: DepthwiseConv2D, rounding: Rounding) -> str:
    if op.depth_multiplier != 1:
        return f"depth multiplier {op.depth_multiplier}"
    if op.channels < 8:
        return "fewer than 8 channels"
    win = op.window
    if (win.h.kernel, win.w.kernel, win.h.dilation, win.w.dilation) != (TALL, TALL, 1, 1):
        return "not a dense window of 3 x 3"
    if win.w.stride not in kind.strides or (win.h.stride > 1 and not kind.any_rows):
        return f"strides {win.h.stride} and {win.w.stride}"
    if max(win.h.before, win.w.before, _over(op, 0), _over(op, 1)) > 1:
        return "more than one row or column of padding on a side"
    if op.x.dtype is not DType.I8:
        return "input is not stored as int8"
    finish = plan_finish(op, rounding)
    if not finish.multiply or finish.left or finish.ties == "mask":
        return "an end that takes more registers than there are"
    return overflow_reason(op)


def _programs(
    kind: Kind, op: DepthwiseConv2D, finish: Finish, found: Sequence[Group]
) -> list[Program]:
    form, patterns = _form(op), [g.pattern for g in found]
    if _leaves_out_last(kind, op, finish):
        patterns = [replace(p, zeros=True) for p in patterns]
    ends = [g.end(finish) for g in found]
    return [kind.program(form, p, e) for p, e in zip(patterns, ends, strict=True)]


def _leaves_out_last(kind: Kind, op: DepthwiseConv2D, finish: Finish) -> bool:
    """Whether flips bring the results of the last vector of channels (`empty.py`)."""
    # All blocks share their flips: there must be one.
    return (
        kind.zeros
        and op.channels == _lanes(op) == 4 * VECTOR
        and finish.immediate is not None
        and last_is_empty(op, finish)
    )


def _helper(group: Group, made: Program) -> Helper:
    """The instance that a group of blocks needs."""
    lanes = made.form.lanes
    words = lanes * (1 + len(made.finish.rows))
    values = {"program": made, "weights": group.weights[0].size, "words": words}
    return Helper(made.name, "helpers/depthwise_asm.c.j2", values)


def _band(op: DepthwiseConv2D, turn: int) -> int:
    """Rows of outputs that one call computes, so that the next block finds the image in cache.

    A multiple of the rows that a program computes in a turn.
    """
    win, pixel = op.window, min(op.channels, LINE)
    per_row = pixel * (win.h.stride * win.w.size + win.w.out)
    rows = (CACHE - 2 * pixel * win.w.size) // per_row
    bands = -(-win.h.out // max(rows, turn))
    return -(-win.h.out // (bands * turn)) * turn


def _prepare(
    kind: Kind, op: DepthwiseConv2D, rounding: Rounding, *, sharing: bool = False
) -> Prepared:
    finish = plan_finish(op, rounding)
    lanes, found = _lanes(op), group_blocks(kind, op, sharing=sharing)
    programs = _programs(kind, op, finish, found)
    helpers = [_helper(g, p) for g, p in zip(found, programs, strict=True)]
    bias, win = folded_bias(op), op.window
    calls: list[dict[str, Any]] = []
    w, q, c = list[Array](), list[Array](), list[int]()
    for group, made, helper in zip(found, programs, helpers, strict=True):
        sizes = sum(map(np.size, w)), sum(map(np.size, q)), len(c)
        calls.append({"kernel": helper.name} | dict(zip("wqc", sizes, strict=True)))
        w.append(group.weights.reshape(-1))
        q.append(by_blocks([bias, *made.finish.rows], group.starts, lanes).reshape(-1))
        c += [*group.starts, -1]
    constants = {
        "w": Constant(np.concatenate(w), f"per block: {programs[0].WEIGHTS}"),
        "q": Constant(
            np.concatenate(q).astype(np.int32),
            "per block: " + " and ".join(dict.fromkeys(_rows(p.finish, lanes) for p in programs)),
        ),
        "c": Constant(np.array(c, np.int32), "first channel of each block, groups ended by -1"),
    }
    pairs = win.w.out // 2 - (1 if programs[0].redirects else 0)
    return Prepared(
        constants=constants,
        helpers=(FINISH_CONSTANTS, SHAPE, *helpers),
        vars=portable.image_vars(op)
        | finish_vars(op)
        | {
            "calls": calls,
            "band": _band(op, programs[0].ROWS),
            "turn": programs[0].ROWS,
            "pairs": pairs,
            "zx": stored_zero(op),
            "top": int(win.h.before > 0),
            "bottom": int(_over(op, 0) > 0),
            "constants": finish_values(finish, op),
            "flips": _flips(kind, op, rounding, finish),
        },
        lanes=_narrow_sums(found),
        notes=(
            "zero point folded into the bias (Q15); padding reads the stored zero point",
            *dict.fromkeys(f"regs: {p.regs}" for p in programs),
        ),
    )


def _flips(kind: Kind, op: DepthwiseConv2D, rounding: Rounding, finish: Finish) -> list[int]:
    """The flips of a block of 16 channels."""
    if _leaves_out_last(kind, op, finish):
        found: list[int] = flips(op, rounding).tolist()
        return found
    return [finish_values(finish, op)["flip"]] * 16


def _rows(finish: Finish, lanes: int) -> str:
    return f"bias[{lanes}]" + (f", M0[{lanes}], shift[{lanes}]" if finish.rows else "")


def _narrow_sums(found: Sequence[Group]) -> Lanes | None:
    groups = [g for g in found if g.pattern.runs]
    if not groups:
        return None
    said, widened = [], 0
    for g in groups:
        runs = ", ".join(map(str, g.pattern.runs))
        blocks = f"{len(g.starts)} block{'s' if len(g.starts) > 1 else ''}"
        said.append(f"runs of {runs} taps in {blocks}")
        widened += len(g.starts) * len(g.pattern.runs)
    total = TAPS * sum(len(g.starts) for g in groups)
    return Lanes("; ".join(said), total / widened, max(g.reach for g in groups))


def _cost(kind: Kind, op: DepthwiseConv2D, rounding: Rounding, *, sharing: bool = False) -> float:
    n, rows, columns, _ = op.out.shape
    total = 0
    found = group_blocks(kind, op, sharing=sharing)
    programs = _programs(kind, op, plan_finish(op, rounding), found)
    for group, made in zip(found, programs, strict=True):
        calls = n * -(-rows // _band(op, made.ROWS))
        blocks = len(group.starts)
        turns = n * -(-rows // made.ROWS)
        total += made.instructions(calls * blocks, turns * blocks, columns)
        total += (CALL + BLOCK * blocks) * calls
    return total


def _row(kind: Kind, name: str, requires: frozenset[str]) -> KernelSpec:
    return with_sharing(
        KernelSpec(
            name=f"qs8_depthwise_conv2d__{name}",
            op="depthwise_conv2d",
            template="depthwise_conv2d/neon_3x3.c.j2",
            requires=requires,
            prepare=partial(_prepare, kind),
            refuses=partial(_refuses, kind),
            cost=partial(_cost, kind),
            tile=(2, 16, TAPS),
        )
    )


ROWS = (_row(SMULL, "neon_3x3", NEON),)
DOTPROD_ROWS = (_row(SDOT, "neondot_3x3", DOTPROD), _row(SDOT2, "neondot_3x3s2", DOTPROD))
