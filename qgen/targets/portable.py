"""portable: C99 without intrinsics. Runs anywhere, and takes every op.

Rows here are the fallback of all other targets, so no model is refused for want of a kernel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import accumulate
from typing import Any

import numpy as np

from qgen.ir import numerics
from qgen.ir.elementwise import Binary
from qgen.ir.linear import Linear
from qgen.ir.op import Op
from qgen.ir.ops.concat import Concat
from qgen.ir.ops.conv2d import Conv2D
from qgen.ir.ops.depthwise_conv2d import DepthwiseConv2D
from qgen.ir.ops.fully_connected import FullyConnected
from qgen.ir.ops.mean import Mean
from qgen.ir.ops.pad import Pad
from qgen.ir.ops.resize_bilinear import UNIT, WEIGHT_BITS, ResizeBilinear
from qgen.ir.ops.resize_nearest import ResizeNearest
from qgen.ir.ops.slice import Slice
from qgen.ir.ops.softmax import DIFFERENCE_BITS
from qgen.ir.pool import Pool
from qgen.ir.resize import Resize
from qgen.ir.types import Array, Rounding, Tensor
from qgen.targets.spec import Constant, Helper, KernelSpec, Prepared, Target
from qgen.toolchain.cc import Toolchain

CLAMP = Helper("clamp", "helpers/clamp.c.j2")
QUOTIENT = Helper("quotient", "helpers/quotient.c.j2")
REQUANTIZE = {
    Rounding.GEMMLOWP: Helper("requantize", "helpers/requantize.c.j2"),
    Rounding.SINGLE: Helper("requantize_single", "helpers/requantize_single.c.j2"),
    Rounding.NEAREST: Helper(
        "requantize_nearest", "helpers/requantize_nearest.c.j2", {"low_bits": numerics.LOW_BITS}
    ),
}
COPY = Helper("copy", "helpers/copy.c.j2")
FILL = Helper("fill", "helpers/fill.c.j2")
ROUND_SHIFT = Helper("round_shift", "helpers/round_shift.c.j2")
FIXED_POINT = Helper(
    "fixed_point",
    "helpers/fixedpoint.c.j2",
    {"newton_48_17": numerics.NEWTON_48_17, "newton_32_17": numerics.NEWTON_32_17},
)


def exp_helper(integer_bits: int, template: str = "helpers/exp.c.j2") -> Helper:
    """exp(a), a <= 0, for raw values with `integer_bits`."""
    return Helper(
        f"exp{integer_bits}",
        template,
        {
            "bits": integer_bits,
            "factors": [factor for _, factor in numerics.exp_steps(integer_bits)],
            "one_third": numerics.ONE_THIRD,
            "exp_minus_eighth": numerics.EXP_MINUS_EIGHTH,
        },
    )


def constant_operands(op: Op) -> dict[str, Constant]:
    """Constant operands of an op, by field name, as they are."""
    fields = [f for f, kind in op.schema().operands if kind != "many"]
    tensors = {f: getattr(op, f) for f in fields}
    return {f: Constant(t.data) for f, t in tensors.items() if t is not None and t.data is not None}


def _const(t: Tensor | None) -> Array:
    assert t is not None
    return t.const


def requant_constants(op: Linear) -> dict[str, Constant]:
    """Bias, M0 and shift of a linear op, one per output channel."""
    found = {
        "b": Constant(op.bias(), "bias"),
        "m0": Constant(_const(op.m0), "M0, eq. (6)"),
        "shift": Constant(_const(op.shift), "positive: left"),
    }
    if op.m1 is not None:
        found["m1"] = Constant(op.m1.const, "22 bits below M0")
    return found


def common_vars(op: Op, rounding: Rounding) -> dict[str, Any]:
    """Template variables that need no decision: types, zero points, the clamp."""
    found: dict[str, Any] = {"zy": op.out.zero, "elements": op.out.type.elements}
    for field, name in (("x", "X"), ("a", "A"), ("b", "B"), ("w", "W")):
        t = getattr(op, field, None)
        if isinstance(t, Tensor):
            found |= {name: t.dtype, f"z{field}": t.zero}
    clamp = getattr(op, "clamp", None)
    low, high = clamp or (op.out.dtype.min, op.out.dtype.max)
    found |= {"requantize": REQUANTIZE[rounding].name}
    found["low"] = ", 0" if rounding is Rounding.NEAREST else ""
    return found | {"lo": low, "hi": high, "Y": op.out.dtype}


def image_vars(op: Conv2D | DepthwiseConv2D | Pool) -> dict[str, Any]:
    """Template variables of an op with a window."""
    n, oh, ow, o = op.out.shape
    return {"N": n, "OH": oh, "OW": ow, "O": o, "C": op.x.shape[3], "win": op.window}


def _conv(op: Conv2D | DepthwiseConv2D, rounding: Rounding) -> Prepared:
    rounding = op.rounding(rounding)
    constants = {"w": Constant(op.w.const, "as in the model"), **requant_constants(op)}
    return Prepared(
        constants, 0, (REQUANTIZE[rounding], CLAMP), common_vars(op, rounding) | image_vars(op)
    )


def _fully_connected(op: FullyConnected, rounding: Rounding) -> Prepared:
    o, depth = op.w.shape
    rounding = op.rounding(rounding)
    constants = {"w": Constant(op.w.const, "as in the model"), **requant_constants(op)}
    dims = {"M": op.rows, "O": o, "K": depth}
    return Prepared(constants, 0, (REQUANTIZE[rounding], CLAMP), common_vars(op, rounding) | dims)


def broadcast_strides(shape: tuple[int, ...], out: tuple[int, ...]) -> tuple[int, ...]:
    """Element strides of an operand along the dimensions of the result, 0 where it repeats."""
    padded = (1,) * (len(out) - len(shape)) + shape
    strides = [*accumulate(padded[:0:-1], lambda a, b: a * b, initial=1)][::-1]
    return tuple(0 if d == 1 else s for d, s in zip(padded, strides, strict=True))


def _binary(op: Binary, rounding: Rounding) -> Prepared:
    strides = {
        "stride_a": broadcast_strides(op.a.shape, op.out.shape),
        "stride_b": broadcast_strides(op.b.shape, op.out.shape),
    }
    return Prepared(
        constant_operands(op), 0, (REQUANTIZE[rounding], CLAMP), common_vars(op, rounding) | strides
    )


def _pool(op: Pool, rounding: Rounding) -> Prepared:
    return Prepared({}, 0, (CLAMP,), common_vars(op, rounding) | image_vars(op))


def average_helpers(op: Pool) -> tuple[Helper, ...]:
    """What an average needs: a division by the count of a window where padding makes that vary."""
    return (CLAMP, QUOTIENT) if op.window.padded else (CLAMP,)


def _average_pool(op: Pool, rounding: Rounding) -> Prepared:
    return replace(_pool(op, rounding), helpers=average_helpers(op))


def _elementwise(op: Op, rounding: Rounding) -> Prepared:
    return Prepared(
        constant_operands(op), 0, (REQUANTIZE[rounding], CLAMP), common_vars(op, rounding)
    )


def _lookup(op: Op, rounding: Rounding) -> Prepared:
    return Prepared(constant_operands(op), 0, (), common_vars(op, rounding))


def _sigmoid(bits: int) -> Any:
    def prepare(op: Op, rounding: Rounding) -> Prepared:
        helpers = (REQUANTIZE[rounding], CLAMP, ROUND_SHIFT, FIXED_POINT, exp_helper(bits))
        return Prepared({}, 0, helpers, common_vars(op, rounding))

    return prepare


def softmax_vars(op: Op, rounding: Rounding) -> dict[str, Any]:
    """Rows and their length, beside the common variables."""
    length = op.out.shape[-1]
    return common_vars(op, rounding) | {
        "rows": op.out.type.elements // length,
        "row_length": length,
    }


def _softmax(op: Op, rounding: Rounding) -> Prepared:
    helpers = (REQUANTIZE[rounding], CLAMP, ROUND_SHIFT, FIXED_POINT, exp_helper(DIFFERENCE_BITS))
    return Prepared({}, 0, helpers, softmax_vars(op, rounding))


def _pad(op: Pad, rounding: Rounding) -> Prepared:
    size = op.x.dtype.bytes
    padded = [d for d, amount in enumerate(op.amounts) if any(amount)]
    inner = padded[-1] if padded else 0
    run = int(np.prod(op.x.shape[inner:])) * size
    step = int(np.prod(op.x.shape[inner + 1 :])) * size
    before, after = (a * step for a in op.amounts[inner])
    outer = [
        {"size": n, "before": b, "after": a}
        for n, (b, a) in zip(op.x.shape[:inner], op.amounts[:inner], strict=True)
        if n > 1 or b or a
    ]
    conditions = [
        f"i{i} < 0 || i{i} >= {d['size']}" for i, d in enumerate(outer) if d["before"] or d["after"]
    ]
    dims = {"outer": outer, "conditions": conditions, "run": run}
    dims |= {"before": before, "after": after, "row_bytes": before + run + after}
    helpers = (COPY, FILL) if padded else (COPY,)
    return Prepared({}, 0, helpers, common_vars(op, rounding) | dims)


def _concat(op: Concat, rounding: Rounding) -> Prepared:
    """Operands that the memory plan put in place already are left out by the emitter."""
    size = op.out.dtype.bytes
    outer = int(np.prod(op.out.shape[: op.axis]))
    runs = [t.type.elements // outer * size for t in op.x]
    offsets = [0, *accumulate(runs)]
    parts = [{"run": r, "offset": o} for r, o in zip(runs, offsets, strict=False)]
    return Prepared(
        {f"x{i}": Constant(t.data) for i, t in enumerate(op.x) if t.data is not None},
        0,
        (COPY,),
        common_vars(op, rounding) | {"outer": outer, "run": offsets[-1], "parts": parts},
    )


def _mean(op: Mean, rounding: Rounding) -> Prepared:
    strides = [*accumulate(op.x.shape[:0:-1], lambda a, b: a * b, initial=1)][::-1]
    loops = [
        {"name": f"i{d}", "size": n, "reduced": d in op.axes} for d, n in enumerate(op.x.shape)
    ]
    index = " + ".join(f"i{d} * {s}" if s > 1 else f"i{d}" for d, s in enumerate(strides))
    dims = {"loops": loops, "index": index, "bias": -op.count * op.x.zero}
    return Prepared({}, 0, (REQUANTIZE[rounding], CLAMP), common_vars(op, rounding) | dims)


def _reshape(op: Op, rounding: Rounding) -> Prepared:
    return Prepared({}, 0, (COPY,), common_vars(op, rounding))


def _slice(op: Slice, rounding: Rounding) -> Prepared:
    """Loops over what lies outside of the longest run of bytes that moves whole."""
    inner = len(op.x.shape)
    while inner > 1 and op.out.shape[inner - 1 :] == op.x.shape[inner - 1 :]:
        inner -= 1
    inner = max(inner - 1, 0)
    loops = [{"name": f"i{d}", "size": n} for d, n in enumerate(op.out.shape[:inner]) if n > 1]
    strides = [int(np.prod(op.x.shape[d + 1 :])) for d in range(inner)]
    dims: dict[str, Any] = {"loops": loops, "run": int(np.prod(op.out.shape[inner:]))}
    dims["index"] = "".join(f" + i{d} * {s}" for d, s in enumerate(strides) if op.out.shape[d] > 1)
    dims["offset"] = op.offset
    return Prepared({}, 0, (COPY,), common_vars(op, rounding) | dims)


def resize_vars(op: Resize) -> dict[str, Any]:
    """Shapes on both sides."""
    (n, h, w, c), (_, oh, ow, _) = op.x.shape, op.out.shape
    return {"N": n, "H": h, "W": w, "C": c, "OH": oh, "OW": ow}


def taps_of_rows(op: ResizeBilinear) -> Constant:
    """Where the two rows of each row of the result start, and the second one's weight."""
    _, _, w, c = op.x.shape
    rows, _ = op.taps()
    table = np.stack([rows.low * w * c, rows.high * w * c, rows.part], 1)
    return Constant(table.astype(np.int32), "two rows and the weight of the second, of 1024")


