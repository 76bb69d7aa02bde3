"""Calibration: what the inserted nodes say, that they simulate well, that data in any split gives the same, and bad input."""

from __future__ import annotations

import re

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import given
from tests.passes.before_and_after import assert_unchanged, graph, nodes
from tests.random_graphs import graphs
from tests.small_networks import INPUT_SHAPE, small_network

from tapdot.compiler.errors import GraphError, InputError, TapdotError
from tapdot.compiler.graph import Graph
from tapdot.compiler.interpreter import interpret
from tapdot.compiler.options import configure
from tapdot.compiler.pipeline import Notes, Phase, run, seeded_inputs
from tapdot.passes.calibrate import Calibrate
from tapdot.passes.fold_batch_norm import FoldBatchNorm
from tapdot.passes.fold_constants import FoldConstants
from tapdot.passes.fuse import Fuse
from tapdot.passes.observers import Method
from tapdot.passes.recipes import clean_up

METHODS: tuple[Method, ...] = ("minmax", "moving_average", "percentile", "mse", "entropy")
IMAGES = np.random.default_rng(1).standard_normal((6, *INPUT_SHAPE[1:])).astype(np.float32)


def folded(model: Graph) -> Graph:
    """As calibration finds it in a recipe."""
    return run(model, (clean_up(), Phase("fold", (FoldBatchNorm(), FoldConstants())))).graph


def scales(model: Graph) -> dict[str, float]:
    return {node.output: float(node.attributes["scale"]) for node in model.nodes if node.op == "FakeQuantize"}  # type: ignore[arg-type]


