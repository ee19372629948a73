"""conv2d with windows of several pixels on the kernels of `dot.py`.

Lines of the image are copied with their padding, for a band of output rows at a time, so that all
pixels are alike: no window is at an edge any more. From these lines (or from the image itself where
it needs neither padding nor a flip) windows become panels in one of three ways:

- runs: a window's lines are whole chunks of 16 bytes, which LD1 and ST4 pack as they are (where
  rows need not be interleaved, `panel_planes.py` does without panels);
- pixels: lines of at most 16 bytes, as in first layers; TBL puts a window together in registers;
- patches: anything else is copied window by window, then packed like the rows of a matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from qgen.ir.ops.conv2d import Conv2D
from qgen.ir.types import DType, Rounding
from qgen.targets.dot import DotKernel
from qgen.targets.neon import FILL, FINISH_CONSTANTS, GATHER
from qgen.targets.panel import (
    CHANNELS,
    PER_CALL,
    PER_PACK,
    ROWS,
    Plan,
    constants,
    end_values,
    make_plan,
    notes,
    panel_bytes,
    part_values,
    refuses,
    scratch_bytes,
)
from qgen.targets.panel_asm import CHUNK, QUAD, pack_chunk, pack_pixels
from qgen.targets.spec import Helper, KernelSpec, Prepared

LINES_BYTES = 6144  # lines of a band, if one row of output does not need more
LINES_SHARE = 8  # as PANEL_SHARE
MOST_LINES = 4  # registers of TBL's table
MOST_CHUNKS = 4  # that `pack_pixels` puts together


@dataclass(frozen=True)
class Image:
    """An op's image as lines in scratch.

    Attributes:
        band: output rows that are computed from one set of lines; divides their number.
        count: lines of a band.
        pitch: bytes of a line.
        columns: of the image that are read.
        copied: whether there are lines; else the image is read where it is.
    """

    op: Conv2D
    band: int
    count: int
    pitch: int
    columns: int
    copied: bool

    @property
    def bytes(self) -> int:
        return self.count * self.pitch if self.copied else 0

    def cost(self) -> float:
        """Instructions to copy all lines."""
        if not self.copied:
            return 0.0
        channels = self.op.x.shape[3]
        each = 28 + 4.5 * self.columns * channels / CHUNK
        n, height = self.op.out.shape[:2]
        return n * height // self.band * self.count * each

    def values(self) -> dict[str, Any] | None:
        """What templates print of the lines."""
        if not self.copied:
            return None
        win, channels = self.op.window, self.op.x.shape[3]
        flip = -128 if self.op.x.dtype is DType.U8 else 0
        last = (win.h.out - 1) * win.h.stride + win.h.extent - win.h.before
        return {
            "count": self.count,
            "pitch": self.pitch,
            "padded": win.padded,
            "outside": win.h.before > 0 or last > win.h.size,
            "height": win.h.size,
            "row": win.w.size * channels,
            "left": win.w.before * channels,
            "bytes": self.columns * channels,
            "flip": flip,
            "pad": self.op.x.zero + flip,
        }


def make_image(op: Conv2D, *, copied: bool) -> Image:
    """Lines of an op, for as many output rows at a time as fit the memory set aside for them."""
    win, channels = op.window, op.x.shape[3]
    needed = (win.w.out - 1) * win.w.stride + win.w.extent
    columns = min(win.w.size, needed - win.w.before)
    pitch = (needed if copied else win.w.size) * channels

    def lines(band: int) -> int:
        return (band - 1) * win.h.stride + win.h.extent

    divisors = [d for d in range(1, win.h.out + 1) if win.h.out % d == 0]
    fitting = [
        d for d in divisors if lines(d) * pitch <= scratch_bytes(op, LINES_BYTES, LINES_SHARE)
    ]
    band = max(fitting, default=1)
    return Image(op, band, lines(band), pitch, columns, copied)


def run_bytes(op: Conv2D) -> int:
    """Bytes of a window that lie side by side in a line."""
    win = op.window
    return (win.w.kernel if win.w.dilation == 1 else 1) * op.x.shape[3]


def order_of(kernel: DotKernel, op: Conv2D) -> list[int]:
    """The weights' rows as they are, up to a whole group of products."""
    depth = op.weight_matrix().shape[0]
    return [*range(depth), *[-1] * (-depth % kernel.group)]


