"""Quantization-aware training: the codes that were trained are the codes that are compiled."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.passes.prune_networks import samples, small_graph, trained_classifier

import tapdot
from tapdot.compiler import pipeline
from tapdot.compiler.errors import InputError, TapdotError
from tapdot.compiler.graph import Graph, GraphBuilder
from tapdot.compiler.interpreter import interpret
from tapdot.compiler.pipeline import Notes
from tapdot.compiler.types import TensorType
from tapdot.passes.bit_widths import BitWidths, layers
from tapdot.passes.fake_quantize import FakeQuantizedModule, simulated_layers
from tapdot.passes.prune import prune
from tapdot.passes.recipes import Calibration, recipe
from tapdot.passes.requantize import Requantize
from tapdot.passes.sparsity_plan import Pruning
from tapdot.passes.train_quantized import TrainQuantized
from tapdot.passes.training_runs import TrainingStoppedError

DATA = samples(256)
TEST = samples(512, 7)
FOUR, EIGHT = BitWidths(default=4), BitWidths(default=8)


def calibrated(graph: Graph, bits: BitWidths = FOUR) -> Graph:
    """After the recipe's phases up to calibration."""
    phases = recipe("mixed", (), Calibration(DATA[0][:64]), bits=bits)
    names = [phase.name for phase in phases]
    return pipeline.run(graph, phases[: names.index("calibrate") + 1]).graph


def integers(graph: Graph, bits: BitWidths = FOUR) -> Graph:
    """A calibrated graph made integer by the rest of the recipe."""
    phases = recipe("mixed", (), Calibration(DATA[0][:64]), bits=bits)
    names = [phase.name for phase in phases]
    return pipeline.run(graph, phases[names.index("calibrate") + 1 :]).graph


def top1(graph: Graph) -> float:
    (name,) = graph.inputs
    answers = [interpret(graph, {name: torch.from_numpy(image[None])})[graph.outputs[0]] for image in TEST[0]]
    return float((torch.cat(answers).reshape(len(answers), -1).argmax(1).numpy() == TEST[1]).mean())


def run(graph: Graph, **options: object) -> Graph:
    settings: dict[str, object] = {"epochs": 3, "batch": 32, "learning_rate": 0.02, **options}
    return TrainQuantized(DATA, requantize=Requantize(widths=FOUR), **settings).run(graph, Notes())  # type: ignore[arg-type]


@pytest.mark.parametrize("graph", [small_graph(), trained_classifier()], ids=["small", "classifier"])
def test_the_module_computes_with_the_codes_that_requantize_makes(graph: Graph) -> None:
    simulated = calibrated(graph)
    module = FakeQuantizedModule(simulated, simulated_layers(simulated, Requantize(widths=FOUR)))
    made = integers(simulated)
    weights = {node.name: made.constants[node.inputs[1]] for node in made.nodes if node.op in ("QConv", "QGemm")}
    assert set(weights) == {layer.name for layer in module.layers}
    for layer in module.layers:
        found = module._integers(layer)
        assert np.array_equal(found.codes, weights[layer.name]) and layer.bits == 4
        assert torch.equal(module.operand(layer.weight), torch.from_numpy(found.real()))


def test_the_gradient_passes_the_rounding() -> None:
    module = calibrated(trained_classifier()).to_torch(fake_quant=True)
    assert isinstance(module, FakeQuantizedModule)
    layer = module.layers[0]
    factor = torch.randn(module.constant(layer.weight).shape)
    (module.operand(layer.weight) * factor).sum().backward()  # type: ignore[no-untyped-call]
    assert torch.equal(module.constant(layer.weight).grad, factor)  # type: ignore[arg-type]


def test_training_helps_and_what_was_trained_is_compiled() -> None:
    two = BitWidths(dict.fromkeys(layers(calibrated(trained_classifier(), EIGHT)), 2), default=8)
    simulated = calibrated(trained_classifier(), two)
    step = TrainQuantized(DATA, epochs=4, batch=32, learning_rate=0.01, requantize=Requantize(widths=two))
    notes = Notes()
    trained = step.run(simulated, notes)
    before, after = integers(simulated, two), integers(trained, two)
    assert top1(after) > top1(before) + 0.1
    assert "trained with their codes for 4 epochs" in notes.lines[-1]
    for layer in simulated_layers(simulated, step.requantize):
        (node,) = [node for node in after.nodes if node.name == layer.name]
        codes = after.constants[node.inputs[1]]
        scales = np.asarray(trained.type(layer.weight).quant.scale)  # type: ignore[union-attr]
        along = scales.reshape([-1 if axis == layer.axis else 1 for axis in range(codes.ndim)])
        assert np.array_equal(np.float32(codes * along), trained.constants[layer.weight])
        assert np.abs(codes).max() == 1 and after.type(node.inputs[1]).dtype == "int2"


