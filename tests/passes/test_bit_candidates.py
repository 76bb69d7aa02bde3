"""Rows, candidates and costs of a network whose bits are to be chosen."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from tests.passes.prune_networks import samples, small_graph

from tapdot.compiler import pipeline
from tapdot.compiler.errors import TapdotError
from tapdot.compiler.graph import Graph, GraphBuilder
from tapdot.compiler.types import TensorType
from tapdot.passes.assign_bits import assign
from tapdot.passes.bit_budgets import BudgetError, parse_budgets
from tapdot.passes.bit_candidates import BitChoices, LayerFigures, ModelLayer, model_layers, rows_of
from tapdot.passes.bit_table import TableError
from tapdot.passes.bit_table_files import read_table, write_table
from tapdot.passes.recipes import Calibration, recipe
from tapdot.passes.sensitivity import LayerSensitivity, Sensitivity

LAYERS = (ModelLayer("a", "x", 100, 7), ModelLayer("down", "t", 10, 4), ModelLayer("b", "t", 200, 9))


def folded(graph: Graph) -> Graph:
    phases = recipe("int8", (), Calibration(samples(4)[0]))
    return pipeline.run(graph, tuple(itertools.takewhile(lambda phase: phase.name != "calibrate", phases))).graph


def sensitivity(values: dict[str, dict[str, float]], of: str = "weights") -> Sensitivity:
    rows = tuple(LayerSensitivity(name, "3x3", 1, row) for name, row in values.items())
    return Sensitivity("net", "kl", of, "kl", ("8", "4"), rows, 4, "data", 0)


def choices(activations: str, figures: LayerFigures | None = None, **fixed: int) -> BitChoices:
    weights = sensitivity({"a": {"8": 0.0, "4": 1.0}, "down": {"8": 0.0, "4": 2.0}, "b": {"8": 0.5, "4": 4.0}})
    codes = sensitivity({"x": {"8": 0.0, "4": 8.0}, "t": {"8": 0.25, "4": 16.0}}, "activations")
    rows = rows_of(LAYERS, (8, 4), activations, fixed)
    return BitChoices(rows, weights, None if activations == "fixed" else codes, figures)


def test_layers_are_those_that_compute_with_codes_and_know_what_they_read() -> None:
    found = {layer.name: layer for layer in model_layers(folded(small_graph()))}
    assert list(found) == ["stem", "body", "depthwise", "point", "wide", "down", "hidden", "last"]
    assert found["stem"].reads == "x" and found["stem"].weights == 3 * 16 * 9 and found["stem"].macs == 3 * 16 * 9 * 64
    assert found["last"].macs == found["last"].weights == 12 * 4
    # The first block's sum is read by one layer, and its branch by another.
    assert found["body"].reads != found["depthwise"].reads


def test_a_network_without_layers_is_said() -> None:
    builder = GraphBuilder("plain")
    x = builder.input("x", TensorType((1, 4), "float32"))
    with pytest.raises(TapdotError, match="no bits to choose in graph 'plain'"):
        model_layers(builder.build(builder.add("Relu", [x])))


def test_costs_are_those_of_packed_weights_and_of_both_widths() -> None:
    table = choices("fixed").table
    costs = [candidate.costs for candidate in table.layers[0].candidates]
    assert costs == [{"size": 7, "bops": 100 * 64}, {"size": 4, "bops": 100 * 32}]
    assert [layer.name for layer in table.layers] == ["a", "down", "b"] and not table.ties
    both = choices("same").table
    assert [layer.name for layer in both.layers] == ["a", "down"]
    (eight, four) = both.layers[1].candidates
    assert eight.costs == {"size": 13, "bops": 210 * 64} and four.costs == {"size": 2 + 5, "bops": 210 * 16}
    assert (eight.sensitivity, four.sensitivity) == (0.75, 22.0) and (eight.bits, four.bits) == (8, 4)


def test_every_combination_is_a_candidate_where_each_has_bits_of_its_own() -> None:
    table = choices("own").table
    found = {candidate.label: candidate for candidate in table.layers[1].candidates}
    assert len(found) == 8 and next(iter(found)) == "a8 w8/8"
    mixed = found["a4 w8/4"]
    assert mixed.costs == {"size": 4 + 5, "bops": 10 * 32 + 200 * 16} and mixed.sensitivity == 0.0 + 4.0 + 16.0


@pytest.mark.parametrize("activations", ["fixed", "same", "own"])
def test_what_is_chosen_comes_back_as_bit_widths(activations: str) -> None:
    figures = LayerFigures("latency", {"a": {8: 3.0, 4: 2.0}, "down": {8: 1.0, 4: 1.0}, "b": {8: 5.0, 4: 4.0}}, 0.5, "host")
    found = choices(activations, figures)
    cheapest = assign(found.table, parse_budgets(["size=0%"]))
    widths = found.widths(cheapest)
    assert dict(widths.weights) == {"a": 4, "down": 4, "b": 4} and widths.default == 8
    assert found.predicted(cheapest) == 2.0 + 1.0 + 4.0 + 0.5
    if activations == "same":
        assert dict(widths.activations) == {"a": 4, "down": 4, "b": 4}
    if activations == "own":  # codes cost BOPs, and there is no budget of them
        assert dict(widths.activations) == {"a": 8, "down": 8, "b": 8}
    dearest = assign(found.table, parse_budgets(["size=100%"]))
    assert set(found.widths(dearest).weights.values()) == {8}


def test_fixed_layers_have_no_choice() -> None:
    found = choices("own", b=8)
    assert all(candidate.label.endswith("/8") for candidate in found.table.layers[1].allowed)
    widths = found.widths(assign(found.table, parse_budgets(["size=15B"])))
    assert widths.weights["b"] == 8 and widths.weights["down"] == 4
    with pytest.raises(TapdotError, match="Expected a layer to fix the bits of, found 'c'"):
        rows_of(LAYERS, (8, 4), "fixed", {"c": 8})
    with pytest.raises(TapdotError, match="Nothing is left to choose where down=8, b=4 is fixed"):
        rows_of(LAYERS, (8, 4), "same", {"down": 8, "b": 4})
    with pytest.raises(TapdotError, match="fixed, same, own, found 'all'"):
        rows_of(LAYERS, (8, 4), "all")


@pytest.mark.parametrize("activations", ["fixed", "same", "own"])
def test_a_share_means_the_same_whatever_is_fixed(activations: str) -> None:
    free, found = choices(activations).table, choices(activations, b=8).table
    assert found.limits("size") == free.limits("size") and found.limits("bops") == free.limits("bops")
    if activations == "own":  # what the others in its row take is still to be chosen
        assert found.layers[1].fixed is None and len(found.layers[1].allowed) == 4
    else:
        assert found == free.fix({"b" if activations == "fixed" else "down": "8"})
    with pytest.raises(BudgetError, match=r"No choice meets size=0% .* with the layers that are fixed"):
        assign(found, parse_budgets(["size=0%"]))


@pytest.mark.parametrize("activations", ["fixed", "same", "own"])
def test_a_table_from_a_network_is_read_as_it_was_written(activations: str, tmp_path: Path) -> None:
    for table in (choices(activations).table, choices(activations, b=8).table):
        write_table(table, tmp_path / "table.json")
        assert read_table(tmp_path / "table.json") == table


def test_bits_to_fix_that_nobody_asked_for_are_said() -> None:
    with pytest.raises(TapdotError, match=r"no 2 bits to fix layer 'b' to: the widths .* 8, 4; add 2 to them \(--widths 8,4,2\)"):
        rows_of(LAYERS, (8, 4), "fixed", {"b": 2})
    with pytest.raises(TapdotError, match=r"no 3 bits to fix layer 'b' to: .*; fix it to one of them"):
        rows_of(LAYERS, (8, 4), "same", {"b": 3})


def test_too_many_readers_of_one_tensor_are_said() -> None:
    many = [ModelLayer(f"l{index}", "t", 1, 1) for index in range(9)]
    with pytest.raises(TapdotError, match="9 layers read 't'"):
        rows_of(many, (8, 4), "own")


def test_figures_that_are_missing_are_said() -> None:
    weights = sensitivity({"a": {"8": 0.0, "4": float("nan")}, "down": {"8": 0.0, "4": 2.0}, "b": {"8": 0.5, "4": 4.0}})
    with pytest.raises(TableError):
        BitChoices(rows_of(LAYERS, (8, 4), "fixed"), weights, None).table  # noqa: B018
    assert np.isfinite(choices("fixed").table.limits("size")).all()