def refuses_window(kernel: DotKernel, op: Conv2D, rounding: Rounding) -> str:
    """Why no row of this module takes an op, or an empty string."""
    win = op.window
    if win.h.before >= win.h.extent or win.w.before >= win.w.extent:
        return "windows that lie in padding"
    return refuses(kernel, op, rounding)


# -- runs and pixels: panels straight from lines ---------------------------------------------------


def _direct(op: Conv2D) -> bool:
    """The image can be read where it is."""
    return not op.window.padded and op.x.dtype is DType.I8


def _runs(kernel: DotKernel, op: Conv2D) -> str:
    """Why windows are not whole chunks, or an empty string."""
    win = op.window
    if run_bytes(op) % CHUNK or (win.w.dilation != 1 and win.w.kernel > 1):
        return f"lines of a window are not whole chunks of {CHUNK} bytes"
    return f"rows are not whole groups of {QUAD} pixels" if win.w.out % QUAD else ""


def _pixels(kernel: DotKernel, op: Conv2D) -> str:
    """Why TBL cannot put windows together, or an empty string."""
    win = op.window
    if run_bytes(op) > CHUNK or win.h.kernel > MOST_LINES or win.w.dilation != 1:
        return f"more than {MOST_LINES} lines of {CHUNK} bytes"
    if len(order_of(kernel, op)) > CHUNK * MOST_CHUNKS:
        return f"more than {CHUNK * MOST_CHUNKS} products"
    return f"rows are not whole groups of {QUAD} pixels" if win.w.out % QUAD else ""


def _lines_plan(
    kernel: DotKernel, op: Conv2D, rounding: Rounding, copied: bool
) -> tuple[Plan, Image]:
    return (
        make_plan(kernel, op, rounding, order_of(kernel, op), op.window.w.out),
        make_image(op, copied=copied),
    )


def _pack_lines(kernel: DotKernel, op: Conv2D, rows: int, depth: int) -> tuple[Helper, float]:
    """Packing of runs, and instructions per tile."""
    chunk = pack_chunk(rows)
    values = {"rows": rows, "chunk": chunk, "clobbers": _clobbers(range(rows))}
    name = f"pack_lines_{rows}x{kernel.group}"
    each = (len(chunk) + 2) * depth // CHUNK + 5 * op.window.h.kernel + 5
    return Helper(name, "helpers/pack_lines.c.j2", values), each


def _pack_pixels(kernel: DotKernel, op: Conv2D, rows: int, depth: int) -> tuple[Helper, float]:
    """Packing of pixels, and instructions per tile."""
    lines, run = op.window.h.kernel, run_bytes(op)
    products, step = lines * run, op.window.w.stride * op.x.shape[3]
    made = pack_pixels(kernel.layout, rows, depth, lines, run, step)
    order = [
        k // run * CHUNK + k % run + which * step if k < products else 255
        for which in range(made.shared)
        for k in range(made.outputs * CHUNK)
    ]
    values = {
        "rows": rows,
        "lines": lines,
        "run": run,
        "order": order,
        "shared": made.shared,
        "table": made.table,
        "body": made.body,
        "bytes": kernel.layout.bytes(rows, depth),
        "direct": kernel.layout.direct,
        "lines_out": "".join(f', [line{i}] "+&r"(line{i})' for i in range(lines)),
        "clobbers": _clobbers(made.registers),
    }
    name = f"pack_pixels_{rows}x{kernel.layout.group}_{lines}x{run}s{step}"
    return Helper(name, "helpers/pack_pixels.c.j2", values), len(made.body) + 3


def _clobbers(registers: Sequence[int]) -> list[str]:
    return [*(f'"v{r}"' for r in registers), '"cc"', '"memory"']


