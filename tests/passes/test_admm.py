"""The pruner: ADMM, masks, three calls in a loop of one's own."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from tests.passes.prune_networks import Classifier, SmallNetwork, samples
from torch import nn

import tapdot
from tapdot.compiler.errors import TapdotError
from tapdot.passes.admm import Pruner
from tapdot.passes.sparse_projection import connectivity_mask, nearest_patterns

DATA = samples()


def loop(network: nn.Module, pruner: Pruner, epochs: int, optimizer: torch.optim.Optimizer) -> None:
    images, labels = (torch.from_numpy(array) for array in DATA)
    for _ in range(epochs):
        for chosen in torch.arange(len(labels)).split(32):
            loss = nn.functional.cross_entropy(network(images[chosen]), labels[chosen]) + pruner.penalty()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        pruner.end_of_epoch()


def test_three_calls_in_a_loop_of_ones_own() -> None:
    network = SmallNetwork()
    pruner = tapdot.Pruner(network, rate=4.5, quad_rate=2.0, allocation="uniform", rho=0.1, rho_growth=3.0)
    assert [row.layer for row in pruner.layers] == ["body", "point", "down", "hidden"] and "stem" in pruner.skipped
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)
    loop(network, pruner, 2, optimizer)
    assert not pruner.masked and bool(network.body.weight.all())
    pruner.apply_masks()
    kept = network.body.weight != 0
    assert float(pruner.penalty()) == 0
    loop(network, pruner, 1, optimizer)  # the same optimizer, whose momentum would move weights that are gone
    pruner.apply_masks()
    assert torch.equal(network.body.weight != 0, kept) and float(kept.float().mean()) == pytest.approx(1 / 4.5, rel=0.1)
    assert not network.point.weight.flatten(1).unflatten(1, (-1, 4))[:, :, 0].all(), "quads are gone"
    assert list(network.state_dict()) == list(SmallNetwork().state_dict()), "names are the user's"


def test_masks_hold_in_every_forward_pass_and_in_copies() -> None:
    network = SmallNetwork()
    pruner = Pruner(network, rate=8.0, allocation="uniform")
    pruner.apply_masks()
    with torch.no_grad():
        network.body.weight.fill_(1.0)
    network(torch.zeros(2, 3, 8, 8))
    assert 0 < float(network.body.weight.detach().sum()) == pytest.approx(16 * 16 * 9 / 8, rel=0.3)
    twin = copy.deepcopy(network)
    with torch.no_grad():
        twin.body.weight.fill_(2.0)
    twin(torch.zeros(2, 3, 8, 8))
    assert float(twin.body.weight.detach().max()) == 2 and torch.equal(
        twin.body.weight.detach(), 2 * network.body.weight.detach()
    )
    graph = tapdot.trace(network.eval(), (torch.zeros(1, 3, 8, 8),))  # the hook is no part of the network
    assert np.array_equal(graph.constants["body.weight"], network.body.weight.detach().numpy())


def test_the_penalty_is_that_of_the_paper_and_so_are_the_duals() -> None:
    network = nn.Sequential(nn.Conv2d(4, 4, 3), nn.Conv2d(4, 8, 1))
    pruner = Pruner(network, rate=4.5, quad_rate=2.0, share=1, rho=0.25, rho_growth=2.0, rho_most=10.0)
    layers = {layer.name: layer for layer in pruner.plan.layers}
    points: dict[str, list[Any]] = {}
    for name, module in (("0", network[0]), ("1", network[1])):
        weight, layer = module.weight.detach().numpy(), layers[name]
        masks = [connectivity_mask(layer, weight, pruner.plan.counts[name])]
        if name == "0":
            masks.insert(0, layer.mask(nearest_patterns(layer, weight, pruner.plan.patterns)))
        near = [np.where(mask, weight, 0) for mask in masks]
        points[name] = [(z, 0 * z) for z in near]

    def expected(rho: float) -> float:
        total = 0.0
        for name, module in (("0", network[0]), ("1", network[1])):
            weight = module.weight.detach().numpy()
            total += sum(rho / 2 * float(np.square(weight - z + u).sum()) for z, u in points[name])
        return total

    assert pruner.penalty().item() == pytest.approx(expected(0.25), rel=1e-5)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    assert pruner.penalty().item() == pytest.approx(expected(0.25), rel=1e-5)
    gradient = torch.autograd.grad(pruner.penalty(), network[0].weight)[0].numpy()
    weight = network[0].weight.detach().numpy()
    assert np.allclose(gradient, sum(0.25 * (weight - z + u) for z, u in points["0"]), atol=1e-6)
    distances = pruner.end_of_epoch()
    for name, module in (("0", network[0]), ("1", network[1])):
        weight, layer = module.weight.detach().numpy(), layers[name]
        moved = [weight + u for _, u in points[name]]
        masks = [connectivity_mask(layer, moved[-1], pruner.plan.counts[name])]
        if name == "0":
            masks.insert(0, layer.mask(nearest_patterns(layer, moved[0], pruner.plan.patterns)))
        near = [np.where(mask, array, 0) for mask, array in zip(masks, moved, strict=True)]
        points[name] = [(z, (u + weight - z) / 2) for z, (_, u) in zip(near, points[name], strict=True)]  # rho doubled
        assert distances[name].connectivity == pytest.approx(np.linalg.norm(weight - near[-1]) / np.linalg.norm(weight), rel=1e-5)
    assert distances["1"].pattern is None
    assert pruner.penalty().item() == pytest.approx(expected(0.5), rel=1e-5)


def test_admm_draws_the_weights_to_the_sets() -> None:
    network = Classifier()
    pruner = Pruner(network, rate=4.0, rho=0.3, rho_growth=2.0, rho_most=10.0)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.02)
    images, labels = (torch.from_numpy(array) for array in DATA)
    found = []
    for _ in range(6):
        for chosen in torch.arange(len(labels)).split(16):
            loss = nn.functional.cross_entropy(network(images[chosen]), labels[chosen]) + pruner.penalty()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        found.append(max(distance.largest for distance in pruner.end_of_epoch().values()))
    assert found[-1] < 0.5 * found[0]


def test_wrong_use_of_the_pruner_is_said() -> None:
    with pytest.raises(TapdotError, match="nothing to prune: it has no convolution and no matrix product"):
        Pruner(nn.ReLU())
    with pytest.raises(TapdotError, match="0 < rho <= rho_most"):
        Pruner(SmallNetwork(), rho=0.0)
    state = Pruner(Classifier()).state()
    with pytest.raises(TapdotError, match="state of a pruner of the layers body, down, found one of features"):
        Pruner(SmallNetwork()).load_state(state)


def test_states_of_other_shapes_and_options_are_refused() -> None:
    pruner = Pruner(nn.Sequential(nn.Conv2d(8, 16, 3)), rate=4.5)
    good = pruner.state()
    with pytest.raises(TapdotError, match=r"an array 'Z 0' of \[32, 8, 3, 3\], found one of \[16, 8, 3, 3\]"):
        Pruner(nn.Sequential(nn.Conv2d(8, 32, 3)), rate=4.5).load_state(good)
    with pytest.raises(TapdotError, match=r"an array 'patterns' of \[6, 4\], found one of \[8, 4\]"):
        Pruner(nn.Sequential(nn.Conv2d(8, 16, 3)), rate=4.5, patterns=6).load_state(good)
    with pytest.raises(TapdotError, match=r"an array 'rho' of .*, found none"):
        pruner.load_state({name: array for name, array in good.items() if name != "rho"})
    with pytest.raises(TapdotError, match=r"layer '0' has 16 kernels .* in groups of 8 filters, and the state keeps 32"):
        Pruner(nn.Sequential(nn.Conv2d(8, 16, 3)), rate=4.5, share=8).load_state(good)
    pruner.apply_masks()
    with pytest.raises(TapdotError, match="an array 'mask 0' of"):
        Pruner(nn.Sequential(nn.Conv2d(8, 32, 3)), rate=4.5).load_state(pruner.state())


def test_a_new_pruner_replaces_the_hook_of_the_one_before_and_remove_takes_it_away() -> None:
    network = SmallNetwork()
    first = Pruner(network, rate=8.0)
    first.apply_masks()
    twin = copy.deepcopy(network)
    second = Pruner(network, rate=2.25)
    assert len(network._forward_pre_hooks) == len(twin._forward_pre_hooks) == 1
    with torch.no_grad():
        network.body.weight.fill_(1.0)
        twin.body.weight.fill_(1.0)
    network(torch.zeros(2, 3, 8, 8))
    twin(torch.zeros(2, 3, 8, 8))
    assert bool(network.body.weight.all()) and not bool(twin.body.weight.all())
    second.remove()
    second.remove()
    Pruner(twin).remove()
    assert not network._forward_pre_hooks and not twin._forward_pre_hooks


def parametrized(module: nn.Module) -> nn.Module:
    return nn.utils.parametrizations.weight_norm(module)


def old_weight_norm(module: nn.Module) -> nn.Module:
    return nn.utils.weight_norm(module)  # type: ignore[no-any-return]


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (parametrized, "weight is computed from others"),
        (old_weight_norm, "weight is computed from others"),
        (lambda module: module.to(torch.bfloat16), "weights are bfloat16; prune them as float32"),
        (lambda module: nn.LazyConv2d(8, 3), "no shape before the first forward pass"),
        (lambda module: module.to("meta"), "holds no values"),
    ],
)
def test_modules_whose_weights_cannot_be_pruned_are_skipped(change: Any, words: str) -> None:
    network = nn.Sequential(change(nn.Conv2d(8, 8, 3)), nn.Conv2d(8, 16, 3))
    pruner = Pruner(network, rate=4.5)
    assert words in pruner.skipped["0"] and [row.layer for row in pruner.layers] == ["1"]
    pruner.end_of_epoch()
    pruner.apply_masks()
    with pytest.raises(TapdotError, match=f"nothing to prune .*{words}"):
        Pruner(nn.Sequential(change(nn.Conv2d(8, 8, 3))))
