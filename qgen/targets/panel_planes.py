"""conv2d with whole chunks of 16 channels on kernels that read rows where they lie: no panels.

Lines of the image are copied with their padding, as in `panel_window.py`, but as planes of 16
channels, of every stride-th column each, so that the same tap of neighbouring pixels is one run of
memory:

    [line][channels / 16][phases][columns][16]

A tile reads 16 bytes of each of its pixels with one or two instructions, for each tap, and then
finds the next chunk of channels or the next line the same distance away. So products go in the
order [line of the window][channels / 16][column of the window][16].
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from qgen.ir.ops.conv2d import Conv2D
from qgen.ir.types import DType, Rounding
from qgen.targets.dot import DotKernel, Walk
from qgen.targets.neon import FILL, FINISH_CONSTANTS
from qgen.targets.panel import (
    CHANNELS,
    PER_CALL,
    ROWS,
    Plan,
    constants,
    end_values,
    make_plan,
    notes,
    part_values,
    scratch_bytes,
)
from qgen.targets.panel_asm import CHUNK
from qgen.targets.panel_window import refuses_window
from qgen.targets.spec import Helper, KernelSpec, Prepared

LINES_BYTES = 4096  # lines of a band, if one row of output does not need more
LINES_SHARE = 15  # as PANEL_SHARE
MOST_TAPS = 7  # columns of a window: the loop has them all
COPY = Helper("copy_planes", "helpers/copy_planes.c.j2", {"clobbers": ["v0", "v1", "v2", "v3"]})


@dataclass(frozen=True)
class Part:
    """Columns of one phase: where they begin in a plane and in the image."""

    phase: int
    first: int
    source: int
    count: int


@dataclass(frozen=True)
class Planes:
    """Lines of an op in scratch, for `band` rows of output."""

    op: Conv2D
    band: int

    @property
    def walk(self) -> Walk:
        w = self.op.window.w
        return Walk(w.kernel, min(w.stride, w.kernel))

    @property
    def chunks(self) -> int:
        return self.op.x.shape[3] // CHUNK

    @property
    def pitch(self) -> int:
        """Bytes of a plane."""
        w = self.op.window.w
        return CHUNK * (w.out + (w.kernel - 1) // w.stride)

    @property
    def group(self) -> int:
        """Bytes of 16 channels of a line: the planes of all phases."""
        return self.walk.phases * self.pitch

    @property
    def line(self) -> int:
        return self.chunks * self.group

    @property
    def lines(self) -> int:
        h = self.op.window.h
        return (self.band - 1) * h.stride + h.extent

    @property
    def bytes(self) -> int:
        return self.lines * self.line

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """What of a line of the image goes into the planes of each phase."""
        w = self.op.window.w
        found = []
        for phase in range(self.walk.phases):
            first = max(-(-(w.before - phase) // w.stride), 0)
            source = first * w.stride + phase - w.before
            count = min(self.pitch // CHUNK - first, -(-(w.size - source) // w.stride))
            if count > 0:
                found.append(Part(phase, first, source, count))
        return tuple(found)

    def order(self) -> list[int]:
        """Row of the weight matrix of each product."""
        h, w, channels = self.op.window.h.kernel, self.op.window.w.kernel, self.op.x.shape[3]
        return [
            (ky * w + kx) * channels + c + i
            for ky in range(h)
            for c in range(0, channels, CHUNK)
            for kx in range(w)
            for i in range(CHUNK)
        ]

    def moves(self, rows: int) -> dict[str, int]:
        """Values of the operands of `Walk.steps` in a tile of `rows` pixels."""
        # All but the last load of a tap move the pointer by what they read.
        read = CHUNK * (rows - rows % 4 - 4) if rows > 4 else 0
        last, phases = (self.walk.taps - 1), self.walk.phases
        at = last % phases * self.pitch + last // phases * CHUNK
        return {
            "hop": self.pitch - read,
            "wrap": CHUNK - (phases - 1) * self.pitch - read,
            "next": self.group - at - read,
        }

    def cost(self) -> float:
        """Instructions to copy all lines."""
        each = 14.0
        for part in self.parts:
            quads, rest = divmod(part.count, 4)
            each += 14 + self.chunks * (7 * quads + 4 * rest + 9)
        n, height = self.op.out.shape[:2]
        return n * height / self.band * self.lines * each


def make_planes(op: Conv2D) -> Planes:
    """Planes for as many rows of output as fit the memory set aside for them."""
    height = op.window.h.out
    most = scratch_bytes(op, LINES_BYTES, LINES_SHARE)
    bands = (Planes(op, d) for d in range(height, 0, -1) if height % d == 0)
    return next((p for p in bands if p.bytes <= most), Planes(op, 1))


def _plan(kernel: DotKernel, op: Conv2D, rounding: Rounding) -> tuple[Plan, Planes]:
    planes = make_planes(op)
    order = planes.order()
    # A single chunk needs no walk: tiles follow each other.
    walk = planes.walk if len(order) > CHUNK else None
    return make_plan(kernel, op, rounding, order, op.window.w.out, walk), planes


def _refuses(kernel: DotKernel, op: Conv2D, rounding: Rounding) -> str:
    win = op.window
    if op.x.dtype is not DType.I8:
        return "x is not int8"
    if op.x.shape[3] % CHUNK:
        return f"channels are not whole chunks of {CHUNK}"
    if win.h.dilation != 1 or win.w.dilation != 1 or win.w.kernel > MOST_TAPS:
        return f"dilated, or windows of more than {MOST_TAPS} columns"
    reason = refuses_window(kernel, op, rounding)
    if not reason and _plan(kernel, op, rounding)[0].packed.excess:
        return "weights leave int8"
    return reason


def _cost(kernel: DotKernel, op: Conv2D, rounding: Rounding) -> float:
    plan, planes = _plan(kernel, op, rounding)
    each = sum(part.cost(plan.packed, plan.calls) for part in plan.parts) + 8
    return PER_CALL + op.out.shape[0] * op.out.shape[1] * each + planes.cost()


def _prepare(kernel: DotKernel, op: Conv2D, rounding: Rounding) -> Prepared:
    plan, planes = _plan(kernel, op, rounding)
    win, channels = op.window, op.x.shape[3]
    parts = []
    for part in plan.parts:
        moves, walk = planes.moves(part.rows), part.kernel.helper.vars["walk"]
        parts.append(
            part_values(plan, part)
            | {
                "from": part.first * CHUNK,
                "to": part.first * op.channels,
                "moves": "".join(f", {moves[name]}" for name in walk),
            }
        )
    n, height, width, _ = op.out.shape
    return Prepared(
        constants=constants(plan),
        scratch=planes.bytes,
        helpers=(
            FINISH_CONSTANTS,
            *([FILL] if win.padded else []),
            COPY,
            *(helper for part in plan.parts for helper in part.helpers),
        ),
        vars={
            "end": end_values(plan),
            "panels": parts,
            "N": n,
            "OH": height,
            "band": planes.band,
            "row": width * op.channels,
            "image_bytes": op.x.type.elements // n,
            "y": "y" if op.out.dtype is DType.I8 else "(int8_t *)y",
            "lines": _line_values(planes),
            "step": win.h.stride * planes.line,
            "sh": win.h.stride,
            "before": win.h.before,
            "copies": [
                {
                    "to": part.phase * planes.pitch + part.first * CHUNK,
                    "from": part.source * channels,
                    "count": part.count,
                }
                for part in planes.parts
            ],
            "source_step": win.w.stride * channels,
            "chunks": planes.chunks,
            "group": planes.group,
        },
        notes=(*notes(plan), f"planes of lines for {planes.band} rows at a time"),
    )


def _line_values(planes: Planes) -> dict[str, Any]:
    """What templates print of the lines."""
    win = planes.op.window
    last = (win.h.out - 1) * win.h.stride + win.h.extent - win.h.before
    return {
        "count": planes.lines,
        "pitch": planes.line,
        "padded": win.padded,
        "outside": win.h.before > 0 or last > win.h.size,
        "height": win.h.size,
        "row": win.w.size * planes.op.x.shape[3],
        "pad": planes.op.x.zero,
    }


def rows(kernel: DotKernel) -> tuple[KernelSpec, ...]:
    """Rows of a kernel for a target's table."""
    assert kernel.layout.direct, "tiles read rows as they are"
    return (
        KernelSpec(
            name=f"qs8_conv2d__{kernel.name}_{ROWS[0]}x{CHANNELS}_planes",
            op="conv2d",
            template="conv2d/neon_panel_planes.c.j2",
            requires=kernel.requires,
            prepare=partial(_prepare, kernel),
            refuses=partial(_refuses, kernel),
            cost=partial(_cost, kernel),
            tile=(ROWS[0], CHANNELS, CHUNK * 2),
            regs=kernel.registers(ROWS[0], CHANNELS),
        ),
    )
