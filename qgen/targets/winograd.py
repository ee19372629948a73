"""conv2d 3 x 3 by exact integer Winograd convolution: fewer products, all of them exact (Q20).

Tiles of the image are transformed to int16, multiplied per frequency by weights that were
transformed at build time, added up over the input channels in int32 modulo 2^32, and transformed
back. Blocks of a few tiles run through all three stages, so scratch holds these alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import product as pairs_of

import numpy as np

from qgen.ir.linear import Linear
from qgen.ir.ops.conv2d import Conv2D
from qgen.ir.types import Array, DType, Rounding
from qgen.targets import winograd_asm
from qgen.targets.blocks import block_starts, by_blocks
from qgen.targets.finish import Finish, finish_values, plan_finish
from qgen.targets.fold import fold_input_zero
from qgen.targets.neon import FILL, FINISH_CONSTANTS, NEON, finish_vars
from qgen.targets.once import once_per_op
from qgen.targets.spec import Constant, Helper, KernelSpec, Prepared
from qgen.targets.winograd_asm import CHANNELS, LANES, Turn
from qgen.targets.winograd_forms import F2, F4, TAPS, Form

TILES = (4, 2, 1)  # of a block
# Transformed weights of one layer: they are read once per block of tiles, so they have to stay in
# a second-level cache of 512 KiB beside the tensors of the layer, and flash grows with them.
MOST_WEIGHT_BYTES = 192 * 1024
MOST_OFFSET = 65520  # bytes, of a load or store of 16 bytes with an immediate offset
INT16_MAX = 2**15 - 1
# Instructions of C around the assembly, as compilers print it: per block of tiles, per tile, per
# call of a transform or of the products, and of a tile at an edge per line and pixel copied.
PER_BLOCK, PER_TILE, PER_CALL, PER_EDGE, PER_LINE, PER_PIXEL = 12, 30, 14, 130, 8, 6


@dataclass(frozen=True, eq=False)
class Packed:
    """Constants of one op in one form.

    Attributes:
        transformed: G g G^T, int64 [m + 2, m + 2, C, O].
        bias: folded, int64 [O].
        finish: the end of the op.
    """

    transformed: Array
    bias: Array
    finish: Finish

    def weights(self) -> Array:
        """int16 [block, frequency, C, 8]; what the last input vector repeats meets zeros."""
        inputs, outputs = self.transformed.shape[2:]
        starts = block_starts(inputs, LANES)
        source = np.concatenate([np.arange(s, s + LANES) for s in starts])
        # Channels that a vector shares with the one before it.
        repeated = len(source) - inputs
        taken = self.transformed[:, :, source, :]
        if repeated:
            taken[:, :, len(source) - LANES : len(source) - LANES + repeated] = 0
        rows = taken.reshape(-1, len(source), outputs)
        blocks = [rows[:, :, s : s + CHANNELS] for s in block_starts(outputs, CHANNELS)]
        return np.stack(blocks).astype(np.int16)

    def parameters(self, form: Form) -> Array:
        """int32 per 4 output channels: s^2 bias modulo 2^32, and what the end needs."""
        scaled = (self.bias * form.factor).astype(np.int32)
        starts = [s + h for s in block_starts(len(self.bias), CHANNELS) for h in (0, 4)]
        return by_blocks([scaled, *self.finish.rows], starts, 4).astype(np.int32)


@dataclass(frozen=True, eq=False)
class Plan:
    """How an op is computed.

    Attributes:
        tiles: of a block.
    """

    form: Form
    op: Conv2D
    packed: Packed
    tiles: int

    @property
    def inputs(self) -> int:
        """Input channels, rounded up to vectors."""
        return -(-self.op.x.shape[3] // LANES) * LANES

    @property
    def turn(self) -> Turn:
        return Turn(self.tiles, LANES if self.inputs % (2 * LANES) else 2 * LANES)

    @property
    def grid(self) -> tuple[int, int, int]:
        """Images, and tiles per column and row of one."""
        n, height, width, _ = self.op.out.shape
        m = self.form.outputs
        return n, -(-height // m), -(-width // m)

    @property
    def count(self) -> int:
        n, rows, columns = self.grid
        return n * rows * columns

    @property
    def input_bytes(self) -> int:
        return 2 * self.form.frequencies * self.tiles * self.inputs

    @property
    def places(self) -> list[int]:
        """Bytes of scratch ahead of each frequency of the inputs."""
        return [self.turn.place(f, self.steps) for f in range(self.form.frequencies)]

    @property
    def scratch(self) -> int:
        return self.input_bytes + self.form.frequencies * self.tiles * CHANNELS * 4

    @property
    def blocks(self) -> int:
        return len(block_starts(self.op.channels, CHANNELS))

    @property
    def steps(self) -> int:
        return self.inputs // self.turn.step

    def input(self) -> winograd_asm.Transform:
        flip = self.op.x.dtype is DType.U8
        return winograd_asm.input_transform(self.form, self.places, flip=flip)

    def output(self) -> winograd_asm.Transform:
        return winograd_asm.output_transform(self.form, self.tiles, self.packed.finish)

    def product(self) -> winograd_asm.Product:
        return winograd_asm.products(self.turn, self.steps)

    def edges(self) -> Iterator[tuple[int, int]]:
        """Lines and columns inside the image of each tile that reaches into padding."""
        n, rows, columns = self.grid
        win, size = self.op.window, self.form.size
        covered = []
        for axis, count in ((win.h, rows), (win.w, columns)):
            firsts = [min(i * self.form.outputs, axis.out - self.form.outputs) for i in range(count)]
            starts = [first - axis.before for first in firsts]
            covered.append([min(s + size, axis.size) - max(s, 0) for s in starts])
        for height, width in n * list(pairs_of(*covered)):
            if height * width < size * size:
                yield height, width

    def cost(self) -> float:
        """Instructions of a run: the printed ones of the assembly, an estimate of the C around."""
        groups = -(-self.count // self.tiles)
        vectors = self.inputs // LANES
        transform = self.input()
        per_input = transform.length + len(transform.once.lines) + PER_CALL
        back = self.output()
        per_output = 2 * (back.length + 2) + len(back.once.lines) + PER_CALL
        products = self.product().length(self.form.frequencies) + PER_CALL
        per_tile = PER_TILE + vectors * per_input + self.blocks * per_output
        copies = sum(vectors * h * (PER_LINE + w * PER_PIXEL) + PER_EDGE for h, w in self.edges())
        copies *= self.tiles * groups / self.count
        return groups * (PER_BLOCK + self.blocks * products + self.tiles * per_tile) + copies


def _pack(form: Form, op: Linear, rounding: Rounding) -> Packed:
    centered, bias = fold_input_zero(op)
    w = centered.reshape(TAPS, TAPS, -1, op.channels)
    return Packed(form.transform_weights(w), bias, plan_finish(op, op.rounding(rounding)))


def _refuses(form: Form, op: Conv2D, packed: Packed) -> str:
    """Why no plan at all can take an op of the right window."""
    m = form.outputs
    if min(op.window.h.out, op.window.w.out) < m:
        return f"results smaller than a tile of {m} x {m}"
    bytes_needed = packed.weights().nbytes
    if bytes_needed > MOST_WEIGHT_BYTES:
        return f"{bytes_needed} bytes of transformed weights, more than {MOST_WEIGHT_BYTES}"
    if int(np.abs(packed.transformed).max()) > INT16_MAX:
        return "transformed weights leave int16"
    if sum_bound(op) > form.most_sum:
        return f"sums may exceed {form.most_sum}"
    return ""


def sum_bound(op: Linear) -> int:
    """Largest |sum| with its bias that any input can produce."""
    bound = op.bounds()
    return max(-bound.low, bound.high)


def _shape_reason(op: Conv2D) -> str:
    win = op.window
    axes = [(a.kernel, a.stride, a.dilation) for a in (win.h, win.w)]
    if axes != [(TAPS, 1, 1)] * 2:
        return "not 3 x 3 with stride 1 and dilation 1"
    if min(op.x.shape[3], op.channels) < LANES:
        return f"fewer than {LANES} input or output channels"
    return ""


@dataclass(frozen=True, eq=False)
class Row:
    """One form as a row of kernels, with at most `room` bytes of scratch."""

    form: Form
    room: int
    pack: Callable[[Linear, Rounding], Packed]

    def plan(self, op: Linear, rounding: Rounding) -> Plan | None:
        """The cheapest plan that fits; None where a single tile does not."""
        assert isinstance(op, Conv2D)
        packed = self.pack(op, rounding)
        plans = [Plan(self.form, op, packed, tiles) for tiles in TILES]
        fitting = [
            p
            for p in plans
            if p.tiles <= p.count
            and p.scratch <= self.room
            and max(p.input_bytes, p.scratch - p.input_bytes) <= MOST_OFFSET
        ]
        return min(fitting, key=Plan.cost, default=None)

    def refuses(self, op: Conv2D, rounding: Rounding) -> str:
        reason = _shape_reason(op) or _refuses(self.form, op, self.pack(op, rounding))
        if reason or self.plan(op, rounding):
            return reason
        return f"scratch of a tile exceeds {self.room} bytes"

    def cost(self, op: Conv2D, rounding: Rounding) -> float:
        found = self.plan(op, rounding)
        assert found is not None
        return found.cost()

    def prepare(self, op: Conv2D, rounding: Rounding) -> Prepared:
        found = self.plan(op, rounding)
        assert found is not None
        return prepare(found)

    def within(self, room: int) -> KernelSpec:
        return replace(self, room=room).spec()

    def spec(self) -> KernelSpec:
        m = self.form.outputs
        return KernelSpec(
            name=f"qs8_conv2d__neon_winograd_{m}x{m}",
            op="conv2d",
            template="conv2d/neon_winograd.c.j2",
            requires=NEON,
            prepare=self.prepare,
            refuses=self.refuses,
            cost=self.cost,
            within=self.within,
            tile=(TILES[0] * m * m, CHANNELS, 1),
        )


def prepare(plan: Plan) -> Prepared:
    """Constants, helpers and variables of one op."""
    op, form, packed = plan.op, plan.form, plan.packed
    win = op.window
    n, rows, columns = plan.grid
    u8 = op.x.dtype is DType.U8
    parameters = packed.parameters(form)
    helpers = {
        "product": _product_helper(plan),
        "input": _input_helper(plan),
        "output": _output_helper(plan),
    }
    weights = np.stack([plan.turn.arranged(block) for block in packed.weights()])
    edges = len(list(plan.edges()))
    values = {
        "win": win,
        "C": op.x.shape[3],
        "O": op.channels,
        "m": form.outputs,
        "size": form.size,
        "turns": form.frequencies // plan.turn.frequencies,
        "tiles": plan.tiles,
        "step": plan.turn.step,
        "vector_step": plan.tiles * plan.turn.step * plan.turn.frequencies,
        "vectors": plan.inputs // LANES,
        "blocks": plan.blocks,
        "grid_images": n,
        "grid_rows": rows,
        "grid_columns": columns,
        "count": plan.count,
        "input_bytes": plan.input_bytes,
        "block_weights": weights[0].size,
        "block_words": 2 * parameters[0].size,
        "deep": plan.product().repeats,
        "edges": edges > 0,
        "inner": edges < plan.count,
        "pad": op.x.zero,
        "kernels": {name: helper.name for name, helper in helpers.items()},
        "end": finish_values(packed.finish, op),
    }
    widest = int(np.abs(packed.transformed).max())
    return Prepared(
        constants={
            "w": Constant(weights.reshape(-1), "transformed w - Zw in reading order: see kernel"),
            "q": Constant(parameters.reshape(-1), "per 4 channels: see the output transform"),
        },
        scratch=plan.scratch,
        helpers=(
            FINISH_CONSTANTS,
            *((FILL,) if edges else ()),
            *helpers.values(),
        ),
        vars=finish_vars(op) | values,
        notes=(
            f"F({form.outputs} x {form.outputs}, 3 x 3) in integers (Q20): "
            f"{form.frequencies} products for {form.outputs**2 * TAPS**2}",
            f"int16: |B^T d B| <= {form.input_bound}, |G g G^T| <= {widest} of {INT16_MAX}",
            f"int32 modulo 2^32; |sum| <= {sum_bound(op)} of {form.most_sum}, carried {form.factor} times",
            "zero points folded into the bias (Q15); weights of two bytes need no row sums",
            f"end {plan.output().parts[3].title}",
        ),
    )


def _product_helper(plan: Plan) -> Helper:
    asm = plan.product()
    name = f"winograd_{plan.tiles}x{CHANNELS}c{plan.turn.step}"
    name += "_deep" if asm.repeats else f"_{len(asm.steps)}"
    return Helper(
        name,
        "helpers/winograd_product.c.j2",
        {
            "asm": asm,
            "turn": plan.turn,
            "deep": asm.repeats > 0,
            "clobbers": _clobbers(asm.regs.clobbers),
        },
    )


def _input_helper(plan: Plan) -> Helper:
    asm = plan.input()
    m = plan.form.outputs
    name = f"winograd_input_{m}x{m}_{plan.tiles}x{plan.inputs}"
    name += "_flip" if plan.op.x.dtype is DType.U8 else ""
    values = {"asm": asm, "size": plan.form.size, "tiles": plan.tiles, "inputs": plan.inputs, "turn": plan.turn, "X": plan.op.x.dtype}
    return Helper(
        name,
        "helpers/winograd_input.c.j2",
        values | {"clobbers": _clobbers(asm.regs.clobbers)},
    )


def _output_helper(plan: Plan) -> Helper:
    asm = plan.output()
    m = plan.form.outputs
    return Helper(
        "_".join([f"winograd_output_{m}x{m}_{plan.tiles}", *plan.packed.finish.traits]),
        "helpers/winograd_output.c.j2",
        {
            "asm": asm,
            "m": m,
            "size": plan.form.size,
            "tiles": plan.tiles,
            "reciprocal": plan.form.reciprocal,
            "factor": plan.form.factor,
            "words": len(plan.packed.finish.rows),
            "clobbers": _clobbers(asm.regs.clobbers),
        },
    )


def _clobbers(registers: tuple[str, ...]) -> list[str]:
    return [f'"{c}"' for c in (*registers, "cc", "memory")]


UNLIMITED = 1 << 30
ROWS = tuple(
    Row(form, UNLIMITED, once_per_op(partial(_pack, form))).spec() for form in (F2, F4)
)
