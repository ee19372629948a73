"""Memory plans: aliasing rules by example, all invariants on random graphs, exact packing."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qgen.ir.graph import Graph
from qgen.ir.op import Op
from qgen.plan.memory import plan_memory
from qgen.plan.pack import Block, liveness, pack
from qgen.plan.schedule import schedule
from tests.plan.graphs import Builder, graphs, place_of


@settings(max_examples=400, deadline=None)
@given(graphs(), st.data())
def test_random_graphs_keep_every_value(graph: Graph, data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.sampled_from([0, 0, 7, 64]), min_size=12))
    scratch: dict[Op, int] = dict(zip(graph.ops, sizes, strict=False))
    alignment = data.draw(st.sampled_from([1, 16, 64]))
    plan = plan_memory(graph, scratch, alignment)
    plan.check()
    assert plan.placements == plan_memory(graph, scratch, alignment).placements
    # Sharing must not cost memory: without any, each tensor is a block of its own.
    assert plan.liveness_peak_bytes <= _peak_without_sharing(graph, scratch, alignment)


def _peak_without_sharing(graph: Graph, scratch: dict[Op, int], alignment: int) -> int:
    edges = {*graph.inputs, *graph.outputs}
    peak = 0
    for i, op in enumerate(graph.ops):
        live = scratch.get(op, 0) + -scratch.get(op, 0) % alignment
        for j, maker in enumerate(graph.ops):
            t = maker.out
            ends = [k for k, user in enumerate(graph.ops) if t in user.inputs()]
            if t not in edges and j <= i <= max([j, *ends]):
                live += t.type.bytes + -t.type.bytes % alignment
        peak = max(peak, live)
    return peak


def test_reshape_of_an_input_is_a_view_of_the_callers_buffer() -> None:
    b = Builder()
    x = b.input(1, 2, 2, 4)
    r = b.reshape(x, 1, 16)
    z = b.relu(r)
    plan = plan_memory(b.graph(z))
    plan.check()
    assert place_of(plan, r) == ("input", 0, 0)
    assert plan.copies[b.ops[0]] == ()
    assert plan.arena_bytes == 0 and not plan.in_place


def test_reshape_to_an_output_lets_its_producer_write_there() -> None:
    b = Builder()
    p = b.pool(b.input(1, 2, 2, 4))
    r = b.reshape(p, 1, 16)
    plan = plan_memory(b.graph(r))
    plan.check()
    assert place_of(plan, p) == place_of(plan, r) == ("output", 0, 0)
    assert plan.copies[b.ops[1]] == () and plan.arena_bytes == 0


def test_reshape_copies_where_two_buffers_of_the_caller_meet() -> None:
    b = Builder()
    x = b.input(1, 2, 2, 4)
    r = b.reshape(x, 1, 16)
    p = b.pool(x)
    q = b.reshape(p, 1, 16)
    plan = plan_memory(b.graph(r, p, q))
    plan.check()
    assert plan.copies == {b.ops[0]: (0,), b.ops[2]: (0,)}
    assert [place_of(plan, t) for t in (r, p, q)] == [("output", i, 0) for i in range(3)]


def test_input_that_is_an_output_is_copied_at_the_end() -> None:
    b = Builder()
    x = b.input(1, 2, 2, 4)
    y = b.relu(x)
    plan = plan_memory(b.graph(y, x))
    plan.check()
    assert plan.output_copies == {1: x} and place_of(plan, x) == ("input", 0, 0)


def test_concat_of_contiguous_slices_is_free() -> None:
    b = Builder()
    x = b.input(1, 3, 2, 5)
    p, q = b.pool(x), b.pool(x)
    y = b.concat(p, x, q, q)
    z = b.pool(y)
    plan = plan_memory(b.graph(z))
    plan.check()
    # The caller's input cannot move, and q cannot be in two places.
    assert plan.copies[b.ops[2]] == (1, 3)
    start = plan.placements[y].offset
    assert [plan.placements[t].offset - start for t in (p, q)] == [0, 60]


def test_concat_copies_slices_that_are_not_contiguous() -> None:
    b = Builder()
    x = b.input(1, 3, 2, 5)
    y = b.concat(b.pool(x), b.pool(x), axis=3)
    plan = plan_memory(b.graph(y))
    plan.check()
    assert plan.copies[b.ops[2]] == (0, 1)


def test_nested_concats_share_one_storage() -> None:
    """As in DenseNet: each block appends to what is there."""
    b = Builder()
    stack = b.pool(b.input(1, 2, 2, 16))
    for _ in range(4):
        stack = b.concat(stack, b.pool(stack))
    plan = plan_memory(b.graph(b.pool(stack)))
    plan.check()
    assert not any(plan.copies.values())
    assert plan.arena_bytes == stack.type.bytes


def test_concat_is_copied_where_holding_it_early_would_raise_the_peak() -> None:
    b = Builder()
    x = b.input(1, 1, 4, 4)
    small = b.pool(x)
    wide = b.input(1, 64, 4, 4)
    first = b.pool(wide)
    second = b.pool(first)
    scalar = b.op("max_pool2d", (1, 1, 4, 4), x=second, kernel=(64, 1))
    late = b.concat(scalar, scalar, scalar, scalar)
    y = b.concat(small, late, late, late, late, late, late, late, late)
    plan = plan_memory(b.graph(b.pool(y)))
    plan.check()
    assert 0 in plan.copies[b.ops[-2]]
    assert plan.arena_bytes == 2 * first.type.bytes + small.type.bytes


def test_add_overwrites_the_operand_that_dies() -> None:
    b = Builder()
    skip = b.pool(b.input(1, 4, 4, 16))
    y = b.add(b.pool(skip), skip)
    later = b.add(y, skip)
    plan = plan_memory(b.graph(b.pool(later)))
    plan.check()
    assert plan.in_place == {b.ops[2]: "a", b.ops[3]: "a"}
    assert plan.arena_bytes == 2 * 256


def test_broadcast_operand_is_never_overwritten() -> None:
    b = Builder()
    x = b.input(1, 4, 4, 16)
    row, whole = b.op("max_pool2d", (1, 1, 4, 16), x=x, kernel=(4, 1)), b.pool(x)
    y = b.add(row, whole)
    plan = plan_memory(b.graph(b.pool(y)))
    plan.check()
    assert plan.in_place == {b.ops[2]: "b"}


def test_scratch_lives_only_while_its_op_runs() -> None:
    b = Builder()
    y = b.pool(b.pool(b.pool(b.input(1, 4, 4, 16))))
    plan = plan_memory(b.graph(y), {b.ops[0]: 100, b.ops[2]: 256})
    plan.check()
    assert plan.live() == [112 + 256, 512, 512]
    assert plan.arena_bytes == plan.liveness_peak_bytes == 512
    assert plan.scratch_offset(b.ops[1]) is None
    assert plan.scratch_offset(b.ops[2]) == plan.scratch[b.ops[2]].offset


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("overlap", "does not hold its value"),
        ("outside", "lies outside of the arena"),
        ("not declared", "may not overwrite"),
        ("forgotten copy", "does not hold its value"),
        ("peak", "the liveness peak is wrong"),
    ],
)
def test_check_finds_what_is_wrong(change: str, message: str) -> None:
    b = Builder()
    x = b.input(1, 4, 4, 16)
    p, q = b.pool(x), b.pool(x)
    s = b.add(p, q)
    y = b.concat(s, x)
    plan = plan_memory(b.graph(y, b.pool(b.pool(p))))
    plan.check()
    places = dict(plan.placements)
    if change == "overlap":
        places[q] = places[p]
    elif change == "outside":
        places[p] = replace(places[p], offset=plan.arena_bytes)
    elif change == "not declared":
        last = b.ops[-2].out
        places[last] = replace(places[p], storage_id=places[last].storage_id)
        plan = replace(plan, in_place={**plan.in_place, b.ops[-2]: "x"})
    elif change == "forgotten copy":
        plan = replace(plan, copies={b.ops[3]: ()})
    else:
        plan = replace(plan, liveness_peak_bytes=plan.liveness_peak_bytes - 16)
    with pytest.raises(AssertionError, match=message):
        replace(plan, placements=places).check()


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 6), st.integers(0, 4)), max_size=6))
def test_packing_is_optimal_for_few_blocks(rows: list[tuple[int, int, int]]) -> None:
    blocks = [Block(i, size, first, first + n) for i, (size, first, n) in enumerate(rows)]
    offsets, height = pack(blocks)
    for (i, a), (j, b) in itertools.combinations(enumerate(blocks), 2):
        apart = offsets[i] + a.size <= offsets[j] or offsets[j] + b.size <= offsets[i]
        assert apart or not a.meets(b)
    assert height == max((o + b.size for o, b in zip(offsets, blocks, strict=True)), default=0)
    assert height >= max(liveness(blocks, 11))
    assert height == _best_height(blocks)


def _best_height(blocks: list[Block]) -> int:
    """Lowest fit in every order: one of them is the order of offsets of an optimal packing."""
    best = sum(b.size for b in blocks)
    for order in itertools.permutations(blocks):
        placed: list[tuple[int, Block]] = []
        for b in order:
            bottom = 0
            for start, other in sorted(placed, key=lambda p: p[0]):
                if other.meets(b) and start < bottom + b.size:
                    bottom = max(bottom, start + other.size)
            placed.append((bottom, b))
        best = min(best, max((o + b.size for o, b in placed), default=0))
    return best


@settings(deadline=None)
@given(graphs())
def test_schedule_keeps_an_order_that_is_as_good(graph: Graph) -> None:
    ordered = schedule(graph)
    if ordered.ops != graph.ops:
        assert plan_memory(ordered).arena_bytes < plan_memory(graph).arena_bytes
