"""Memory plan: which buffer each activation lives in, and at which byte of the arena.

1. Tensors that can share bytes are gathered into storages (`alias.py`): a reshape is a view of its
   operand, a concat of contiguous slices is written by the producers of its operands, and an
   element-wise op may overwrite an operand that dies there.
2. Storages of the arena get offsets such that no two overlap in both time and space (`pack.py`).

Time is the index of an op in `graph.ops`. The caller's input and output buffers are used as they
are: they are neither in the arena nor copied, and inputs are never written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from qgen.ir.graph import Graph
from qgen.ir.op import Op
from qgen.ir.types import Tensor
from qgen.plan.alias import assign
from qgen.plan.pack import Block, liveness, pack

Space = Literal["arena", "input", "output"]
NO_SCRATCH: Mapping[Op, int] = MappingProxyType({})


@dataclass(frozen=True)
class Placement:
    """Where bytes live and when.

    `offset` counts bytes from the start of the arena, or of the caller's buffer number `index`
    among the graph's inputs or outputs. [first, last] are op indices, inclusive: -1 is before the
    first op, `len(graph.ops)` after the last one. Tensors of one `storage_id` share a storage.
    """

    space: Space
    index: int
    offset: int
    bytes: int
    first: int
    last: int
    storage_id: int

    @property
    def end(self) -> int:
        return self.offset + self.bytes

    def overlaps(self, other: Placement) -> bool:
        """Whether the two have a byte in common, whenever they live."""
        same = (self.space, self.index) == (other.space, other.index)
        return same and self.offset < other.end and other.offset < self.end


@dataclass(frozen=True, eq=False)
class MemoryPlan:
    """The plan of one graph.

    arena_bytes: size of the arena, a multiple of `alignment`.
    liveness_peak_bytes: lower bound of it, the most bytes that are live during one op.
    placements: every graph input and activation; `first` and `last` are the tensor's own.
    storages: what tensors share, by storage_id; `first` and `last` span all of its tensors. Arena
        storages start at multiples of `alignment`; a tensor inside one (an operand of a concat)
        may be unaligned.
    scratch: working memory of single ops, live only while the op runs.
    copies: for every reshape, slice and concat, the indices of operands (in `op.x`; 0 where there
        is one) that the op must copy. An empty tuple means that the op costs nothing.
    in_place: ops whose result overwrites an operand, with that operand's field.
    output_copies: graph outputs, by index, that must be copied from a tensor at the end: those
        that are graph inputs.
    """

    graph: Graph
    alignment: int
    arena_bytes: int
    liveness_peak_bytes: int
    placements: Mapping[Tensor, Placement]
    storages: tuple[Placement, ...]
    scratch: Mapping[Op, Placement]
    copies: Mapping[Op, tuple[int, ...]]
    in_place: Mapping[Op, str]
    output_copies: Mapping[int, Tensor] = field(default_factory=dict)

    def scratch_offset(self, op: Op) -> int | None:
        """Byte of the arena where the scratch memory of `op` starts, None without any."""
        place = self.scratch.get(op)
        return place.offset if place else None

    def live(self) -> list[int]:
        """Bytes of the arena that are live during each op, storages rounded to the alignment."""
        return liveness([_block(s, self.alignment) for s in self._in_arena], len(self.graph.ops))

    @property
    def _in_arena(self) -> list[Placement]:
        return [s for s in (*self.storages, *self.scratch.values()) if s.space == "arena"]

    def check(self) -> None:
        """Run the plan on symbolic bytes; AssertionError names the first broken invariant."""
        from qgen.plan.check import check

        check(self)


def plan_memory(
    graph: Graph, scratch: Mapping[Op, int] = NO_SCRATCH, alignment: int = 16, limit: int = 0
) -> MemoryPlan:
    """Plan the arena of `graph` for its order of ops.

    `scratch` gives bytes of working memory for ops that need some. Nothing is copied to get below
    `limit` bytes. The plan is a function of the
    arguments alone.
    """
    shared = assign(graph, scratch, alignment, limit)
    ids = {s: i for i, s in enumerate(shared.all)}
    blocks = shared.blocks(scratch)
    offsets, arena_bytes = pack(blocks)
    bottom = dict(zip((b.key for b in blocks), offsets, strict=True))

    storages = tuple(
        Placement(s.space, s.index, bottom.get(s, 0), s.bytes, s.first, s.last, ids[s])
        for s in shared.all
    )
    placements: dict[Tensor, Placement] = {}
    for t in (*graph.inputs, *graph.activations):
        home, inside = shared.home[t]
        life = shared.life[t]
        placements[t] = Placement(
            home.space, home.index, storages[ids[home]].offset + inside, t.type.bytes, *life,
            ids[home],
        )  # fmt: skip
    index = {op: i for i, op in enumerate(graph.ops)}
    working = {
        op: Placement("arena", 0, bottom[op], size, index[op], index[op], len(storages) + n)
        for n, (op, size) in enumerate((op, scratch[op]) for op in graph.ops if scratch.get(op))
    }
    inputs = set(graph.inputs)
    return MemoryPlan(
        graph=graph,
        alignment=alignment,
        arena_bytes=arena_bytes,
        liveness_peak_bytes=max(liveness(blocks, len(graph.ops)), default=0),
        placements=placements,
        storages=storages,
        scratch=working,
        copies=shared.copies,
        in_place=shared.in_place,
        output_copies={i: t for i, t in enumerate(graph.outputs) if t in inputs},
    )


def _block(place: Placement, alignment: int) -> Block:
    size = -(-place.bytes // alignment) * alignment
    return Block(place.storage_id, size, place.first, place.last)
