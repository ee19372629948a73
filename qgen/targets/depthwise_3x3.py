"""3 x 3 depthwise convolution in assembly: blocks of channels, their patterns of taps, the rows.

Blocks of one op differ in how many products fit an int16 lane. They are sorted into at most two
groups, each with the cheapest pattern of taps that is proven for all of its channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial

import numpy as np

from qgen.ir.linear import Linear
from qgen.ir.ops.depthwise_conv2d import DepthwiseConv2D
from qgen.ir.types import Array, DType, Rounding
from qgen.targets import portable
from qgen.targets.blocks import block_starts, by_blocks
from qgen.targets.depthwise_asm import TALL, Form, Pattern, Program
from qgen.targets.depthwise_neon import folded_bias, groups, split, stored_zero
from qgen.targets.depthwise_sdot2_asm import Sdot2Program
from qgen.targets.depthwise_sdot_asm import SdotProgram
from qgen.targets.depthwise_smull_asm import SmullProgram
from qgen.targets.empty import VECTOR, flips, last_is_empty
from qgen.targets.finish import Finish, finish_values, plan_finish
from qgen.targets.fold import overflow_reason
from qgen.targets.gemm_sdot import DOTPROD
from qgen.targets.neon import FINISH_CONSTANTS, NEON, finish_vars
from qgen.targets.spec import Constant, Helper, KernelSpec, Lanes, Prepared

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


@dataclass(frozen=True)
class Kind:
    """A family of programs: how it packs blocks, what it refuses.

    Attributes:
        program: its assembly.
        group: packs blocks of channels under one pattern: (taps [9, channels] column by column,
            starts, lanes).
        price: instructions of one output of a group's blocks that depend on its pattern.
        strides: of columns that it takes.
        any_rows: whether rows of outputs may be further apart than 1.
        zeros: programs know `Pattern.zeros`.
    """

    program: Callable[[Form, Pattern, Finish], Program]
    group: Callable[[Array, Sequence[int], int], Group]
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


def _chosen(taps: Array, starts: Sequence[int], lanes: int) -> Array:
    return np.concatenate([taps[:, s : s + lanes] for s in starts], axis=1)


def _runs_of_taps(taps: Array, starts: Sequence[int], lanes: int) -> Group:
    order, rows = split(_chosen(taps, starts, lanes))
    runs, reach = groups(rows)
    packed = rows.reshape(len(rows), len(starts), lanes).transpose(1, 0, 2).astype(np.int8)
    pattern = Pattern(tuple(order), tuple(len(r) for r in runs))
    return Group(tuple(starts), pattern, packed, reach)


def _columns(taps: Array, starts: Sequence[int], lanes: int) -> tuple[tuple[int, ...], Array]:
    """Columns of taps [row of weights][3][block][lane], and which; one comes twice where a weight
    leaves int8."""
    order, found = split(_chosen(taps, starts, lanes).reshape(TALL, -1))
    return tuple(order), found.reshape(len(order), TALL, len(starts), lanes)


def _columns_of_taps(taps: Array, starts: Sequence[int], lanes: int) -> Group:
    """Columns as [upper, lower][lane][4]."""
    order, columns = _columns(taps, starts, lanes)
    packed = np.zeros((len(starts), len(order), 2, lanes, 4), np.int8)
    for below in range(2):
        packed[:, :, below, :, below : below + TALL] = columns.transpose(2, 0, 3, 1)
    # Programs are many: a few blocks of an op are not worth one of their own.
    whole = len(starts) * lanes >= taps.shape[1]
    pattern = Pattern(order, vectors=_vectors(columns) if whole else ())
    return Group(tuple(starts), pattern, packed, 0)


def _single_columns_of_taps(taps: Array, starts: Sequence[int], lanes: int) -> Group:
    """Columns as [lane][4]."""
    order, columns = _columns(taps, starts, lanes)
    packed = np.zeros((len(starts), len(order), lanes, 4), np.int8)
    packed[..., :TALL] = columns.transpose(2, 0, 3, 1)
    return Group(tuple(starts), Pattern(order, vectors=_vectors(columns)), packed, 0)


def _vectors(columns: Array) -> tuple[int, ...]:
    """Vectors of four channels that have weights, as `Pattern` wants them."""
    rows, _, blocks, lanes = columns.shape
    found = columns.reshape(rows, TALL, blocks, lanes // 4, 4).any(axis=(1, 2, 4))
    masks = (found << np.arange(lanes // 4)).sum(axis=1)
    return () if found.all() else tuple(masks.tolist())


SMULL = Kind(
    program=SmullProgram,
    group=_runs_of_taps,
    # Multiplications and widening additions, in pairs.
    price=lambda g: len(g.starts) * (len(g.pattern.order) + 2 * len(g.pattern.runs)),
    strides=(1, 2),
    any_rows=True,
)
SDOT = Kind(
    program=SdotProgram,
    group=_columns_of_taps,
    price=lambda g: len(g.starts) * len(g.pattern.order),
    strides=(1,),
    any_rows=False,
    zeros=True,
)
SDOT2 = Kind(
    program=Sdot2Program,
    group=_single_columns_of_taps,
    price=lambda g: len(g.starts) * len(g.pattern.order),
    strides=(2,),
    any_rows=True,
)


@lru_cache(maxsize=16)
def group_blocks(kind: Kind, op: DepthwiseConv2D) -> tuple[Group, ...]:
    """Blocks in one group or two, cheap ones first."""
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


def _programs(kind: Kind, op: DepthwiseConv2D, finish: Finish) -> list[Program]:
    patterns = [g.pattern for g in group_blocks(kind, op)]
    if _leaves_out_last(kind, op, finish):
        patterns = [replace(p, zeros=True) for p in patterns]
    return [kind.program(_form(op), p, finish) for p in patterns]


def _leaves_out_last(kind: Kind, op: DepthwiseConv2D, finish: Finish) -> bool:
    """Whether flips bring the results of the last vector of channels (`empty.py`)."""
    # All blocks share their flips: there must be one.
    return (
        kind.zeros
        and op.channels == _lanes(op) == 4 * VECTOR
        and finish.immediate is not None
        and last_is_empty(op, finish)
    )


def _helper(made: Program) -> Helper:
    """The instance that a group of blocks needs."""
    return Helper(made.name, "helpers/depthwise_asm.c.j2", {"program": made})


def _band(op: DepthwiseConv2D, turn: int) -> int:
    """Rows of outputs that one call computes, so that the next block finds the image in cache.

    A multiple of the rows that a program computes in a turn.
    """
    win, pixel = op.window, min(op.channels, LINE)
    per_row = pixel * (win.h.stride * win.w.size + win.w.out)
    rows = (CACHE - 2 * pixel * win.w.size) // per_row
    bands = -(-win.h.out // max(rows, turn))
    return -(-win.h.out // (bands * turn)) * turn


def _prepare(kind: Kind, op: DepthwiseConv2D, rounding: Rounding) -> Prepared:
    finish = plan_finish(op, rounding)
    lanes, found = _lanes(op), group_blocks(kind, op)
    programs = _programs(kind, op, finish)
    helpers = [_helper(p) for p in programs]
    starts = [s for g in found for s in g.starts]
    q = by_blocks([folded_bias(op), *finish.rows], starts, lanes).astype(np.int32)
    win = op.window
    bytes_, first = 0, 0
    calls = []
    for g, h in zip(found, helpers, strict=True):
        last = first + len(g.starts)
        calls.append({"kernel": h.name, "first": first, "last": last, "at": bytes_,
                      "bytes": g.weights[0].size})  # fmt: skip
        first, bytes_ = last, bytes_ + g.weights.size
    in_order = starts == [lanes * i for i in range(len(starts))]
    constants = {
        "w": Constant(
            np.concatenate([g.weights.reshape(-1) for g in found]),
            f"per block: {programs[0].WEIGHTS}",
        ),
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
            "band": _band(op, programs[0].ROWS),
            "turn": programs[0].ROWS,
            "pairs": pairs,
            "zx": stored_zero(op),
            "q_words": lanes * (1 + len(finish.rows)),
            "in_order": in_order,
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
    return f", M0[{lanes}], shift[{lanes}]" if finish.rows else ""


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


def _cost(kind: Kind, op: DepthwiseConv2D, rounding: Rounding) -> float:
    n, rows, columns, _ = op.out.shape
    total = 0
    programs = _programs(kind, op, plan_finish(op, rounding))
    for group, made in zip(group_blocks(kind, op), programs, strict=True):
        calls = n * -(-rows // _band(op, made.ROWS))
        blocks = len(group.starts)
        turns = n * -(-rows // made.ROWS)
        total += made.instructions(calls * blocks, turns * blocks, columns)
        total += CALL * calls * blocks + LOOP * calls
    return total


def _row(kind: Kind, name: str, requires: frozenset[str]) -> KernelSpec:
    return KernelSpec(
        name=f"qs8_depthwise_conv2d__{name}",
        op="depthwise_conv2d",
        template="depthwise_conv2d/neon_3x3.c.j2",
        requires=requires,
        prepare=partial(_prepare, kind),
        refuses=partial(_refuses, kind),
        cost=partial(_cost, kind),
        tile=(2, 16, TAPS),
    )


ROWS = (_row(SMULL, "neon_3x3", NEON),)
DOTPROD_ROWS = (_row(SDOT, "neondot_3x3", DOTPROD), _row(SDOT2, "neondot_3x3s2", DOTPROD))
