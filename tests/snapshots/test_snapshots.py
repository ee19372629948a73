"""Generated C as a person reads it: a change of a template shows up as a diff of these files.

They prove nothing (tests/ops/test_kernels.py does); they make changes visible in review.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from qgen.emit import Provenance, emit
from qgen.ir.graph import Graph
from qgen.ir.op import Op
from qgen.ir.ops.add import Add
from qgen.ir.ops.conv2d import Conv2D
from qgen.ir.ops.depthwise_conv2d import DepthwiseConv2D
from qgen.ir.ops.fully_connected import FullyConnected
from qgen.ir.ops.mean import Mean
from qgen.ir.ops.softmax import Softmax
from qgen.ir.types import Activation, DType, Padding, QParams, Rounding, Tensor, TensorType
from qgen.lower import lower
from qgen.targets import target

HERE = Path(__file__).parent
ACCEPT = "QGEN_ACCEPT=1 pytest tests/snapshots"
ORIGIN = Provenance("qgen compile model.qg --target any", "model.qg", "0" * 64)


def t(name: str, *shape: int, zero: int = 0, scale: float = 0.5) -> Tensor:
    return Tensor(name, TensorType(DType.I8, shape, QParams((scale,), zero)))


def ramp(name: str, *shape: int) -> Tensor:
    """Weights that count upwards, so that their packing can be followed by eye."""
    size = int(np.prod(shape))
    data = (np.arange(size) % 100 - 50).astype(np.int8).reshape(shape)
    return Tensor(name, TensorType(DType.I8, shape, QParams((0.01,), 0)), data)


def bias(count: int) -> Tensor:
    data = np.arange(count, dtype=np.int32) * 10
    return Tensor("b", TensorType(DType.I32, (count,), None), data)


def pointwise() -> Op:
    return Conv2D(
        x=t("x", 1, 2, 3, 24, zero=-3), w=ramp("w", 6, 1, 1, 24), b=bias(6),
        out=t("y", 1, 2, 3, 6, zero=4), activation=Activation.RELU,
    )  # fmt: skip


def eight() -> Op:
    return Conv2D(
        x=t("x", 1, 2, 3, 24, zero=-3), w=ramp("w", 8, 1, 1, 24), b=bias(8),
        out=t("y", 1, 2, 3, 8, zero=-128), activation=Activation.RELU,
    )  # fmt: skip


def tiled() -> Op:
    """12 rows and 9 channels: tiles of 8 and 4 rows, a block that overlaps its neighbour."""
    return Conv2D(
        x=t("x", 1, 3, 4, 24, zero=-3), w=ramp("w", 9, 1, 1, 24), b=bias(9),
        out=t("y", 1, 3, 4, 9, zero=-128), activation=Activation.RELU,
    )  # fmt: skip


def image() -> Op:
    return Conv2D(
        x=t("x", 1, 5, 5, 3, zero=-128), w=ramp("w", 4, 3, 3, 3), b=bias(4), stride=(2, 2),
        padding=Padding.SAME, out=t("y", 1, 3, 3, 4),
    )  # fmt: skip


def narrow() -> Op:
    """2 columns: a Winograd convolution of 2 x 2 tiles."""
    return Conv2D(
        x=t("x", 1, 4, 2, 24, zero=-3), w=ramp("w", 8, 3, 3, 24), b=bias(8),
        padding=Padding.SAME, out=t("y", 1, 4, 2, 8, zero=4),
    )  # fmt: skip


def depthwise() -> Op:
    return DepthwiseConv2D(
        x=t("x", 1, 4, 4, 10, zero=5), w=ramp("w", 1, 3, 3, 10), b=bias(10),
        padding=Padding.SAME, out=t("y", 1, 4, 4, 10),
    )  # fmt: skip


def multiplied() -> Op:
    return DepthwiseConv2D(
        x=t("x", 1, 3, 4, 2, zero=5), w=ramp("w", 1, 2, 2, 8), b=bias(8),
        padding=Padding.SAME, out=t("y", 1, 3, 4, 8),
    )  # fmt: skip


def fully_connected() -> Op:
    return FullyConnected(
        x=t("x", 1, 20), w=ramp("w", 5, 20), b=bias(5), out=t("y", 1, 5), requant=Rounding.NEAREST
    )


def add() -> Op:
    return Add(
        a=t("a", 1, 13, zero=1), b=t("b", 1, 13, zero=2, scale=0.2), out=t("y", 1, 13, zero=-7)
    )


def mean() -> Op:
    return Mean(x=t("x", 1, 3, 3, 20, zero=2), axes=(1, 2), out=t("y", 1, 20, zero=-5))


def model() -> Graph:
    """Three ops: a convolution, a sum in place, a softmax."""
    x = t("image", 1, 2, 2, 8)
    conv = Conv2D(x=x, w=ramp("w", 8, 1, 1, 8), out=t("features", 1, 2, 2, 8))
    total = Add(a=conv.out, b=x, out=t("total", 1, 2, 2, 8))
    out = Tensor("scores", TensorType(DType.I8, (1, 2, 2, 8), QParams((1 / 256,), -128)))
    return Graph("tiny", (x,), (out,), (conv, total, Softmax(x=total.out, out=out)))


def kernel(op: Op, machine: str) -> str:
    """Helpers, constants and function of one op, without the frame of the file."""
    graph = Graph("t", tuple(op.inputs()), (op.out,), (op,))
    text = emit(lower(graph, target(machine)), ORIGIN, split=True)["t.c"]
    start = text.index("#endif\n", text.index("#define T_TRACE(")) + len("#endif\n")
    return text[start : text.index("int t_run(")].strip() + "\n"


def header(machine: str) -> str:
    return emit(lower(model(), target(machine)), ORIGIN)["tiny.h"]


SNAPSHOTS: dict[str, Callable[[], str]] = {
    "conv2d_1x1.aarch64.c": lambda: kernel(pointwise(), "aarch64"),
    "conv2d_1x1.armv7a.c": lambda: kernel(eight(), "armv7a"),
    "conv2d_1x1.aarch64+dotprod.c": lambda: kernel(tiled(), "aarch64+dotprod"),
    "conv2d_1x1.aarch64+i8mm.c": lambda: kernel(tiled(), "aarch64+i8mm"),
    "conv2d_3x3.portable.c": lambda: kernel(image(), "portable"),
    "conv2d_winograd.aarch64.c": lambda: kernel(narrow(), "aarch64"),
    "depthwise_conv2d.aarch64.c": lambda: kernel(depthwise(), "aarch64"),
    "depthwise_conv2d.armv7a.c": lambda: kernel(depthwise(), "armv7a"),
    "depthwise_conv2d.portable.c": lambda: kernel(depthwise(), "portable"),
    "depthwise_multiplier.aarch64.c": lambda: kernel(multiplied(), "aarch64"),
    "fully_connected.aarch64.c": lambda: kernel(fully_connected(), "aarch64"),
    "fully_connected.portable.c": lambda: kernel(fully_connected(), "portable"),
    "add.aarch64.c": lambda: kernel(add(), "aarch64"),
    "mean.aarch64.c": lambda: kernel(mean(), "aarch64"),
    "model.portable.h": lambda: header("portable"),
}


@pytest.mark.parametrize("name", SNAPSHOTS)
def test_snapshot(name: str) -> None:
    path, new = HERE / name, SNAPSHOTS[name]()
    if os.environ.get("QGEN_ACCEPT"):
        path.write_text(new, encoding="ascii")
    old = path.read_text(encoding="ascii") if path.is_file() else ""
    diff = difflib.unified_diff(old.splitlines(), new.splitlines(), "accepted", "now", lineterm="")
    assert new == old, f"{name} changed; if that is meant: {ACCEPT}\n" + "\n".join(diff)


def test_every_snapshot_has_its_op() -> None:
    assert {p.name for p in HERE.iterdir() if p.suffix in (".c", ".h")} == set(SNAPSHOTS)


def test_same_input_same_bytes() -> None:
    assert header("portable") == header("portable")
    assert header("aarch64") == header("aarch64")
