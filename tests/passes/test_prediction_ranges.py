"""Ranges by the prediction difference: no tensor's codes change the answers more than those of least squared error."""

from __future__ import annotations

import numpy as np
import pytest
from tests.passes.test_distill import network, smooth_images

from tapdot.compiler.graph import Graph
from tapdot.compiler.pipeline import run
from tapdot.passes.calibrate import Calibrate
from tapdot.passes.codes import Codes
from tapdot.passes.prediction_ranges import FACTORS
from tapdot.passes.recipes import Calibration, float_recipe, recipe
from tapdot.passes.sensitivity_comparison import TEMPERATURE, Comparison, coded
from tapdot.passes.sensitivity_samples import Samples


@pytest.fixture(scope="module")
def folded() -> Graph:
    return run(network(), float_recipe()[:3]).graph


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.asarray(smooth_images(8, 16, 7).numpy())


def calibrated(graph: Graph, data: object, method: str, bits: int) -> dict[str, Codes]:
    """Codes by the tensor they are of."""
    found = {}
    for node in Calibrate(data, method=method, bits=bits)(graph).nodes:  # type: ignore[arg-type]
        if node.op == "FakeQuantize":
            name = node.inputs[0] if node.inputs[0] in graph.inputs else node.output
            found[name] = Codes.of(node.attributes)
    return found


def test_no_tensor_changes_the_answers_more(folded: Graph, images: np.ndarray) -> None:
    by_error, by_answers, whole = (calibrated(folded, images, method, 3) for method in ("mse", "prediction", "minmax"))
    assert list(by_answers) == list(by_error)
    compare = Comparison(folded, Samples({folded.inputs[0]: images}), TEMPERATURE, lambda line: None)
    meanings = {name: {0: by_error[name], 1: by_answers[name]} for name in by_error}
    differences = compare({name: coded(name, codes) for name, codes in meanings.items()}, len(meanings))
    changed = 0
    for name in meanings:
        before, after = (float(differences[name, place].mean()) for place in (0, 1))
        if by_error[name] == by_answers[name]:
            continue
        changed += 1
        assert after < 0.99 * before
        assert min(FACTORS) <= by_answers[name].scale / by_error[name].scale <= max(FACTORS)
        assert by_answers[name].scale <= max(whole[name].scale, by_error[name].scale) * (1 + 1e-5)
        assert (by_answers[name].low, by_answers[name].high) == (by_error[name].low, by_error[name].high)
    assert changed, "at three bits it matters which range"


def test_how_samples_come_changes_nothing(folded: Graph, images: np.ndarray) -> None:
    whole = calibrated(folded, images, "prediction", 4)
    assert calibrated(folded, [images[:3], images[3:]], "prediction", 4) == whole


def test_the_recipe_takes_it(images: np.ndarray) -> None:
    phases = recipe("int8", ["calibrate.method=prediction"], Calibration(images))
    outcome = run(network(), phases)
    assert any("(method prediction)" in note for note in outcome.notes)
    assert any(node.op == "QConv" for node in outcome.graph.nodes)
