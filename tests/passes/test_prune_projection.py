"""Layers, projections, rates and the two passes that prune without data."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.passes.before_and_after import graph
from tests.passes.prune_networks import SmallNetwork, small_graph

from tapdot.compiler.errors import TapdotError
from tapdot.compiler.graph import Graph
from tapdot.compiler.pipeline import Notes
from tapdot.kernels.fkw import FKW, Structure
from tapdot.kernels.patterns import ALL_PATTERNS, masks
from tapdot.passes.prune_connectivity import PruneConnectivity
from tapdot.passes.prune_patterns import PrunePatterns
from tapdot.passes.prune_rates import Rates, kept_units
from tapdot.passes.sparse_layers import Choice, SparseLayer, graph_layers, module_layers
from tapdot.passes.sparse_projection import choose_patterns, connectivity_mask, nearest_patterns, structure_of, unit_energies
from tapdot.passes.sparsity_plan import Pruning, graph_plan, kept_macs, prune_by_projection

NUMBERS = np.random.default_rng(0)


def layer(filters: int, inputs: int, *, by_quads: bool = False, share: int = 1, name: str = "a") -> SparseLayer:
    return SparseLayer(name, f"{name}.weight", filters, inputs, by_quads, share=share)


# -- layers ------------------------------------------------------------------------------------------------------------------


def test_layers_of_a_graph_and_of_its_module_are_the_same() -> None:
    module = SmallNetwork()
    of_graph, of_module = graph_layers(small_graph(), Choice(4)), module_layers(module, Choice(4))
    assert [(one.name, one.kind, one.filters, one.inputs, one.share) for one in of_graph[0]] == [
        ("body", "3x3", 16, 16, 4),
        ("point", "1x1", 24, 16, 4),
        ("down", "3x3", 20, 8, 4),
        ("hidden", "fully connected", 12, 20, 4),
    ]
    assert [(one.name, one.kind, one.share) for one in of_module[0]] == [(one.name, one.kind, one.share) for one in of_graph[0]]
    assert [str(one) for one in of_graph[1]] == [
        "stem: it reads 3 input channels",
        "depthwise: the convolution is depthwise",
        "wide: its kernel is 5x5, neither 3x3 nor 1x1",
        "last: the last fully connected layer, which gives the answer",
    ]
    assert [str(one) for one in of_module[1]] == [str(one) for one in of_graph[1]]


def test_what_the_user_decides_about_layers() -> None:
    choice = Choice(8, {"down": 2}, skip=("body",), last_layer=True)
    layers, skipped = graph_layers(small_graph(), choice)
    assert {one.name: one.share for one in layers} == {"point": 8, "down": 2, "hidden": 4, "last": 4}
    assert "body: left as it is by choice" in map(str, skipped)
    with pytest.raises(TapdotError, match=r"There is no layer 'boddy'. Did you mean 'body'?"):
        graph_layers(small_graph(), Choice(skip=("boddy",)))
    with pytest.raises(TapdotError, match=r"share of 1, 2, 4 or 8 .* found 3"):
        graph_layers(small_graph(), Choice(3))


def test_layers_that_cannot_be_pruned_say_why() -> None:
    before = graph("""
        input %x: float32[1,8,6,6]
        input %m: float32[1,4]
        constant %one: float32[8,8,3,3]
        constant %two: float32[4,8,3,3]
        constant %up: float32[4,4,3,3]
        constant %matrix: float32[4,8]
        constant %row: float32[4]
        %a: float32[1,8,6,6] = Conv(%x, %one) {dilations=[2, 2], pads=[2, 2, 2, 2]}
        %b: float32[1,8,6,6] = Conv(%a, %one) {pads=[1, 1, 1, 1]}
        %c: float32[1,4,6,6] = Conv(%b, %two) {pads=[1, 1, 1, 1]}
        %d: float32[1,4,8,8] = ConvTranspose(%c, %up)
        %e: float32[1,8] = MatMul(%m, %matrix)
        %f: float32[1] = MatMul(%m, %row)
        return %d, %e, %f
    """)
    layers, skipped = graph_layers(before, Choice(last_layer=True))
    assert [(one.kind, one.filters, one.inputs, one.transposed) for one in layers] == [
        ("3x3", 4, 8, False),
        ("fully connected", 8, 4, True),
    ]
    assert [one.reason for one in skipped] == [
        "the convolution is dilated",
        "a transposed convolution has no pattern kernel",
        "its weights are 1-dimensional",
    ]


# -- projections -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [1, 2])
def test_the_pattern_projection_is_the_nearest_of_all(share: int) -> None:
    weight = NUMBERS.standard_normal((4, 3, 3, 3)).astype(np.float32)
    chosen = ALL_PATTERNS[[0, 13, 40, 55]]
    found = nearest_patterns(layer(4, 3, share=share), weight, chosen)
    best = np.where(layer(4, 3, share=share).mask(found), weight, 0)
    kernels = weight.reshape(4 // share, share, 3, 9)
    for group, channel in itertools.product(range(4 // share), range(3)):
        kernel = kernels[group, :, channel]
        distances = [np.square(np.where(mask, 0, kernel)).sum() for mask in masks(chosen)]
        ours = best.reshape(kernels.shape)[group, :, channel]
        assert np.isclose(np.square(kernel - ours).sum(), min(distances))
        assert (np.count_nonzero(ours, axis=1) == 4).all() and len({tuple(row != 0) for row in ours}) == 1


@pytest.mark.parametrize("by_quads", [False, True])
@pytest.mark.parametrize("share", [1, 2])
def test_the_connectivity_projection_keeps_the_kernels_of_most_energy(share: int, by_quads: bool) -> None:
    shape = (4, 8) if by_quads else (4, 6, 3, 3)
    weight = NUMBERS.standard_normal(shape).astype(np.float32)
    one = layer(*shape[:2], by_quads=by_quads, share=share)
    kept = connectivity_mask(one, weight, 3)
    units = weight.reshape(4 // share, share, one.units, -1)
    energy = np.square(units).sum((1, 3))
    expected = energy >= np.sort(energy.reshape(-1))[-3]
    assert (kept.reshape(units.shape) == expected[:, None, :, None]).all()


def test_a_last_quad_that_is_not_full_counts_what_it_has() -> None:
    weight = np.array([[1, 1, 1, 1, 3], [0, 0, 0, 0, 0]], np.float32)
    one = replace(layer(2, 5, by_quads=True, share=2), fully_connected=True)
    assert connectivity_mask(one, weight, 1).tolist() == [[False, False, False, False, True]] * 2
    assert unit_energies(one, weight).tolist() == [[4, 9]]


def test_the_pattern_set_is_the_most_frequent_best_one() -> None:
    weight = np.zeros((6, 2, 3, 3), np.float32)
    for number, pattern in enumerate([40, 40, 40, 40, 40, 7, 7, 7, 7, 21, 21, 0]):
        weight.reshape(12, 9)[number, ALL_PATTERNS[pattern]] = number + 1
    found = choose_patterns([layer(6, 2)], [weight], 2)
    assert (found == ALL_PATTERNS[[40, 7]]).all()


def test_masks_and_the_stored_form_agree() -> None:
    weight = NUMBERS.standard_normal((8, 6, 3, 3)).astype(np.float32)
    one = layer(8, 6, share=4)
    structure = structure_of(one, weight, ALL_PATTERNS[:8], 5)
    assert isinstance(structure, Structure)
    pruned = np.where(one.mask(structure), weight, np.float32(0))
    stored = FKW.compress(pruned, structure)
    assert stored.kernels == 5 and np.array_equal(stored.dense(weight.shape), pruned)


# -- rates -------------------------------------------------------------------------------------------------------------------


def energies_of(spread: dict[str, float], layers: list[SparseLayer]) -> dict[str, np.ndarray]:
    numbers = np.random.default_rng(1)
    return {one.name: np.exp(spread[one.name] * numbers.standard_normal((one.groups, one.units))) for one in layers}


@pytest.mark.parametrize("allocation", ["energy", "uniform"])
@pytest.mark.parametrize("rate", [2.25, 3.0, 8.1, 20.0])
@pytest.mark.parametrize("share", [1, 4])
def test_the_common_rate_is_met_within_two_percent(allocation: str, rate: float, share: int) -> None:
    layers = [layer(size, size, share=min(share, size), name=str(size)) for size in (16, 48, 96)] + [
        layer(18, 24, share=2, name="odd")
    ]
    energies = energies_of({"16": 0.3, "48": 1.0, "96": 2.0, "odd": 0.5}, layers)
    counts = kept_units(layers, lambda one: energies[one.name], Rates(rate, allocation=allocation))  # type: ignore[arg-type]
    kept = sum(4 * one.share * counts[one.name] for one in layers)
    assert sum(one.weights for one in layers) / kept == pytest.approx(rate, rel=0.02)
    if allocation == "uniform":
        assert all(one.weights / (4 * one.share * counts[one.name]) == pytest.approx(rate, rel=0.1) for one in layers)


def test_energy_goes_where_kernels_are_missed_least_whatever_the_scale() -> None:
    layers = [layer(32, 32, name=name) for name in ("flat", "peaked")]
    energies = energies_of({"flat": 0.2, "peaked": 2.5}, layers)
    rates = Rates(9.0, floor=0.1)
    counts = kept_units(layers, lambda one: energies[one.name], rates)
    assert counts["peaked"] < counts["flat"] and sum(counts.values()) == pytest.approx(2 * 1024 / 4, abs=1)
    lost = {one.name: np.sort(energies[one.name].reshape(-1)) for one in layers}

    def cost(kept: dict[str, int]) -> float:
        return sum(lost[name][: 1024 - count].sum() / lost[name].sum() for name, count in kept.items())

    for moved in (-20, 20):
        assert cost({"flat": counts["flat"] + moved, "peaked": counts["peaked"] - moved}) > cost(counts)
    scaled = {"flat": energies["flat"] * 1e6, "peaked": energies["peaked"]}
    assert kept_units(layers, lambda one: scaled[one.name], rates) == counts


def test_the_size_exponent_spares_small_layers() -> None:
    layers = [layer(size, size, name=str(size)) for size in (16, 64)]
    energies = energies_of({"16": 1.0, "64": 1.0}, layers)
    shares = []
    for exponent in (1.0, 0.5, 0.0):
        counts = kept_units(layers, lambda one: energies[one.name], Rates(9.0, floor=0.1, size_exponent=exponent))
        assert sum(counts.values()) == pytest.approx((16 * 16 + 64 * 64) / 4, abs=1)
        shares.append(counts["16"] / 256)
    assert shares[0] == pytest.approx(0.25, abs=0.05) and shares[0] < shares[1] < shares[2]


def test_multiplies_left_are_those_of_kept_weights() -> None:
    pruned = prune_by_projection(small_graph(), Pruning(8.1, 2.0, allocation="uniform"))
    before, after = kept_macs(small_graph(), graph_plan(small_graph(), Pruning(8.1, 2.0, allocation="uniform")))
    expected = 0
    for node in pruned.nodes:
        if node.op in ("Conv", "Gemm"):
            weight, result = pruned.constants[node.inputs[1]], pruned.type(node.output)
            expected += np.count_nonzero(weight) * result.elements // result.shape[1]
    assert after == pytest.approx(expected, rel=1e-3) and before > after


def test_no_layer_falls_below_the_floor() -> None:
    layers = [layer(32, 32, name=name) for name in ("flat", "peaked")]
    energies = {"flat": np.ones((32, 32)), "peaked": np.full((32, 32), 1e-9)}
    energies["peaked"][0, 0] = 1.0
    counts = kept_units(layers, lambda one: energies[one.name], Rates(9.0, floor=0.5))
    assert counts == {"flat": 512 - 128, "peaked": 128}


def test_rates_of_single_layers_stand_beside_the_common_one() -> None:
    plan = graph_plan(small_graph(), Pruning(4.5, 2.0, 1, layer_rates={"body": 9.0}, allocation="uniform"))
    rates = {row.layer: row.rate for row in plan.rates}
    assert rates["body"] == pytest.approx(9.0) and rates["down"] == pytest.approx(4.5)
    assert plan.rate(by_quads=True) == pytest.approx(2.0, rel=0.02)


@pytest.mark.parametrize(
    ("pruning", "words"),
    [
        (Pruning(2.0), "at least 2.25, found 2: patterns alone keep 4 of 9"),
        (Pruning(0.5), "at least 2.25, found 0.5"),
        (Pruning(float("nan")), "at least 2.25, found nan"),
        (Pruning(1e6), r"cannot be met: with one kernel left in every layer \(for 2 filters together\) it is 234"),
        (Pruning(4.0, 1e6), "1x1 and fully connected layers cannot be met"),
        (Pruning(4.0, 0.5), "fully connected layers of at least 1, found 0.5"),
        (Pruning(4.0, layer_rates={"body": 1e9}), "of layer 'body' cannot be met"),
        (Pruning(4.0, layer_rates={"boody": 4.0}), "no layer 'boody'. Did you mean 'body'"),
        (Pruning(4.0, layer_rates={"last": 2.0}), r"'last' is not pruned: the last fully .*; --last-layer .* prunes it"),
        (Pruning(4.0, layer_rates={"body": 3.0}, skip=("body",)), "Layer 'body' is not pruned: left as it is by choice"),
        (Pruning(4.0, layer_shares={"depthwise": 4}), "Layer 'depthwise' is not pruned: the convolution is depthwise"),
        (Pruning(4.0, patterns=0), "1 to 12 patterns .* found 0"),
        (Pruning(4.0, patterns=13), "1 to 12 patterns .* found 13: sparse kernels take at most 12 a layer"),
        (Pruning(4.0, size_exponent=-1.0), "size exponent between 0 and 1, found -1"),
        (Pruning(4.0, floor=2.0), "floor between 0 and 1, found 2"),
        (Pruning(4.0, allocation="even"), "energy or uniform, found 'even'"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_met_is_said(pruning: Pruning, words: str) -> None:
    with pytest.raises(TapdotError, match=words):
        graph_plan(small_graph(), pruning)


def test_a_rate_of_one_for_a_layer_that_is_skipped_says_nothing_new() -> None:
    plans = [graph_plan(small_graph(), Pruning(4.0, layer_rates=rates, skip=("body",))) for rates in ({}, {"body": 1.0})]
    assert plans[0].counts == plans[1].counts


def test_the_most_of_layers_of_unequal_shares_can_be_met_and_no_more() -> None:
    pruning = Pruning(1e6, layer_shares={"body": 8, "down": 1}, allocation="uniform")
    layers = [layer for layer in graph_layers(small_graph(), pruning.choice)[0] if not layer.by_quads]
    most = 9 * sum(layer.unit_count * layer.share for layer in layers) / sum(4 * layer.share for layer in layers)
    with pytest.raises(TapdotError, match=rf"left in every layer .* it is {most:.4g}\."):
        graph_plan(small_graph(), pruning)
    assert graph_plan(small_graph(), replace(pruning, rate=most)).rate() == pytest.approx(most)


def test_a_model_without_anything_to_prune_is_said() -> None:
    class OnlyPoints(torch.nn.Sequential):
        def __init__(self) -> None:
            super().__init__(torch.nn.Conv2d(8, 8, 1), torch.nn.Conv2d(8, 8, 3, padding=1, groups=8))

    from tapdot.compiler.frontends import trace

    points = trace(OnlyPoints(), (torch.zeros(1, 8, 4, 4),))
    with pytest.raises(TapdotError, match=r"no 3x3 layer to prune by patterns. It has 1 1x1 .* \(--quad-rate 2\)"):
        graph_plan(points)
    assert graph_plan(points, Pruning(quad_rate=2)).rate(by_quads=True) == 2
    with pytest.raises(TapdotError, match=r"has nothing to prune \(0: left as it is by choice; 1: the convolution is depthwise"):
        graph_plan(points, Pruning(quad_rate=2, skip=("0",)))


def test_weights_that_are_not_finite_are_said() -> None:
    broken = small_graph()
    weights = {**broken.constants, "body.weight": np.full((16, 16, 3, 3), np.nan, np.float32)}
    with pytest.raises(TapdotError, match="weights of layer 'body' are not all finite"):
        graph_plan(broken.replace(constants=weights))


# -- passes ------------------------------------------------------------------------------------------------------------------


def zeros(before: Graph, name: str) -> float:
    return float((before.constants[f"{name}.weight"] == 0).mean())


def test_the_two_passes_are_the_projection() -> None:
    before = small_graph()
    notes = Notes()
    by_patterns = PrunePatterns(patterns=6, share=2).run(before, notes)
    assert zeros(by_patterns, "body") == zeros(by_patterns, "down") == pytest.approx(5 / 9)
    assert notes.reasons["depthwise"] == "the convolution is depthwise" and "Pruned 2 3x3 layers" in notes.lines[0]
    kept = {tuple(row) for row in by_patterns.constants["body.weight"].reshape(-1, 9) != 0}
    kept |= {tuple(row) for row in by_patterns.constants["down.weight"].reshape(-1, 9) != 0}
    assert len(kept) <= 6
    both = PruneConnectivity(8.1, 2.0, share=2).run(by_patterns, notes)
    once = prune_by_projection(before, Pruning(8.1, 2.0, 2, 6))
    assert all(np.array_equal(both.constants[name], once.constants[name]) for name in before.constants)
    pairs = once.constants["body.weight"].reshape(8, 2, 16, 9) != 0
    assert (pairs[:, 0] == pairs[:, 1]).all()
    quads = once.constants["hidden.weight"].reshape(6, 2, 5, 4) != 0
    assert (quads == quads[:, :1, :, :1]).all() and 0.4 < quads.mean() < 0.6
    assert once.constants["point.weight"].shape == (24, 16, 1, 1) and zeros(once, "point") == pytest.approx(0.5, abs=0.1)
    assert zeros(once, "stem") == zeros(once, "last") == zeros(once, "wide") == 0
    assert before.constants["body.weight"].all(), "the graph before is as it was"


def test_a_rate_of_one_leaves_a_kind_dense() -> None:
    plan = graph_plan(small_graph(), Pruning(1.0, 2.0))
    assert [one.kind for one in plan.layers] == ["1x1", "fully connected"]
    assert "body: 3x3, its rate is 1" in map(str, plan.skipped) and plan.rate() is None
    plan = graph_plan(small_graph(), Pruning(4.0, layer_rates={"body": 1.0}))
    assert [one.name for one in plan.layers] == ["down"]


def test_equal_weights_are_pruned_equally() -> None:
    assert all(
        np.array_equal(one, two)
        for one, two in zip(
            prune_by_projection(small_graph()).constants.values(),
            prune_by_projection(small_graph()).constants.values(),
            strict=True,
        )
    )
