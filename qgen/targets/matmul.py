"""conv2d and fully_connected as matrix products, for any kernel that multiplies matrices.

A `MatrixKernel` packs weights and names an instance of its assembly; everything around it, from
patches to the edge of the channels, is the same for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, Protocol

from qgen.ir.linear import Linear
from qgen.ir.ops.conv2d import Conv2D
from qgen.ir.ops.fully_connected import FullyConnected
from qgen.ir.types import Array, DType, Rounding
from qgen.targets.fold import overflow_reason
from qgen.targets.neon import FILL, GATHER, ROW_SUM, TOTAL, finish_vars, gather_run
from qgen.targets.product import gather_cost
from qgen.targets.spec import Constant, Helper, KernelSpec, Lanes, Prepared, RegPlan

# Rows of the left factor are read in pieces of 8 bytes at least.
LANES = 8
# Instructions of the C around a tile: a call, and a row of it.
CALL = 10
ROW = 2
# What finds the window of a pixel, beyond what it takes where there are more registers.
FIND = 30
# Longest copy that is worth printing move by move, in bytes.
LONGEST_UNROLLED = 256
NO_IMAGE: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Ends:
    """Constants of a kernel's end: the struct that holds them, and its fields in order."""

    struct: Helper
    fields: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Arrangement:
    """What lays the rows of a tile out for a kernel, and the bytes of scratch that takes."""

    helper: Helper
    bytes: int


def _as_they_are(packed: Any) -> None:
    return None


def _nothing(op: Linear, rounding: Rounding) -> str:
    return ""


class Packed(Protocol):
    """What every packing has: weights and parameters in reading order, and their extents."""

    @property
    def weights(self) -> Array: ...
    @property
    def parameters(self) -> Array: ...
    @property
    def row(self) -> int: ...
    @property
    def blocks(self) -> int: ...
    @property
    def row_sums(self) -> bool: ...


