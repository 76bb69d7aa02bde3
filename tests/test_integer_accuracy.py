"""What int8 costs in accuracy: a smoke test on scikit-learn's digits, and the glyph networks with ``--soak``.

The long form trains nine networks (minutes each, cached) and asks for what the project promises.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from benchmarks.miniatures import evaluation, trained
from benchmarks.miniatures.networks import MiniatureMobileNetV2, MiniatureResNet, MiniatureVGG
from benchmarks.zoo.seeding import seed_weights
from torch import nn

from tapdot.compiler.frontends import trace
from tapdot.compiler.pipeline import run
from tapdot.passes.distill import distill
from tapdot.passes.recipes import clean_up

LOST_WITHOUT_DATA, LOST_WITH_DATA = 0.5, 0.3
"""Points of accuracy that int8 may cost, as the mean over seeds."""

LARGEST_SHARE = 0.2
"""Of the batch norm loss of Gaussian input, that distilled input may have at default settings."""

DIGITS_EPOCHS = 6


def measured(network: str, seeds: tuple[int, ...], epochs: int | None = None, batch: int = 50) -> evaluation.Result:
    return evaluation.measure(
        network,
        seeds,
        ("int8",),
        lambda seed: trained.trained(network, seed, epochs),
        trained.data(network),
        evaluation.Settings(batch=batch),
    )


def test_digits_keep_their_accuracy() -> None:
    pytest.importorskip("sklearn")
    result = measured("digits", (0,), DIGITS_EPOCHS)
    (accuracy,) = result.accuracies(evaluation.FLOAT)
    assert accuracy > 0.9
    # 597 images: one answer is 0.17 points.
    assert result.difference("int8, data", evaluation.FLOAT).mean > -0.6
    assert result.difference("int8, zero-shot", evaluation.FLOAT).mean > -0.9
    assert result.difference("int8, zero-shot", "int8, Gaussian").mean > -0.4


@pytest.mark.parametrize("network", trained.GLYPH_NETWORKS)
def test_glyph_networks_keep_their_accuracy(network: str, request: pytest.FixtureRequest) -> None:
    if not request.config.getoption("--soak"):
        pytest.skip("trains networks for minutes; runs with --soak")
    result = measured(network, trained.SEEDS)
    assert result.difference("int8, data", evaluation.FLOAT).mean > -LOST_WITH_DATA
    assert result.difference("int8, zero-shot", evaluation.FLOAT).mean > -LOST_WITHOUT_DATA
    for place in range(len(trained.SEEDS)):
        assert result.difference("int8, zero-shot", "int8, Gaussian", place).mean >= 0


@pytest.mark.parametrize("constructor", [MiniatureResNet, MiniatureMobileNetV2, MiniatureVGG])
def test_distilled_input_fits_the_batch_norms_at_default_settings(constructor: Callable[[int], nn.Module]) -> None:
    network = constructor(46)
    seed_weights(network, 32, seed=0)
    graph = run(trace(network, (torch.zeros(1, 3, 32, 32),)), (clean_up(),)).graph
    made = distill(graph, count=8)
    assert made.loss < LARGEST_SHARE * made.gaussian_loss
