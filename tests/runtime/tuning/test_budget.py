"""Which workload is next: all get a few trials, then those that promise most."""

from __future__ import annotations

import math

import pytest

from tapdot.runtime.tuning.budget import FIRST_TRIALS, Account, choose, shares
from tapdot.runtime.tuning.verdict import gain


def spend(accounts: list[Account], trials: int, value) -> list[int]:
    """The workloads that get trials, one after the other; ``value`` gives each trial's figure."""
    order = []
    for _ in range(trials):
        index = choose(accounts)
        assert index is not None
        order.append(index)
        accounts[index].add(value(index, accounts[index].trials))
    return order


def test_every_workload_gets_its_default_before_any_gets_more() -> None:
    accounts = [Account(1, 5.0), Account(3, 100.0), Account(1, 50.0)]
    assert spend(accounts, 3, lambda index, trial: 1.0) == [1, 2, 0]


def test_every_workload_gets_a_few_before_any_gets_many() -> None:
    accounts = [Account(1, 1.0), Account(1, 1000.0)]
    order = spend(accounts, 2 * FIRST_TRIALS, lambda index, trial: 1.0)
    assert order.count(0) == order.count(1) == FIRST_TRIALS


def test_then_share_of_time_decides() -> None:
    accounts = [Account(1, 1.0), Account(1, 1.0)]
    order = spend(accounts, 60, lambda index, trial: (1.0, 9.0)[index])
    assert order.count(1) > 2 * order.count(0) > 0


def test_and_recent_gain() -> None:
    accounts = [Account(1, 1.0), Account(1, 1.0)]
    order = spend(accounts, 40, lambda index, trial: 1.0 if index else 0.97**trial)
    assert order.count(0) > 2 * order.count(1) > 0


def test_estimates_serve_until_all_are_measured() -> None:
    accounts = [Account(1, 1.0), Account(2, 3.0)]
    accounts[0].add(5.0)
    assert shares(accounts) == [0.25, 0.75]
    accounts[1].add(5.0)
    assert shares(accounts) == pytest.approx([1 / 3, 2 / 3])


def test_an_exhausted_workload_gets_nothing() -> None:
    accounts = [Account(1, 100.0, exhausted=True), Account(1, 1.0)]
    assert set(spend(accounts, 10, lambda index, trial: 1.0)) == {1}
    accounts[1].exhausted = True
    assert choose(accounts) is None


def test_trials_under_way_count() -> None:
    accounts = [Account(1, 2.0, pending=1), Account(1, 1.0)]
    assert choose(accounts) == 1


def test_failures_are_no_gain() -> None:
    account = Account(1, 1.0)
    for value in (None, None, 2.0, None):
        account.add(value)
    assert account.bests == [math.inf, math.inf, 2.0, 2.0]
    assert account.best == 2.0
    assert account.recent_gain == 0.0
    account.add(1.0)
    assert account.best == 1.0


def test_no_winner_inside_the_noise() -> None:
    steady = [10.0] * 15
    assert gain(steady, [8.0] * 15) == pytest.approx(1.25)
    assert gain(steady, [9.95] * 15) == 1.0  # not worth a change
    assert gain(steady, [11.0] * 15) == 1.0
    mixed = [8.0, 13.0] * 8
    assert gain([10.0] * 16, mixed) == 1.0  # as often slower as faster
    assert gain([10.0] * 5, [8.0] * 5) == 1.0  # too few rounds to say
    mostly = [9.0] * 12 + [11.0] * 3
    assert gain([10.0] * 15, mostly) == pytest.approx(10 / 9)
    assert gain([10.0] * 15, mostly, candidates=3) == 1.0  # the best of three is partly luck
    drifting = [10.0 + turn for turn in range(15)]
    assert gain(drifting, [value / 1.1 for value in drifting]) == pytest.approx(1.1)


def test_counts_are_compared_as_they_are() -> None:
    assert gain([1000.0], [900.0]) == pytest.approx(10 / 9)
    assert gain([1000.0], [999.9]) == 1.0
