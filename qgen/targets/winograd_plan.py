"""How a 3 x 3 conv2d runs as a Winograd convolution: packing, blocks of tiles, cost, refusals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product as pairs_of

import numpy as np

from qgen.ir.linear import Linear
from qgen.ir.ops.conv2d import Conv2D
from qgen.ir.types import Array, DType, Rounding
from qgen.ir.windows import Axis
from qgen.targets.blocks import block_starts, by_blocks
from qgen.targets.finish import Finish, plan_finish
from qgen.targets.fold import fold_input_zero
from qgen.targets.winograd_forms import TAPS, Form, Scheme
from qgen.targets.winograd_products import CHANNELS, LANES, Product, Turn, products
from qgen.targets.winograd_transforms import Transform, input_transform, output_transform

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
    """Constants of one op in one scheme.

    Attributes:
        transformed: G g G^T, int64 [m + 2, m + 2, C, O].
        bias: folded, int64 [O].
        finish: the end of the op.
    """

    transformed: Array
    bias: Array
    finish: Finish

    @property
    def widest(self) -> int:
        """Largest |U|."""
        return int(np.abs(self.transformed).max())

    def weights(self) -> Array:
        """int16 [block, frequency, C, 8]; what the last input vector repeats meets zeros."""
        inputs, outputs = self.transformed.shape[1:]
        starts = block_starts(inputs, LANES)
        source = np.concatenate([np.arange(s, s + LANES) for s in starts])
        # Channels that a vector shares with the one before it.
        repeated = len(source) - inputs
        taken = self.transformed[:, source]
        if repeated:
            taken[:, len(source) - LANES : len(source) - LANES + repeated] = 0
        blocks = [taken[:, :, s : s + CHANNELS] for s in block_starts(outputs, CHANNELS)]
        return np.stack(blocks).astype(np.int16)

    def parameters(self, scheme: Scheme) -> Array:
        """int32 per 4 output channels: s s' bias modulo 2^32, and what the end needs."""
        scaled = (self.bias * scheme.factor).astype(np.int32)
        starts = [s + h for s in block_starts(len(self.bias), CHANNELS) for h in (0, 4)]
        return by_blocks([scaled, *self.finish.rows], starts, 4).astype(np.int32)


@dataclass(frozen=True, eq=False)
class Plan:
    """How an op is computed.

    Attributes:
        tiles: of a block.
    """

    scheme: Scheme
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
        return n, -(-height // self.scheme.height), -(-width // self.scheme.width)

    @property
    def count(self) -> int:
        n, rows, columns = self.grid
        return n * rows * columns

    @property
    def input_bytes(self) -> int:
        return 2 * self.scheme.frequencies * self.tiles * self.inputs

    @property
    def places(self) -> list[int]:
        """Bytes of scratch ahead of each frequency of the inputs."""
        return [self.turn.place(f, self.inputs) for f in range(self.scheme.frequencies)]

    @property
    def scratch(self) -> int:
        return self.input_bytes + self.scheme.frequencies * self.tiles * CHANNELS * 4

    @property
    def blocks(self) -> int:
        return len(block_starts(self.op.channels, CHANNELS))

    @property
    def steps(self) -> int:
        return self.inputs // self.turn.step

    def input(self) -> Transform:
        flip = self.op.x.dtype is DType.U8
        return input_transform(self.scheme, self.places, flip=flip)

    def output(self) -> Transform:
        return output_transform(self.scheme, self.tiles, self.packed.finish)

    def product(self) -> Product:
        return products(self.turn, self.steps)

    def edges(self) -> Iterator[tuple[int, int]]:
        """Lines and columns inside the image of each tile that reaches into padding."""
        n, rows, columns = self.grid
        win, scheme = self.op.window, self.scheme
        heights = _covered(win.h, scheme.rows, rows)
        widths = _covered(win.w, scheme.columns, columns)
        for height, width in n * list(pairs_of(heights, widths)):
            if height * width < scheme.frequencies:
                yield height, width

    def cost(self) -> float:
        """Instructions of a run: the printed ones of the assembly, an estimate of the C around."""
        groups = -(-self.count // self.tiles)
        vectors = self.inputs // LANES
        transform = self.input()
        per_input = transform.length + len(transform.once.lines) + PER_CALL
        back = self.output()
        per_output = 2 * (back.length + 2) + len(back.once.lines) + PER_CALL
        multiply = self.product().length(self.scheme.frequencies) + PER_CALL
        per_tile = PER_TILE + vectors * per_input + self.blocks * per_output
        moved = sum(vectors * h * (PER_LINE + w * PER_PIXEL) + PER_EDGE for h, w in self.edges())
        copies = moved * self.tiles * groups / self.count
        return groups * (PER_BLOCK + self.blocks * multiply + self.tiles * per_tile) + copies


def _covered(axis: Axis, form: Form, tiles: int) -> list[int]:
    """Elements of the image under each tile along an axis."""
    starts = [min(i * form.outputs, axis.out - form.outputs) - axis.before for i in range(tiles)]
    return [min(start + form.size, axis.size) - max(start, 0) for start in starts]


def pack(scheme: Scheme, op: Linear, rounding: Rounding) -> Packed:
    centered, bias = fold_input_zero(op)
    w = centered.reshape(TAPS, TAPS, -1, op.channels)
    return Packed(scheme.transform_weights(w), bias, plan_finish(op, op.rounding(rounding)))


def refusal(scheme: Scheme, op: Conv2D, packed: Packed) -> str:
    """Why no plan at all can take an op of the right window."""
    if op.window.h.out < scheme.height or op.window.w.out < scheme.width:
        return f"results smaller than a tile of {scheme}"
    bytes_needed = packed.weights().nbytes
    if bytes_needed > MOST_WEIGHT_BYTES:
        return f"{bytes_needed} bytes of transformed weights, more than {MOST_WEIGHT_BYTES}"
    if packed.widest > INT16_MAX:
        return "transformed weights leave int16"
    if sum_bound(op) > scheme.most_sum:
        return f"sums may exceed {scheme.most_sum}"
    return ""


def sum_bound(op: Linear) -> int:
    """Largest |sum| with its bias that any input can produce."""
    bound = op.bounds()
    return max(-bound.low, bound.high)


def shape_reason(op: Conv2D) -> str:
    win = op.window
    axes = [(a.kernel, a.stride, a.dilation) for a in (win.h, win.w)]
    if axes != [(TAPS, 1, 1)] * 2:
        return "not 3 x 3 with stride 1 and dilation 1"
    if max(win.pads) >= TAPS:
        return "windows inside padding"
    if min(op.x.shape[3], op.channels) < LANES:
        return f"fewer than {LANES} input or output channels"
    return ""
