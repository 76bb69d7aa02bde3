"""Pruning while training: whole runs, their data, and runs that stop and go on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.passes.prune_networks import CLASSES, samples, small_graph, trained_classifier
from torch import nn

import tapdot
from tapdot.compiler.errors import InputError, TapdotError
from tapdot.compiler.graph import GraphBuilder
from tapdot.compiler.interpreter import GraphModule
from tapdot.compiler.types import TensorType
from tapdot.passes import prune_checkpoint, prune_training
from tapdot.passes.prune import Pruned, equal_epochs, kept_share, prune
from tapdot.passes.prune_training import Step, Training
from tapdot.passes.sparsity_plan import Pruning
from tapdot.passes.training_data import Augmentation, TrainingData, evaluate, training_data
from tapdot.passes.training_runs import TrainingStoppedError

SHORT = Training(2, 2, batch=32, seed=3)
PRUNING = Pruning(6.0, share=2)
DATA = samples()


# -- a graph in training mode ------------------------------------------------------------------------------------------------


def test_batch_norms_of_a_graph_are_trained_and_come_back() -> None:
    before = trained_classifier()
    after = prune(before, DATA, PRUNING, SHORT)
    changed = {name for name in before.constants if not np.array_equal(before.constants[name], after.graph.constants[name])}
    norms = [node for node in before.nodes if node.op == "BatchNormalization"]
    assert len(norms) == 3 and all(set(node.inputs[1:]) <= changed for node in norms)
    assert after.graph.nodes == before.nodes and after.graph.type(before.inputs[0]).shape == (1, 3, 8, 8)


def test_running_statistics_approach_those_of_the_data() -> None:
    builder = GraphBuilder("norm")
    x = builder.input("x", TensorType((64, 4, 5, 5), "float32"))
    facts = [builder.constant(np.full(4, value, np.float32), "fact") for value in (1, 0, 0, 1)]
    graph = builder.build(builder.add("BatchNormalization", (x, *facts), {"momentum": 0.5}))
    module = GraphModule(graph).train()
    values = 3 + 2 * torch.randn(64, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    for _ in range(10):
        module(values)
    mean, variance = (module.weights()[name] for name in graph.nodes[0].inputs[3:])
    assert np.allclose(mean, values.mean((0, 2, 3)), atol=0.02) and np.allclose(variance, values.var((0, 2, 3)), rtol=0.02)


def test_a_graph_whose_batch_is_fixed_is_trained_as_it_is() -> None:
    builder = GraphBuilder("fixed")
    x = builder.input("x", TensorType((1, 3, 8, 8), "float32"))
    numbers = np.random.default_rng(0)

    def weight(*shape: int) -> str:
        return builder.constant(numbers.standard_normal(shape).astype(np.float32) / 5, "weight")

    (stem,) = builder.add("Conv", (x, weight(8, 3, 3, 3)), {"strides": (2, 2)})
    (body,) = builder.add("Conv", (stem, weight(8, 8, 3, 3)), {})
    (moved,) = builder.add("Transpose", (body,), {"perm": (1, 0, 2, 3)})  # samples are no longer the first axis
    (flat,) = builder.add("Reshape", (moved, builder.constant(np.array([1, 8], np.int64), "shape")))
    graph = builder.build(builder.add("Gemm", (flat, weight(8, CLASSES)), {}))
    after = prune(graph, samples(6), Pruning(4.0, share=1), Training(1, 1))
    assert "batch to 1" in after.notes[0] and after.accuracy is not None


# -- the whole ---------------------------------------------------------------------------------------------------------------


def test_pruning_keeps_the_accuracy_and_beats_nothing_trained() -> None:
    before = trained_classifier()
    held = samples(300, 7)
    training = Training(3, 4, batch=32, learning_rate=0.05, retrain_learning_rate=0.05)
    steps: list[Step] = []
    after = prune(before, samples(512, 1), Pruning(6.0, share=2), training, validation=held, progress=steps.append)
    assert after.validated and after.accuracy_before is not None and after.accuracy is not None
    assert after.accuracy_before > 0.7 and after.accuracy > after.accuracy_before - 0.05
    bare = prune(before, None, Pruning(6.0, share=2))
    data = training_data(before, held)
    assert evaluate(bare.graph.to_torch(), data, 1) < after.accuracy
    assert evaluate(after.graph.to_torch(), data, 1) == pytest.approx(after.accuracy, abs=0.01), "the graph has what was trained"
    assert kept_share(after.graph, after.plan) == pytest.approx(1 / 6, rel=0.03) == kept_share(bare.graph, bare.plan)
    assert [record.phase for record in after.records] == ["admm"] * 3 + ["retrain"] * 4
    rhos = [record.rho for record in after.records]
    assert rhos[0] == training.rho and rhos[1] == training.rho * training.rho_growth and rhos[-1] is None
    assert len(steps) == 7 * 16 and str(steps[0]).startswith("under ADMM, epoch 1 of 3, step 1 of 16: loss ")
    groups = after.graph.constants["features.3.weight"].reshape(8, 2, -1) != 0
    assert (groups[:, 0] == groups[:, 1]).all()


def test_one_shot_retrains_as_long_as_admm() -> None:
    after = prune(trained_classifier(), DATA, PRUNING, equal_epochs(SHORT))
    assert [record.phase for record in after.records] == ["retrain"] * 4
    assert kept_share(after.graph, after.plan) == pytest.approx(1 / 6, rel=0.03)


def test_the_public_function_takes_options_by_name(tmp_path: Path) -> None:
    options: dict[str, Any] = {"rate": 5.0, "share": 4, "epochs": 1, "retrain_epochs": 1, "batch": 64, "log": tmp_path / "log"}
    after = tapdot.prune(trained_classifier(), data=DATA, **options)
    assert after.plan.rate() == pytest.approx(5.0, rel=0.02) and {row.share for row in after.plan.rates} == {4}
    after.save(tmp_path / "pruned.onnx")
    back = tapdot.trace(tmp_path / "pruned.onnx")
    assert np.array_equal(back.constants["features.3.weight"], after.graph.constants["features.3.weight"])
    again = tapdot.prune(trained_classifier(), data=DATA, **options)  # what was saved is finished
    with pytest.raises(TapdotError, match=r"in Python resume=True.*by its result's save\(\), or by finish\(\)"):
        tapdot.prune(trained_classifier(), data=DATA, **options)
    again.finish()
    assert (tmp_path / "log" / "log.jsonl").exists() and not (tmp_path / "log" / prune_checkpoint.CHECKPOINT).exists()
    with pytest.raises(TypeError, match="no option 'rates'"):
        tapdot.prune(trained_classifier(), rates=5.0)


def test_a_model_that_ends_in_a_softmax_learns_from_its_probabilities() -> None:
    before = trained_classifier()
    builder = GraphBuilder.of(before)
    graph = builder.build(builder.add("Softmax", (before.outputs[0],), {"axis": 1}))
    plain, soft = (prune(one, DATA, PRUNING, SHORT) for one in (before, graph))
    assert soft.records[0].loss == pytest.approx(plain.records[0].loss, rel=1e-3)


def same(one: Pruned, two: Pruned) -> bool:
    return all(np.array_equal(one.graph.constants[name], two.graph.constants[name]) for name in one.graph.constants)


def test_equal_seeds_give_equal_weights_and_others_do_not() -> None:
    first, again = (prune(trained_classifier(), DATA, PRUNING, SHORT) for _ in range(2))
    assert same(first, again) and [record.loss for record in first.records] == [record.loss for record in again.records]
    assert not same(first, prune(trained_classifier(), DATA, PRUNING, Training(2, 2, batch=32, seed=4)))


# -- stopping and going on ---------------------------------------------------------------------------------------------------


class Stopped(Exception):
    pass


def stop_at(phase: str, epoch: int) -> Any:
    def progress(step: Step) -> None:
        if (step.phase, step.epoch, step.step) == (phase, epoch, 3):
            raise Stopped

    return progress


@pytest.mark.parametrize(("phase", "epoch"), [("admm", 1), ("retrain", 0), ("retrain", 1)])
def test_a_run_that_was_stopped_ends_as_if_it_had_not_been(tmp_path: Path, phase: str, epoch: int) -> None:
    whole = prune(trained_classifier(), DATA, PRUNING, SHORT)
    with pytest.raises(Stopped):
        prune(trained_classifier(), DATA, PRUNING, SHORT, folder=tmp_path, progress=stop_at(phase, epoch))
    with pytest.raises(TapdotError, match="holds a run that is not finished; go on with it"):
        prune(trained_classifier(), DATA, PRUNING, SHORT, folder=tmp_path)
    resumed = prune(trained_classifier(), DATA, PRUNING, SHORT, folder=tmp_path, resume=True)
    assert same(whole, resumed)
    resumed.finish()
    assert not (tmp_path / prune_checkpoint.CHECKPOINT).exists()
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [(line["phase"], line["epoch"]) for line in log] == [("admm", 1), ("admm", 2), ("retrain", 1), ("retrain", 2)]
    assert [line["loss"] for line in log] == [record.loss for record in whole.records]
    assert 0 < log[1]["distances"]["features.3"]["pattern"] < 1


def test_checkpoints_of_other_models_and_options_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        prune(trained_classifier(), DATA, PRUNING, SHORT, folder=tmp_path, progress=stop_at("retrain", 0))
    again = {"folder": tmp_path, "resume": True}
    with pytest.raises(TapdotError, match="is of another model"):
        prune(small_graph(), DATA, PRUNING, SHORT, **again)  # type: ignore[arg-type]
    with pytest.raises(TapdotError, match="was started with share=2, and now it is 4; go on with the same options"):
        prune(trained_classifier(), DATA, Pruning(6.0, share=4), SHORT, **again)  # type: ignore[arg-type]
    with pytest.raises(TapdotError, match="was started with retrain_epochs=2, and now it is 3"):
        prune(trained_classifier(), DATA, PRUNING, Training(2, 3, batch=32, seed=3), **again)  # type: ignore[arg-type]
    with pytest.raises(TapdotError, match="There is no run to go on with"):
        prune(trained_classifier(), DATA, PRUNING, SHORT, folder=tmp_path / "empty", resume=True)
    file = tmp_path / prune_checkpoint.CHECKPOINT
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(TapdotError, match="damaged or no checkpoint"):
        prune(trained_classifier(), DATA, PRUNING, SHORT, **again)  # type: ignore[arg-type]


def nan_loss(monkeypatch: pytest.MonkeyPatch, *, above: float) -> None:
    """The loss is NaN in the third epoch while the learning rate is above a limit."""
    plain = prune_training.Trainer._loss

    def loss(self: Any, scores: torch.Tensor, labels: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
        bad = self.phase == "retrain" and self.done == 0 and self._optimizer.param_groups[0]["lr"] > above
        return plain(self, scores, labels, batch) * (float("nan") if bad else 1.0)

    monkeypatch.setattr(prune_training.Trainer, "_loss", loss)


def test_a_loss_that_is_nan_stops_and_the_last_good_state_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nan_loss(monkeypatch, above=0.02)
    with pytest.raises(
        TrainingStoppedError, match=r"became nan in epoch 1 of 2 \(retraining\).*kept in .*go on from there"
    ) as caught:
        prune(trained_classifier(), DATA, PRUNING, SHORT, folder=tmp_path)
    good = caught.value.last_good.constants["features.3.weight"]
    assert np.isfinite(good).all() and not good.all()
    slower = Training(2, 2, batch=32, seed=3, retrain_learning_rate=0.01)
    resumed = prune(trained_classifier(), DATA, PRUNING, slower, folder=tmp_path, resume=True)
    assert len(resumed.records) == 4 and resumed.records[-1].loss > 0


def test_a_loss_that_is_nan_may_be_answered_by_a_smaller_learning_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    nan_loss(monkeypatch, above=0.02)
    after = prune(trained_classifier(), DATA, PRUNING, Training(2, 2, batch=32, seed=3, restarts=1))
    assert "begun again with learning rates 0.33 times as large" in after.notes[0]
    assert len(after.records) == 4 and np.isfinite(after.records[-1].loss)


def test_an_epoch_whose_last_update_ruins_the_network_is_not_kept(tmp_path: Path) -> None:
    """A step's loss is that before its update: each epoch here is one step, so its own losses are all finite."""
    for rate in (1e20, 1e30):  # the second leaves weights that are finite and have no float32 norm
        folder = tmp_path / f"{rate:g}"
        wild = Training(1, 1, batch=len(DATA[1]), learning_rate=rate, retrain_learning_rate=0.01)
        with pytest.raises(TrainingStoppedError, match=r"after epoch 1 of 1 \(under ADMM\).* Start again with smaller") as caught:
            prune(trained_classifier(), DATA, PRUNING, wild, folder=folder)
        kept = caught.value.last_good.constants
        assert all(np.array_equal(kept[name], array) for name, array in trained_classifier().constants.items())
        assert not (folder / prune_checkpoint.CHECKPOINT).exists()


