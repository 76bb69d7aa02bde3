"""Bits by integer program: published configurations, every small table tried through, budgets that cannot be met, time."""

from __future__ import annotations

import json
import random
import re
import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.bit_tables import GOLDEN, budgets_of, every_choice, meets, random_table, small_tables

from tapdot.passes.assign_bits import assign, fixed_to
from tapdot.passes.bit_budgets import Budget, BudgetError, parse_budget, parse_budgets
from tapdot.passes.bit_choices import Choices
from tapdot.passes.bit_table import BitTable, Candidate, TableLayer
from tapdot.passes.bit_table_files import read_table

PUBLISHED = json.loads(GOLDEN.read_text())["published_bits"]


def bit_layer(name: str, sensitivities: dict[int, float], sizes: dict[int, float]) -> TableLayer:
    return TableLayer(name, tuple(Candidate.of_bits(bits, sensitivities[bits], {"size": sizes[bits]}) for bits in sizes))


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_configurations_of_hawq_v3(name: str) -> None:
    kind, _, share = name.partition("_")
    budget = Budget({"modelsize": "size"}.get(kind, kind), share=float(share))
    assert assign(read_table(GOLDEN), [budget]).text == PUBLISHED[name]


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_no_choice_is_better(data: st.DataObject) -> None:
    table = data.draw(small_tables())
    budgets = data.draw(budgets_of(table))
    allowed = [choice for choice in every_choice(table) if meets(choice, budgets)]
    if not allowed:
        with pytest.raises(BudgetError):
            assign(table, budgets)
        return
    found = assign(table, budgets)
    assert meets(found, budgets)
    assert found.labels in {choice.labels for choice in allowed}  # ties and fixed layers
    least = min(choice.sensitivity for choice in allowed)
    assert found.sensitivity == pytest.approx(least, abs=1e-9)
    # of equally good choices, the one of least cost: shares of the span, summed
    choices = Choices.of(table)
    kinds = [budget.kind for budget in budgets] or table.kinds
    spans = {kind: choices.span(choices.costs[kind]) for kind in kinds}
    cost = {
        choice.labels: sum(choice.costs[kind] / spans[kind] for kind in kinds)
        for choice in allowed
        if choice.sensitivity <= least + 1e-9
    }
    assert cost[found.labels] == pytest.approx(min(cost.values()), abs=1e-8)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_nearest_budget_in_the_sentence_can_be_met(data: st.DataObject) -> None:
    table = data.draw(small_tables())
    budgets = data.draw(budgets_of(table))
    try:
        assign(table, budgets)
    except BudgetError as error:
        nearest = parse_budgets(re.search(r"can be met: ([^ ].*)\.$", str(error))[1].split())  # type: ignore[index]
        assert [budget.kind for budget in nearest] == [budget.kind for budget in budgets]
        assign(table, nearest)


def test_an_infeasible_budget_alone() -> None:
    table = read_table(GOLDEN)
    with pytest.raises(BudgetError) as caught:
        assign(table, [parse_budget("size=1MB")])
    assert str(caught.value) == (
        "No choice meets size=1MB (977 KiB): the least size is 5.32 MiB. The nearest that can be met: size=5.32032MiB."
    )
    assign(table, [parse_budget("size=5.32032MiB")])


def test_budgets_that_cannot_be_met_together() -> None:
    """Each layer is either small or fast."""
    layers = tuple(
        TableLayer(
            f"layer{place}",
            (
                Candidate.of_bits(4, 1.0, {"size": 1.0, "latency": 4.0}),
                Candidate.of_bits(8, 0.0, {"size": 3.0, "latency": 1.0}),
            ),
        )
        for place in range(4)
    )
    table = BitTable(layers)
    with pytest.raises(BudgetError, match=r"size=4B and latency=4s together, though each can be met alone; .*: size=.* lat"):
        assign(table, [parse_budget("size=4B"), parse_budget("latency=4s")])
    with pytest.raises(BudgetError, match="the least size with the layers that are fixed is 6 B"):
        assign(table.fix({"layer1": "8"}), [parse_budget("size=4B")])


def test_a_share_means_the_same_whatever_is_fixed() -> None:
    table = read_table(GOLDEN)
    fixed = table.fix({"stage4.unit1.quant_convbn2": "8"})
    assert fixed.limits("size") == table.limits("size")
    found = assign(fixed, [Budget("size", share=0.5)])
    assert found.choice["stage4.unit1.quant_convbn2"] == "8"
    assert found.costs["size"] <= Budget("size", share=0.5).limit(table)
    with pytest.raises(BudgetError, match="with the layers that are fixed"):
        assign(fixed, [Budget("size", share=0.0)])


def test_without_budgets_every_layer_is_at_its_best() -> None:
    assert assign(read_table(GOLDEN)).text == "8" * 19


def test_layers_of_equal_figures_are_settled_from_the_front() -> None:
    layers = tuple(bit_layer(f"layer{place}", {4: 1.0, 8: 0.25}, {4: 2.0, 8: 4.0}) for place in range(7))
    assert assign(BitTable(layers), [Budget("size", amount=20.0)]).text == "8884444"


def test_equal_sensitivities_take_the_cheaper() -> None:
    layers = (bit_layer("same", {4: 1.0, 8: 1.0}, {4: 2.0, 8: 4.0}), bit_layer("other", {4: 1.0, 8: 0.5}, {4: 2.0, 8: 4.0}))
    assert assign(BitTable(layers)).text == "48"
    assert assign(BitTable(layers), [Budget("size", share=1.0)]).text == "48"


