"""conv2d 3 x 3 by exact integer Winograd convolution: fewer products, all of them exact (Q22).

Tiles of the image are transformed to int16, multiplied per frequency by weights that were
transformed at build time, added up over the input channels in int32 modulo 2^32, and transformed
back. Blocks of a few tiles run through all three stages, so scratch holds these alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from qgen.ir.linear import Linear
from qgen.ir.ops.conv2d import Conv2D
from qgen.ir.types import DType, Rounding
from qgen.targets.finish import finish_values
from qgen.targets.neon import FILL, FINISH_CONSTANTS, NEON, finish_vars
from qgen.targets.once import once_per_op
from qgen.targets.spec import Constant, Helper, KernelSpec, Prepared, RegPlan
from qgen.targets.winograd_forms import SCHEMES, Scheme
from qgen.targets.winograd_plan import (
    INT16_MAX,
    MOST_OFFSET,
    TILES,
    Packed,
    Plan,
    pack,
    refusal,
    shape_reason,
    sum_bound,
)
from qgen.targets.winograd_products import CHANNELS, LANES


@dataclass(frozen=True, eq=False)
class Row:
    """One scheme as a row of kernels, with at most `room` bytes of scratch."""

    scheme: Scheme
    room: int
    pack: Callable[[Linear, Rounding], Packed]

    def plan(self, op: Linear, rounding: Rounding) -> Plan | None:
        """The cheapest plan that fits; None where a single tile does not."""
        assert isinstance(op, Conv2D)
        packed = self.pack(op, rounding)
        plans = [Plan(self.scheme, op, packed, tiles) for tiles in TILES]
        fitting = [
            p
            for p in plans
            if p.tiles <= p.count
            and p.scratch <= self.room
            and max(p.input_bytes, p.scratch - p.input_bytes) <= MOST_OFFSET
        ]
        return min(fitting, key=Plan.cost, default=None)

    def refuses(self, op: Conv2D, rounding: Rounding) -> str:
        reason = shape_reason(op) or refusal(self.scheme, op, self.pack(op, rounding))
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
        pixels = TILES[0] * self.scheme.height * self.scheme.width
        return KernelSpec(
            name=f"qs8_conv2d__neon_winograd_{self.scheme}",
            op="conv2d",
            template="conv2d/neon_winograd.c.j2",
            requires=NEON,
            prepare=self.prepare,
            refuses=self.refuses,
            cost=self.cost,
            within=self.within,
            tile=(pixels, CHANNELS, 1),
        )


def prepare(plan: Plan) -> Prepared:
    """Constants, helpers and variables of one op."""
    op, scheme, packed = plan.op, plan.scheme, plan.packed
    win = op.window
    n, rows, columns = plan.grid
    parameters = packed.parameters(scheme)
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
        "scheme": scheme,
        "turns": scheme.frequencies // plan.turn.frequencies,
        "tiles": plan.tiles,
        "vector": plan.turn.vector,
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
            f"F({scheme}, 3x3) in integers (Q22): {scheme.frequencies} products per input channel "
            f"for {scheme.height * scheme.width} pixels",
            f"int16: |V| <= {scheme.input_bound}, |U| <= {packed.widest} of {INT16_MAX}",
            f"int32 modulo 2^32: |sum| <= {sum_bound(op)} of {scheme.most_sum}, "
            f"carried {scheme.factor} times (Q23)",
            "zero points folded into the bias (Q15); weights of two bytes need no row sums",
            f"end {plan.output().parts[3].title}",
        ),
    )


def _product_helper(plan: Plan) -> Helper:
    asm = plan.product()
    name = f"winograd_{plan.tiles}x{CHANNELS}c{plan.turn.step}"
    return Helper(
        f"{name}_deep" if asm.repeats else f"{name}_{len(asm.steps)}",
        "helpers/winograd_product.c.j2",
        {
            "asm": asm,
            "turn": plan.turn,
            "deep": asm.repeats > 0,
            "clobbers": _clobbers(asm.regs),
        },
    )


def _input_helper(plan: Plan) -> Helper:
    asm = plan.input()
    flip = "_flip" if plan.op.x.dtype is DType.U8 else ""
    return Helper(
        f"winograd_input_{plan.scheme}_{plan.tiles}x{plan.inputs}{flip}",
        "helpers/winograd_input.c.j2",
        {
            "asm": asm,
            "scheme": plan.scheme,
            "turn": plan.turn,
            "inputs": plan.inputs,
            "X": plan.op.x.dtype,
            "clobbers": _clobbers(asm.regs),
        },
    )


def _output_helper(plan: Plan) -> Helper:
    asm, finish = plan.output(), plan.packed.finish
    return Helper(
        "_".join([f"winograd_output_{plan.scheme}_{plan.tiles}", *finish.traits]),
        "helpers/winograd_output.c.j2",
        {
            "asm": asm,
            "scheme": plan.scheme,
            "tiles": plan.tiles,
            "words": len(finish.rows),
            "clobbers": _clobbers(asm.regs),
        },
    )


def _clobbers(regs: RegPlan) -> list[str]:
    return [f'"{c}"' for c in (*regs.clobbers, "cc", "memory")]


UNLIMITED = 1 << 30
ROWS = tuple(Row(s, UNLIMITED, once_per_op(partial(pack, s))).spec() for s in SCHEMES)
