"""Sensitivities by every method, what they are of, and sentences for what cannot be measured."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from tests.passes.before_and_after import graph as parsed
from tests.passes.test_distill import network, smooth_images
from torch import nn

import tapdot
from tapdot.compiler.errors import InputError, TapdotError
from tapdot.compiler.graph import Graph
from tapdot.compiler.interpreter import interpret
from tapdot.compiler.pipeline import run
from tapdot.kernels import numerics
from tapdot.passes import sensitivity_comparison, sensitivity_hessian
from tapdot.passes.bit_table import TableError
from tapdot.passes.calibrate import Calibrate
from tapdot.passes.distill import with_batch
from tapdot.passes.recipes import float_recipe
from tapdot.passes.sensitivity import METHODS, Sensitivity, checked, measure_sensitivity
from tapdot.passes.sensitivity_candidates import Replacements, WeightForm, quantized_weights, weight_layers, with_own_weights
from tapdot.passes.sensitivity_forks import Forks

SAMPLES = 6


@pytest.fixture(scope="module")
def folded() -> Graph:
    """Convolutions in a residual, pooling and a classifier; batch norms folded."""
    return run(network(), float_recipe()[:3]).graph


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.asarray(smooth_images(SAMPLES, 16, 7).numpy())


def divergence(graph: Graph, changed: Graph, x: np.ndarray, temperature: float = 1.0) -> float:
    """Of the answers, sample by sample."""

    def scores(model: Graph, sample: np.ndarray) -> torch.Tensor:
        (found,) = interpret(model, {model.inputs[0]: torch.from_numpy(sample[None])}).values()
        return (found.double() / temperature).log_softmax(1)

    parts = [(scores(graph, sample), scores(changed, sample)) for sample in x]
    return float(np.mean([float((p.exp() * (p - q)).sum()) for p, q in parts])) * temperature**2


@pytest.mark.parametrize(("method", "temperature"), [("kl", 1.0), ("prediction", 4.0)])
def test_it_is_the_divergence_with_one_layer_changed(folded: Graph, images: np.ndarray, method: str, temperature: float) -> None:
    found = measure_sensitivity(folded, images, method=method, candidates=(8, 4, 2))
    assert found.samples == SAMPLES and found.measure.startswith("KL divergence") and len(found.layers) == 5
    assert (" at temperature 4" in found.measure) is (method == "prediction")
    own = with_own_weights(folded)
    for layer in weight_layers(own):
        row = found.row(layer.name)
        for bits in (8, 4, 2):
            weight = quantized_weights(own.constants[layer.weight], bits, layer.axis)
            changed = own.replace(constants={**own.constants, layer.weight: weight})
            assert row.values[str(bits)] == pytest.approx(divergence(own, changed, images, temperature), rel=1e-3, abs=1e-9)
        assert row.values["2"] > row.values["4"] > row.values["8"] > 0
        assert set(row.errors) == {"8", "4", "2"} and all(error > 0 for error in row.errors.values())


def test_methods_agree_on_who_is_sensitive(folded: Graph, images: np.ndarray) -> None:
    found = {method: measure_sensitivity(folded, images, method=method, candidates=(8, 5), rounds=64) for method in METHODS}
    for by_kl, by_mask, by_trace in zip(*(found[method].layers for method in ("kl", "masked", "hessian")), strict=True):
        # To second order the divergence is half of what the trace says, were the weights' errors random.
        assert 0.1 < by_kl.values["8"] / by_trace.values["8"] < 2.5
        assert 0.2 < by_kl.values["8"] / by_mask.values["8"] < 5
        assert by_trace.trace is not None and by_trace.trace > 0
    assert found["kl"].order("8")[-1] == found["prediction"].order("8")[-1]


def test_quantized_weights_are_the_integers_that_kernels_get() -> None:
    weight = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    for axis in (0, 1):
        scales = numerics.weight_scales(weight, 4, axis)
        codes = quantized_weights(weight, 4, axis) / np.expand_dims(scales, 1 - axis)
        assert np.abs(codes - np.rint(codes)).max() < 1e-5 and np.abs(codes).max() == pytest.approx(7)


def test_sparse_candidates_are_for_layers_that_can_be_pruned() -> None:
    torch.manual_seed(0)
    wide = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Conv2d(8, 16, 1))
    graph = run(tapdot.trace(wide.eval(), (torch.zeros(1, 3, 6, 6),)), float_recipe()[:3]).graph
    forms = ["8", "rate 4 share 2", "8 rate=4,share=2", "rate 1.5"]
    x = np.random.default_rng(0).standard_normal((3, 3, 6, 6)).astype(np.float32)
    found = measure_sensitivity(graph, x, candidates=forms)
    assert found.candidates == ("8", "rate 4 share 2", "8 rate 4 share 2", "rate 1.5 share 1")
    assert [tuple(row.values) for row in found.layers] == [
        ("8",),
        ("8", "rate 4 share 2", "8 rate 4 share 2"),
        found.candidates,
    ]
    assert "2 of 3 layers can take rate 4 share 2." in found.remarks
    assert found.measure == "relative squared error", "this answer is no class"
    replacements = Replacements(graph, weight_layers(graph), checked("kl", forms))
    pruned = replacements.weights(weight_layers(graph)[1], WeightForm(rate=4, share=2))
    assert np.count_nonzero(pruned) == round(8 * 8 / 2 / (4 / 2.25)) * 2 * 4
    groups = pruned.reshape(4, 2, -1) != 0
    assert (groups[:, 0] == groups[:, 1]).all()


def test_layers_that_share_weights_are_changed_one_by_one() -> None:
    graph = parsed(
        """
        input %x: float32[1,4,5,5]
        constant %w: float32[4,4,3,3]
        %a: float32[1,4,5,5] = Conv(%x, %w) {pads=[1, 1, 1, 1]}
        %b: float32[1,4,5,5] = Conv(%a, %w) {pads=[1, 1, 1, 1]}
        %y: float32[1,4,1,1] = GlobalAveragePool(%b)
        return %y
        """
    )
    x = np.random.default_rng(0).standard_normal((4, 4, 5, 5)).astype(np.float32) / 100
    found = measure_sensitivity(graph, x, candidates=(2,))
    assert len(found.layers) == 2
    assert found.layers[0].values["2"] != found.layers[1].values["2"]


def test_only_what_lies_behind_a_value_runs_again(folded: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    forks = Forks(folded, folded.outputs)
    x = {folded.inputs[0]: torch.ones(folded.type(folded.inputs[0]).shape)}
    ran: list[str] = []
    original = forks._results
    monkeypatch.setattr(forks, "_results", lambda node, operands: ran.append(node.name) or original(node, operands))  # type: ignore[func-returns-value]
    last = folded.nodes[-1]

    def twice(node: Any, operands: Any, result: torch.Tensor) -> Any:
        yield "same", result
        yield "double", 2 * result

    name = folded.nodes[-3].output
    with torch.inference_mode():
        outputs = dict(forks.run(x, {name: twice}))
    assert torch.equal(outputs["same"][0], outputs[None][0]) and not torch.equal(outputs["double"][0], outputs[None][0])
    assert ran.count(last.name) == 3 and ran.count(folded.nodes[0].name) == 2


def test_branches_beside_a_value_are_computed_once(folded: Graph) -> None:
    """Every value of a residual network, replaced by itself, gives the same answers."""
    forks = Forks(folded, folded.outputs)
    x = {folded.inputs[0]: torch.ones(folded.type(folded.inputs[0]).shape)}

    def itself(name: str) -> Any:
        def found(node: Any, operands: Any, result: torch.Tensor) -> Any:
            yield name, result.clone()

        return found

    values = [*folded.inputs, *(node.output for node in folded.nodes)]
    with torch.inference_mode():
        outputs = dict(forks.run(x, {name: itself(name) for name in values}))
    assert set(outputs) == {None, *values}
    assert all(torch.equal(found[0], outputs[None][0]) for found in outputs.values())


def test_activations_have_rows_of_tensors(folded: Graph, images: np.ndarray) -> None:
    found = measure_sensitivity(folded, images, of="activations")
    calibrated = Calibrate(images)(folded)
    assert len(found.layers) == sum(node.op == "FakeQuantize" for node in calibrated.nodes)
    assert found.layers[0].name == folded.inputs[0] and found.layers[0].elements == 3 * 16 * 16
    assert all(row.values["4"] > row.values["8"] > 0 for row in found.layers)


def test_samples_and_masks_are_repeatable(folded: Graph) -> None:
    many = np.asarray(smooth_images(12, 16, 3).numpy())
    for method in ("kl", "masked"):
        first, again, other = (measure_sensitivity(folded, many, method=method, samples=4, seed=seed) for seed in (0, 0, 1))
        assert first == again and first.samples == 4
        assert first.layers != other.layers


def test_labels_are_used_where_there_are_any_and_said(folded: Graph, images: np.ndarray) -> None:
    labels = np.zeros(SAMPLES, np.int64)
    for data, loss in (((images, labels), "cross entropy of the labels"), (images, "from the model's own answers")):
        found = measure_sensitivity(folded, data, method="hessian", rounds=8)
        assert loss in found.remarks[0]
    assert "standard error of" in found.remarks[1], "eight rounds are few"


def test_the_document_comes_back_and_becomes_a_table(folded: Graph, images: np.ndarray) -> None:
    for method in ("hessian", "masked"):
        found = measure_sensitivity(folded, images, method=method, candidates=(8, 4), rounds=8)
        assert Sensitivity.from_json(json.dumps(found.json())) == found
    costs = {row.name: {label: {"size": row.elements * int(label) / 8} for label in row.values} for row in found.layers}
    table = found.table(costs, ties=[[found.layers[0].name, found.layers[1].name]])
    assert table.kinds == ("size",) and table.layers[0].candidate("4").bits == 4
    assert table.layers[0].candidate("4").sensitivity == found.layers[0].values["4"]
    del costs[found.layers[2].name]["4"]
    with pytest.raises(TableError, match="has no size"):
        found.table(costs)


def broken(document: dict[str, Any], what: str) -> dict[str, Any]:
    row = document["layers"][0]
    match what:
        case "negative":
            row["candidates"][0]["sensitivity"] = -1.0
        case "missing":
            del row["candidates"]
        case "twice":
            document["layers"].append(row)
        case "version":
            document["version"] = 2
        case "format":
            document["format"] = "another"
    return document


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("negative", "Expected sensitivities of 0 or more in the document, found -1.0"),
        ("missing", "lacks a part of what"),
        ("twice", "holds the layer .* more than once"),
        ("version", "Expected version 1 of sensitivities"),
        ("format", "found another document"),
    ],
)
def test_documents_that_are_none(folded: Graph, images: np.ndarray, what: str, sentence: str) -> None:
    document = json.loads(json.dumps(measure_sensitivity(folded, images[:1]).json()))
    with pytest.raises(TapdotError, match=sentence):
        Sensitivity.from_json(broken(document, what))
    with pytest.raises(TapdotError, match="is no JSON"):
        Sensitivity.from_json("{")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"method": "magic"}, "Expected a method among hessian, kl, prediction, masked, found 'magic'"),
        ({"candidates": (8, 1)}, "Expected bits between 2 and 8, found 1"),
        ({"candidates": (8, 9)}, "Expected bits between 2 and 8, found 9"),
        ({"candidates": (8, 8)}, "The candidate '8' is given twice"),
        ({"candidates": ()}, "Expected at least one candidate"),
        ({"candidates": ("four",)}, "Expected a candidate such as"),
        ({"candidates": ("rate 1",)}, "Expected a rate above 1"),
        ({"candidates": ("rate 4 share 3",)}, "Expected a share of 1, 2, 4 or 8"),
        ({"candidates": ("rate 2000",)}, "No layer can take the candidate 'rate 2000 share 1'"),
        ({"of": "biases"}, "Expected sensitivities of weights or of activations, found 'biases'"),
        ({"of": "activations", "method": "hessian"}, "activations is measured by kl or prediction, not by 'hessian'"),
        ({"of": "activations", "candidates": ("rate 4",)}, "Activations have bits and no sparsity"),
        ({"samples": 0}, "Expected at least one sample, found 0"),
    ],
)
def test_choices_that_cannot_be_meant(folded: Graph, images: np.ndarray, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(TapdotError, match=sentence):
        measure_sensitivity(folded, images, **options)


def test_data_that_does_not_fit(folded: Graph, images: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"Expected samples of \[3, 16, 16\]"):
        measure_sensitivity(folded, images[:, :, :8])
    spoiled = images.copy()
    spoiled[2, 0, 0, 0] = np.nan
    with pytest.raises(InputError, match="Sample 2 of the data holds NaN"):
        measure_sensitivity(folded, spoiled)
    with pytest.raises(InputError, match=r"Expected labels from 0 to 3 in the data.*found 4"):
        measure_sensitivity(folded, (images, np.full(SAMPLES, 4)), method="hessian")


def test_networks_that_cannot_be_measured(folded: Graph, images: np.ndarray) -> None:
    name = weight_layers(folded)[1].weight
    spoiled = folded.constants[name].copy()
    spoiled.reshape(-1)[0] = np.inf
    with pytest.raises(TapdotError, match=r"The weights of layer .* hold NaN or an infinity"):
        measure_sensitivity(folded.replace(constants={**folded.constants, name: spoiled}), images)
    large = {layer.weight: folded.constants[layer.weight] * np.float32(1e20) for layer in weight_layers(folded)}
    huge = {**folded.constants, **large}
    for method in ("kl", "hessian"):
        with pytest.raises(TapdotError, match="not finite"):
            measure_sensitivity(folded.replace(constants=huge), images, method=method)
    with pytest.raises(TapdotError, match="was quantized before it came here"):
        measure_sensitivity(Calibrate(images)(folded), images)
    bare = parsed("input %x: float32[1,4]\n%y: float32[1,4] = Relu(%x)\nreturn %y")
    with pytest.raises(TapdotError, match="no convolution and no matrix product"):
        measure_sensitivity(bare, np.zeros((1, 4), np.float32))


def test_the_library_call_prepares_the_model(images: np.ndarray) -> None:
    model = network()
    by_data = tapdot.sensitivity(model, data=images)
    assert by_data.source == "data" and [row.name for row in by_data.layers] == [
        node.name for node in run(model, float_recipe()[:3]).graph.nodes if node.op in ("Conv", "Gemm")
    ]
    distilled = tapdot.sensitivity(model, zero_shot=True, settings=["distill_samples.count=4", "distill_samples.steps=3"])
    assert distilled.source == "distilled" and distilled.samples == 4
    for given in ({}, {"data": images, "zero_shot": True}):
        with pytest.raises(InputError, match=r"expected data .* or inputs distilled without any"):
            tapdot.sensitivity(model, **given)  # type: ignore[arg-type]


def test_a_batch_that_cannot_be_changed_is_filled(folded: Graph, images: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six samples through a graph of four give what they give together, or one by one."""
    together = [measure_sensitivity(folded, images, method=method, rounds=256) for method in ("kl", "hessian")]
    four = with_batch(folded, 4)
    assert four is not None
    for module in (sensitivity_comparison, sensitivity_hessian):
        monkeypatch.setattr(module, "with_batch", lambda graph, batch: None)
    by_four = [measure_sensitivity(four, images, method=method, rounds=256) for method in ("kl", "hessian")]
    for one, other in zip(together[0].layers, by_four[0].layers, strict=True):
        assert one.values == pytest.approx(other.values, rel=1e-3)
    for one, other in zip(together[1].layers, by_four[1].layers, strict=True):
        assert one.values["8"] == pytest.approx(other.values["8"], rel=0.2)


def test_networks_with_several_inputs_and_outputs() -> None:
    model = parsed(
        """
        input %a: float32[1,4]
        input %b: float32[1,4]
        constant %w: float32[4,3]
        constant %v: float32[4,2]
        %x: float32[1,3] = Gemm(%a, %w)
        %y: float32[1,2] = Gemm(%b, %v)
        %p: float32[1,2] = Softmax(%y) {axis=1}
        return %x, %p
        """
    )
    numbers = np.random.default_rng(0)
    data = {name: numbers.standard_normal((5, 4)).astype(np.float32) for name in "ab"}
    for method in METHODS:
        found = measure_sensitivity(model, data, method=method, rounds=8)
        assert found.samples == 5 and all(row.values["4"] > row.values["8"] > 0 for row in found.layers)
