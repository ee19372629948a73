"""selftest: the test vector that a generated file embeds for ``<name>_selftest``.

The input is made on the board by a small generator, so that no table is stored; golden evaluates
it here, and of every op's result the file keeps a CRC-32, four bytes.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from qgen.ir import interp
from qgen.ir.types import Array, Tensor
from qgen.lower import Lowered

# x -> MULTIPLIER * x + INCREMENT mod 2^32, the top byte of each state: the generator of Knuth and
# Lewis. Low bits of such a generator repeat soon, the top ones do not.
SEED = 20171215
MULTIPLIER = 1664525
INCREMENT = 1013904223
# Of the reflected CRC-32 of IEEE 802.3, which zlib and most tools compute.
POLYNOMIAL = 0xEDB88320


@dataclass(frozen=True, eq=False)
class Vector:
    """One input of a model, and what every op makes of it.

    Attributes:
        inputs: one array per graph input, of its type and shape.
        crcs: of each op's result as the file stores it, in the file's order of ops.
    """

    inputs: tuple[Array, ...]
    crcs: tuple[int, ...]


def pseudo_random(count: int, state: int) -> tuple[Array, int]:
    """`count` bytes, uint8 [count], that follow `state`; and the state after them.

    State n is A^n s + C (1 + A + ... + A^(n-1)), so all of them are computed at once.
    """
    powers = np.cumprod(np.full(count, MULTIPLIER, np.uint32), dtype=np.uint32)
    sums = np.cumsum(np.concatenate(([1], powers[:-1])), dtype=np.uint32)
    states = powers * np.uint32(state) + np.uint32(INCREMENT) * sums
    return (states >> np.uint32(24)).astype(np.uint8), int(states[-1])


def crc_table() -> list[int]:
    """CRC-32 of each value of four bits: 16 words are a table that a small board can spare."""
    table = []
    for crc in range(16):
        for _ in range(4):
            crc = crc >> 1 ^ (POLYNOMIAL if crc & 1 else 0)
        table.append(crc)
    return table


def vector(lowered: Lowered) -> Vector:
    """The test vector of a model, by golden; bytes are those of a little-endian machine."""
    inputs: list[Array] = []
    state = SEED
    for t in lowered.model.inputs:
        raw, state = pseudo_random(t.type.bytes, state)
        inputs.append(raw.view(t.dtype.numpy.newbyteorder("<")).reshape(t.shape))
    # By the tensor of the model that they hold, or rows of it.
    held: dict[str, list[Tensor]] = {}
    for op in lowered.graph.ops:
        part = lowered.parts.get(op.name)
        held.setdefault(part.of if part else op.name, []).append(op.out)
    crcs: dict[str, int] = {}

    def watch(t: Tensor, value: Array) -> None:
        for stored in held.get(t.name, []):
            kept = lowered.as_stored(value, stored)
            crcs[stored.name] = zlib.crc32(np.ascontiguousarray(kept).astype(_little(kept)).data)

    for t, value in zip(lowered.model.inputs, inputs, strict=True):
        watch(t, value)
    interp.run(lowered.model, inputs, watch)
    return Vector(tuple(inputs), tuple(crcs[op.name] for op in lowered.graph.ops))


def _little(value: Array) -> np.dtype[np.generic]:
    return value.dtype.newbyteorder("<")
