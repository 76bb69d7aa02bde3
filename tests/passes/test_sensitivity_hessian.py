"""Traces against the Hessian written out by autograd, and when the curvature of the network itself takes part."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import tapdot
from tapdot.compiler import pipeline
from tapdot.compiler.graph import Graph
from tapdot.compiler.interpreter import GraphModule
from tapdot.passes.recipes import float_recipe
from tapdot.passes.sensitivity_answers import with_scores
from tapdot.passes.sensitivity_candidates import WeightLayer, weight_layers, with_own_weights
from tapdot.passes.sensitivity_hessian import affordable_rounds, hessian_traces, is_piecewise_linear_behind
from tapdot.passes.sensitivity_samples import Samples

COUNT, CLASSES = 8, 5


def prepared(module: nn.Module, shape: tuple[int, ...] = (COUNT, 2, 9, 9)) -> Graph:
    """Of a module as sensitivities are measured on it."""
    graph = pipeline.run(tapdot.trace(module, (torch.zeros(shape),)), float_recipe()[:3]).graph
    return with_own_weights(with_scores(graph))


def classifier(activation: type[nn.Module], *last: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    body = [nn.Conv2d(2, 4, 3, stride=2), activation(), nn.Conv2d(4, 4, 3, padding=1, groups=4), activation(), nn.Conv2d(4, 6, 1)]
    module = nn.Sequential(*body, activation(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, CLASSES), *last).eval()
    for parameter in module.parameters():
        parameter.data *= 2
    return module


def some_samples(graph: Graph, labels: bool) -> Samples:
    numbers = np.random.default_rng(1)
    inputs = numbers.standard_normal((COUNT, 2, 9, 9)).astype(np.float32)
    return Samples({graph.inputs[0]: inputs}, numbers.integers(0, CLASSES, COUNT) if labels else None)


def exact_trace(graph: Graph, layer: WeightLayer, samples: Samples) -> float:
    """By the Hessian written out."""
    module = GraphModule(graph).eval()
    place = module._places[layer.weight]
    x = torch.from_numpy(samples.inputs[graph.inputs[0]])
    with torch.no_grad():
        known = module(x).softmax(1)
    weight = module.constant(layer.weight).detach().clone()

    def loss(changed: Tensor) -> Tensor:
        scores = torch.func.functional_call(module, {place: changed}, (x,))
        if samples.labels is not None:
            return nn.functional.cross_entropy(scores, torch.from_numpy(samples.labels))
        return -(known * scores.log_softmax(1)).sum(1).mean()

    hessian = torch.autograd.functional.hessian(loss, weight)  # type: ignore[no-untyped-call]
    return float(hessian.reshape(weight.numel(), weight.numel()).trace())


@pytest.mark.parametrize(("activation", "labels"), [(nn.ReLU, True), (nn.ReLU6, False), (nn.SiLU, False)])
def test_traces_are_those_of_the_whole_hessian(activation: type[nn.Module], labels: bool) -> None:
    graph = prepared(classifier(activation))
    layers, samples = weight_layers(graph), some_samples(graph, labels)
    found = hessian_traces(graph, layers, samples)
    assert found.converged and found.curved == ()
    assert [layer.kind for layer in layers] == ["3x3", "3x3 depthwise", "1x1", "fully connected"]
    for layer in layers:
        exact = exact_trace(graph, layer, samples)
        assert found.traces[layer.name] == pytest.approx(exact, rel=0.05)
        assert abs(found.traces[layer.name] - exact) < 4 * found.errors[layer.name]


def test_with_labels_and_curved_activations_the_network_s_own_curvature_takes_part() -> None:
    torch.manual_seed(0)
    body = (nn.Conv2d(2, 3, 3, stride=3), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, CLASSES))
    graph = prepared(nn.Sequential(*body).eval())
    layers, samples = weight_layers(graph), some_samples(graph, labels=True)
    found = hessian_traces(graph, layers, samples, most_rounds=256)
    without = hessian_traces(graph, layers, Samples(samples.inputs), most_rounds=256)
    first, last = (layer.name for layer in layers)
    assert found.curved == (first,)
    assert found.traces[last] == pytest.approx(exact_trace(graph, layers[1], samples), rel=0.05)
    exact = exact_trace(graph, layers[0], samples)
    assert found.traces[first] == pytest.approx(exact, rel=0.1)
    assert abs(without.traces[first] / exact - 1) > 0.2, "the part that Gauss and Newton leave out is not small here"


def test_a_softmax_at_the_end_changes_nothing() -> None:
    plain, ended = (prepared(classifier(nn.ReLU, *last)) for last in ((), (nn.Softmax(1),)))
    traces = [
        hessian_traces(graph, weight_layers(graph), some_samples(graph, False), most_rounds=8).traces for graph in (plain, ended)
    ]
    assert traces[0] == traces[1]


def test_the_seed_decides() -> None:
    graph = prepared(classifier(nn.ReLU))
    layers, samples = weight_layers(graph), some_samples(graph, False)
    first, again, other = (hessian_traces(graph, layers, samples, seed=seed, most_rounds=8) for seed in (0, 0, 1))
    assert first == again and first.traces != other.traces
    assert first.rounds == 8 and not first.converged and first.worst[1] > 0.02


def test_large_networks_get_fewer_rounds() -> None:
    graph = prepared(classifier(nn.ReLU))
    assert affordable_rounds(graph, 64) == 1024 and affordable_rounds(graph, 10**9) == 8


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.gate, self.last = (nn.Conv2d(2, 2, 1) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        return self.last(torch.relu(y * nn.functional.hardsigmoid(self.gate(y)))).flatten(1)  # type: ignore[no-any-return]


def test_products_of_what_depends_on_a_layer_are_curved() -> None:
    graph = prepared(Gated().eval())
    assert {layer.name: is_piecewise_linear_behind(graph, layer.name) for layer in weight_layers(graph)} == {
        "first": False,
        "gate": True,
        "last": True,
    }
