"""Generated data, miniature networks, and accuracies with paired differences."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks.miniatures import __main__ as command_line
from benchmarks.miniatures import dataset, evaluation, trained, training
from benchmarks.miniatures.networks import MiniatureMobileNetV2, MiniatureResNet, MiniatureVGG
from torch import nn

import tapdot
from tapdot.compiler.data import open_data
from tapdot.compiler.types import TensorType


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TAPDOT_CACHE", str(tmp_path / "cache"))
    trained.data.cache_clear()
    return tmp_path / "cache"


# -- data --------------------------------------------------------------------------------------------------------------------


def test_glyphs_do_not_depend_on_the_number_of_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    glyphs = pytest.importorskip("benchmarks.miniatures.glyphs")
    one, labels = glyphs.draw_images(2_100, 5, processes=1)
    two, same = glyphs.draw_images(2_100, 5, processes=2)
    assert (one == two).all() and (labels == same).all()
    assert one.shape == (2_100, 32, 32, 3) and one.dtype == np.uint8
    assert len(glyphs.CLASSES) == 46 and set(labels) == set(range(46))
    longer, _ = glyphs.draw_images(2_200, 5, processes=1)
    assert (longer[:2_000] == one[:2_000]).all()
    assert len(np.unique(one.reshape(len(one), -1), axis=0)) == len(one)


def test_glyph_sets_are_cached_and_do_not_share_images(empty_cache: Path) -> None:
    pytest.importorskip("matplotlib")
    data = dataset.glyph_data(train_images=60, test_images=40)
    assert data.test_inputs.shape == (40, 3, 32, 32) and data.test_inputs.dtype == np.float32
    assert len(data.train_labels) == 60 and data.classes == 46
    first, second = data.train_inputs(0), data.train_inputs(1)
    assert 0.01 < np.abs(first - second).mean() < 1, "every epoch has noise of its own"
    assert (data.train_inputs(0) == first).all()
    assert (data.calibration_inputs(7) == first[:7]).all()
    folders = sorted((empty_cache / "miniatures").glob("glyphs-*/"))
    assert len(folders) == 2
    times = [(folder / "images.npy").stat().st_mtime_ns for folder in folders]
    again = dataset.glyph_data(train_images=60, test_images=40)
    assert (again.test_inputs == data.test_inputs).all()
    assert times == [(folder / "images.npy").stat().st_mtime_ns for folder in folders]
    assert not (first[:40] == data.test_inputs).all((1, 2, 3)).any()


def test_the_code_digest_sees_changes_of_meaning_only(tmp_path: Path) -> None:
    file = tmp_path / "code.py"

    def digest(text: str) -> str:
        file.write_text(text)
        return dataset.code_digest(file)

    first = digest('"""Text."""\nX = 1\n\n\ndef f(x):\n    """Says."""\n    return x + X\n')
    assert digest("X = 1  # a comment\ndef f(x):\n    return (x + X)\n") == first
    assert digest("X = 2\ndef f(x):\n    return x + X\n") != first
    assert digest('X = 1\ndef f(x):\n    return "x + X"\n') != first


# -- networks and training ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("constructor", [MiniatureResNet, MiniatureMobileNetV2, MiniatureVGG])
def test_networks_are_small_and_have_what_their_models_have(constructor: type[nn.Module]) -> None:
    network = constructor(46).eval()  # type: ignore[call-arg]
    with torch.no_grad():
        assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 46)
    assert 100_000 < sum(parameter.numel() for parameter in network.parameters()) < 250_000
    kinds = [type(layer) for layer in network.modules()]
    assert nn.BatchNorm2d in kinds
    depthwise = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d) and layer.groups > 1]
    assert bool(depthwise) == (nn.ReLU6 in kinds) == (constructor is MiniatureMobileNetV2)


def test_training_learns_and_equal_seeds_give_equal_weights() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 256)
    images = random.standard_normal((256, 1, 8, 8), np.float32) + labels[:, None, None, None].astype(np.float32) * 2
    lines: list[str] = []

    def once(seed: int) -> nn.Module:
        return training.train(
            lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)),
            lambda epoch: images,
            labels,
            epochs=20,
            seed=seed,
            peak_learning_rate=0.05,
            largest_shift=1,
            report=lines.append,
        )

    first, again, other = once(0), once(0), once(1)
    assert training.accuracy(first, images, labels) > 0.9 and not first.training
    assert lines[19].startswith("epoch 20 of 20: loss ")
    state = first.state_dict()
    assert all((state[key] == value).all() for key, value in again.state_dict().items())
    assert any((state[key] != value).any() for key, value in other.state_dict().items())


def test_digits_are_learned_cached_and_measured(empty_cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn")
    command_line.main(["train", "--network", "digits", "--seed", "0", "--epochs", "6", "--json"])
    out, err = capsys.readouterr()
    (row,) = json.loads(out)
    assert row["network"] == "digits" and row["accuracy"] > 0.9
    assert "epoch 6 of 6" in err and trained.is_trained("digits", 0, 6) and not trained.is_trained("digits", 1, 6)

    command_line.main(["accuracy", "--network", "digits", "--seed", "0", "--epochs", "6", "--recipe", "float", "--json"])
    out, err = capsys.readouterr()
    (result,) = json.loads(out)
    assert "epoch" not in err, "the weights come from the cache"
    assert result["images"] == dataset.DIGITS_HELD_OUT and result["accuracy"]["float"] == [row["accuracy"]]
    assert abs(result["differences"]["float, compiled - float"]["mean"]["mean"]) < 0.2

    arguments = ["accuracy", "--network", "digits", "--seed", "0", "--epochs", "6", "--recipe", "float", "--images", "100"]
    command_line.main([*arguments, "--reference"])
    out, _ = capsys.readouterr()
    assert "100 test images" in out and "+0.00" in out


def test_weights_of_other_settings_are_not_taken_for_these(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = trained.weights_folder("digits", 0, 6)
    assert folder != trained.weights_folder("digits", 0, 7) and folder != trained.weights_folder("digits", 1, 6)
    monkeypatch.setattr(trained, "MEAN", 0.25)
    assert folder != trained.weights_folder("digits", 0, 6)


# -- accuracy ----------------------------------------------------------------------------------------------------------------


class Brightest(nn.Module):
    """The class is the brightest of the first row's values, on average over channels."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.relu(image.mean(1)[:, 0])


