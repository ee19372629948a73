"""Dead channels that stay: last, without weights, and the network means what it meant."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from qgen.ir import interp
from qgen.ir.linear import Linear
from qgen.passes.dead_last import VECTOR, dead_last
from qgen.passes.prune import channel_ranges, prune
from tests.passes.test_prune import network


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), granule=st.sampled_from([4, 8]))
def test_the_network_means_what_it_meant(seed: int, granule: int) -> None:
    graph = network(seed)
    sorted_ = dead_last(prune(graph, granule))
    rng = np.random.default_rng(seed)
    x = rng.choice([-128, -7, 3, 90, 127], graph.inputs[0].shape).astype(np.int8)
    values = interp.run_all(graph, [x])
    for name, value in interp.run_all(sorted_.graph, [x]).items():
        kept = sorted_.kept.get(name)
        assert np.array_equal(kept.of(values[name]) if kept else values[name], value)


def test_dead_channels_are_last_and_without_weights() -> None:
    found = 0
    for seed in range(30):
        pruned = prune(network(seed), 8)
        sorted_ = dead_last(pruned)
        if sorted_ is pruned:
            continue
        ranges = channel_ranges(sorted_.graph)
        for op in sorted_.graph.ops:
            if not isinstance(op, Linear) or op.out in sorted_.graph.outputs:
                continue
            before = pruned.kept.get(op.out.name)
            if np.array_equal(
                sorted_.kept[op.out.name].channels if op.out.name in sorted_.kept else [],
                before.channels if before else [],
            ):
                continue
            empty = ~op.weight_matrix().any(axis=0)
            assert empty[-VECTOR:].all() and ranges[op.out].fixed[-VECTOR:].all()
            found += 1
    assert found


def test_without_dead_channels_nothing_changes() -> None:
    pruned = prune(network(3), 1)
    assert dead_last(pruned) is pruned
