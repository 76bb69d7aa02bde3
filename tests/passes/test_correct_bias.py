"""Bias correction: means of channels come back, layer behind layer, and what it leaves alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.passes.before_and_after import graph
from tests.small_networks import INPUT_SHAPE, small_network

from tapdot.compiler.errors import GraphError, TapdotError
from tapdot.compiler.graph import Graph
from tapdot.compiler.interpreter import interpret
from tapdot.compiler.pipeline import Notes, Phase, run
from tapdot.compiler.types import Quant
from tapdot.kernels import numerics
from tapdot.passes.calibrate import Calibrate
from tapdot.passes.correct_bias import BiasCorrection
from tapdot.passes.fold_batch_norm import FoldBatchNorm
from tapdot.passes.fuse import Fuse
from tapdot.passes.recipes import clean_up
from tapdot.passes.requantize import Requantize

IMAGES = (np.random.default_rng(1).standard_normal((8, *INPUT_SHAPE[1:])) + 0.5).astype(np.float32)
BITS = 3
NARROW = Requantize(weight_bits=BITS)


def calibrated(model: Graph | None = None) -> Graph:
    folded = run(model or small_network(), (clean_up(), Phase("fold", (FoldBatchNorm(),)))).graph
    return Calibrate(IMAGES)(folded)


def quantized_weights(model: Graph) -> Graph:
    """The model with the weights that codes of few bits give back."""
    constants = dict(model.constants)
    for node in model.nodes:
        if node.op in ("Conv", "Gemm"):
            weight, axis = constants[node.inputs[1]], 0 if node.op == "Conv" else 1
            scales = numerics.weight_scales(weight, BITS, axis)
            along = scales.reshape([-1 if place == axis else 1 for place in range(weight.ndim)])
            constants[node.inputs[1]] = (numerics.weight_codes(weight, scales, BITS, axis) * along).astype(np.float32)
    return model.replace(constants=constants)


def float_again(model: Graph) -> Graph:
    """The model without simulated codes."""
    nodes, names = [], {}
    for node in model.nodes:
        if node.op == "FakeQuantize":
            names[node.output] = names.get(node.inputs[0], node.inputs[0])
        else:
            changed = tuple(names.get(name, name) for name in node.inputs)
            nodes.append(type(node)(node.op, changed, node.outputs, node.attributes, node.name))
    return model.replace(nodes=tuple(nodes), outputs=tuple(names.get(name, name) for name in model.outputs))


def means(model: Graph, names: list[str], images: np.ndarray = IMAGES) -> dict[str, np.ndarray]:
    """Mean of each channel over the samples."""
    total: dict[str, np.ndarray] = {}
    for image in images:
        with torch.no_grad():
            values = interpret(model, {"image": torch.from_numpy(image[None])}, keep=names)
        for name in names:
            value = values[name].double().numpy()
            total[name] = total.get(name, 0) + value.reshape(value.shape[1], -1).mean(1) / len(images)
    return total


def test_means_come_back_in_every_layer() -> None:
    before = calibrated()
    notes = Notes()
    after = BiasCorrection(IMAGES, requantize=NARROW).run(before, notes).verify()
    names = [node.output for node in before.nodes if node.op in ("Conv", "Gemm")]
    wanted = means(float_again(before), names)
    off, corrected = means(quantized_weights(before), names), means(quantized_weights(after), names)
    for name in names:
        assert np.abs(off[name] - wanted[name]).max() > 0.005
        np.testing.assert_allclose(corrected[name], wanted[name], atol=2e-5)
    assert len(notes.lines) == 1
    assert notes.lines[0].startswith("3 biases were corrected over 8 samples, by ")


def test_one_layer_by_hand() -> None:
    text = """
        input %x: float32[1,1,1,2]
        constant %w: float32[1,1,1,1] = [1.0]
        constant %v: float32[2,1,1,1] = [1.0, 0.9]
        constant %b: float32[2] = [5.0, 7.0]
        %r: float32[1,1,1,2] = Relu(%x)
        %c: float32[1,2,1,2] = Conv(%r, %v, %b) {strides=[1, 1], pads=[0, 0, 0, 0], dilations=[1, 1], group=1}
        return %c"""
    model = Calibrate(np.array([[[[2.55, 0.0]]]], np.float32), method="minmax")(graph(text))
    after = BiasCorrection(np.array([[[[2.55, 0.0]]]], np.float32), requantize=Requantize())(model)
    np.testing.assert_allclose(after.constants[after.nodes[-1].inputs[2]], [5.0, 7.0], atol=1e-6)
    narrow = text.replace("float32[2,1,1,1] = [1.0, 0.9]", "float32[2,2,1,1] = [1.0, 0.7, 1.0, 0.2]")
    narrow = narrow.replace("[1,1,1,2]", "[1,2,1,2]")
    model = Calibrate(np.array([[[[2.55, 0.0]], [[1.0, 1.0]]]], np.float32), method="minmax")(graph(narrow))
    after = BiasCorrection(np.array([[[[2.55, 0.0]], [[1.0, 1.0]]]], np.float32), requantize=Requantize(weight_bits=2))(model)
    # 2 bits: codes -1, 0, 1; 0.7 becomes 1 and 0.2 becomes 0, and the mean of that input channel is 1
    np.testing.assert_allclose(after.constants[after.nodes[-1].inputs[2]], [5.0 - 0.3, 7.0 + 0.2], atol=1e-3)


def test_samples_nobody_saw_gain_too() -> None:
    before = calibrated()
    after = BiasCorrection(IMAGES, requantize=NARROW)(before)
    others = (np.random.default_rng(9).standard_normal((8, *INPUT_SHAPE[1:])) + 0.5).astype(np.float32)
    (name,) = before.outputs
    wanted = means(float_again(before), [name], others)[name]
    errors = [np.abs(means(quantized_weights(model), [name], others)[name] - wanted).sum() for model in (before, after)]
    assert errors[1] < 0.5 * errors[0]


def test_the_split_into_batches_changes_nothing() -> None:
    before = calibrated()
    once = BiasCorrection(IMAGES, requantize=NARROW)(before)
    again = BiasCorrection([IMAGES[:3], IMAGES[3:]], requantize=NARROW)(before)
    for name, array in once.constants.items():
        np.testing.assert_array_equal(array, again.constants[name])


def test_a_limit_of_samples() -> None:
    notes = Notes()
    BiasCorrection(IMAGES, samples=2).run(calibrated(), notes)
    assert "over 2 samples" in notes.lines[0]


def test_after_calibration_and_before_fusing() -> None:
    with pytest.raises(GraphError, match="requires scales of activations"):
        run(FoldBatchNorm()(small_network()), (Phase("p", (BiasCorrection(IMAGES),)),))
    with pytest.raises(TapdotError, match="after calibrate and before fuse"):
        BiasCorrection(IMAGES)(Fuse()(calibrated()))


def test_a_width_that_no_weights_have_is_refused() -> None:
    with pytest.raises(TapdotError, match=r"2 to 8 bits for requantize\.weight_bits, found 1"):
        BiasCorrection(IMAGES, requantize=Requantize(weight_bits=1))(calibrated())


def test_without_samples_there_is_nothing_to_correct_by() -> None:
    """As for a model that says its own scales, which needs none for anything else."""
    with pytest.raises(TapdotError, match=r"over samples: give some \(--data DATA\)"):
        BiasCorrection(None)(calibrated())


@pytest.mark.parametrize(
    "requantize",
    [
        Requantize(weight_bits=BITS, per_channel=False),
        Requantize(weight_bits=BITS, first_layer="float"),
        Requantize(weight_bits=BITS, last_layer="float"),
    ],
)
def test_the_codes_are_those_that_the_weights_get(requantize: Requantize) -> None:
    """Of one scale a tensor, or none: with any of these choices the integer network's means are the float network's."""
    before = calibrated()
    after = BiasCorrection(IMAGES, requantize=requantize)(before)
    (name,) = before.outputs
    wanted = means(float_again(before), [name])[name]
    off, corrected = (np.abs(means(requantize(Fuse()(model)), [name])[name] - wanted).max() for model in (before, after))
    assert off > 0.005 and corrected < off / 4


def test_a_layer_that_stays_float_keeps_its_bias() -> None:
    before = calibrated()
    kept = next(node for node in before.nodes if node.op == "Conv")
    after = BiasCorrection(IMAGES, requantize=Requantize(weight_bits=BITS, keep_float=(kept.name,)))(before)
    changed = {node.name: node.inputs[2:] for node in after.nodes}
    assert changed[kept.name] == kept.inputs[2:]
    assert sum(changed[node.name] != node.inputs[2:] for node in before.nodes) == 2


def test_codes_that_a_model_came_with_are_kept() -> None:
    """Of scale 1, not of the largest weight: 1.4 is code 1, so that a mean of 1 moves by -0.4."""
    text = """
        input %x: float32[1,1,1,1]
        constant %v: float32[1,1,1,1] = [1.4]
        constant %b: float32[1] = [5.0]
        %c: float32[1,1,1,1] = Conv(%x, %v, %b) {strides=[1, 1], pads=[0, 0, 0, 0], dilations=[1, 1], group=1}
        return %c"""
    model = graph(text)
    types = {**model.types, "v": replace(model.type("v"), quant=Quant(8, (1.0,)))}
    data = np.ones((1, 1, 1, 1), np.float32)
    after = BiasCorrection(data)(Calibrate(data, method="minmax")(model.replace(types=types)))
    np.testing.assert_allclose(after.constants[after.nodes[-1].inputs[2]], [5.4], atol=1e-5)
