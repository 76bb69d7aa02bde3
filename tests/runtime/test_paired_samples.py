"""Statistics of repeated times: intervals hold what they promise, and drift divides out."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tapdot.runtime.samples import least_rounds, paired_ratio, shared_confidence, spread


def test_spread_is_half_the_middle_half() -> None:
    assert spread([2.0, 2.0, 2.0, 2.0, 2.0]) == 0.0
    assert spread([float(value) for value in range(1, 10)]) == pytest.approx(0.5)
    assert spread([1.0, 3.0]) == pytest.approx(0.5) and spread([3.0]) == 0.0


def test_mistakes_are_split_over_comparisons() -> None:
    """Three noisy rivals of nothing: one of them is taken for faster no more often than one alone."""
    generator = np.random.default_rng(0)
    alone = split = 0
    for _ in range(400):
        basis, *rivals = np.exp(generator.normal(0, 0.02, (4, 15)))
        alone += any(paired_ratio(list(rival), list(basis)).beyond_noise for rival in rivals)
        split += any(paired_ratio(list(rival), list(basis), shared_confidence(3)).beyond_noise for rival in rivals)
    assert split / 400 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 400) < alone / 400


def test_places_of_the_interval_are_the_sign_tests() -> None:
    """Tables of the binomial distribution: with 20 rounds, places 6 and 15; with 50, places 18 and 33."""
    for count, low, high in ((20, 6, 15), (50, 18, 33), (6, 1, 6)):
        ratio = paired_ratio([float(place) for place in range(1, count + 1)], [1.0] * count)
        assert (ratio.low, ratio.high) == (pytest.approx(low), pytest.approx(high))


@pytest.mark.parametrize("rounds", [6, 20, 51])
def test_the_interval_holds_the_median_as_often_as_promised(rounds: int) -> None:
    generator = np.random.default_rng(0)
    missed = 0
    for _ in range(400):
        noise = np.exp(generator.exponential(0.05, rounds) - 0.05 * math.log(2))  # one-sided, of median 1
        missed += paired_ratio(list(1.02 * noise), [1.0] * rounds).low > 1.02
        missed += paired_ratio(list(1.02 * noise), [1.0] * rounds).high < 1.02
    assert missed / 400 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 400)


def test_drift_that_hits_both_divides_out() -> None:
    drift = np.linspace(1.0, 2.0, 30)
    ratio = paired_ratio(list(1.03 * drift), list(drift))
    assert ratio.beyond_noise and ratio.low == pytest.approx(1.03) and ratio.high == pytest.approx(1.03)


def test_few_rounds_never_tell_a_difference() -> None:
    assert least_rounds() == 6
    few = paired_ratio([2.0] * 5, [1.0] * 5)
    assert not few.beyond_noise and not few.told and "too few" in str(few)
    assert few.json()["low"] is None and few.json()["high"] is None
    assert paired_ratio([2.0] * 6, [1.0] * 6).beyond_noise
    assert not few.inverse().beyond_noise and few.inverse().median == 0.5


def test_the_inverse_is_the_other_ones_ratio() -> None:
    times, basis = [1.1, 1.2, 1.0, 1.15, 1.05, 1.1, 1.3, 1.12], [1.0] * 8
    there, back = paired_ratio(times, basis).inverse(), paired_ratio(basis, times)
    assert (there.low, there.high) == (pytest.approx(back.low), pytest.approx(back.high))