def _resize_bilinear(op: ResizeBilinear, rounding: Rounding) -> Prepared:
    _, columns = op.taps()
    channels = op.x.shape[3]
    table = np.stack([columns.low * channels, columns.high * channels, columns.part], 1)
    bits = 2 * WEIGHT_BITS
    return Prepared(
        {
            "rows": taps_of_rows(op),
            "columns": Constant(table.astype(np.int32), "the same of columns"),
        },
        vars=common_vars(op, rounding)
        | resize_vars(op)
        | {"unit": UNIT, "shift": bits, "offset": (128 << bits) + (1 << (bits - 1))},
    )


def resize_nearest(op: ResizeNearest, rounding: Rounding) -> Prepared:
    """Tables of where each row and each column comes from."""
    _, _, w, c = op.x.shape
    rows, columns = op.nearest()
    return Prepared(
        {
            "rows": Constant((rows * w * c).astype(np.int32), "start of the row of each row"),
            "columns": Constant((columns * c).astype(np.int32), "the same of columns"),
        },
        helpers=(COPY,),
        vars=common_vars(op, rounding)
        | resize_vars(op)
        | {"repeats": bool((rows[1:] == rows[:-1]).any())},
    )


_PREPARE: Mapping[str, tuple[str, Any]] = {
    "conv2d": ("conv2d", _conv),
    "depthwise_conv2d": ("depthwise_conv2d", _conv),
    "fully_connected": ("fully_connected", _fully_connected),
    "add": ("add", _binary),
    "sub": ("add", _binary),
    "mul": ("mul", _binary),
    "average_pool2d": ("average_pool2d", _average_pool),
    "max_pool2d": ("max_pool2d", _pool),
    "mean": ("mean", _mean),
    "clamp": ("clamp", _elementwise),
    "quantize": ("clamp", _elementwise),
    "lookup": ("lookup", _lookup),
    "logistic": ("logistic", _sigmoid(4)),
    "tanh": ("tanh", _sigmoid(5)),
    "softmax": ("softmax", _softmax),
    "pad": ("pad", _pad),
    "concat": ("concat", _concat),
    "reshape": ("reshape", _reshape),
    "slice": ("slice", _slice),
    "resize_bilinear": ("resize_bilinear", _resize_bilinear),
    "resize_nearest": ("resize_nearest", resize_nearest),
}

ROWS = tuple(
    KernelSpec(
        name=f"q8_{op}__c99",
        op=op,
        template=f"{folder}/portable.c.j2",
        requires=frozenset({"c99"}),
        prepare=prepare,
    )
    for op, (folder, prepare) in _PREPARE.items()
)

PORTABLE = Target(
    name="portable",
    summary="C99, any processor",
    features=frozenset({"c99"}),
    toolchain=Toolchain(
        name="portable",
        compilers=("cc", "gcc", "clang"),
        install_hint="apt-get install gcc",
    ),
    kernels=ROWS,
)
