"""Distilled inputs: they have the statistics asked for, by gradient, for every shape of network; and what cannot be distilled."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.passes.before_and_after import graph
from tests.random_graphs import random_graph
from tests.small_networks import small_network

from tapdot.compiler.errors import TapdotError
from tapdot.compiler.graph import Graph, GraphBuilder
from tapdot.compiler.interpreter import interpret
from tapdot.compiler.pipeline import run
from tapdot.compiler.types import TensorType
from tapdot.passes.calibrate import Calibrate
from tapdot.passes.distill import _Moments, _Network, _targets, distill, with_batch
from tapdot.passes.fold_batch_norm import FoldBatchNorm
from tapdot.passes.recipes import clean_up


def network(size: int = 16, *, mean: float = 0.0, deviation: float = 1.0, shuffle: bool = False, seed: int = 0) -> Graph:
    """Convolutions with batch norms in a residual and a branch without one; statistics are those of smooth images."""
    numbers = np.random.default_rng(seed)
    builder = GraphBuilder("norms")
    x = builder.input("image", TensorType((1, 3, size, size), "float32"))

    def convolution(value: str, inputs: int, outputs: int, **attributes: tuple[int, ...]) -> str:
        weight = numbers.standard_normal((outputs, inputs, 3, 3)) * np.sqrt(2 / (9 * inputs))
        name = builder.constant(weight.astype(np.float32), "weight")
        return builder.add("Conv", (value, name), {"pads": (1, 1, 1, 1), **attributes})[0]

    def norm(value: str, channels: int) -> str:
        draws = (numbers.uniform(0.5, 1.5, channels), numbers.normal(0, 0.2, channels), np.zeros(channels), np.ones(channels))
        names = [builder.constant(draw.astype(np.float32), "norm") for draw in draws]
        return builder.add("BatchNormalization", (value, *names), {"epsilon": 1e-5})[0]

    first = builder.add("Relu", (norm(convolution(x, 3, 8), 8),))[0]
    if shuffle:
        for shape in ((1, 2, 4, size, size), (1, 4, 2, size, size), (1, 8, size, size)):
            target = builder.constant(np.asarray(shape, np.int64), "shape")
            first = builder.add("Reshape", (first, target))[0]
    second = norm(convolution(first, 8, 8), 8)
    both = builder.add("Add", (second, convolution(first, 8, 8)))[0]
    third = norm(convolution(builder.add("Relu", (both,))[0], 8, 12, strides=(2, 2)), 12)
    pooled = builder.add("GlobalAveragePool", (builder.add("Relu", (third,))[0],))[0]
    flat = builder.add("Flatten", (pooled,))[0]
    logits = builder.add("Gemm", (flat, builder.constant(numbers.standard_normal((12, 4)).astype(np.float32))))[0]
    model = run(builder.build([logits]), (clean_up(),)).graph
    return settled(model, smooth_images(32, size, seed + 100) * deviation + mean)


def smooth_images(count: int, size: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros(count, 3, size, size)
    for strength, side in ((1.0, 1), (0.6, 4), (0.3, size)):
        plane = torch.randn(count, 3, side, side, generator=generator)
        total += strength * torch.nn.functional.interpolate(plane, (size, size), mode="bilinear")
    return total / total.std()


def entering(model: Graph, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """What enters each batch norm."""
    wide = with_batch(model, len(x))
    assert wide is not None
    names = [node.inputs[0] for node in wide.nodes if node.op == "BatchNormalization"]
    with torch.no_grad():
        return interpret(wide, {wide.inputs[0]: x}, keep=names)


def settled(model: Graph, x: torch.Tensor) -> Graph:
    """The model with the statistics of ``x``, one batch norm after the other, as training would have left them."""
    for norm in [node for node in model.nodes if node.op == "BatchNormalization"]:
        value = entering(model, x)[norm.inputs[0]]
        statistics = {norm.inputs[3]: value.mean((0, 2, 3)), norm.inputs[4]: value.var((0, 2, 3))}
        model = model.replace(constants={**model.constants, **{name: array.numpy() for name, array in statistics.items()}})
    return model


def equation_3(model: Graph, x: np.ndarray) -> float:
    """The loss as the paper has it, straight from the graph with its batch norms."""
    values, total = entering(model, torch.from_numpy(x)), 0.0
    for node in model.nodes:
        if node.op == "BatchNormalization":
            value = values[node.inputs[0]]
            mean, variance = (torch.from_numpy(model.constants[name]) for name in node.inputs[3:5])
            total += float(((value.mean((0, 2, 3)) - mean) ** 2).sum() + ((value.std((0, 2, 3)) - variance.sqrt()) ** 2).sum())
    return total


def test_the_loss_falls_to_a_tenth_of_gaussian_inputs() -> None:
    model = network()
    found = distill(model, 8, steps=24)
    assert found.samples["image"].shape == (8, 3, 16, 16)
    assert found.samples["image"].dtype == np.float32
    assert found.loss < 0.1 * found.gaussian_loss
    assert equation_3(model, found.samples["image"]) < 0.1 * equation_3(model, distill(model, 8, gaussian=True).samples["image"])


def test_the_statistics_of_a_folded_graph_are_those_entering_the_norms() -> None:
    model = network()
    network_ = _Network(model, _targets(model), 6)
    x = smooth_images(6, 16, 3)
    folded = network_.module.values(x)
    for node in model.nodes:
        if node.op != "BatchNormalization":
            continue
        value = entering(model, x)[node.inputs[0]]
        mean, deviation = value.mean((0, 2, 3)), value.std((0, 2, 3), correction=0)
        stored = model.constants[node.inputs[3]], np.sqrt(model.constants[node.inputs[4]])
        variance = stored[1] ** 2
        error = (mean.numpy() - stored[0]) ** 2 + (deviation.numpy() - stored[1]) ** 2
        expected = (error / (variance + 1e-3 * variance.mean())).mean()
        assert network_.targets[node.output].loss(folded[node.output]).item() == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_moments_and_their_gradient() -> None:
    x = torch.randn(3, 4, 2, 5, generator=torch.Generator().manual_seed(0)) + 1
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    mean, deviation = _Moments.apply(ours)  # type: ignore[no-untyped-call]
    (mean.square().sum() + deviation.sin().sum()).backward()
    (theirs.mean((0, 2, 3)).square().sum() + theirs.std((0, 2, 3), correction=0).sin().sum()).backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_a_seed_is_a_sample() -> None:
    model = network()
    first, again, other = (distill(model, 3, seed=seed, steps=3).samples["image"] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1


def test_batches_that_do_not_divide_the_count() -> None:
    lines: list[str] = []
    found = distill(network(8), 5, batch=2, steps=2, progress=lines.append)
    assert found.samples["image"].shape[0] == 5
    assert lines[0].startswith("batch 1 of 3, step 0 of 2: loss ")
    assert lines[-1].endswith("of Gaussian input's")
    assert len(np.unique(found.samples["image"].reshape(5, -1)[:, 0])) == 5


@pytest.mark.parametrize(("mean", "deviation"), [(0.5, 0.25), (127.5, 64.0)])
def test_inputs_in_other_ranges(mean: float, deviation: float) -> None:
    found = distill(network(8, mean=mean, deviation=deviation), 8, steps=20).samples["image"]
    assert found.mean() == pytest.approx(mean, rel=0.3)
    assert found.std() == pytest.approx(deviation, rel=0.3)


def test_shapes_with_the_batch_in_them() -> None:
    model = network(8, shuffle=True)
    wide = with_batch(model, 4)
    assert wide is not None
    assert wide.type(model.outputs[0]).shape == (4, 4)
    assert distill(model, 4, steps=1).samples["image"].shape[0] == 4


def test_a_graph_of_fixed_batch_is_run_in_its_own() -> None:
    model = graph("""
        input %x: float32[2,2,4,4]
        constant %w: float32[2,2,1,1]
        constant %s: float32[2]
        constant %shape: int64[3] = [4, 4, 4]
        constant %back: int64[4] = [2, 2, 4, 4]
        %c: float32[2,2,4,4] = Conv(%x, %w) {strides=[1, 1], pads=[0, 0, 0, 0], dilations=[1, 1], group=1}
        %a: float32[4,4,4] = Reshape(%c, %shape)
        %r: float32[4,4,4] = Relu(%a)
        %b: float32[2,2,4,4] = Reshape(%r, %back)
        %y: float32[2,2,4,4] = BatchNormalization(%b, %s, %s, %s, %s)
        return %y""")
    assert with_batch(model, 3) is None
    assert distill(model, 3, steps=1).samples["x"].shape == (3, 2, 4, 4)


def test_descent_ends_when_nothing_is_gained() -> None:
    found = distill(network(8), 2, steps=150, learning_rate=1e-6)
    assert found.steps < 30


def test_steps_follow_from_the_work_in_one() -> None:
    small = network(8)
    assert _Network(small, _targets(small), 8).affordable_steps(2) == 100
    assert _Network(small, _targets(small), 8).affordable_steps(10**9) == 8


def test_channels_whose_norm_says_nothing_are_left_out() -> None:
    model = network()
    norm = next(node for node in model.nodes if node.op == "BatchNormalization")
    gamma = model.constants[norm.inputs[1]].copy()
    gamma[2] = 0.0
    found = distill(model.replace(constants={**model.constants, norm.inputs[1]: gamma}), 4, steps=10)
    assert np.isfinite(found.samples["image"]).all()
    assert found.loss < 0.5 * found.gaussian_loss


def test_samples_calibrate() -> None:
    model = network()
    Calibrate(distill(model, 4, steps=5).data)(FoldBatchNorm()(model)).verify()


def test_random_networks_with_norms() -> None:
    tried = 0
    for seed in range(60):
        model = run(random_graph(seed), (clean_up(),)).graph
        if _targets(model) and tried < 12:
            tried += 1
            found = distill(model, 3, steps=2)
            assert found.samples["input"].shape == (3, *model.type("input").shape[1:])
            assert found.loss <= found.gaussian_loss * 4
    assert tried == 12


# -- what cannot be distilled ------------------------------------------------------------------------------------------------


def test_without_batch_norms_the_way_out_is_named() -> None:
    with pytest.raises(TapdotError, match=r"'small' has no batch norm .*\.pt2 .*--data"):
        distill(small_network())
    with pytest.raises(TapdotError, match="no batch norm"):
        distill(FoldBatchNorm()(network()))


def test_gaussian_inputs_when_asked_for() -> None:
    found = distill(small_network(), 64, gaussian=True, seed=3)
    assert found.samples["image"].shape == (64, 3, 8, 8)
    assert found.samples["image"].std() == pytest.approx(1.0, abs=0.05)


def test_statistics_that_are_not_finite() -> None:
    model = network(8)
    norm = next(node for node in model.nodes if node.op == "BatchNormalization")
    broken = {**model.constants, norm.inputs[4]: -model.constants[norm.inputs[4]]}
    with pytest.raises(TapdotError, match=f"batch norm '{norm.name}' are not finite, or a variance is negative"):
        distill(model.replace(constants=broken))


def test_only_float_inputs() -> None:
    model = graph("input %i: int64[1,2]\n %y: int64[1,2] = Abs(%i)\n return %y")
    with pytest.raises(TapdotError, match=r"Only float32 inputs can be distilled, and 'i' is int64\[1,2\]"):
        distill(model)
    with pytest.raises(TapdotError, match="at least one sample"):
        distill(network(8), 0)


def test_batch_norms_that_ask_for_nothing_leave_samples_as_they_are() -> None:
    """Every gamma is 0: no loss to lower, nor to compare with."""
    model = network()
    gammas = {node.inputs[1]: model.constants[node.inputs[1]] for node in model.nodes if node.op == "BatchNormalization"}
    found = distill(model.replace(constants={**model.constants, **{name: 0 * old for name, old in gammas.items()}}), 2, steps=2)
    assert found.gaussian_loss == found.loss == 0
    assert np.isfinite(found.samples["image"]).all()


def test_fewer_than_no_steps_are_refused() -> None:
    with pytest.raises(TapdotError, match="no fewer than 0 steps of descent, found steps=-1"):
        distill(network(), 2, steps=-1)