def test_an_epoch_that_forgets_is_begun_again_with_smaller_steps() -> None:
    simulated = calibrated(trained_classifier())
    notes = Notes()
    step = TrainQuantized(DATA, epochs=2, batch=32, learning_rate=0.3, restarts=6, requantize=Requantize(widths=FOUR))
    trained = step.run(simulated, notes)
    first = notes.lines[0]
    assert "fell from 100.0 to " in first and "in epoch 1, at a learning rate of up to 0.3; the epoch was begun again" in first
    assert top1(integers(trained)) > 0.8
    with pytest.raises(TrainingStoppedError, match=r"fell from .* Start again with smaller learning rates"):
        replace(step, restarts=0).run(simulated, Notes())


def test_zeros_of_pruned_layers_stay() -> None:
    graph = trained_classifier()
    simulated = calibrated(prune(graph, None, Pruning(4.5, share=1)).graph, EIGHT)
    trained = TrainQuantized(DATA, epochs=1, batch=32).run(simulated, Notes())
    kept = 0
    for layer in simulated_layers(simulated):
        zeros = simulated.constants[layer.weight] == 0
        if layer.pruned:
            kept += 1
            assert not trained.constants[layer.weight][zeros].any()
            assert not np.array_equal(trained.constants[layer.weight], simulated.constants[layer.weight])
    assert kept == 2


def test_equal_seeds_give_equal_codes_and_a_stopped_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    simulated = calibrated(trained_classifier())
    whole = run(simulated)
    again = run(simulated)
    assert all(np.array_equal(whole.constants[name], again.constants[name]) for name in whole.constants)

    class Stopped(Exception):
        pass

    def stop(line: str) -> None:
        if "epoch 3" in line:
            raise Stopped

    notes = Notes(progress=stop)
    settings = {"epochs": 3, "batch": 32, "learning_rate": 0.02, "log": str(tmp_path / "run")}
    step = TrainQuantized(DATA, requantize=Requantize(widths=FOUR), **settings)  # type: ignore[arg-type]
    with pytest.raises(Stopped):
        step.run(simulated, notes)
    resumed = run(simulated, log=str(tmp_path / "run"), resume=True)
    assert all(np.array_equal(whole.constants[name], resumed.constants[name]) for name in whole.constants)
    assert (tmp_path / "run" / "log.jsonl").read_text().count("\n") == 3


def test_what_cannot_be_trained_is_said() -> None:
    simulated = calibrated(trained_classifier())
    with pytest.raises(InputError, match="samples with labels"):
        TrainQuantized(None).run(simulated, Notes())
    with pytest.raises(InputError, match="needs the class of every sample"):
        TrainQuantized(DATA[0]).run(simulated, Notes())
    with pytest.raises(InputError, match="the folder of the run"):
        TrainQuantized(DATA, resume=True).run(simulated, Notes())
    with pytest.raises(InputError, match="nothing to train"):
        TrainQuantized(DATA, epochs=1).run(run(simulated, epochs=1), Notes())
    with pytest.raises(TapdotError, match="at least 0"):
        TrainQuantized(DATA, epochs=-1).run(simulated, Notes())


def test_layers_that_share_weights_share_their_codes() -> None:
    builder = GraphBuilder("shared")
    x = builder.input("x", TensorType((1, 3, 6, 6), "float32"))
    w = builder.constant(np.random.default_rng(0).standard_normal((3, 3, 3, 3)).astype(np.float32), "w")
    (first,) = builder.add("Conv", [x, w], {"pads": (1, 1, 1, 1)}, name="one")
    (second,) = builder.add("Conv", [first, w], {"pads": (1, 1, 1, 1)}, name="two")
    data = Calibration(np.random.default_rng(1).standard_normal((8, 3, 6, 6)).astype(np.float32))
    phases = recipe("int8", (), data)
    names = [phase.name for phase in phases]
    graph = pipeline.run(builder.build([second]), phases[: names.index("calibrate") + 1]).graph
    assert [layer.weight for layer in simulated_layers(graph)] == ["w", "w"]
    with pytest.raises(TapdotError, match="'one' and 'two' read 'w' with 8 and 4 bits"):
        simulated_layers(graph, Requantize(widths=BitWidths({"two": 4})))


def test_the_recipe_trains_where_it_is_asked_to() -> None:
    package = tapdot.compile(
        trained_classifier(),
        recipe="mixed",
        bits=FOUR,
        data=DATA[0][:64],
        train=DATA,
        settings=["train_quantized.epochs=1", "train_quantized.batch=32"],
    )
    assert any("trained with their codes for 1 epochs" in note for note in package.notes)
