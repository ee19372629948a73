"""3 x 3 depthwise convolution on 32-bit NEON: 8 channels and two columns of outputs a step.

Columns of the image stay in registers for both outputs and for the next step; products of a tap are
added in int16 lanes in runs that were proven to fit, (Q16). Padding is read from constants: rows
above and below by pointers that stand still, columns left and right by steps of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from qgen.ir.ops.depthwise_conv2d import DepthwiseConv2D
from qgen.ir.types import Array, DType, Rounding
from qgen.ir.windows import Axis
from qgen.targets import portable
from qgen.targets.blocks import block_starts, block_vars
from qgen.targets.depthwise_neon import folded_bias, groups, split, stored_zero, tap_lanes
from qgen.targets.finish import Finish, finish_values, plan_finish
from qgen.targets.finish_neon32 import finish_lines
from qgen.targets.fold import overflow_reason
from qgen.targets.neon import finish_vars
from qgen.targets.neon32 import NEON32, STATE
from qgen.targets.once import once_per_op
from qgen.targets.requantize_asm import Lines, Sums
from qgen.targets.spec import QUADS, Constant, Helper, KernelSpec, Prepared, RegPlan

# Instructions of the C around a call, and around a row of the image.
CALL = 22
ROW = 30
LANES = 8
SIDE = 3
TAPS = SIDE * SIDE
PLAN = RegPlan(
    {
        "columns": (0, 1, 2),
        "weights": (3, 4, 5, 6, 7),
        "sums": (8, 9, 10, 11),
        "products": (12, 13),
        "bias": (14, 15),
    },
    QUADS,
)
# Half registers: M0 of all channels, then nine weights, or a spare one and eight.
M0 = 2 * PLAN["weights"][0]
SPARE = M0 + 1
# Constants of the end, over sums and products that are used up.
CONSTANTS = {"m0": PLAN["weights"][0], "flip": 10, "low": 11, "high": 12, "zero": 13}
BIAS = f"{{d{2 * PLAN['bias'][0]}-d{2 * PLAN['bias'][1] + 1}}}"


@dataclass(frozen=True)
class Program:
    """Assembly for a row of outputs of 8 channels.

    Attributes:
        stride: of columns, 1 or 2.
        left, right: whether the first and the last column that a row reads is padding.
        outputs: of a row.
        order: tap (3 * kx + ky) of each row of weights; one comes twice if it leaves int8.
        runs: rows of weights that share an int16 lane, one run after the other.
        finish: the end.
        values: constants of the end by name.
        padding: stored zero point of the input.
    """

    stride: int
    left: bool
    right: bool
    outputs: int
    order: tuple[int, ...]
    runs: tuple[int, ...]
    finish: Finish
    values: Mapping[str, int]
    padding: int

    @property
    def pairs(self) -> int:
        """Steps of two outputs that read no padding on the right."""
        return self.outputs // 2 - (1 if self.right and not self.odd else 0)

    @property
    def odd(self) -> bool:
        return self.outputs % 2 == 1

    @property
    def uniform(self) -> bool:
        """One multiplier and shift for all channels."""
        return self.finish.immediate is not None

    @property
    def held(self) -> int:
        """Rows of weights that stay in registers; the others share one."""
        return TAPS if len(self.order) == TAPS else TAPS - 1

    @property
    def name(self) -> str:
        twice = "".join(str(t) for i, t in enumerate(self.order) if t in self.order[:i])
        traits = {"left": self.left, "right": self.right, "odd": self.odd, "loop": self.pairs > 0}
        parts = [f"depthwise_3x3s{self.stride}", *(t for t, there in traits.items() if there)]
        parts += ["r" + "".join(f"{n:x}" for n in self.runs), *(["x" + twice] if twice else [])]
        # Constants are in the instructions.
        values = {**self.values, "padding": self.padding if self.left or self.right else 0}
        parts += [
            f"{k[0]}{v % 256:02x}" for k, v in values.items() if k in (*self.needed, "padding")
        ]
        return "_".join([*parts, *self.finish.traits])

    @property
    def needed(self) -> list[str]:
        """Constants of the end, without M0."""
        finish = self.finish
        found = {
            "zero": not finish.unsigned,
            "low": finish.low,
            "high": finish.high,
            "flip": finish.flip,
        }
        return [name for name, needed in found.items() if needed]

    # -- parameters -----------------------------------------------------------------------------

    def _extra(self, i: int) -> int:
        """Bytes from what follows the bias to a row of weights that no register holds."""
        return (8 if self.uniform else 2 * 4 * LANES) + 8 * (i - self.held)

    def words(self, taps: Array, bias: Array, m0: Array, shift: Array) -> Array:
        """int32 parameters of a block: weights [row][8], bias, M0 and shift, more weights."""
        weights = np.ascontiguousarray(taps.astype(np.int8)).view("<i4")
        scale = [m0[:1], m0[:1]] if self.uniform else [m0, shift]
        parts = [weights[: self.held], bias, *scale, weights[self.held :]]
        return np.concatenate([p.reshape(-1).astype(np.int32) for p in parts])

    # -- sections -------------------------------------------------------------------------------

    @property
    def head(self) -> Lines:
        first = SPARE + TAPS - self.held
        lines = [f"vldm %[q]!, {{d{first}-d{first + self.held - 1}}}"]
        if self.uniform:
            lines += [f"vldm %[q]!, {BIAS}", f"vldr d{M0}, [%[q]]"]
        slots = (0, 1) if self.stride == 1 else (0,)
        for slot in slots:
            lines += [self._load(slot, ky, edge=self.left and slot == 0) for ky in range(SIDE)]
        return Lines("Weights, and the columns that a step finds in registers.", tuple(lines))

    @property
    def body(self) -> tuple[Lines, ...]:
        """Two outputs."""
        return self._step(2, edge=False)

    @property
    def tail(self) -> tuple[Lines, ...]:
        """The last output of an odd number, or the last two before padding."""
        if self.odd:
            return self._step(1, edge=self.right)
        return self._step(2, edge=True) if self.right else ()

    def _load(self, slot: int, ky: int, *, edge: bool) -> str:
        register = self._column(slot, ky)
        if edge:
            return f"vmov.i8 d{register}, #{self.padding % 256}"
        by = "step" if ky == 1 else f"s{ky}"
        return f"vld1.8 {{d{register}}}, [%[a{ky}]], %[{by}]"

    @staticmethod
    def _column(slot: int, ky: int) -> int:
        return 2 * PLAN["columns"][0] + SIDE * slot + ky

    def _step(self, outputs: int, *, edge: bool) -> tuple[Lines, ...]:
        last = (outputs - 1) * self.stride + SIDE - 1
        lines: list[str] = []
        if not self.uniform:
            lines.append(f"vldm %[q]!, {BIAS}")
        if self.stride == 2:
            lines += [self._load(1, ky, edge=edge and last == 1) for ky in range(SIDE)]
        for column in range(last + 1):
            for ky in range(SIDE):
                for output in range(outputs):
                    kx = column - output * self.stride
                    if 0 <= kx < SIDE:
                        lines += self._tap(self._column(column % 2, ky), SIDE * kx + ky, output)
                if column + 2 <= last:
                    lines.append(self._load(column % 2, ky, edge=edge and column + 2 == last))
        runs = " + ".join(map(str, self.runs))
        title = f"{'Two outputs' if outputs == 2 else 'The last output'}: {runs} taps."
        return Lines(title, tuple(lines)), *self._end(outputs)

    def _tap(self, x: int, tap: int, output: int) -> Iterator[str]:
        starts = {sum(self.runs[:i]) for i in range(len(self.runs))}
        product = PLAN["products"][output]
        for i in (i for i, t in enumerate(self.order) if t == tap):
            w = SPARE + TAPS - self.held + i
            if i >= self.held:
                w = SPARE
                yield f"vldr d{w}, [%[q], #{self._extra(i)}]"
            yield f"{'vmull' if i in starts else 'vmlal'}.s8 q{product}, d{x}, d{w}"
            if i + 1 in starts or i + 1 == len(self.order):
                for half in range(2):
                    to = PLAN["sums"][2 * output + half]
                    base = PLAN["bias"][half] if i < self.runs[0] else to
                    yield f"vaddw.s16 q{to}, q{base}, d{2 * product + half}"

    def _end(self, outputs: int) -> tuple[Lines, ...]:
        m0, shift = PLAN["products"], PLAN["bias"]
        scale = []
        if not self.uniform:
            scale = [
                f"vldm %[q], {{d{2 * m0[0]}-d{2 * shift[1] + 1}}}",
                f"sub %[q], %[q], #{4 * LANES}",
            ]
        sums = [
            Sums(value, m0[i % 2], shift[i % 2], 0)
            for i, value in enumerate(PLAN["sums"][: 2 * outputs])
        ]
        late = [_constant(name, self.values[name]) for name in self.needed]
        end, result = finish_lines(self.finish, sums, (), CONSTANTS, late=late)
        stores = [f"vst1.8 {{d{2 * result + i}}}, [%[y]], %[step]" for i in range(outputs)]
        return Lines("", tuple(scale)), end, Lines("", tuple(stores))

    # -- operands -------------------------------------------------------------------------------

    @property
    def operands(self) -> list[str]:
        changed = ["a0", "a1", "a2", "y", "q", *(["pairs"] if self.pairs else [])]
        return [f'[{v}] "+&r"({v})' for v in changed]

    @property
    def inputs(self) -> list[str]:
        return [f'[{v}] "r"({v})' for v in ("s0", "s2", "step")]

    @property
    def clobbers(self) -> list[str]:
        return [f'"{c}"' for c in (*PLAN.clobbers, "cc", "memory")]


def _constant(name: str, value: int) -> str:
    """The instruction that makes a constant of the end: 16 bits the zero point, the others 8."""
    quad = CONSTANTS[name]
    if name != "zero":
        return f"vmov.i8 q{quad}, #{value % 256}"
    return f"vmov.i16 q{quad}, #{value}" if value >= 0 else f"vmvn.i16 q{quad}, #{~value}"


def _over(axis: Axis) -> int:
    """How far the last window reaches beyond the image."""
    return (axis.out - 1) * axis.stride - axis.before + axis.extent - axis.size


def _refuses(op: DepthwiseConv2D, rounding: Rounding) -> str:
    h, w = op.window.h, op.window.w
    if op.depth_multiplier != 1:
        return f"depth multiplier {op.depth_multiplier}"
    if op.channels < LANES:
        return f"fewer than {LANES} channels"
    if (h.kernel, w.kernel, h.dilation, w.dilation) != (SIDE, SIDE, 1, 1):
        return "not a dense window of 3 x 3"
    if w.stride > 2:
        return f"stride {w.stride}"
    if max(h.before, w.before, _over(h), _over(w)) > 1:
        return "more than one row or column of padding on a side"
    if op.x.dtype is not DType.I8:
        return "input is not stored as int8"
    finish = plan_finish(op, rounding)
    if not finish.multiply or finish.left or finish.ties == "mask":
        return "an end that takes more registers than there are"
    return overflow_reason(op)


def _taps(op: DepthwiseConv2D) -> tuple[list[int], Array]:
    taps = op.centered_weights()[0].astype(np.int64).transpose(1, 0, 2).reshape(TAPS, op.channels)
    return split(taps)


@once_per_op
def program(op: DepthwiseConv2D, rounding: Rounding) -> Program:
    """The instance of the kernel that an op needs."""
    finish, axis = plan_finish(op, rounding), op.window.w
    order, rows = _taps(op)
    runs, _ = groups(rows)
    return Program(
        stride=axis.stride,
        left=axis.before > 0,
        right=_over(axis) > 0,
        outputs=axis.out,
        order=tuple(order),
        runs=tuple(len(r) for r in runs),
        finish=finish,
        values=finish_values(finish, op),
        padding=stored_zero(op),
    )


def _prepare(op: DepthwiseConv2D, rounding: Rounding) -> Prepared:
    made, finish = program(op, rounding), plan_finish(op, rounding)
    _, rows = _taps(op)
    _, reach = groups(rows)
    bias = folded_bias(op)
    blocks = [slice(s, s + LANES) for s in block_starts(op.channels, LANES)]
    words = [made.words(rows[:, b], bias[b], finish.m0[b], finish.shift[b]) for b in blocks]
    values = {"program": made, "regs": PLAN}
    helper = Helper(made.name, "helpers/depthwise_neon32.c.j2", values)
    return Prepared(
        constants={
            "q": Constant(np.stack(words), "per block: weights, bias and what the end reads")
        },
        helpers=(STATE, helper),
        vars=portable.image_vars(op)
        | finish_vars(op)
        | block_vars(op.channels, LANES)
        | {
            "kernel": made.name,
            "pairs": made.pairs,
            "zx": made.padding,
            "words": words[0].size,
            "over": _over(op.window.h) > 0,
        },
        lanes=tap_lanes(made.runs, reach),
        notes=(
            "zero point folded into the bias (Q15); padding reads the stored zero point",
            f"regs: {PLAN}",
        ),
    )


def _cost(op: DepthwiseConv2D, rounding: Rounding) -> float:
    made = program(op, rounding)
    head, body, tail = (sum(len(s.lines) for s in p) for p in ([made.head], made.body, made.tail))
    n, rows, _, _ = op.out.shape
    call = CALL + head + made.pairs * (body + 2) + tail
    return n * rows * (ROW + len(block_starts(op.channels, LANES)) * call)


ROWS: tuple[KernelSpec, ...] = (
    KernelSpec(
        name="qs8_depthwise_conv2d__neon32_3x3",
        op="depthwise_conv2d",
        template="depthwise_conv2d/neon32_3x3.c.j2",
        requires=NEON32,
        prepare=_prepare,
        refuses=_refuses,
        cost=_cost,
        tile=(2, LANES, TAPS),
        regs=PLAN,
    ),
)
