"""``tapdot sensitivity``: its table, document and picture, and sentences for what a user can get wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests.command_line import Tapdot
from tests.passes.prune_networks import CLASSES, samples, trained_classifier

from tapdot.compiler.exporters.onnx import save_onnx
from tapdot.passes.recipe_names import SENSITIVITY_METHODS
from tapdot.passes.sensitivity import METHODS, Sensitivity


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained model and samples."""
    folder = tmp_path_factory.mktemp("sensitivity")
    save_onnx(trained_classifier(), folder / "net.onnx")
    images, labels = samples()
    np.savez(folder / "data.npz", x=images, y=labels)
    np.savez(folder / "small.npz", x=images[:, :, :6], y=labels)
    np.savez(folder / "wrong.npz", x=images, y=labels + CLASSES)
    images[7, 0, 0, 0] = np.nan
    np.savez(folder / "nan.npz", x=images, y=labels)
    return folder


def test_methods_have_the_library_s_names() -> None:
    assert sorted(SENSITIVITY_METHODS) == sorted(METHODS)


def test_the_table_has_a_row_a_layer_and_says_what_it_is(folder: Path, tapdot: Tapdot) -> None:
    outcome = tapdot("sensitivity", folder / "net.onnx", "--data", folder / "data.npz", "--sparse", "4:2")
    assert outcome.status == 0, outcome
    lines = outcome.out.splitlines()
    assert lines[0].split() == ["layer", "weights", "8", "bits", "4", "bits", "4x", "share", "2", "+-", "rank"]
    assert lines[1].startswith("features.0") and "\u2588" in outcome.out
    assert sorted(int(line.split()[-2]) for line in lines[1:5] if "\u2588" in line)[:1] == [1]
    assert "Sensitivity by kl: KL divergence, on 192 samples of the data (seed 0)." in outcome.out
    assert "layers can take rate 4 share 2." in outcome.out


def test_json_goes_to_stdout_and_to_a_file_and_a_picture_is_drawn(folder: Path, tmp_path: Path, tapdot: Tapdot) -> None:
    pytest.importorskip("matplotlib")
    files = ("-o", tmp_path / "s.json", "--plot", tmp_path / "s.png")
    options = ("--method", "hessian", "--bits", "8,4,2", "--samples", 8, "--json")
    outcome = tapdot("sensitivity", folder / "net.onnx", "--data", folder / "data.npz", *options, *files)
    assert outcome.status == 0, outcome
    found = Sensitivity.from_json(outcome.json())
    assert found.method == "hessian" and found.samples == 8 and found.candidates == ("8", "4", "2")
    assert json.loads((tmp_path / "s.json").read_text()) == outcome.json()
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG") and "Wrote" in outcome.err
    assert any("cross entropy of the labels" in remark for remark in found.remarks)


def test_zero_shot_needs_no_data(folder: Path, tmp_path: Path, tapdot: Tapdot) -> None:
    short = ("--set", "distill_samples.count=4", "--set", "distill_samples.steps=4")
    outcome = tapdot("sensitivity", folder / "net.onnx", "--zero-shot", "--method", "masked", *short)
    assert outcome.status == 0 and "on 4 distilled samples" in outcome.out, outcome
    by_tensor = tapdot("sensitivity", folder / "net.onnx", "--zero-shot", "--activations", *short)
    assert by_tensor.status == 0 and by_tensor.out.startswith("tensor") and "elements" in by_tensor.out


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--data", "data.npz", "--method", "magic"), "expected kl, prediction, masked, hessian, found 'magic'"),
        (("--data", "data.npz", "--bits", "8,9"), "expected different widths from 2 to 8"),
        (("--data", "data.npz", "--bits", "4,4"), "expected different widths from 2 to 8"),
        (("--data", "data.npz", "--bits", "none"), "there have to be others"),
        (("--data", "data.npz", "--sparse", "4:3"), "expected rates above 1, each with a share of 1, 2, 4 or 8"),
        (("--data", "data.npz", "--sparse", "fast"), "expected rates above 1"),
        (("--data", "data.npz", "--zero-shot"), "found both"),
        ((), "found neither"),
    ],
)
def test_wrong_usage(folder: Path, tapdot: Tapdot, options: tuple[str, ...], sentence: str) -> None:
    given = [folder / option if option.endswith(".npz") else option for option in options]
    outcome = tapdot("sensitivity", folder / "net.onnx", *given)
    assert outcome.status == 2 and sentence in outcome.sentence.replace("│ ", ""), outcome


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--data", "small.npz"), "Expected samples of [3, 8, 8]"),
        (("--data", "nan.npz", "--samples", "192"), "Sample 7 of"),
        (("--data", "wrong.npz", "--method", "hessian"), "Expected labels from 0 to 3"),
        (("--data", "missing.npz"), "There is no data at"),
        (("--data", "data.npz", "--activations", "--method", "masked"), "measured by kl or prediction"),
        (("--data", "data.npz", "--plot", "s.gif"), "Expected a picture's name"),
        (("--data", "data.npz", "-o", "nowhere/s.json"), "There is no folder nowhere"),
    ],
)
def test_failures_are_sentences(folder: Path, tapdot: Tapdot, options: tuple[str, ...], sentence: str) -> None:
    given = [folder / option if option.endswith(".npz") else option for option in options]
    outcome = tapdot("sensitivity", folder / "net.onnx", *given)
    assert outcome.status == 1 and sentence in outcome.sentence and "Traceback" not in outcome.err, outcome
    assert outcome.out == ""
