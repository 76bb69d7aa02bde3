"""``tapdot prune``: what is written and said, and sentences for what a user can get wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.command_line import Tapdot, failed, names
from tests.conftest import HEARS_CONTROL_C
from tests.passes.prune_networks import CLASSES, samples, small_graph, trained_classifier

import tapdot as library
from tapdot.compiler.data import open_data
from tapdot.compiler.exporters.onnx import save_onnx
from tapdot.compiler.images import ImagePreparation
from tapdot.compiler.types import TensorType
from tapdot.passes import prune_training

SHORT = ("--epochs", "1", "--retrain-epochs", "1", "--batch", "32")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained model, another, and samples."""
    folder = tmp_path_factory.mktemp("prune")
    save_onnx(trained_classifier(), folder / "net.onnx")
    save_onnx(small_graph(), folder / "other.onnx")
    images, labels = samples()
    np.savez(folder / "train.npz", x=images, y=labels)
    np.savez(folder / "bare.npz", x=images)
    np.savez(folder / "small.npz", x=images[:, :, :6], y=labels)
    np.savez(folder / "wrong.npz", x=images, y=labels + CLASSES)
    return folder


def test_a_model_is_pruned_and_compiles(folder: Path, tmp_path: Path, tapdot: Tapdot) -> None:
    out = tmp_path / "pruned.onnx"
    data = ("--data", folder / "train.npz", "--validation", folder / "train.npz")
    outcome = tapdot("prune", folder / "net.onnx", "-o", out, *data, "--rate", 6, "--share", 2, "--shift", 1, *SHORT)
    assert outcome.status == 0 and outcome.out == "", outcome
    assert "Wrote" in outcome.err and "2 3x3 layers by patterns, 6.0" in outcome.sentence
    assert "Multiply-accumulates: " in outcome.sentence and "x fewer)" in outcome.sentence
    assert "features.0: it reads 3 input channels" in outcome.sentence and "Top-1 on validation samples" in outcome.sentence
    graph = library.trace(out)
    groups = graph.constants["features.3.weight"].reshape(8, 2, 8, 9) != 0
    assert (groups[:, 0] == groups[:, 1]).all() and set(np.unique(groups.sum(3))) == {0, 4}
    assert any(node.op == "BatchNormalization" for node in graph.nodes), "zero-shot calibration still works"
    assert names(tmp_path / "pruned.onnx.pruning") == ["accuracy.svg", "distance.svg", "log.jsonl"]
    log = [json.loads(line) for line in (tmp_path / "pruned.onnx.pruning" / "log.jsonl").read_text().splitlines()]
    assert [line["phase"] for line in log] == ["admm", "retrain"] and log[0]["distances"]["features.3"]["connectivity"] > 0
    package = library.compile(out, recipe="pattern")
    assert sum("sparse" in call.family for call in package.program.calls) == 2


def test_without_data_weights_are_removed_at_once(folder: Path, tmp_path: Path, tapdot: Tapdot) -> None:
    options = ("--one-shot", "--rate", 8.1, "--quad-rate", 2, "--layer-rate", "down=4", "--layer-share", "body=4", "--last-layer")
    outcome = tapdot("prune", folder / "other.onnx", "-o", tmp_path / "p.onnx", *options, "--skip", "hidden", "--patterns", 6)
    assert outcome.status == 0, outcome
    assert "Nothing was trained" in outcome.sentence and "hidden: left as it is by choice" in outcome.sentence
    rows = {line.split()[0]: line.split() for line in outcome.err.splitlines() if line.split()[1:2] in (["3x3"], ["1x1"])}
    assert rows["body"][-2:] == ["8.00x", "4"] and rows["down"][-2:] == ["4.00x", "2"]
    assert names(tmp_path) == ["p.onnx"]
    again = tapdot("prune", folder / "net.onnx", "-o", tmp_path / "q.onnx", "--one-shot", "--quad-rate", 2)
    assert "The quad rate 2 is that of no layer" in again.sentence


