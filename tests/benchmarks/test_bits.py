"""The benchmarks of bits from end to end on the digits and a tiny network, and their arithmetic on figures made up here."""

from __future__ import annotations

import json
from math import nan
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks import zoo
from benchmarks.bits import __main__ as bits
from benchmarks.bits.accuracy import CHOSEN, FLOAT, NARROW, RANDOM, TRAINED, WIDE, Result, SeedResult, Settings
from benchmarks.bits.latency import Latencies, beyond_noise
from benchmarks.bits.networks import Prepared
from benchmarks.bits.random_choices import NEAR, of_all_sizes, of_the_same_size
from benchmarks.bits.stability import taus
from benchmarks.bits.tables import verdict
from benchmarks.miniatures.evaluation import Difference
from torch import nn

import tapdot
from tapdot.passes.bit_table import BitTable, Candidate, TableLayer
from tapdot.passes.sensitivity import LayerSensitivity, Sensitivity


class Tiny(nn.Module):
    """Of the zoo's kind: an image of three colours, batch norms, a linear layer at the end."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in ((3, 16), (16, 24), (24, 32)):
            layers += [nn.Conv2d(before, after, 3, 2, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(32, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(image).mean((2, 3)))


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(zoo.NETWORKS, "tiny", zoo.Network("Tiny", Tiny, input_size=32))
    return "tiny"


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TAPDOT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def results(path: Path) -> list[dict]:
    return json.loads(path.read_text())["results"]


def table(sizes: list[int]) -> BitTable:
    layers = [
        TableLayer(f"layer{place}", tuple(Candidate.of_bits(bits, 1 / bits, {"size": size * bits / 8}) for bits in (8, 4)))
        for place, size in enumerate(sizes)
    ]
    return BitTable(tuple(layers))


# -- accuracy ----------------------------------------------------------------------------------------------------------------


def test_accuracy_from_end_to_end_and_again_from_the_cache(
    tmp_path: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("sklearn")
    out = tmp_path / "out.json"
    small = ["--networks", "digits", "--epochs", "2", "--seeds", "0", "--test-images", "100", "--random", "3"]
    arguments = ["accuracy", *small, "--samples", "32", "--qat-epochs", "1", "--json", str(out)]
    bits.main(arguments)
    (first,) = results(out)
    (choice,) = first["choices"]
    assert first["images"] == 100 and len(choice["bits"]) == 3 and set(choice["bits"]) <= {"4", "8"}
    assert choice["size"] <= choice["limit"] and choice["bits"] not in choice["random"]
    assert set(first["accuracy"]) == {FLOAT, WIDE, NARROW, CHOSEN, CHOSEN + TRAINED, WIDE + TRAINED, NARROW + TRAINED}
    assert all(0.2 < rate <= 1 for (rate,) in first["accuracy"].values()), "of ten classes"
    assert "chosen, trained - all 8" in capsys.readouterr().out

    monkeypatch.setattr(Prepared, "integers", lambda *arguments: pytest.fail("measured again"))
    bits.main(arguments)
    assert results(out) == [first]


def test_the_best_random_choice_of_every_seed_is_held_against_the_chosen() -> None:
    def of_seed(chosen: list[int], *random: list[int]) -> SeedResult:
        correct = {title: np.ones(4, bool) for title in (FLOAT, WIDE, NARROW)} | {CHOSEN: np.array(chosen, bool)}
        correct |= {f"{RANDOM} {place}": np.array(one, bool) for place, one in enumerate(random)}
        return SeedResult("84", 1.0, 1.0, tuple("x" * len(random)), correct)

    seeds = (of_seed([1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 0, 0]), of_seed([1, 1, 0, 0], [1, 1, 1, 0], [0, 0, 0, 0]))
    result = Result("digits", (0, 1), Settings(), seeds)
    assert result.random_accuracies() == [[0.25, 0.5], [0.75, 0.0]]
    assert result.difference(CHOSEN, RANDOM).mean == pytest.approx((25 - 25) / 2)
    document = {(row["ours"], row["theirs"]): row for row in result.json()["differences"]}
    assert (
        document[CHOSEN, RANDOM]["met"] is True
        and document[CHOSEN, RANDOM]["refuted"] is False
        and "met" not in document[CHOSEN, WIDE]
    )
    assert document[CHOSEN, WIDE]["mean"] == pytest.approx(-37.5)


def test_a_demand_that_chance_may_have_missed_is_said_to_be_that() -> None:
    assert verdict(Difference(0.1, -0.4, 0.6), 0.0) == "met"
    assert verdict(Difference(-0.1, -0.6, 0.4), 0.0) == "NOT met, within noise"
    assert verdict(Difference(-0.9, -1.4, -0.4), 0.0) == "NOT met"


def test_random_choices_are_of_the_same_size() -> None:
    made = table([100, 120, 90, 110, 105, 95, 130, 80, 100, 100])
    chosen = ("8", "4") * 5
    size = sum(layer.candidate(label).costs["size"] for layer, label in zip(made.layers, chosen, strict=True))
    found = of_the_same_size(made, chosen, size, 20, seed=3)
    sizes = [sum(layer.candidate(label).costs["size"] for layer, label in zip(made.layers, one, strict=True)) for one in found]
    assert len(set(found)) == 20 and chosen not in found
    assert all((1 - NEAR) * size <= one <= size for one in sizes) and len(set(sizes)) > 1
    assert found == of_the_same_size(made, chosen, size, 20, seed=3) != of_the_same_size(made, chosen, size, 20, seed=4)
    assert of_the_same_size(table([100, 1000]), ("8", "4"), 600, 20, seed=0) == (), "there are no others"


def test_random_choices_of_all_sizes_differ_in_how_much_is_narrow() -> None:
    found = of_all_sizes(20, (8, 4), 20, seed=0)
    narrow = [one.count(4) for one in found]
    assert len(set(found)) == 20 and min(narrow) < 6 and max(narrow) > 14
    assert set(of_all_sizes(2, (8, 4), 20, seed=0)) == {(8, 8), (8, 4), (4, 8), (4, 4)}


def test_integers_have_the_bits_that_were_asked_for(tiny: str) -> None:
    images = zoo.seeded_images(2, 32).numpy()
    prepared = Prepared.of(tapdot.trace(zoo.build(tiny), (torch.zeros(1, 3, 32, 32),)), images)
    assert len(prepared.names) == 4
    graph = prepared.integers(prepared.widths([8, 4, 8, 4]))
    sums = [node for node in graph.nodes if node.op in ("QConv", "QGemm")]
    assert [graph.type(node.inputs[1]).dtype for node in sums] == ["int8", "int4", "int8", "int4"]


# -- latency -----------------------------------------------------------------------------------------------------------------


def test_latency_from_end_to_end(tiny: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.json"
    bits.main(["latency", "--networks", tiny, "--count", "3", "--rounds", "3", "--layer-runs", "3", "--json", str(out)])
    (found,) = results(out)
    assert len(found["assignments"]) == 3 and all(len(one["bits"]) == 4 for one in found["assignments"])
    for one in found["assignments"]:
        assert one["predicted"] > 0 and one["error"] == pytest.approx(one["predicted"] / one["measured"] - 1)
    assert "Kendall's tau of the orders" in capsys.readouterr().out


def test_errors_and_order_of_predictions() -> None:
    found = Latencies("vgg16", "host", 5, ("88", "84", "44"), (1.1, 2.0, 3.0), (1.0, 2.5, 2.4), ((0, 1), (0, 2), (2, 1)))
    assert found.worst == pytest.approx(0.25) and found.tau == pytest.approx(1 / 3)
    assert found.tau_beyond_noise == pytest.approx(1 / 3)
    assert found.json()["met"] is False
    assert Latencies("vgg16", "host", 5, ("88", "44"), (1.1, 2.0), (1.0, 2.1), ((0, 1),)).json()["met"] is True
    constant = Latencies("vgg16", "host", 5, ("88", "44"), (1.0, 1.0), (1.0, 1.1), ()).json()
    assert (
        constant["tau"] is None
        and constant["tau_beyond_noise"] is None
        and constant["met"] is False
        and nan not in constant.values()
    )


def test_pairs_that_differ_beyond_the_noise() -> None:
    steady, slower = [1.0, 1.01, 0.99, 1.0] * 10, [1.05, 1.06, 1.04, 1.05] * 10
    alike = [1.01, 1.0, 1.0, 0.99] * 10
    assert beyond_noise([slower, steady, alike]) == ((1, 0), (2, 0))
    assert beyond_noise([slower[:3], steady[:3]]) == (), "three rounds are too few to tell"


# -- stability and zero-shot -------------------------------------------------------------------------------------------------


def test_stability_from_end_to_end(tmp_path: Path, empty_cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn")
    out = tmp_path / "out.json"
    small = ["--networks", "digits", "--epochs", "2", "--samples", "16", "--seeds", "0,1,2", "--methods", "kl,masked"]
    bits.main(["stability", *small, "--json", str(out)])
    rows = results(out)
    assert [(row["method"], row["candidate"]) for row in rows] == [("kl", "8"), ("kl", "4"), ("masked", "8"), ("masked", "4")]
    for row in rows:
        assert row["layers"] == 3 and row["samples"] == 16 and len(row["taus"]) == 3
        assert -1 <= row["least"] <= row["mean"] <= 1 and row["met"] == (row["least"] >= 0.9)
    assert "Kendall's tau" in capsys.readouterr().out


def test_tau_is_of_the_layers_order() -> None:
    def of(*values: float) -> Sensitivity:
        rows = tuple(LayerSensitivity(f"l{place}", "1x1", 1, {"4": value}) for place, value in enumerate(values))
        return Sensitivity("net", "kl", "weights", "", ("4",), rows, 1, "data", 0)

    assert taus([of(1, 2, 3), of(1, 20, 300), of(1, 3, 2)], "4") == pytest.approx((1, 1 / 3, 1 / 3))


def test_zero_shot_says_what_each_part_takes(tiny: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.json"
    few = ["--set", "distill_samples.count=4", "--set", "distill_samples.steps=3"]
    bits.main(["zero-shot", "--networks", tiny, *few, "--json", str(out)])
    (found,) = results(out)
    assert list(found["seconds"]) == ["import and clean up", "distil", "fold batch norms", "sensitivity", "front"]
    assert found["total"] == pytest.approx(sum(found["seconds"].values())) and found["layers"] == 4 and found["distilled"] == 4
    points = found["front"]["points"]
    assert points[0]["bits"] == "4444" and points[-1]["bits"] == "8888"
    assert "Under 600 s: met" in capsys.readouterr().out


# -- command line ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["accuracy", "--networks", "vgg99"], "expected names out of resnet"),
        (["accuracy", "--share", "2"], "a share from 0 to 1"),
        (["accuracy", "--qat-epochs", "-1"], "expected 0 or more"),
        (["latency", "--networks", "resnet"], "expected names out of vgg16"),
        (["latency", "--count", "1"], "expected two or more"),
        (["stability", "--methods", "guess"], "expected names out of kl"),
        (["stability", "--seeds", "3"], "expected two or more"),
        ([], "required"),
    ],
)
def test_the_command_line_says_what_it_expects(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        bits.parse(arguments)
    assert words in capsys.readouterr().err


def test_a_device_without_a_clock_is_a_sentence(tiny: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="1"):
        bits.main(["latency", "--networks", tiny, "--device", "nothing://", "--count", "2"])
    assert capsys.readouterr().err.strip()
