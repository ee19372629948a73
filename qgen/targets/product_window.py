"""conv2d whose windows overlap, read from lines of int16, by the kernel of `gemm_window`."""

from __future__ import annotations

from dataclasses import dataclass

from qgen.ir.linear import Linear
from qgen.ir.ops.conv2d import Conv2D
from qgen.ir.types import DType, Rounding
from qgen.targets import gemm_window
from qgen.targets.finish import finish_values
from qgen.targets.fold import overflow_reason
from qgen.targets.gemm_mla import CHANNELS
from qgen.targets.gemm_window import Assembly, Packed, Reach
from qgen.targets.neon import FINISH_CONSTANTS, NEON, finish_vars
from qgen.targets.once import once_per_op
from qgen.targets.spec import Constant, Helper, KernelSpec, Lanes, Prepared, RegPlan
from qgen.targets.work import Work

ROWS = (4, 5, 6, 7)
MOST_INPUTS = 64  # all are printed one after the other
GROUP = 4  # rows of the result for which lines are widened at once


@dataclass(frozen=True)
class Plan:
    """How an op is computed: the tile that needs the fewest instructions.

    Attributes:
        pitch: int16 elements from one line to the next.
        lines: of scratch.
        work: of a run.
    """

    reach: Reach
    regs: RegPlan
    packed: Packed
    asm: Assembly
    pitch: int
    lines: int
    work: Work


@once_per_op
def plan(op: Linear, rounding: Rounding) -> Plan | None:
    """The best tile; None where no tile has registers enough."""
    assert isinstance(op, Conv2D)
    packed = gemm_window.pack(op, op.rounding(rounding))
    found = [_plan(op, packed, rows) for rows in ROWS if rows <= op.window.w.out]
    return min((p for p in found if p), key=lambda p: p.work.instructions, default=None)


def _plan(op: Conv2D, packed: Packed, rows: int) -> Plan | None:
    win, n = op.window, op.x.shape[0]
    reach = gemm_window.reach_of(op, rows)
    regs = gemm_window.register_plan(reach)
    if regs is None:
        return None
    widest = (win.w.out - rows) * reach.step + reach.end
    pitch = -(-widest // 8) * 8
    # Immediates of loads and of the step to the next line.
    if 16 * reach.vectors[-1] > 1008 or 2 * pitch > 4095:
        return None
    asm = gemm_window.assembly(reach, regs, packed, 2 * pitch)
    group = min(GROUP, win.h.out)
    lines = (group - 1) * win.h.stride + win.h.kernel
    tiles = -(-win.w.out // rows)
    # The block at the edge of the channels runs over all tiles once more.
    around = 12.0 * (2 if op.channels % CHANNELS else 1)
    count = n * win.h.out * tiles
    blocks = gemm_window.block_work(asm, rows, packed.blocks).times(count * packed.blocks)
    widened = -(-win.h.out // group) * lines * (16 + 0.4 * win.w.size * op.x.shape[3])
    work = blocks + Work((), count * around + n * (win.h.out * 30 + widened) + 30)
    return Plan(reach, regs, packed, asm, pitch, lines, work)


def prepare(op: Conv2D, rounding: Rounding) -> Prepared:
    made = plan(op, rounding)
    assert made is not None
    win, n, channels = op.window, op.x.shape[0], op.x.shape[3]
    reach, packed = made.reach, made.packed
    rows = reach.rows
    whole = win.w.out // rows * rows
    # The last tile of a line overlaps its neighbour instead of needing a kernel of its own.
    shares = [(0, whole // rows)] + ([(win.w.out - rows, 1)] if whole < win.w.out else [])
    blocks = op.channels // CHANNELS
    stored_zero = op.x.zero - (128 if op.x.dtype is DType.U8 else 0)
    values = {
        "win": win,
        "C": channels,
        "N": n,
        "O": op.channels,
        "mr": rows,
        "regs": made.regs,
        "asm": made.asm,
        "words": len(packed.finish.rows),
        "shares": shares,
        "step": reach.step,
        "pitch": made.pitch,
        "lines": made.lines,
        "group": min(GROUP, win.h.out),
        "left": min(win.w.before * channels, made.pitch),
        "inside": min(win.w.size * channels, made.pitch - win.w.before * channels),
        "pad": stored_zero,
        "blocks": blocks,
        "edge": CHANNELS if op.channels % CHANNELS else 0,
        "block_weights": win.h.kernel * reach.run * CHANNELS,
        "block_words": packed.parameters.shape[1],
        "end": finish_values(packed.finish, op),
    }
    changed = ("x", "w", "q", "to", "blocks")
    operands = {
        "outputs": [f'[{v}] "+&r"({v})' for v in changed],
        "operands": [f'[{v}] "r"({v})' for v in ("line", "stride", "back", "out")],
        "clobbers": [f'"{c}"' for c in (*made.regs.clobbers, "cc", "memory")],
    }
    return Prepared(
        constants={
            "w": Constant(packed.weights, "w - Zw in reading order: see the kernel"),
            "q": Constant(packed.parameters, "per block of channels: see the kernel"),
        },
        scratch=2 * made.lines * made.pitch,
        helpers=(FINISH_CONSTANTS, Helper("fill16", "helpers/fill16_neon.c.j2")),
        vars=finish_vars(op) | values | operands,
        lanes=Lanes(
            f"inputs {', '.join(map(str, packed.starts))} start them anew",
            op.weight_matrix().shape[0] / len(packed.starts),
            packed.lane_bound,
        ),
        notes=(
            "zero point folded into the bias (Q15); weights of two bytes need no row sums",
            f"end {made.asm.end.title}",
        ),
        extremes=packed.extremes,
    )


def _refuses(op: Conv2D, rounding: Rounding) -> str:
    win = op.window
    if win.h.kernel * win.w.kernel == 1 or win.h.dilation * win.w.dilation > 1:
        return "windows of one pixel, or dilated"
    if op.weight_matrix().shape[0] > MOST_INPUTS:
        return f"more than {MOST_INPUTS} inputs"
    if op.channels < CHANNELS:
        return f"fewer than {CHANNELS} output channels"
    if win.w.out < min(ROWS):
        return f"fewer than {min(ROWS)} columns"
    if overflow_reason(op):
        return overflow_reason(op)
    return "" if plan(op, rounding) else "a tile needs more registers than there are"


def work(op: Conv2D, rounding: Rounding) -> Work:
    """A run: the printed lines of the kernel, an estimate of the C around it."""
    made = plan(op, rounding)
    assert made is not None
    return made.work


KERNELS = (
    KernelSpec(
        name=f"qs8_conv2d__neon_lines_{ROWS[-1]}x{CHANNELS}",
        op="conv2d",
        template="conv2d/neon_window.c.j2",
        requires=NEON,
        prepare=prepare,
        refuses=_refuses,
        work=work,
        tile=(ROWS[-1], CHANNELS, 1),
    ),
)
