"""The order in which filters are visited."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.passes.before_and_after import assert_same_answers
from tests.passes.pruned_weights import pruned_kernels, pruned_quads
from tests.passes.test_compress_weights import EVERYWHERE, chain, network

from tapdot.kernels.fkw import FKW, Structure
from tapdot.kernels.patterns import ALL_PATTERNS
from tapdot.passes.compress_weights import decompressed, sparse_nodes
from tapdot.passes.reorder_filters import ReorderFilters, arrays_of, reordered, visiting_order

quick = settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@quick
@given(st.integers(0, 10_000), st.integers(1, 12), st.sampled_from([1, 2, 4]), st.integers(1, 16), st.booleans())
def test_arrays_in_another_order_are_those_made_in_it(seed: int, groups: int, share: int, inputs: int, quads: bool) -> None:
    if quads:
        weight, structure = pruned_quads(seed, groups, share, inputs * 4)
    else:
        weight, structure = pruned_kernels(seed, groups, share, inputs, 6)
    order = visiting_order(structure)
    assert sorted(order) == list(range(groups))
    again = reordered(FKW.compress(weight, structure, np.random.default_rng(seed).permutation(groups)), order)
    wanted = FKW.compress(weight, structure, order)
    for name, array in wanted.arrays.items():
        assert np.array_equal(again.arrays[name], array) and again.arrays[name].dtype == array.dtype, name
    counts = structure.counts[order]
    assert (np.diff(counts) <= 0).all(), "most kernels first"


def test_groups_of_equal_length_follow_their_likes() -> None:
    a, b = [0, 0, 1, -1], [1, -1, 0, 0]
    kept = np.array([a, b, a, b, [0, -1, -1, -1], a])
    assert visiting_order(Structure(kept, ALL_PATTERNS[:2])).tolist() == [0, 2, 5, 1, 3, 4]


def test_the_answer_and_the_weights_stay() -> None:
    before = EVERYWHERE(network())
    after = ReorderFilters()(before).verify()
    assert after is not before
    assert_same_answers(before, after)
    assert ReorderFilters()(after) is after
    old, new = decompressed(before), decompressed(after)
    assert all(np.array_equal(new.constants[name], array) for name, array in old.constants.items())
    for node in sparse_nodes(after):
        counts = np.diff(arrays_of(after, node).offset.astype(int))
        assert (np.diff(counts) <= 0).all()


def test_arrays_that_two_layers_read_are_reordered_for_each() -> None:
    """Equal arrays may have become one constant; each layer has its own order all the same."""
    model = EVERYWHERE(chain(4, 4, channels=16, size=6))
    first, second = sparse_nodes(model)
    table = first.inputs[6]
    shared = model.map_nodes(
        lambda node: type(node)(node.op, (*node.inputs[:6], table, *node.inputs[7:]), node.outputs, node.attributes, node.name)
    )
    shared = shared.replace(constants={**shared.constants, table: model.constants[second.inputs[6]]}).pruned()
    with pytest.raises(AssertionError):
        assert_same_answers(model, shared)  # the first layer's patterns are other ones now
    after = ReorderFilters()(shared).verify()
    assert_same_answers(shared, after)
