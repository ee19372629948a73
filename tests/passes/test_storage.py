"""signed_storage: which tensors move to int8. That values stay: test_golden_properties."""

from __future__ import annotations

import numpy as np

from qgen.ir import interp
from qgen.ir.graph import Graph
from qgen.ir.ops.add import Add
from qgen.ir.ops.clamp import Clamp
from qgen.ir.ops.concat import Concat
from qgen.ir.ops.pad import Pad
from qgen.ir.ops.reshape import Reshape
from qgen.ir.types import DType, QParams, Tensor, TensorType
from qgen.passes.legalize import legalize
from qgen.passes.storage import as_stored, signed_storage


def u8(name: str, *shape: int, data: int | None = None) -> Tensor:
    values = None if data is None else np.full(shape, data, np.uint8)
    return Tensor(name, TensorType(DType.U8, shape, QParams((0.5,), 10)), values)


def kinds(graph: Graph) -> dict[str, str]:
    return {t.name: t.dtype.value for t in (*graph.inputs, *graph.activations)}


def test_inner_tensors_move_with_their_constants() -> None:
    x = u8("x", 4)
    first = Clamp(x=x, out=u8("first", 4))
    joined = Concat(x=(first.out, u8("c", 2, data=200)), axis=0, out=u8("joined", 6))
    padded = Pad(x=joined.out, amounts=((1, 0),), value=255, out=u8("padded", 7))
    last = Clamp(x=padded.out, out=u8("last", 7))
    stored = signed_storage(legalize(Graph("g", (x,), (last.out,), (first, joined, padded, last))))
    assert kinds(stored) == {
        "x": "u8", "first": "i8", "joined": "i8", "padded": "i8", "last": "u8",
    }  # fmt: skip
    clamp, concat, pad, _ = stored.ops
    assert isinstance(clamp, Clamp) and clamp.clamp == (-128, 127)
    assert clamp.out.zero == 10 - 128
    assert concat.constants()[0].const.tolist() == [72, 72]
    assert isinstance(pad, Pad) and pad.fill == 127


def test_values_tied_to_the_caller_stay() -> None:
    x = u8("x", 4)
    same = Reshape(x=x, out=u8("same", 2, 2))
    inner = Clamp(x=same.out, out=u8("inner", 2, 2))
    back = Reshape(x=inner.out, out=u8("back", 4))
    stored = signed_storage(legalize(Graph("g", (x,), (back.out,), (same, inner, back))))
    assert set(kinds(stored).values()) == {"u8"}


def test_as_stored_flips_the_top_bit() -> None:
    value = np.array([0, 127, 128, 255], np.uint8)
    signed = Tensor("t", TensorType(DType.I8, (4,), QParams((0.5,), 0)))
    assert as_stored(value, signed).tolist() == [-128, -1, 0, 127]
    assert as_stored(value, u8("t", 4)) is value


def test_a_constant_may_serve_ops_that_move_and_ops_that_stay() -> None:
    x, c = u8("x", 2), u8("c", 2, data=200)
    total = Add(a=x, b=c, out=u8("total", 2))
    stays = Concat(x=(x, c), axis=0, out=u8("stays", 4))
    moves = Concat(x=(total.out, c), axis=0, out=u8("moves", 4))
    again = Concat(x=(c, total.out), axis=0, out=u8("again", 4))
    last = Add(a=moves.out, b=again.out, out=u8("last", 4))
    ops = (total, stays, moves, again, last)
    model = legalize(Graph("g", (x,), (last.out, stays.out), ops))
    stored = signed_storage(model)
    assert kinds(stored) == {
        "x": "u8", "total": "i8", "stays": "u8", "moves": "i8", "again": "i8", "last": "u8",
    }  # fmt: skip
    values = [np.array([3, 250], np.uint8)]
    before, after = interp.run_all(model, values), interp.run_all(stored, values)
    for t in stored.activations:
        assert np.array_equal(as_stored(before[t.name], t), after[t.name])
