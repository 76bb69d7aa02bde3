"""Physical types: every element has its own place, storing and loading are inverse, text and JSON round trips."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapdot.kernels.layout import ALIGNMENT, DENSE, Halo, Layout, elements, round_up

sides = st.integers(0, 3)
halos = st.builds(Halo, sides, sides, sides, sides)
layouts = st.builds(Layout, st.sampled_from([1, 4, 8, 16]), halos, st.integers(-128, 127))
shapes = st.tuples(st.integers(1, 2), st.integers(1, 9), st.integers(1, 5), st.integers(1, 5))


def numbered(shape: tuple[int, ...]) -> np.ndarray:
    return np.arange(1000, 1000 + np.prod(shape), dtype=np.int32).reshape(shape)


@given(layouts, shapes)
def test_store_and_load_are_inverse(layout: Layout, shape: tuple[int, int, int, int]) -> None:
    array = numbered(shape)
    flat = layout.store(array)
    assert flat.shape == (layout.size(shape),)
    np.testing.assert_array_equal(layout.load(flat, shape), array)
    assert np.count_nonzero(flat != layout.zero) == array.size, "everything that is no element holds the stored zero"


@given(layouts, shapes)
@settings(max_examples=50)
def test_offset_finds_what_store_placed(layout: Layout, shape: tuple[int, int, int, int]) -> None:
    array = numbered(shape)
    flat = layout.store(array)
    for n, c, y, x in itertools.product(*map(range, shape)):
        block, lane = divmod(c, layout.channel_block)
        assert flat[layout.offset(shape, n, block, y, x) + lane] == array[n, c, y, x]


@given(layouts, shapes)
@settings(max_examples=50)
def test_the_halo_around_every_position_is_readable_and_holds_no_element(
    layout: Layout, shape: tuple[int, int, int, int]
) -> None:
    flat = layout.store(numbered(shape))
    batch, channels, height, width = shape
    halo = layout.halo
    for n, block in itertools.product(range(batch), range(layout.blocks(channels))):
        for y, x in itertools.product(range(-halo.top, height + halo.bottom), range(-halo.left, width + halo.right)):
            start = layout.offset(shape, n, block, y, x)
            assert start >= 0 and start + layout.channel_block <= flat.size
            if not (0 <= y < height and 0 <= x < width):
                assert (flat[start : start + layout.channel_block] == layout.zero).all()


@given(layouts)
def test_text_and_json_round_trips(layout: Layout) -> None:
    assert Layout.parse(str(layout)) == layout
    assert Layout.from_json(layout.json()) == layout


@given(layouts, shapes)
def test_dense_order_means_the_same_bytes(layout: Layout, shape: tuple[int, int, int, int]) -> None:
    array = numbered(shape)
    flat = layout.store(array)
    if layout.is_dense_order(shape):
        np.testing.assert_array_equal(flat, array.reshape(-1))


@given(halos, halos)
def test_the_union_covers_both_and_no_more(one: Halo, other: Halo) -> None:
    both = one.union(other)
    assert both.covers(one) and both.covers(other)
    assert one.covers(other) == (both == one)
    assert bool(both) == (bool(one) or bool(other))


def test_filling_with_rubbish_leaves_the_elements_alone() -> None:
    layout, array = Layout(4, Halo(1, 1, 1, 1)), numbered((1, 3, 2, 2))
    dirty = layout.store(array, fill=0x5A)
    np.testing.assert_array_equal(layout.load(dirty, array.shape), array)
    assert np.count_nonzero(dirty == 0x5A) == dirty.size - array.size


@pytest.mark.parametrize(("value", "expected"), [(0, 0), (1, 64), (64, 64), (65, 128)])
def test_round_up(value: int, expected: int) -> None:
    assert round_up(value, ALIGNMENT) == expected


def test_elements_of_any_rank() -> None:
    assert elements((2, 3, 4), None) == 24
    assert elements((1, 5, 2, 2), Layout(4)) == 2 * 4 * 4
    assert elements((1, 5, 2, 2), DENSE) == 20
