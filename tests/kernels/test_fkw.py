"""FKW arrays against the dense weights they come from."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapdot.kernels import patterns
from tapdot.kernels.fkw import FKW, Structure, csr_extra_bytes
from tapdot.kernels.patterns import ALL_PATTERNS, QUAD


def pruned(seed: int, groups: int, share: int, units: int, count: int, quads: bool) -> tuple[np.ndarray, Structure]:
    """A dense weight and the structure it was pruned to; kept weights may be zero."""
    random = np.random.default_rng(seed)
    table = QUAD if quads else ALL_PATTERNS[random.permutation(56)[:count]]
    kept = random.integers(0, len(table), (groups, units))
    kept[random.random((groups, units)) < 0.6] = -1
    structure = Structure(kept, table, share)
    shape = (groups * share, units * 4) if quads else (groups * share, units, 3, 3)
    dense = random.integers(-3, 4, shape).astype(np.int8)
    return np.where(structure.mask(shape), dense, 0).astype(np.int8), structure


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 9), st.sampled_from([1, 2, 4, 8]), st.integers(1, 20), st.booleans())
def test_a_dense_weight_comes_back_exactly(seed: int, groups: int, share: int, units: int, quads: bool) -> None:
    dense, structure = pruned(seed, groups, share, units, 8, quads)
    order = np.random.default_rng(seed).permutation(groups)
    stored = FKW.compress(dense, structure, order)
    assert stored.dense(dense.shape).tobytes() == dense.tobytes()
    assert np.array_equal(stored.structure(units).kept, structure.kept), "pattern ids are stored, never derived from zeros"
    assert np.array_equal(stored.reorder, order)
    assert stored.kernels == structure.counts.sum()
    counts = structure.counts[order]
    assert np.array_equal(np.diff(stored.offset.astype(int)), counts)
    for group in range(groups):
        ids = stored.pattern_ids[stored.offset[group] : stored.offset[group + 1]]
        assert np.array_equal(ids, np.sort(ids)), "the kernels of a filter are sorted by pattern"


def test_a_weight_outside_its_structure_is_refused() -> None:
    dense, structure = pruned(0, 4, 2, 5, 8, False)
    dense[structure.mask(dense.shape) == 0] = 1
    with pytest.raises(ValueError, match="zero wherever its structure prunes"):
        FKW.compress(dense, structure)


def test_a_last_quad_that_is_not_full() -> None:
    kept = np.array([[0, -1, 0]])
    dense = np.array([[1, 2, 3, 4, 0, 0, 0, 0, 9, 8]], np.int8)
    stored = FKW.compress(dense, Structure(kept, QUAD))
    assert stored.weight.tolist() == [[[1, 2, 3, 4]], [[9, 8, 0, 0]]]
    assert np.array_equal(stored.dense(dense.shape), dense)


def test_index_types_are_the_smallest() -> None:
    dense, structure = pruned(1, 2, 1, 300, 8, False)
    stored = FKW.compress(dense, structure)
    assert stored.index.dtype == np.uint16 and stored.reorder.dtype == np.uint8
    assert stored.bytes == stored.extra_bytes + stored.kernels * 4
    assert csr_extra_bytes(100, 9, 2) == 240


def test_patterns_keep_the_centre() -> None:
    assert ALL_PATTERNS.shape == (56, 4) and len({tuple(row) for row in ALL_PATTERNS}) == 56
    assert (ALL_PATTERNS == patterns.CENTRE).any(axis=1).all()
    assert patterns.masks(ALL_PATTERNS).sum(axis=1).tolist() == [4] * 56
    assert patterns.picture([1, 3, 4, 6]) == ".x.|xx.|x.."


def test_the_best_pattern_keeps_the_three_largest_beside_the_centre() -> None:
    kernel = np.array([0.1, -3, 0.2, 0.3, 0, 2, 0, 0, -1.0])
    assert ALL_PATTERNS[patterns.best_pattern(kernel)].tolist() == [1, 4, 5, 8]
    counts = patterns.histogram([np.stack([kernel, kernel, kernel[::-1], 0 * kernel])])
    assert counts.sum() == 3, "kernels of zeros do not count"
    assert patterns.pattern_set(counts, 1).tolist() == [[1, 4, 5, 8]]