@dataclass(frozen=True)
class MatrixKernel:
    """A family of assembly kernels for 1 or `most_rows` rows x `channels` output channels.

    Attributes:
        name: isa and tile, as in the names of rows.
        requires: ISA features.
        channels: output channels of one block.
        step: products of one step.
        fewest_rows: least rows of the left factor that the kernel takes.
        pack: weights and parameters of an op, in reading order.
        helper: the instance for (rows, packed, rounding, op).
        lanes: what meets in its narrow lanes.
        cost: instructions of the blocks of one tile, and of what is done for it before: for
            (rows, packed, the helper).
        registers: the register plan for 1 or `most_rows` rows.
        ends: the constants of the kernel's end.
        most_rows: rows of a tile.
        refuses: what else an op must have, as in `KernelSpec`.
        before: helpers that the kernel's own need.
        arrange: how the rows of a tile are laid out first, None if they stay as they are.
    """

    name: str
    requires: frozenset[str]
    channels: int
    step: int
    pack: Callable[[Linear, Rounding], Any]
    helper: Callable[[int, Any, Rounding, Linear], Helper]
    lanes: Callable[[Any], Lanes]
    cost: Callable[[int, Any, Helper], float]
    registers: Callable[[int], RegPlan]
    ends: Callable[[Linear, Rounding], Ends]
    fewest_rows: int = 1
    most_rows: int = 4
    refuses: Callable[[Linear, Rounding], str] = _nothing
    before: tuple[Helper, ...] = ()
    arrange: Callable[[Any], Arrangement | None] = _as_they_are

    def rows(self) -> tuple[KernelSpec, ...]:
        """Rows of this kernel for a target's table."""
        prepare: dict[str, Callable[..., Prepared]]
        prepare = {"conv2d": _conv2d, "fully_connected": _fully_connected}
        return tuple(
            KernelSpec(
                name=f"qs8_{op}__{self.name}",
                op=op,
                template=f"{op}/neon_gemm.c.j2",
                requires=self.requires,
                prepare=partial(make, self),
                refuses=self._refuses,
                cost=self._cost,
                tile=(self.most_rows, self.channels, self.step),
                regs=self.registers(self.most_rows),
            )
            for op, make in prepare.items()
        )

    def _refuses(self, op: Linear, rounding: Rounding) -> str:
        if op.channels < self.channels:
            return f"fewer than {self.channels} output channels"
        rows = op.out.type.elements // op.channels
        if rows < self.fewest_rows:
            return f"fewer than {self.fewest_rows} rows"
        return self.refuses(op, op.rounding(rounding)) or overflow_reason(op)

    def _cost(self, op: Linear, rounding: Rounding) -> float:
        rounding = op.rounding(rounding)
        pixels = op.out.type.elements // op.channels
        rows = self.most_rows if pixels >= self.most_rows else 1
        packed = self.pack(op, rounding)
        tile = self.cost(rows, packed, self.helper(rows, packed, rounding, op))
        # The block at the edge of the channels is a call of its own.
        calls = 2 if op.channels % self.channels else 1
        around = calls * (CALL + rows * ROW)
        tiles = 20 + -(-pixels // rows) * (tile + around)
        return tiles + (gather_cost(op) + FIND * pixels if gathers(op) else 0)


def operands(rows: int, regs: RegPlan, *, sums: bool) -> dict[str, list[str]]:
    """Operands and clobbers of a kernel's asm statement."""
    # Early clobber: an input of equal value must not share a register that the loop changes.
    changed = [f"a{i}" for i in range(rows)] + [f"y{i}" for i in range(rows)] + ["w", "q", "blocks"]
    inputs = ["row", "out"] + (["sums"] if sums else [])
    return {
        "outputs": [f'[{v}] "+&r"({v})' for v in changed] + ['[left] "=&r"(left)'],
        "operands": [f'[{v}] "r"({v})' for v in inputs],
        "clobbers": [f'"{c}"' for c in (*regs.clobbers, "cc", "memory")],
    }


def _product(
    kernel: MatrixKernel,
    op: Linear,
    rounding: Rounding,
    pixels: int,
    *,
    gather: bool,
    run: int,
    padded: bool = False,
    cut: bool = False,
    inside: bool = True,
    image: Mapping[str, Any] = NO_IMAGE,
) -> Prepared:
    """What conv2d and fully_connected have in common once they are a matrix product.

    Args:
        pixels: rows of the left factor.
        gather: rows are copied into scratch first, `run` bytes at a time.
        padded: some of them lie in padding.
        cut: padding may cut a run.
        inside: the image is large enough that it does not cut every run.
    """
    rounding = op.rounding(rounding)
    packed = kernel.pack(op, rounding)
    rows = kernel.most_rows if pixels >= kernel.most_rows else 1
    instance = kernel.helper(rows, packed, rounding, op)
    depth = packed.row
    incomplete = depth > op.weight_matrix().shape[0]
    flip = op.x.dtype is DType.U8
    unrolled = gather_run(run, flip)
    ends = kernel.ends(op, rounding)
    arranged = kernel.arrange(packed)
    gathered = rows * depth if gather else 0
    wanted = (
        (ends.struct, True),
        (FILL, gather and (incomplete or padded)),
        (GATHER, gather and (cut or run > LONGEST_UNROLLED)),
        (unrolled, gather and run <= LONGEST_UNROLLED and (inside or not cut)),
        (TOTAL, packed.row_sums and not arranged),
        (ROW_SUM, packed.row_sums and not arranged),
        (instance, True),
    )
    helpers = tuple(helper for helper, needed in wanted if needed)
    helpers = (*kernel.before, *helpers, *((arranged.helper,) if arranged else ()))
    values = {
        "ends": ends,
        "arrange": arranged,
        "arranged": f"scratch + {gathered}" if gathered else "scratch",
        "mr": rows,
        "pixels": pixels,
        "tiles": -(-pixels // rows),
        "gather": gather,
        "row_bytes": depth,
        "run": run,
        "inside": inside,
        "unrolled": unrolled.name if run <= LONGEST_UNROLLED else "",
        "depth_in": op.weight_matrix().shape[0],
        "kernel": instance.name,
        "nr": kernel.channels,
        "blocks": packed.blocks,
        "block_bytes": depth * kernel.channels,
        "block_words": packed.parameters[0].size,
        "O": op.channels,
        "X": op.x.dtype,
        "in_flip": -128 if flip else 0,
        "pad": op.x.zero - (128 if flip else 0),
    }
    sums = "row sums for channels whose w - Zw leaves int8" if packed.row_sums else "no row sums"
    return Prepared(
        constants={
            "w": Constant(packed.weights, "w' in reading order: see the kernel"),
            "q": Constant(packed.parameters, "per block of channels: see the kernel"),
        },
        scratch=gathered + (arranged.bytes if arranged else 0),
        helpers=helpers,
        vars=values | finish_vars(op) | dict(image),
        lanes=kernel.lanes(packed),
        notes=(
            f"zero points folded into the bias (Q15); {sums}",
            f"regs: {kernel.registers(rows)}",
        ),
    )


def _conv2d(kernel: MatrixKernel, op: Conv2D, rounding: Rounding) -> Prepared:
    win = op.window
    n, oh, ow, _ = op.out.shape
    strided = (win.h.stride, win.w.stride) != (1, 1)
    channels = op.x.shape[3]
    image = {"win": win, "C": channels, "N": n, "OH": oh, "OW": ow, "strided": strided}
    whole = win.w.dilation == 1
    return _product(
        kernel,
        op,
        rounding,
        n * oh * ow,
        gather=gathers(op),
        run=win.w.kernel * channels if whole else channels,
        padded=win.padded,
        cut=win.padded and whole,
        inside=all(axis.size >= axis.extent for axis in (win.h, win.w)),
        image=image,
    )


def _fully_connected(kernel: MatrixKernel, op: FullyConnected, rounding: Rounding) -> Prepared:
    return _product(kernel, op, rounding, op.rows, gather=gathers(op), run=op.w.shape[1])


def gathers(op: Linear) -> bool:
    """False where the kernel can read its rows where they lie."""
    if op.x.dtype is not DType.I8 or op.weight_matrix().shape[0] % LANES:
        return True
    win = op.window if isinstance(op, Conv2D) else None
    return win is not None and (win.h.kernel * win.w.kernel > 1 or win.padded)
