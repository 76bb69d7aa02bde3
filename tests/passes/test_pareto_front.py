"""The Pareto front against every choice there is, by both methods."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.bit_tables import GOLDEN, every_choice, random_table, small_tables

from tapdot.passes.assign_bits import Assignment, assign, assign_choices
from tapdot.passes.bit_budgets import Budget, BudgetError
from tapdot.passes.bit_choices import Choices
from tapdot.passes.bit_table import BitTable
from tapdot.passes.bit_table_files import read_table
from tapdot.passes.pareto_front import METHODS, Front, pareto_front


def check_order(front: Front) -> None:
    """Rising cost, falling sensitivity, nothing twice."""
    costs = [point.costs[front.kind] for point in front.points]
    losses = [point.sensitivity for point in front.points]
    assert costs == sorted(set(costs))
    assert losses == sorted(set(losses), reverse=True)


def dominated(point: tuple[float, float], others: list[tuple[float, float]]) -> bool:
    cost, loss = point
    return any(a <= cost + 1e-9 and b <= loss + 1e-9 and (a < cost - 1e-7 or b < loss - 1e-7) for a, b in others)


@settings(max_examples=40, deadline=None)
@given(small_tables(), st.sampled_from(METHODS))
def test_no_choice_dominates_a_point(table: BitTable, method: str) -> None:
    """As many budgets as costs can have, so that the front is whole."""
    every = [(choice.costs["size"], choice.sensitivity) for choice in every_choice(table)]
    span = round(max(cost for cost, _ in every) - min(cost for cost, _ in every))
    front = pareto_front(table, "size", points=max(2, span + 1), method=method)
    check_order(front)
    found = {(round(point.costs["size"]), round(point.sensitivity, 6)) for point in front.points}
    best = {(round(cost), round(loss, 6)) for cost, loss in every if not dominated((cost, loss), every)}
    if method == "ilp":
        assert found == best
    else:  # costs rounded up to 1/10,000 of the span may hide a point at the very budget it just meets
        assert found <= best


def test_a_front_under_another_budget() -> None:
    table = random_table(12, 2, "free", ties=1)
    limit = Budget("latency", share=0.5)
    front = pareto_front(table, "size", [limit], points=9)
    check_order(front)
    assert all(point.costs["latency"] <= limit.limit(table) * (1 + 1e-9) for point in front.points)
    free = pareto_front(table, "size", points=9)
    assert front.points[-1].sensitivity > free.points[-1].sensitivity
    assert front.points[-1].sensitivity == assign(table, [limit]).sensitivity


def test_every_point_is_the_answer_to_its_own_budget() -> None:
    table = read_table(GOLDEN)
    front = pareto_front(table, "latency", points=9)
    check_order(front)
    for point in front.points[::2]:
        assert assign(table, [Budget("latency", amount=point.costs["latency"])]).labels == point.labels
    assert front.points[0].text == "4" * 19
    assert front.points[-1].text == "8" * 19


def test_both_methods_see_the_same_front() -> None:
    table = read_table(GOLDEN)
    ilp, dp = (pareto_front(table, "bops", points=17, method=method) for method in METHODS)
    missed = {point.labels for point in ilp.points} ^ {point.labels for point in dp.points}
    assert len(missed) <= 2
    for point in dp.points:  # never better than exact
        exact = assign(table, [Budget("bops", amount=point.costs["bops"])])
        assert point.sensitivity >= exact.sensitivity - 1e-9


def test_progress_and_json() -> None:
    seen: list[tuple[int, int]] = []
    front = pareto_front(random_table(5, 1, "free"), "size", points=5, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(step, 5) for step in range(6)]
    document = front.json()
    assert document["kind"] == "size"
    assert len(document["points"]) == len(front.points)
    assert np.isclose(document["points"][0]["share"], 0)


@pytest.fixture
def timed_out(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[int], bool]], None]:
    """Lets the searches whose numbers a condition names, from 0, end without a choice; the others have a gap."""

    def install(ends: Callable[[int], bool]) -> None:
        numbers = itertools.count()

        def search(choices: Choices, budgets: tuple[Budget, ...], **options: Any) -> Assignment:
            if ends(next(numbers)):
                try:
                    raise TimeoutError
                except TimeoutError as error:
                    raise BudgetError("No choice was found within 1 s; give the search more time.") from error
            return replace(assign_choices(choices, budgets, **options), gap=0.25)

        monkeypatch.setattr("tapdot.passes.pareto_front.assign_choices", search)

    return install


def test_a_point_whose_time_ran_out_does_not_end_the_front(timed_out: Callable[[Callable[[int], bool]], None]) -> None:
    table = random_table(8, 3, "free")
    whole = pareto_front(table, "size", points=9)
    assert (whole.missed, whole.unproved) == (0, 0)
    timed_out(lambda number: number in (0, 2))
    front = pareto_front(table, "size", points=9)
    assert front.missed == 2 and front.unproved == len(front.points)
    assert front.points[0].labels == whole.points[0].labels, "the cheapest comes after those that were missed"
    assert front.json()["missed"] == 2


def test_no_point_in_time_is_an_error(timed_out: Callable[[Callable[[int], bool]], None]) -> None:
    timed_out(lambda number: True)
    with pytest.raises(BudgetError, match="within 1 s"):
        pareto_front(random_table(5, 1, "free"), "size", points=3)


def test_what_is_refused() -> None:
    table = random_table(5, 1, "free")
    with pytest.raises(BudgetError, match="one of the methods ilp, dp, found 'greedy'"):
        pareto_front(table, "size", method="greedy")
    with pytest.raises(BudgetError, match="2 points or more, found 1"):
        pareto_front(table, "size", points=1)
    with pytest.raises(BudgetError, match="needs the integer program"):
        pareto_front(table, "size", [Budget("latency", share=0.5)], method="dp")
    with pytest.raises(BudgetError, match="no cost of the kind 'bops'"):
        pareto_front(table, "bops")
    with pytest.raises(BudgetError, match="The nearest that can be met"):
        pareto_front(table, "size", [Budget("latency", amount=0.0)])