class Floored(nn.Sequential):
    """A network with a constant that is infinite, as the open end of a range is."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, CLASSES, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.register_buffer("floor", torch.tensor(-torch.inf))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.maximum(super().forward(x), self.floor)  # type: ignore[arg-type]


def test_a_constant_may_be_infinite() -> None:
    graph = tapdot.trace(Floored().eval(), (torch.zeros(1, 3, 8, 8),))
    assert any(np.isinf(array).any() for array in graph.constants.values())
    inputs = np.random.default_rng(0).standard_normal((64, 3, 8, 8)).astype(np.float32)
    pruned = prune(graph, (inputs, np.arange(64) % CLASSES), Pruning(2.25, share=1), Training(1, 1, batch=32))
    assert pruned.plan.rates


def test_looking_at_the_next_loss_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = prune(trained_classifier(), DATA, PRUNING, SHORT)
    monkeypatch.setattr(prune_training.Trainer, "_next_loss", lambda self, batch, labels: (0.0, False))
    blind = prune(trained_classifier(), DATA, PRUNING, SHORT)
    assert same(looked, blind) and [one.distances for one in looked.records] == [one.distances for one in blind.records]


def test_the_state_before_a_ruinous_epoch_can_be_gone_on_from(tmp_path: Path) -> None:
    wild = Training(1, 1, batch=len(DATA[1]), learning_rate=0.01, retrain_learning_rate=1e20)
    prune_training_rate = prune_training.Trainer._learning_rate
    with pytest.MonkeyPatch.context() as patch:  # the cosine begins at 0, where a single step would change nothing
        patch.setattr(prune_training.Trainer, "_learning_rate", lambda self, share: prune_training_rate(self, max(share, 0.1)))
        with pytest.raises(TrainingStoppedError, match=r"after epoch 1 of 1 \(retraining\).* go on from there with smaller"):
            prune(trained_classifier(), DATA, PRUNING, wild, folder=tmp_path)
        calm = replace(wild, retrain_learning_rate=0.01)
        resumed = prune(trained_classifier(), DATA, PRUNING, calm, folder=tmp_path, resume=True)
        assert same(resumed, prune(trained_classifier(), DATA, PRUNING, calm))


def test_runs_go_on_with_their_own_data_only(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        prune(trained_classifier(), DATA, PRUNING, SHORT, folder=tmp_path, progress=stop_at("retrain", 0))
    images, labels = DATA
    for other in ((images + 1, labels), (images, labels[::-1]), (images[:-1], labels[:-1])):
        with pytest.raises(TapdotError, match=r"was started with other training data .* give the same samples and labels"):
            prune(trained_classifier(), other, PRUNING, SHORT, folder=tmp_path, resume=True)


@pytest.mark.parametrize("missing", ["facts", "state phase", "state weight last.bias", "state pruner rho"])
def test_a_checkpoint_that_lacks_something_is_said(tmp_path: Path, missing: str) -> None:
    with pytest.raises(Stopped):
        prune(trained_classifier(), DATA, PRUNING, SHORT, folder=tmp_path, progress=stop_at("admm", 1))
    file = tmp_path / prune_checkpoint.CHECKPOINT
    with np.load(file) as stored:
        arrays = {name: stored[name] for name in stored.files}
    assert missing in arrays
    np.savez(file, **{name: array for name, array in arrays.items() if name != missing})
    with pytest.raises(TapdotError, match=r"damaged or no checkpoint|Expected the state"):
        prune(trained_classifier(), DATA, PRUNING, SHORT, folder=tmp_path, resume=True)


@pytest.mark.parametrize("fact", ["version", "model", "settings"])
def test_a_checkpoint_that_lacks_a_fact_is_said(tmp_path: Path, fact: str) -> None:
    with pytest.raises(Stopped):
        prune(trained_classifier(), DATA, PRUNING, SHORT, folder=tmp_path, progress=stop_at("admm", 1))
    file = tmp_path / prune_checkpoint.CHECKPOINT
    with np.load(file) as stored:
        arrays = {name: stored[name] for name in stored.files}
    facts = json.loads(str(arrays["facts"]))
    del facts[fact]
    np.savez(file, **{**arrays, "facts": np.array(json.dumps(facts))})
    with pytest.raises(TapdotError, match="damaged or no checkpoint"):
        prune(trained_classifier(), DATA, PRUNING, SHORT, folder=tmp_path, resume=True)


def test_plots_are_drawn_or_say_what_they_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    after = prune(trained_classifier(), DATA, PRUNING, SHORT, folder=tmp_path)
    assert after.notes == () and (tmp_path / "accuracy.svg").read_text().startswith("<?xml")
    assert "retrain" not in (tmp_path / "distance.svg").read_text()
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    assert "tapdot[examples]" in str(prune_checkpoint.draw(tmp_path, after.records))


# -- data --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (DATA[0], "needs the class of every sample, and the data has none"),
        ((DATA[0], np.full(len(DATA[0]), CLASSES)), "labels from 0 to 3 in the data.*found 4"),
        ((DATA[0][:, :, :6], DATA[1]), r"Expected samples of \[3, 8, 8\]"),
        ((np.full_like(DATA[0], np.nan), DATA[1]), "holds NaN"),
    ],
)
def test_data_that_does_not_fit_is_said(data: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        prune(trained_classifier(), data, PRUNING, SHORT)


def test_models_that_are_no_classifiers_are_said() -> None:
    planes = tapdot.trace(nn.Conv2d(4, 4, 3), (torch.zeros(1, 4, 8, 8),))
    with pytest.raises(InputError, match=r"for classifiers.*call tapdot.Pruner in your own training loop"):
        prune(planes, samples(), Pruning(share=1), SHORT)


def test_a_model_that_was_quantized_before_is_said() -> None:
    builder = GraphBuilder("codes")
    x = builder.input("x", TensorType((1, 4, 8, 8), "float32"))
    codes = builder.add("FakeQuantize", (x,), {"scale": 0.1, "low": -128, "high": 127, "dtype": "int8"})
    weight = builder.constant(np.ones((4, 4, 3, 3), np.float32), "weight")
    graph = builder.build(builder.add("Conv", (*codes, weight), {}))
    with pytest.raises(TapdotError, match=r"quantized before .*; prune the float model it was made from"):
        prune(graph)


@pytest.mark.parametrize(
    "wrong", [{"epochs": -1}, {"batch": 0}, {"learning_rate": 0.0}, {"learning_rate": float("inf")}, {"distillation": 1.5}]
)
def test_training_options_out_of_range_are_said(wrong: dict[str, Any]) -> None:
    with pytest.raises(TapdotError, match=f"Expected {next(iter(wrong))}"):
        Training(**wrong).check()


@pytest.mark.parametrize("seed", [-1, 2**31, 99999999999999999999])
def test_seeds_out_of_range_are_said(seed: int) -> None:
    with pytest.raises(TapdotError, match=f"Expected a seed from 0 to 2147483647, found {seed}"):
        prune(trained_classifier(), DATA, PRUNING, replace(SHORT, seed=seed))
    Training(seed=2**31 - 1).check()


def test_validation_samples_without_labels_are_said() -> None:
    with pytest.raises(InputError, match="Accuracy on validation samples needs the class of every one, and the data has none"):
        prune(trained_classifier(), DATA, PRUNING, SHORT, validation=DATA[0])


def test_augmentation_moves_and_mirrors_but_adds_nothing() -> None:
    image = torch.arange(16.0).reshape(1, 1, 4, 4)
    generator = torch.Generator().manual_seed(0)
    moved = [Augmentation(1, True)(image, generator) for _ in range(20)]
    assert len({tuple(one.flatten().tolist()) for one in moved}) > 4
    assert all(set(one.flatten().tolist()) <= set(range(16)) for one in moved)
    assert torch.equal(Augmentation()(image, generator), image)


def test_noise_may_be_drawn_every_epoch() -> None:
    asked: list[int] = []

    def inputs(epoch: int) -> np.ndarray:
        asked.append(epoch)
        return DATA[0]

    prune(trained_classifier(), TrainingData(inputs, DATA[1]), PRUNING, SHORT)
    assert set(asked) == {0, 1, 2, 3} and asked.count(2) == 1