def test_the_answer_does_not_depend_on_the_order_of_layers() -> None:
    table = read_table(GOLDEN)
    shuffled = list(table.layers)
    random.Random(3).shuffle(shuffled)
    for share in (0.2, 0.4, 0.6):
        budgets = [Budget("size", share=share), Budget("latency", share=share)]
        assert assign(table, budgets).choice == assign(BitTable(tuple(shuffled), table.ties), budgets).choice


def test_labels_that_are_no_bits() -> None:
    forms = (Candidate("dense", 0.0, {"latency": 4.0}), Candidate("rate 4 share 2", 1.0, {"latency": 1.5}))
    others = (forms[0], Candidate("rate 8 share 1", 0.5, {"latency": 1.0}))
    table = BitTable((TableLayer("one", forms), TableLayer("two", others)))
    assert table.limits("latency") == (2.5, 8.0)
    found = assign(table, [Budget("latency", amount=5.5)])
    assert found.text == "dense,rate 8 share 1"
    assert found.bits == {}
    assert fixed_to(table, "dense") is not None
    assert fixed_to(table, "rate 4 share 2") is None


def test_latency_that_grows_with_fewer_bits() -> None:
    """On a processor without instructions for 4 bits; low is still every layer at its fewest bits."""
    layers = tuple(
        TableLayer(
            f"layer{place}",
            (Candidate.of_bits(4, 1.0, {"latency": 3.0}), Candidate.of_bits(8, 0.0, {"latency": 2.0})),
        )
        for place in range(3)
    )
    table = BitTable(layers)
    assert table.limits("latency") == (9.0, 6.0)
    for share in (0.0, 0.5, 1.0):
        assert assign(table, [Budget("latency", share=share)]).text == "888"


def test_a_budget_met_exactly_is_met() -> None:
    """Sums of thirds and tenths, which no float holds."""
    layers = tuple(bit_layer(f"layer{place}", {4: 1.0 + place, 8: 0.0}, {4: 0.1, 8: 1 / 3}) for place in range(9))
    limit = sum([1 / 3] * 4 + [0.1] * 5)
    for amount in (limit, limit * (1 - 1e-15)):
        assert assign(BitTable(layers), [Budget("size", amount=amount)]).text == "444448888"
    assert assign(BitTable(layers), [Budget("size", amount=limit * (1 - 1e-6))]).text == "444444888"


@pytest.mark.parametrize("factor", [1e-12, 1.0, 1e15])
def test_the_unit_of_sensitivities_does_not_matter(factor: float) -> None:
    table = read_table(GOLDEN)
    scaled = BitTable(
        tuple(
            replace(layer, candidates=tuple(replace(one, sensitivity=one.sensitivity * factor) for one in layer.candidates))
            for layer in table.layers
        ),
        table.ties,
    )
    assert assign(scaled, [Budget("latency", share=0.5)]).text == PUBLISHED["latency_0.5"]


def test_unknown_kind() -> None:
    table = random_table(3, 0, "free")
    with pytest.raises(BudgetError, match=r"no cost of the kind 'bops' to keep a budget of; .* are: size, latency"):
        assign(table, [parse_budget("bops=1G")])


@pytest.mark.parametrize("form", ["free", "correlated", "stages"])
def test_sixty_layers_take_less_than_a_second(form: str) -> None:
    """Of processor time, which others on the machine do not change; the import of scipy is no part of it."""
    assign(random_table(2, 0, form), [Budget("size", share=0.5)])
    for seed in range(3):
        table = random_table(60, seed, form, ties=5)
        for budgets in ([Budget("size", share=0.5)], [Budget("size", share=0.5), Budget("latency", share=0.4)]):
            begun = time.process_time()
            assert assign(table, budgets).gap == 0
            assert time.process_time() - begun < 1


@pytest.mark.parametrize("form", ["free", "correlated", "stages"])
def test_five_hundred_layers_take_less_than_thirty_seconds(form: str) -> None:
    table = random_table(500, 1, form, ties=40)
    begun = time.process_time()
    assert assign(table, [Budget("size", share=0.5)]).gap == 0
    assert time.process_time() - begun < 30


def test_time_that_runs_out_leaves_the_best_found_or_says_so() -> None:
    """What a layer loses is what it saves, to the last digit: no bound tells good from best."""
    sizes = [float(10**6 + 7919 * place % 99991) for place in range(500)]
    layers = tuple(
        bit_layer(f"layer{place}", {4: size / 8 + 1e4, 6: size / 16 + 9e3, 8: 0.0}, {4: size / 2, 6: size * 0.75, 8: size})
        for place, size in enumerate(sizes)
    )
    begun = time.monotonic()
    try:
        found = assign(BitTable(layers), [Budget("size", share=0.37)], time_limit=1.0)
    except BudgetError as error:
        assert "within 1 s" in str(error)
    else:
        assert meets(found, found.budgets)
        assert found.gap >= 0
    assert time.monotonic() - begun < 30


def test_small_losses_beside_a_large_one_count() -> None:
    """Differences of 1e-8 of the span, far below the solver's own tolerance of 1e-6."""
    sizes = {4: 1.0, 8: 2.0}
    layers = (
        bit_layer("large", {4: 1.0, 8: 0.0}, sizes),
        *(bit_layer(f"small{place}", {4: 1e-8 * (1 + place), 8: 0.0}, sizes) for place in range(6)),
    )
    assert assign(BitTable(layers), [Budget("size", amount=11.0)]).text == "8444888"
