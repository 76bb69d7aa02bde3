"""`tapdot pareto MODEL` and `tapdot compile --recipe mixed`: from a model and a budget to a package."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.command_line import Tapdot
from tests.passes.prune_networks import Classifier, samples

from tapdot.compiler.package import Package


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mixed")
    torch.export.save(torch.export.export(Classifier().eval(), (torch.zeros(1, 3, 8, 8),)), folder / "net.pt2")
    images, labels = samples(96)
    np.savez(folder / "data.npz", x=images, y=labels)
    return folder


def test_from_a_budget_to_a_package(place: Path, tapdot: Tapdot) -> None:
    model, data, bits = place / "net.pt2", place / "data.npz", place / "bits.json"
    first = tapdot("pareto", model, "--data", data, "--budget", "size=40%", "--bits", bits, "-o", place / "table.json")
    chosen = first.out.splitlines()[-1]
    assert first.status == 0 and len(chosen) == 4 and set(chosen) == {"4", "8"} and "latency" not in first.out
    weights = json.loads(bits.read_text())["weights"]
    assert "".join(map(str, weights.values())) == chosen
    assert tapdot("pareto", "--table", place / "table.json", "--budget", "size=40%").out == first.out

    package = place / "net.tapdot"
    mixed = ("--recipe", "mixed", "--data", data)
    assert tapdot("compile", model, "-o", package, *mixed, "--bits", bits).status == 0
    budgeted = tapdot("compile", model, "-o", place / "too.tapdot", *mixed, "--budget", "size=40%")
    assert budgeted.status == 0 and f"Bits, layer by layer: {chosen}" in budgeted.err
    assert str(Package.load(package).graph) == str(Package.load(place / "too.tapdot").graph)
    assert tapdot("verify", package).status == 0


def test_layers_are_measured_where_a_budget_is_of_time(place: Path, tapdot: Tapdot) -> None:
    outcome = tapdot("pareto", place / "net.pt2", "--data", place / "data.npz", "--budget", "latency=100%")
    assert outcome.status == 0 and "latency: " in outcome.out
    assert "Predicted for the whole network on host: " in outcome.err


def test_codes_may_be_chosen_too(place: Path, tapdot: Tapdot) -> None:
    arguments = ("pareto", place / "net.pt2", "--data", place / "data.npz", "--activations", "own", "--fix", "last=8")
    assert tapdot(*arguments, "--budget", "bops=30%").out.splitlines()[-1].count(",") == 3
    assert json.loads(tapdot(*arguments, "--json").out)["fronts"][0]["kind"] == "size"
    first = tapdot(*arguments, "--budget", "bops=30%", "-o", place / "own.json")
    assert tapdot("pareto", "--table", place / "own.json", "--budget", "bops=30%").out == first.out


def test_a_hessian_of_weights_decides_for_codes_of_the_same_bits_and_says_so(place: Path, tapdot: Tapdot) -> None:
    arguments = ("pareto", place / "net.pt2", "--data", place / "data.npz", "--activations", "same", "--sensitivity", "hessian")
    outcome = tapdot(*arguments, "--budget", "size=80%")
    assert outcome.status == 0 and "Sensitivity by hessian is of weights alone" in outcome.err


def test_a_share_means_the_same_whatever_is_fixed(place: Path, tapdot: Tapdot) -> None:
    model, free = ("pareto", place / "net.pt2", "--data", place / "data.npz"), place / "free.json"
    rest = ("--fix", "last=4", "--budget", "size=40%")
    assert tapdot(*model, "-o", free, "--budget", "size=100%").status == 0
    first = tapdot(*model, *rest)
    assert first.status == 0 and "fixed" in first.out
    assert tapdot("pareto", "--table", free, *rest).out == first.out


def test_weights_are_trained_with_their_codes(place: Path, tapdot: Tapdot) -> None:
    options = ("--recipe", "int8", "--data", place / "data.npz", "--train", place / "data.npz")
    small = ("--set", "train_quantized.epochs=1", "--set", "train_quantized.batch=32")
    assert tapdot("compile", place / "net.pt2", "-o", place / "trained.tapdot", *options, *small).status == 0
    assert any("trained with their codes for 1 epochs" in note for note in Package.load(place / "trained.tapdot").notes)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("pareto",), "expected a model or a table"),
        (("pareto", "net.pt2", "--table", "table.json"), "expected a model or a table"),
        (("pareto", "net.pt2", "--data", "data.npz", "--bits", "b.json"), "only where there is a budget"),
        (("pareto", "--table", "table.json", "-o", "t.json"), "it is for a model"),
        (("pareto", "net.pt2", "--budget", "size=50%"), "expected data (--data DATA)"),
        (("pareto", "net.pt2", "--data", "data.npz", "--widths", "8,3"), "8, 4 and 2"),
        (("pareto", "net.pt2", "--data", "data.npz", "--activations", "all"), "fixed, same, own"),
        (("pareto", "net.pt2", "--data", "data.npz", "--sensitivity", "guess"), "kl, prediction, masked, hessian"),
        (("pareto", "net.pt2", "--data", "data.npz", "--budget", "size=1%", "--fix", "nobody=8"), "found 'nobody'"),
        (("compile", "net.pt2", "-o", "o.tapdot", "--budget", "size=50%"), "use --recipe mixed"),
        (("compile", "net.pt2", "-o", "o.tapdot", "--recipe", "mixed", "--data", "data.npz"), "how many bits each layer gets"),
        (
            ("compile", "net.pt2", "-o", "o.tapdot", "--recipe", "mixed", "--bits", "none.json", "--data", "data.npz"),
            "Cannot read the bit widths",
        ),
        (
            ("compile", "net.pt2", "-o", "o.tapdot", "--recipe", "mixed", "--bits", "b", "--budget", "size=1%"),
            "nothing to choose",
        ),
    ],
)
def test_what_contradicts_itself_is_said(
    place: Path, arguments: tuple[str, ...], words: str, tapdot: Tapdot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    outcome = tapdot(*arguments)
    said = " ".join(outcome.err.replace("│", " ").split())
    assert outcome.status in (1, 2) and words in said and "Traceback" not in said