def answer(model: Graph, x: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return interpret(model, {model.inputs[0]: torch.from_numpy(x)})[model.outputs[0]].numpy()


RESIDUAL = """
    input %x: float32[1,1,1,2]
    constant %w: float32[1,1,1,1] = [2.0]
    constant %shortcut: float32[1,1,1,1] = [-1.0]
    %c: float32[1,1,1,2] = Conv(%x, %w) {strides=[1, 1], pads=[0, 0, 0, 0], dilations=[1, 1], group=1}
    %s: float32[1,1,1,2] = Add(%c, %x)
    %y: float32[1,1,1,2] = Relu(%s)
    %n: float32[1,1,1,2] = Conv(%y, %shortcut) {strides=[1, 1], pads=[0, 0, 0, 0], dilations=[1, 1], group=1}
    return %n
"""


def test_before_and_after() -> None:
    after = Calibrate(np.array([[[[-1.28, 0.85]]]], np.float32), method="minmax")(graph(RESIDUAL)).verify()
    x, y = scales(after).values()
    assert (x, y) == (pytest.approx(1.28 / 128), pytest.approx(2.55 / 255))
    window = "{strides=[1, 1], pads=[0, 0, 0, 0], dilations=[1, 1], group=1}"
    assert nodes(after) == nodes(f"""
        %x.codes = FakeQuantize(%x) {{scale={x}, zero_point=0, low=-128, high=127, dtype="int8"}}
        %c = Conv(%x.codes, %w) {window}
        %s = Add(%c, %x.codes)
        %y.float = Relu(%s)
        %y = FakeQuantize(%y.float) {{scale={y}, zero_point=0, low=0, high=255, dtype="uint8"}}
        %n = Conv(%y, %shortcut) {window}""")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("asymmetric", [False, True])
def test_simulated_answers_are_near(method: Method, asymmetric: bool) -> None:
    model = folded(small_network())
    calibrated = Calibrate(IMAGES, method=method, asymmetric=asymmetric)(model).verify()
    expected, found = (np.stack([answer(which, x[None]) for x in IMAGES]) for which in (model, calibrated))
    assert np.square(expected - found).sum() < 0.03 * np.square(expected).sum()


@pytest.mark.parametrize("method", METHODS)
def test_the_split_into_batches_changes_no_scale(method: Method) -> None:
    model = folded(small_network())
    whole = scales(Calibrate(IMAGES, method=method)(model))
    assert whole == scales(Calibrate([IMAGES[:4], IMAGES[4:]], method=method)(model))
    assert whole == scales(Calibrate([{"image": x[None]} for x in IMAGES], method=method)(model))
    assert whole != scales(Calibrate(IMAGES, method=method, samples=1)(model))


def test_a_filled_batch_counts_its_new_samples_only() -> None:
    text = """
        input %x: float32[4,1,1,2]
        constant %w: float32[1,1,1,1] = [1.0]
        %c: float32[4,1,1,2] = Conv(%x, %w) {strides=[1, 1], pads=[0, 0, 0, 0], dilations=[1, 1], group=1}
        %y: float32[4,1,1,2] = Tanh(%c)
        return %y"""
    data = np.arange(10, dtype=np.float32).reshape(5, 1, 1, 2)
    one = scales(Calibrate(data, method="moving_average")(graph(text)))
    assert one == scales(Calibrate(data, method="moving_average")(graph(text.replace("[4,", "[1,"))))


def test_values_keep_their_names() -> None:
    model = folded(small_network())
    after = Calibrate(IMAGES)(model)
    assert set(model.types) <= set(after.types)
    assert (after.inputs, after.outputs) == (model.inputs, model.outputs)


def test_inputs_that_never_are_negative_are_unsigned() -> None:
    after = Calibrate(np.abs(IMAGES))(folded(small_network()))
    assert after.producer("image.codes").attributes["dtype"] == "uint8"  # type: ignore[union-attr]


def test_what_calibration_happened_to_see_says_nothing_of_the_sign() -> None:
    text = RESIDUAL.replace("Relu(%s)", "Tanh(%s)")
    after = Calibrate(np.array([[[[0.5, 1.0]]], [[[-0.0, 0.1]]]], np.float32))(graph(text))
    assert after.producer("y").attributes["dtype"] == "int8"  # type: ignore[union-attr]


def test_relu6_is_never_wider_than_six_nor_than_what_was_seen() -> None:
    text = """
        input %x: float32[1,1,1,2]
        constant %w: float32[1,1,1,1] = [1.0]
        constant %low: float32[] = [0.0]
        constant %high: float32[] = [6.0]
        %c: float32[1,1,1,2] = Conv(%x, %w) {strides=[1, 1], pads=[0, 0, 0, 0], dilations=[1, 1], group=1}
        %y: float32[1,1,1,2] = Clip(%c, %low, %high)
        return %y"""
    for largest, reach in ((9.0, 6.0), (3.0, 3.0)):
        found = scales(Calibrate(np.array([[[[-1.0, largest]]]], np.float32), method="minmax")(graph(text)))
        assert found["y"] == pytest.approx(reach / 255)


def test_narrow_codes() -> None:
    after = Calibrate(IMAGES, bits=4)(folded(small_network()))
    assert {node.attributes["high"] for node in after.nodes if node.op == "FakeQuantize"} <= {7, 15}


def test_a_model_that_says_its_scales_stays_as_it_is() -> None:
    convolution = "%c: float32[1,1,1,2] = Conv("
    codes = '%q: float32[1,1,1,2] = FakeQuantize(%x) {scale=0.5, low=0, high=255, dtype="uint8"}'
    assert_unchanged(Calibrate([]), RESIDUAL.replace(f"{convolution}%x", f"{codes}\n{convolution}%q"))


def test_options_come_from_text() -> None:
    settings = ["calibrate.method=mse", "calibrate.bits=4"]
    ((step,),) = (phase.passes for phase in configure((Phase("p", (Calibrate(IMAGES),)),), settings))
    assert isinstance(step, Calibrate)
    assert (step.method, step.bits) == ("mse", 4)
    with pytest.raises(TapdotError, match="Expected one of minmax, moving_average, percentile, mse, entropy"):
        configure((Phase("p", (step,)),), ["calibrate.method=best"])
    with pytest.raises(TapdotError, match="has no option 'data'"):
        configure((Phase("p", (step,)),), ["calibrate.data=x"])


def test_the_report_says_how_much_was_seen() -> None:
    notes = Notes()
    Calibrate(IMAGES, method="mse").run(folded(small_network()), notes)
    assert notes.lines == ["4 tensors have scales from 6 samples (method mse)."]


# -- bad input ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.full((1, 3, 8, 8), np.nan, np.float32), "holds NaN"),
        (np.zeros((1, 3, 8, 9), np.float32), "Expected samples of [3, 8, 8]"),
        (np.zeros((0, 3, 8, 8), np.float32), "holds no samples"),
        ([], "holds no samples"),
    ],
)
def test_bad_data(data: object, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        Calibrate(data)(folded(small_network()))


def test_a_tensor_of_zeros_is_named() -> None:
    message = "The tensor 'image', an input of the model, is zero everywhere in all 2 samples, so it has no scale"
    with pytest.raises(TapdotError, match=message):
        Calibrate(np.zeros((2, 3, 8, 8), np.float32))(folded(small_network()))
    dead = folded(small_network())
    stem = dead.producer(dead.nodes[1].inputs[0])
    assert stem is not None and stem.op == "Conv"
    constants = {**dead.constants, stem.inputs[1]: np.zeros_like(dead.constants[stem.inputs[1]])}
    with pytest.raises(TapdotError, match="The tensor 'relu' of Relu node 'relu' is zero everywhere in all 6 samples"):
        Calibrate(IMAGES)(dead.replace(constants=constants))


def test_dead_channels_are_no_matter() -> None:
    model = folded(small_network())
    constants = dict(model.constants)
    stem = model.nodes[0].inputs[1]
    constants[stem] = constants[stem].copy()
    constants[stem][3] = 0.0
    Calibrate(IMAGES)(model.replace(constants=constants)).verify()


def test_a_tensor_too_small_for_a_scale_is_named() -> None:
    with pytest.raises(TapdotError, match="has too narrow a range"):
        Calibrate(IMAGES * np.float32(1e-39))(folded(small_network()))


def test_an_overflow_inside_the_network_is_named() -> None:
    message = "The tensor '.*' of .* node '.*' holds an infinity for one of the samples 0 to 0 although the inputs are finite"
    with pytest.raises(TapdotError, match=message):
        Calibrate(IMAGES * np.float32(5e37))(folded(small_network()))


def test_nothing_to_quantize() -> None:
    model = graph("input %x: float32[1,3]\n %y: float32[1,3] = Relu(%x)\n return %y")
    with pytest.raises(TapdotError, match=r"nothing to quantize in graph 'test'.*\(1 Relu\)"):
        Calibrate(np.zeros((1, 3), np.float32))(model)


@pytest.mark.parametrize("setting", ["bits=1", "bits=9", "percentile=20", "samples=0"])
def test_options_out_of_range(setting: str) -> None:
    (phase,) = configure((Phase("p", (Calibrate(IMAGES),)),), [f"calibrate.{setting}"])
    with pytest.raises(TapdotError, match=f"Expected calibrate.{setting.split('=')[0]}"):
        phase.passes[0](folded(small_network()))


def test_batch_norms_must_be_folded_first() -> None:
    text = """
        input %x: float32[1,2,4,4]
        constant %w: float32[2,2,1,1]
        constant %s: float32[2]
        %c: float32[1,2,4,4] = Conv(%x, %w) {strides=[1, 1], pads=[0, 0, 0, 0], dilations=[1, 1], group=1}
        %y: float32[1,2,4,4] = BatchNormalization(%c, %s, %s, %s, %s)
        return %y"""
    with pytest.raises(GraphError, match="requires a graph without batch norms"):
        run(graph(text), (Phase("p", (Calibrate(IMAGES),)),))


# -- random networks ---------------------------------------------------------------------------------------------------------


@hypothesis.settings(max_examples=40, deadline=None)
@given(graphs())
def test_random_networks_calibrate_and_fuse(model: Graph) -> None:
    model = folded(model)
    try:
        calibrated = Calibrate([seeded_inputs(model, seed) for seed in (1, 2)])(model).verify()
    except TapdotError as error:
        assert "nothing to quantize" in str(error) or "is zero everywhere" in str(error)
        return
    assert (calibrated.inputs, calibrated.outputs) == (model.inputs, model.outputs)
    Fuse()(calibrated).verify()
    inputs = {name: torch.from_numpy(array) for name, array in seeded_inputs(model, 1).items()}
    with torch.no_grad():
        expected, found = interpret(model, inputs), interpret(calibrated, inputs)
    for name in model.outputs:
        assert bool(torch.isfinite(found[name]).all())
        assert found[name].shape == expected[name].shape