@dataclass(frozen=True)
class Way:
    """How panels come from lines: by `runs` or by `pixels`."""

    name: str
    pixels: bool

    def copied(self, op: Conv2D) -> bool:
        # TBL's loads read beyond the window, which only lines in scratch allow.
        return self.pixels or not _direct(op)

    def packing(self, kernel: DotKernel, op: Conv2D, rows: int, depth: int) -> tuple[Helper, float]:
        make = _pack_pixels if self.pixels else _pack_lines
        return make(kernel, op, rows, depth)

    def refuses(self, kernel: DotKernel, op: Conv2D, rounding: Rounding) -> str:
        reason = (_pixels if self.pixels else _runs)(kernel, op)
        return reason or refuses_window(kernel, op, rounding)

    def cost(self, kernel: DotKernel, op: Conv2D, rounding: Rounding) -> float:
        plan, image = _lines_plan(kernel, op, rounding, self.copied(op))
        each = 0.0
        for part in plan.parts:
            _, per_tile = self.packing(kernel, op, part.rows, plan.packed.depth)
            each += part.cost(plan.packed, plan.calls) + part.tiles * per_tile
            each += part.panels * PER_PACK
        rows = op.out.shape[0] * op.out.shape[1]
        return PER_CALL + rows * (each + 8) + image.cost()

    def prepare(self, kernel: DotKernel, op: Conv2D, rounding: Rounding) -> Prepared:
        plan, image = _lines_plan(kernel, op, rounding, self.copied(op))
        win, depth = op.window, plan.packed.depth
        channels, step = op.x.shape[3], win.w.stride * op.x.shape[3]
        pitch = win.h.dilation * image.pitch
        chunks = run_bytes(op) // CHUNK
        arguments = f"{step}, {pitch}, {win.h.kernel}, {chunks}"
        helpers, parts, panel = [FINISH_CONSTANTS, *line_helpers(image)], [], 0
        for part in plan.parts:
            packing, _ = self.packing(kernel, op, part.rows, depth)
            if self.pixels:
                moves = [step * packing.vars["shared"], *([pitch] if win.h.kernel > 1 else [])]
                arguments = ", ".join(map(str, moves))
            helpers += [packing, *part.helpers]
            panel = max(panel, panel_bytes(plan, part))
            parts.append(
                part_values(plan, part)
                | {
                    "pack": packing.name,
                    "step": step,
                    "x": part.first * step,
                    "to": part.first * op.channels,
                    "arguments": arguments,
                }
            )
        # Behind the lines what TBL's loads read too much, behind the panel what ST4 writes so.
        panel_at = image.bytes + (CHUNK if self.pixels else 0)
        too_much = CHUNK * QUAD if self.pixels and not kernel.layout.direct else 0
        return Prepared(
            constants=constants(plan),
            scratch=panel_at + panel + too_much,
            helpers=tuple(helpers),
            vars=window_values(op, image, panel_at)
            | {
                "end": end_values(plan),
                "panels": parts,
                "split": any(p.at_once < p.tiles for p in plan.parts),
                "pitch": image.pitch,
                "sh": win.h.stride,
                "O": op.channels,
                "C": channels,
            },
            notes=(*notes(plan), f"lines for {image.band} rows at a time")
            if image.copied
            else notes(plan),
        )


def line_helpers(image: Image) -> list[Helper]:
    """Functions that copy lines."""
    if not image.copied:
        return []
    return [FILL, GATHER] if image.op.window.padded else [GATHER]


def window_values(op: Conv2D, image: Image, panel_at: int) -> dict[str, Any]:
    """What the templates of windows share."""
    win = op.window
    n, height, width, _ = op.out.shape
    return {
        "N": n,
        "OH": height,
        "OW": width,
        "band": image.band,
        "lines": image.values(),
        "image_bytes": op.x.type.elements // n,
        "before": win.h.before,
        "sh": win.h.stride,
        "panel_at": panel_at,
        "y": "y" if op.out.dtype is DType.I8 else "(int8_t *)y",
    }


def rows(kernel: DotKernel) -> tuple[KernelSpec, ...]:
    """Rows of a kernel for a target's table: runs and pixels."""
    ways = (Way("runs", pixels=False), Way("pixels", pixels=True))
    return tuple(
        KernelSpec(
            name=f"qs8_conv2d__{kernel.name}_{ROWS[0]}x{CHANNELS}_{way.name}",
            op="conv2d",
            template="conv2d/neon_panel.c.j2",
            requires=kernel.requires,
            prepare=partial(way.prepare, kernel),
            refuses=partial(way.refuses, kernel),
            cost=partial(way.cost, kernel),
            tile=(ROWS[0], CHANNELS, CHUNK * 2),
            regs=kernel.registers(ROWS[0], CHANNELS),
        )
        for way in (ways[1:] if kernel.layout.direct else ways)
    )
