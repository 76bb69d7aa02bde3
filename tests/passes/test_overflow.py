"""The proof that accumulators fit: intervals that hold every sum, and are reached by some."""

from __future__ import annotations

import numpy as np
import pytest

from tapdot.passes.codes import Codes
from tapdot.passes.integer_arithmetic import OverflowRefused
from tapdot.passes.overflow import accumulator_bounds, largest_partial_sums, prove_accumulator, signed_sums, window_bounds

KINDS = [Codes(1.0, 0, -128, 127, "int8"), Codes(1.0, 0, 0, 255, "uint8"), Codes(1.0, 200, 0, 255, "uint8")]


@pytest.mark.parametrize("x", KINDS)
@pytest.mark.parametrize("axis", [0, 1])
def test_the_interval_is_the_smallest(x: Codes, axis: int) -> None:
    generator = np.random.default_rng(0)
    weights = generator.integers(-127, 128, (5, 7), dtype=np.int8)
    bias = generator.integers(-1000, 1000, weights.shape[axis]).astype(np.int32)
    low, high = accumulator_bounds(weights, bias, x, axis)
    rows = np.moveaxis(weights, axis, 0).astype(np.int64)
    codes = np.array([x.low - x.zero_point, x.high - x.zero_point, 0])
    lowest = np.minimum.reduce([rows * code for code in codes]).sum(axis=1) + bias
    highest = np.maximum.reduce([rows * code for code in codes]).sum(axis=1) + bias
    np.testing.assert_array_equal(low, lowest)
    np.testing.assert_array_equal(high, highest)


def test_sums_of_large_weights_come_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tapdot.passes.overflow.ELEMENTS_AT_ONCE", 7)
    weights = np.random.default_rng(1).integers(-127, 128, (6, 2, 3, 3), dtype=np.int8)
    for axis in (0, 1):
        rows = np.moveaxis(weights, axis, 0).reshape(weights.shape[axis], -1).astype(np.int64)
        positive, negative = signed_sums(weights, axis)
        np.testing.assert_array_equal(positive, np.maximum(rows, 0).sum(axis=1))
        np.testing.assert_array_equal(negative, np.minimum(rows, 0).sum(axis=1))


def test_windows_may_hang_over() -> None:
    assert window_bounds(Codes(1.0, 3, 5, 255, "uint8"), 9) == (0, 9 * 252)


def test_no_partial_sum_of_stored_codes_is_larger() -> None:
    generator = np.random.default_rng(2)
    weights = generator.choice(np.array([-127, -3, 90, 127]), (4, 11)).astype(np.int8)
    bias = generator.integers(-5000, 5000, 4).astype(np.int32)
    for x in (*KINDS, Codes(1.0, -128, -128, 127, "int8"), Codes(1.0, 0, 0, 15, "uint8"), Codes(1.0, 1, -2, 1, "int8")):
        largest = largest_partial_sums(weights, bias, x)
        reached = np.zeros(4, np.int64)
        for offset in (0, 128 if x.dtype == "int8" else -128):
            for code in (x.low, x.high):  # each alone, so that a sum leads as far as it can
                terms = np.cumsum(np.sort(weights.astype(np.int64), axis=1) * (code + offset), axis=1)
                start = bias - (x.zero_point + offset) * weights.sum(axis=1, dtype=np.int64)
                reached = np.maximum(reached, np.abs(terms + start[:, None]).max(axis=1))
        assert (reached <= largest).all()
        assert (largest_partial_sums(weights.T, bias, x, axis=1) == largest).all()


def test_the_worst_channel_is_named() -> None:
    weights = np.full((3, 70000), 100, np.int8)
    weights[1] = 127
    largest = largest_partial_sums(weights, None, KINDS[1])
    with pytest.raises(
        OverflowRefused, match=r"node 'fc6'.* channel 1 may reach 2266950000, beyond 2147483647; .*keep_float=fc6"
    ):
        prove_accumulator("fc6", largest)
    prove_accumulator("fc6", largest[:1])


def test_what_would_wrap_on_the_way_is_refused() -> None:
    """Codes of 4 bits: no sum leaves 32 bits, but those of codes that are stored 128 lower may."""
    weights, x = np.full((1, 140000), 127, np.int8), Codes(1.0, 0, 0, 15, "uint8")
    low, high = accumulator_bounds(weights, None, x)
    assert max(abs(int(low[0])), abs(int(high[0]))) < 2**29
    with pytest.raises(OverflowRefused, match="may reach 2275840000"):
        prove_accumulator("fc6", largest_partial_sums(weights, None, x))
    prove_accumulator("fc6", largest_partial_sums(weights[:, :130000], None, x))