def test_a_folder_of_images_is_prepared_as_the_model_expects(folder: Path, tmp_path: Path, tapdot: Tapdot) -> None:
    """The same samples as arrays and as images: the same model comes out. Another mean gives another."""
    images, labels = samples(32, 3)
    codes = np.clip(np.rint((images * 0.25 + 0.5) * 255), 0, 255).astype(np.uint8)
    for index, (image, label) in enumerate(zip(codes, labels, strict=True)):
        place = tmp_path / "images" / str(label) / f"{index:02}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.transpose(1, 2, 0)).save(place)
    prepared = open_data(tmp_path / "images", images=ImagePreparation((0.5,) * 3, (0.25,) * 3))
    batches = list(prepared.batches(TensorType((32, 3, 8, 8), "float32")))
    np.savez(tmp_path / "same.npz", x=batches[0].inputs, y=batches[0].labels)

    def pruned(name: str, *data: str | Path) -> np.ndarray:
        command = ("prune", folder / "net.onnx", "-o", tmp_path / name, *data, *SHORT)
        assert (outcome := tapdot(*command)).status == 0, outcome
        return library.trace(tmp_path / name).constants["features.3.weight"]

    from_images = ("--data", tmp_path / "images", "--image-deviation", "0.25,0.25,0.25", "--image-mean")
    expected = pruned("arrays.onnx", "--data", tmp_path / "same.npz")
    np.testing.assert_array_equal(pruned("images.onnx", *from_images, "0.5,0.5,0.5"), expected)
    assert (pruned("darker.onnx", *from_images, "0.9,0.9,0.9") != expected).any()
    assert tapdot("prune", folder / "net.onnx", "-o", tmp_path / "p.onnx", "--one-shot", "--image-mean", "0,0,0").status == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), ("needs samples with labels (--data DATA)", "--one-shot")),
        (("--one-shot", "--rate", "1e6"), ("1e+06 of the 3x3 layers cannot be met",)),
        (("--one-shot", "--rate", "2"), ("at least 2.25, found 2",)),
        (("--one-shot", "--patterns", "13"), ("1 to 12 patterns", "found 13")),
        (("--one-shot", "--share", "3"), ("share of 1, 2, 4 or 8", "found 3")),
        (("--one-shot", "--skip", "feature.3"), ("no layer 'feature.3'", "'features.3'")),
        (("--one-shot", "--allocation", "even"), ("energy or uniform, found 'even'",)),
        (("--data", "bare.npz"), ("needs the class of every sample", "bare.npz has none")),
        (("--data", "train.npz", "--validation", "bare.npz"), ("Accuracy on validation samples", "bare.npz has none")),
        (("--one-shot", "--layer-rate", "last=2"), ("'last' is not pruned: the last fully connected layer", "--last-layer")),
        (("--data", "small.npz"), ("Expected samples of [3, 8, 8]", "found [3, 6, 8]")),
        (("--data", "wrong.npz"), ("labels from 0 to 3", "wrong.npz")),
        (("--data", "none.npz"), ("There is no data at",)),
        (("--data", "train.npz", "--epochs", "-1"), ("Expected epochs to be at least 0, found -1",)),
        (("--data", "train.npz", "--resume", "nowhere"), ("no folder nowhere",)),
    ],
)
def test_what_cannot_be_done_is_a_sentence(
    folder: Path,
    tmp_path: Path,
    tapdot: Tapdot,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    words: tuple[str, ...],
) -> None:
    monkeypatch.chdir(folder)
    failed(tapdot("prune", "net.onnx", "-o", tmp_path / "p.onnx", *arguments), *words)
    assert names(tmp_path) == []


