"""Samples without data reach the passes behind."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from tests.passes.test_recipes import residual_network

from tapdot.compiler.errors import TapdotError
from tapdot.compiler.pipeline import Notes, run
from tapdot.passes.distill_samples import DistillSamples
from tapdot.passes.fold_batch_norm import FoldBatchNorm
from tapdot.passes.recipes import Calibration, clean_up, recipe


def test_the_list_is_filled_and_the_graph_stays() -> None:
    model = run(residual_network(1), (clean_up(),)).graph
    into: list[Mapping[str, np.ndarray]] = []
    notes = Notes()
    assert DistillSamples(into, count=3, steps=2).run(model, notes) is model
    assert [array.shape for batch in into for array in batch.values()] == [(3, 3, 8, 8)]
    assert notes.lines[0].startswith("Distilled 3 samples in 2 steps: their batch norm loss is ")


def test_a_graph_without_batch_norms_is_refused_unless_noise_will_do() -> None:
    model = FoldBatchNorm()(run(residual_network(1), (clean_up(),)).graph)
    with pytest.raises(TapdotError, match="has no batch norm"):
        DistillSamples([])(model)
    notes = Notes()
    DistillSamples([], gaussian=True).run(model, notes)
    assert "Gaussian noise" in notes.lines[0]


def test_the_recipe_needs_no_data() -> None:
    settings = ["distill_samples.count=2", "distill_samples.steps=2"]
    outcome = run(residual_network(1), recipe("int8", settings, Calibration(zero_shot=True)))
    assert any(line.startswith("Distilled 2 samples") for line in outcome.notes)
    assert any(node.op == "QConv" for node in outcome.graph.nodes)