def test_scores_agree_whoever_computes_and_count_every_sample_once() -> None:
    images = np.random.default_rng(1).standard_normal((11, 2, 3, 4), np.float32)
    truth = np.maximum(images.mean(1)[:, 0], 0).argmax(1)
    labels = truth.copy()
    labels[[2, 10]] = (truth[[2, 10]] + 1) % 4
    data, kind = open_data((images, labels)), TensorType((4, 2, 3, 4), "float32")
    package = tapdot.compile(Brightest(), (torch.zeros(kind.shape),))
    expected = labels == truth
    for score in (
        evaluation.module_score(Brightest(), data, kind),
        evaluation.graph_score(package.graph, data),
        evaluation.package_score(package, data),
    ):
        assert score.correct.tolist() == expected.tolist()
        assert score.accuracy == pytest.approx(9 / 11)
    assert evaluation.package_score(package, data, limit=5).correct.tolist() == expected[:5].tolist()
    with pytest.raises(ValueError, match="needs labels, and the data has none"):
        evaluation.module_score(Brightest(), open_data(images), kind)


def test_paired_differences_have_the_right_mean_and_width() -> None:
    theirs = np.zeros((1, 10_000), bool)
    theirs[:, :5_000] = True
    ours = theirs.copy()
    ours[:, :300] = False
    ours[:, 5_000:5_100] = True
    difference = evaluation.paired_difference(ours, theirs)
    assert difference.mean == pytest.approx(-2.0)
    # 400 answers differ: the variance of one image's difference is 0.04 - 0.02 ** 2.
    assert (difference.high - difference.low) / 2 == pytest.approx(1.96 * 100 * np.sqrt((0.04 - 0.0004) / 10_000), rel=1e-3)
    same = evaluation.paired_difference(theirs, theirs)
    assert (same.mean, same.low, same.high) == (0, 0, 0)
    # Seeds that answer alike add nothing: an image that is hard for all is one observation.
    tripled = evaluation.paired_difference(np.repeat(ours, 3, 0), np.repeat(theirs, 3, 0))
    assert (tripled.low, tripled.high) == pytest.approx((difference.low, difference.high))