def test_models_with_nothing_to_prune_and_outputs_that_are_none(folder: Path, tmp_path: Path, tapdot: Tapdot) -> None:
    skipped = ("--skip", "body", "--skip", "down")
    failed(
        tapdot("prune", folder / "other.onnx", "-o", tmp_path / "p.onnx", "--one-shot", *skipped),
        "no 3x3 layer to prune by patterns",
        "--quad-rate 2",
    )
    failed(tapdot("prune", folder / "net.onnx", "-o", tmp_path / "p.pt2", "--one-shot"), "a name that ends in .onnx")
    assert tapdot("prune", folder / "net.onnx", "-o", tmp_path / "p.onnx", "--one-shot", "--layer-rate", "x").status == 2


def test_a_loss_that_is_nan_keeps_the_last_good_state(
    folder: Path, tmp_path: Path, tapdot: Tapdot, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = prune_training.Trainer._loss
    monkeypatch.setattr(
        prune_training.Trainer,
        "_loss",
        lambda self, *values: plain(self, *values) * (float("nan") if self.phase == "retrain" else 1),
    )
    command = ("prune", folder / "net.onnx", "-o", tmp_path / "p.onnx", "--data", folder / "train.npz", *SHORT)
    failed(tapdot(*command), "The loss became nan in epoch 1 of 1 (retraining)", "--resume", "--learning-rate")
    assert names(tmp_path) == ["p.onnx.pruning"] and "checkpoint.npz" in names(tmp_path / "p.onnx.pruning")
    monkeypatch.setattr(prune_training.Trainer, "_loss", plain)
    failed(tapdot(*command), "holds a run that is not finished", "--resume")
    run = ("--resume", tmp_path / "p.onnx.pruning")
    other = ("prune", folder / "other.onnx", "-o", tmp_path / "p.onnx", "--data", folder / "train.npz", *SHORT)
    failed(tapdot(*other, *run), "is of another model")
    failed(tapdot(*command, "--share", 4, *run), "share=2, and now it is 4")
    assert tapdot(*command, "--log", tmp_path, *run).status == 2
    outcome = tapdot(*command, "--learning-rate", "0.005", *run)
    assert outcome.status == 0 and (tmp_path / "p.onnx").exists()
    assert "checkpoint.npz" not in names(tmp_path / "p.onnx.pruning")


@pytest.mark.parametrize("options", [("--seed", "-1"), ("--seed", "99999999999999999999"), ("--one-shot", "--epochs", "3")])
def test_what_makes_no_sense_is_wrong_usage(folder: Path, tmp_path: Path, tapdot: Tapdot, options: tuple[str, ...]) -> None:
    command = ("prune", folder / "net.onnx", "-o", tmp_path / "p.onnx", "--data", folder / "train.npz")
    assert tapdot(*command, *options).status == 2 and names(tmp_path) == []


@pytest.mark.parametrize("rate", ["1e20", "1e30"])
def test_a_run_that_diverges_is_a_sentence(folder: Path, tmp_path: Path, tapdot: Tapdot, rate: str) -> None:
    command = ("prune", folder / "net.onnx", "-o", tmp_path / "p.onnx", "--data", folder / "train.npz", *SHORT)
    failed(tapdot(*command, "--learning-rate", rate), "Start again with smaller learning rates (--learning-rate)")


def test_an_interruption_leaves_a_checkpoint_and_no_half_model(folder: Path, tmp_path: Path) -> None:
    script = HEARS_CONTROL_C + (
        "import sys; from tapdot.cli import main\n"
        f"sys.argv = ['tapdot', 'prune', {str(folder / 'net.onnx')!r}, '-o', 'p.onnx', '--data', {str(folder / 'train.npz')!r}, "
        "'--epochs', '100000']\n"
        "main()"
    )
    process = subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, stderr=subprocess.PIPE, text=True, env=os.environ)
    checkpoint = tmp_path / "p.onnx.pruning" / "checkpoint.npz"
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1 and "Interrupted" in err and "Traceback" not in err
    assert "go on from there with the same options and --resume p.onnx.pruning." in " ".join(err.split())
    assert names(tmp_path) == ["p.onnx.pruning"] and checkpoint.exists()
    assert len((tmp_path / "p.onnx.pruning" / "log.jsonl").read_text().splitlines()) >= 1
