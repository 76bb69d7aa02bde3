"""Budgets as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.bit_tables import GOLDEN

from tapdot.passes.bit_budgets import Budget, BudgetError, amount_budget, amount_text, parse_budget, parse_budgets
from tapdot.passes.bit_table_files import read_table


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("size=50%", Budget("size", share=0.5)),
        ("latency=0%", Budget("latency", share=0.0)),
        ("bops = 12.5 %", Budget("bops", share=0.125)),
        ("size=2.5MB", Budget("size", amount=2.5e6)),
        ("size=2.5MiB", Budget("size", amount=2.5 * 2**20)),
        ("size=2.5", Budget("size", amount=2.5 * 2**20)),
        ("size=640B", Budget("size", amount=640.0)),
        ("size=12kB", Budget("size", amount=12e3)),
        ("latency=3.1ms", Budget("latency", amount=3.1e-3)),
        ("latency=3.1", Budget("latency", amount=3.1e-3)),
        ("latency=250us", Budget("latency", amount=250e-6)),
        ("latency=250µs", Budget("latency", amount=250e-6)),
        ("bops=12G", Budget("bops", amount=12e9)),
        ("bops=12", Budget("bops", amount=12e9)),
        ("bops=.5T", Budget("bops", amount=5e11)),
        ("bops=900 MBOPs", Budget("bops", amount=9e8)),
        ("bops=12BOPs", Budget("bops", amount=12.0)),
        ("instructions=1.5G", Budget("instructions", amount=1.5e9)),
        ("instructions=100", Budget("instructions", amount=100.0)),
    ],
)
def test_what_can_be_read(text: str, budget: Budget) -> None:
    found = parse_budget(text)
    assert found.kind == budget.kind
    assert (found.share, found.amount) == pytest.approx((budget.share, budget.amount))
    assert str(found) == text


@pytest.mark.parametrize(
    "text",
    (
        *(
            "",
            "size",
            "size=",
            "=50%",
            "energy=5",
            "size=-1MB",
            "size=-5%",
            "size=101%",
            "size=nan",
            "size=inf",
            "size=1e999",
            "size=1e308GB",
        ),
        *("size=50 %%", "size=3ms", "latency=3MB", "bops=3x", "size=1,5MB", "latency=1m", "size=five"),
    ),
)
def test_what_cannot(text: str) -> None:
    with pytest.raises(BudgetError, match=r"^Expected .*, found "):
        parse_budget(text)


def test_one_of_each_kind() -> None:
    assert [budget.kind for budget in parse_budgets(["size=50%", "latency=3"])] == ["size", "latency"]
    with pytest.raises(BudgetError, match="found two of size"):
        parse_budgets(["size=50%", "latency=3", "size=3MB"])


def test_a_share_as_the_published_formulation_says() -> None:
    table = read_table(GOLDEN)
    low, high = table.limits("bops")
    assert Budget("bops", share=0.25).limit(table) == low + 0.25 * (high - low)
    assert low * 4 == pytest.approx(high)


@pytest.mark.parametrize(
    ("kind", "amount", "text"),
    [
        ("size", 640, "640 B"),
        ("size", 2.77 * 2**20, "2.77 MiB"),
        ("size", 5e9, "4,768 MiB"),
        ("latency", 0.0031, "3.1 ms"),
        ("latency", 3.2e-7, "0.32 us"),
        ("bops", 12.4e9, "12.4 GBOPs"),
        ("bops", 7, "7 BOPs"),
        ("instructions", 2.5e6, "2.5 M instructions"),
        ("instructions", 0, "0 instructions"),
    ],
)
def test_amounts(kind: str, amount: float, text: str) -> None:
    assert amount_text(kind, amount) == text


@given(st.sampled_from(["size", "bops", "latency", "instructions"]), st.just(0.0) | st.floats(1e-12, 1e15))
def test_an_amount_meets_the_budget_made_of_it(kind: str, amount: float) -> None:
    budget = parse_budget(amount_budget(kind, amount))
    assert budget.kind == kind
    assert budget.amount is not None
    assert amount * (1 - 1e-12) <= budget.amount <= amount * 1.00002