def test_int8_is_measured_with_data_without_and_with_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(2)
    inputs = random.standard_normal((20, 2, 3, 4), np.float32)
    data = dataset.Dataset(4, lambda epoch: inputs, np.zeros(20, np.int64), inputs, np.zeros(20, np.int64))
    asked = []
    compiled = tapdot.compile

    def compile_float(module: nn.Module, examples: tuple[torch.Tensor], **options: object) -> tapdot.Package:
        asked.append(options)
        return compiled(module, examples)

    monkeypatch.setattr(tapdot, "compile", compile_float)
    settings = evaluation.Settings(batch=5, calibration_images=8)
    result = evaluation.measure("resnet", (0, 1), ("int8",), lambda seed: Brightest(), data, settings)
    assert list(result.correct) == ["float", "int8, data", "int8, zero-shot", "int8, Gaussian"]
    assert all(correct.shape == (2, 20) for correct in result.correct.values())
    assert ("int8, zero-shot", "int8, Gaussian") in result.pairs() and len(result.pairs()) == 4
    assert all(options["recipe"] == "int8" for options in asked) and asked[1]["zero_shot"] is True
    assert (asked[0]["data"] == inputs[:8]).all() and asked[2]["data"].shape == (8, 2, 3, 4)  # type: ignore[attr-defined]
    assert (asked[2]["data"] != asked[5]["data"]).all(), "each seed has noise of its own"
    from rich.console import Console

    console = Console(width=120)
    with console.capture() as captured:
        console.print(command_line.accuracy_table([result]))
    assert "int8, zero-shot" in captured.get() and "20 test images" in captured.get()


# -- sparsity ----------------------------------------------------------------------------------------------------------------


def test_pruned_networks_are_cached_and_compared_with_dense_ones(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("sklearn")
    from benchmarks.miniatures import sparsity

    monkeypatch.setenv("COLUMNS", "160")
    trained.trained("digits", 0, 6)
    monkeypatch.setitem(trained.MINIATURES, "digits", replace(trained.MINIATURES["digits"], epochs=6))
    command = [
        "sparsity",
        "--rates",
        "4",
        "--shares",
        "2",
        "--networks",
        "digits",
        "--seeds",
        "0",
        "--reference",
        "--images",
        "200",
    ]
    command += ["--epochs", "1", "--retrain-epochs", "1", "--calibration-images", "32"]
    command_line.main([*command, "--json"])
    out, err = capsys.readouterr()
    rows = json.loads(out)
    assert [(row["way"], row["rate"], row["share"]) for row in rows] == [("dense", 1, 1), ("ADMM", 4, 2), ("one-shot", 4, 2)]
    assert all(0.8 < accuracy <= 1 for row in rows for accuracy in row["float"] + row["integer"])
    assert rows[1]["from_dense"]["low"] <= rows[1]["from_dense"]["mean"] <= rows[1]["from_dense"]["high"]
    assert "from_one_shot" in rows[1] and "from_dense" not in rows[0] and "retraining, epoch 1 of 2" in err
    assert len(list((empty_cache / "miniatures").glob("digits-seed0-epochs6-*-ADMM-4x-share2-*/weights.npz"))) == 1
    command_line.main(command)
    out, err = capsys.readouterr()
    assert "epoch" not in err and "ADMM, 4x, share 2" in out and "200 test images" in out
    setting = sparsity.Setting(4.0, 2, sparsity.ADMM)
    training = sparsity.training_of("digits", 1, 1, 0)
    graph = sparsity.pruned("digits", 0, setting, training)
    assert (graph.constants["features.3.weight"] == 0).mean() == pytest.approx(0.75, abs=0.01)
    folder = sparsity._folder("digits", 0, setting, training)
    assert folder != sparsity._folder("digits", 0, setting, sparsity.training_of("digits", 1, 2, 0))
    assert folder != sparsity._folder("digits", 0, sparsity.Setting(4.0, 4, sparsity.ADMM), training)
    with pytest.raises(SystemExit, match="1"):
        command_line.main(["sparsity", "--networks", "alexnet"])
    assert "no miniature network 'alexnet'" in capsys.readouterr().err


# -- the command line --------------------------------------------------------------------------------------------------------


def test_failures_are_sentences(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(SystemExit, match="1"):
        command_line.main(["train", "--network", "digits"])
    assert "pip install 'tapdot[test]'" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        command_line.main(["train", "--epochs", "0"])
    with pytest.raises(ValueError, match="no miniature network 'alexnet'"):
        trained.find("alexnet")
