"""ZeroQ's dynamic program against the integer program and against every choice there is."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.bit_tables import GOLDEN, every_choice, meets, random_table, small_tables

from tapdot.passes.assign_bits import assign
from tapdot.passes.assign_bits_by_dp import STEPS, assign_by_dp, frontier, rounded
from tapdot.passes.bit_budgets import Budget, BudgetError
from tapdot.passes.bit_choices import Choices
from tapdot.passes.bit_table import BitTable, Candidate, TableLayer
from tapdot.passes.bit_table_files import read_table

TABLES = {
    "hawq": lambda: read_table(GOLDEN),
    "free": lambda: random_table(20, 3, "free", ties=2),
    "correlated": lambda: random_table(12, 4, "correlated").fix({"layer3": "4"}),
}


@pytest.mark.parametrize("name", TABLES)
def test_both_methods_agree_at_64_even_budgets(name: str) -> None:
    """With the costs that the dynamic program counts with, the integer program finds the same objective."""
    table = TABLES[name]()
    for kind in table.kinds if name == "hawq" else ("latency",):
        front, same = frontier(table, kind), rounded(table, kind)
        choices = Choices.of(table)
        least = math.fsum(choices.least(choices.costs[kind]))
        for limit in np.linspace(least, least + choices.span(choices.costs[kind]), 64):
            budget = Budget(kind, amount=float(limit))
            by_dp, by_ilp = front.assignment(budget).sensitivity, assign(same, [budget]).sensitivity
            assert by_dp == pytest.approx(by_ilp, abs=1e-9, rel=1e-9), limit


def test_costs_are_rounded_up_by_less_than_a_step() -> None:
    table = random_table(20, 0, "free", ties=3)
    choices, after = Choices.of(table), Choices.of(rounded(table, "latency"))
    step = choices.span(choices.costs["latency"]) / STEPS
    added = after.costs["latency"] - choices.costs["latency"]
    assert (added > -1e-9 * step).all()
    assert (added < step).all()
    assert added.max() > 0.5 * step  # it does round
    assert (after.costs["size"] == choices.costs["size"]).all()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_what_is_chosen_meets_the_budget_and_is_the_best(data: st.DataObject) -> None:
    """Costs are whole and the step divides them, so that rounding changes nothing."""
    table = data.draw(small_tables())
    budget = Budget("size", amount=float(data.draw(st.integers(0, 36))))
    steps = int(Choices.of(table).span(Choices.of(table).costs["size"]))
    allowed = [choice for choice in every_choice(table) if meets(choice, [budget])]
    if not allowed:
        with pytest.raises(BudgetError, match="The nearest that can be met"):
            frontier(table, "size", steps).assignment(budget)
        return
    found = frontier(table, "size", steps).assignment(budget)
    least = min(choice.sensitivity for choice in allowed)
    assert found.sensitivity == pytest.approx(least)
    assert found.costs["size"] == min(choice.costs["size"] for choice in allowed if choice.sensitivity == least)
    assert found.labels in {choice.labels for choice in allowed}


def test_rounding_never_breaks_a_budget() -> None:
    table = random_table(60, 5, "free")
    for share in np.linspace(0, 1, 17):
        budget = Budget("latency", share=float(share))
        try:
            found = assign_by_dp(table, [budget])
        except BudgetError:  # latency at the fewest bits is not always the least
            continue
        assert meets(found, [budget])
        assert found.sensitivity >= assign(table, [budget]).sensitivity * (1 - 1e-9)


@pytest.mark.parametrize("count", [0, 2])
def test_one_budget_only(count: int) -> None:
    table = random_table(3, 0, "free")
    budgets = [Budget("size", share=0.5), Budget("latency", share=0.5)][:count]
    with pytest.raises(BudgetError, match=f"takes one budget, found {count}"):
        assign_by_dp(table, budgets)


def test_a_kind_the_table_does_not_have() -> None:
    with pytest.raises(BudgetError, match="no cost of the kind 'bops'"):
        assign_by_dp(random_table(3, 0, "free"), [Budget("bops", share=0.5)])


def test_choices_that_all_cost_the_same() -> None:
    table = random_table(1, 0, "free")
    flat = BitTable(table.layers).fix({"layer0": "4"})
    assert assign_by_dp(flat, [Budget("size", share=0.9)]).text == "4"


@pytest.mark.parametrize("method", ["ilp", "dp"])
def test_figures_at_the_ends_of_float64(method: str) -> None:
    """Sums of the greatest that a table holds, and differences of which nothing is left when they are divided."""

    def table(four: float, eight: float) -> BitTable:
        forms = (Candidate.of_bits(4, four, {"size": four}), Candidate.of_bits(8, 0.0, {"size": eight}))
        return BitTable(tuple(TableLayer(name, forms) for name in "abc"))

    def chosen(table: BitTable, size: float) -> str:
        budget = Budget("size", amount=size)
        return (assign_by_dp(table, [budget]) if method == "dp" else assign(table, [budget])).text

    assert chosen(table(5e-324, 1e-323), 1.0) in ("444", "888")
    assert chosen(table(1e200, 1e200), 4e200) == "888"
    with pytest.raises(BudgetError, match=r"No choice meets .* the least size is"):
        chosen(table(1e200, 1e200), 1e180)
