"""Bits by name: what a name means, codes that come of it, JSON, and sentences for names and widths that are none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.passes.before_and_after import graph

from tapdot.compiler.errors import InputError, TapdotError
from tapdot.compiler.graph import Graph
from tapdot.compiler.interpreter import interpret
from tapdot.compiler.pipeline import run
from tapdot.passes.bit_widths import BitWidths
from tapdot.passes.calibrate import Calibrate
from tapdot.passes.codes import Codes
from tapdot.passes.recipes import Calibration, recipe

WINDOW = "strides=[1, 1], pads=[1, 1, 1, 1], dilations=[1, 1], group=1"
T = "float32[1,4,6,6]"
NETWORK = f"""
    input %image: {T}
    constant %w: float32[4,4,3,3]
    constant %v: float32[4,4,3,3]
    constant %f: float32[8,3]
    constant %axes: int64[2] = [2, 3]
    %planes: {T} = Conv(%image, %w) {{{WINDOW}}}  # node "first"
    %active: {T} = Relu(%planes)  # node "relu"
    %pooled: {T} = MaxPool(%active) {{kernel_shape=[3, 3], strides=[1, 1], pads=[1, 1, 1, 1], dilations=[1, 1]}}  # node "pool"
    %long: {T} = Conv(%pooled, %v) {{{WINDOW}}}
    %short: {T} = Conv(%pooled, %w) {{{WINDOW}}}
    %sum: {T} = Add(%long, %short)  # node "add"
    %out: {T} = Relu(%sum)
    %side: {T} = Sigmoid(%pooled)
    %join: float32[1,8,6,6] = Concat(%out, %side) {{axis=1}}
    %mean: float32[1,8,1,1] = GlobalAveragePool(%join)
    %flat: float32[1,8] = Flatten(%mean) {{axis=1}}
    %logits: float32[1,3] = Gemm(%flat, %f)  # node "head"
    return %logits
"""
DATA = np.random.default_rng(0).standard_normal((3, 4, 6, 6)).astype(np.float32)


def calibrated(**widths: object) -> dict[str, Codes]:
    """The codes of every tensor that has some."""
    made = Calibrate(DATA, method="minmax", widths=BitWidths(**widths))(graph(NETWORK))  # type: ignore[arg-type]
    return {node.output: Codes.of(node.attributes) for node in made.nodes if node.op == "FakeQuantize"}


def bits(**widths: object) -> dict[str, int]:
    return {name: codes.bits for name, codes in calibrated(**widths).items()}


def integers(text: str = NETWORK, settings: tuple[str, ...] = (), **widths: object) -> Graph:
    phases = recipe("mixed", settings, Calibration(DATA), bits=BitWidths(**widths))  # type: ignore[arg-type]
    return run(graph(text), phases).graph


ALL = {"image.codes": 8, "active": 8, "long": 8, "side": 8, "out": 8, "join": 8, "mean": 8}


def test_a_layer_means_what_it_reads_be_it_moved_on_its_way() -> None:
    assert bits() == ALL
    assert bits(activations={"short": 4}) == {**ALL, "active": 4}
    assert bits(activations={"head": 4}) == {**ALL, "mean": 4}
    assert bits(activations={"first": 2}) == {**ALL, "image.codes": 2}


def test_a_value_means_its_own_codes_and_so_does_the_output_of_a_node() -> None:
    assert bits(activations={"active": 4}) == bits(activations={"relu": 4}) == bits(activations={"pool:output": 4})
    assert bits(activations={"long:output": 4}) == {**ALL, "long": 4}
    assert bits(activations={"image": 4}) == {**ALL, "image.codes": 4}


def test_what_a_concat_joins_has_one_width() -> None:
    joined = {"side": 4, "out": 4, "join": 4}
    assert bits(activations={"side": 4}) == bits(activations={"join": 4}) == {**ALL, **joined}
    with pytest.raises(TapdotError, match="one width for the codes of 'join', found 4 bits by 'side' and 8 by 'out'"):
        bits(activations={"side": 4, "out": 8})


def test_two_layers_that_read_one_tensor_agree() -> None:
    assert bits(activations={"long": 4, "short": 4, "active": 4}) == {**ALL, "active": 4}
    with pytest.raises(TapdotError, match="one width for the codes of 'active', found 4 bits by 'long' and 2 by 'short'"):
        bits(activations={"long": 4, "short": 2})


def test_codes_of_few_bits_span_the_same_range() -> None:
    wide, narrow = (calibrated(default=width) for width in (8, 4))
    assert set(narrow) == set(wide) and {codes.bits for codes in narrow.values()} == {4}
    assert (narrow["active"].low, narrow["active"].high) == (0, 15)
    assert (narrow["image.codes"].low, narrow["image.codes"].high) == (-8, 7)
    assert narrow["active"].scale * 15 == pytest.approx(wide["active"].scale * 255, rel=1e-5)


def test_weights_are_codes_of_the_narrowest_type() -> None:
    made = integers(weights={"first": 4, "short": 2, "head": 4})
    weights = {
        node.name: (made.type(node.inputs[1]).dtype, made.constants[node.inputs[1]])
        for node in made.nodes
        if node.op[0] == "Q" and node.op in ("QConv", "QGemm")
    }
    assert {name: dtype for name, (dtype, _) in weights.items()} == {
        "first": "int4",
        "long": "int8",
        "short": "int2",
        "head": "int4",
    }
    assert [int(np.abs(codes).max()) for _, codes in weights.values()] == [7, 127, 1, 7]
    assert made.type(next(node for node in made.nodes if node.name == "first").output).quant is not None


def test_options_of_the_passes_say_the_rest() -> None:
    made = integers(settings=("requantize.weight_bits=4", "calibrate.bits=4"), weights={"long": 8}, activations={"head": 8})
    dtypes = {node.name: made.type(node.inputs[1]).dtype for node in made.nodes if node.op in ("QConv", "QGemm")}
    assert dtypes == {"first": "int4", "long": "int8", "short": "int4", "head": "int4"}
    widths = {name: kind.quant.bits for name, kind in made.types.items() if kind.quant is not None}
    assert widths["active"] == 4 and widths["mean"] == 8


def test_integers_answer_as_the_simulation_does() -> None:
    widths = BitWidths({"first": 4, "long": 2, "head": 4}, {"short": 4, "long:output": 4, "head": 2})
    outcome = run(graph(NETWORK), recipe("mixed", (), Calibration(DATA), bits=widths))
    image = torch.from_numpy(DATA[:1])
    simulated, found = (interpret(g, {"image": image})["logits"] for g in (outcome.after["calibrate"], outcome.graph))
    assert torch.nn.functional.cosine_similarity(simulated, found).item() > 0.8
    assert outcome.notes and any("tensors have scales" in line and "of 4 bits" in line for line in outcome.notes)
    assert any("weights of 8 (1), 4 (2) and 2 (1) bits" in line for line in outcome.notes)


# -- JSON ----------------------------------------------------------------------------------------------------------------------


def test_they_come_back_from_json(tmp_path: Path) -> None:
    for widths in (BitWidths(), BitWidths({"a": 4}, {"a": 8, "b:output": 2}, 8)):
        (tmp_path / "bits.json").write_text(json.dumps(widths.json()))
        assert BitWidths.read(tmp_path / "bits.json") == widths
        assert bool(widths) is (widths != BitWidths())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"weights": {"a": 4, "b": 8, "a": 8}}', "every name once, found 'a' twice, in .*bits.json"),
        ('{"weights": {"a": 3}}', "Expected 2, 4 or 8 bits for the weights of 'a', found 3, in"),
        ('{"activations": {"a": "4"}}', "2, 4 or 8 bits for the activations of 'a', found \"4\""),
        ('{"weights": {"a": true}}', "2, 4 or 8 bits .* found true"),
        ('{"weights": {"a": [4]}}', r"2, 4 or 8 bits .* found \[4\]"),
        ('{"default": 16}', "2, 4 or 8 bits for the default, found 16"),
        ('{"weights": 4}', "an object of names and bits for weights, found 4"),
        ('{"wieghts": {}}', "Expected weights, activations and default in bit widths, found 'wieghts'"),
        ("[4]", r"an object with weights and activations, found \[4\]"),
        ('{"weights"', "Expected JSON in .*bits.json, but"),
    ],
)
def test_a_bad_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "bits.json").write_text(text)
    with pytest.raises(InputError, match=message):
        BitWidths.read(tmp_path / "bits.json")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Cannot read the bit widths .*none.json: No such file"):
        BitWidths.read(tmp_path / "none.json")


# -- names that are none -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("widths", "message"),
    [
        ({"weights": {"frist": 4}}, "a layer of the graph in the bit widths of weights, found 'frist'. Did you mean 'first'"),
        ({"weights": {"relu": 4}}, "Expected a layer with weights, found 'relu', a Relu node, which has none"),
        ({"weights": {"planes": 4}}, "a layer of the graph .* found 'planes'"),
        (
            {"activations": {"poool": 4}},
            "a layer or a value in the bit widths of activations, found 'poool'. Did you mean 'pool'",
        ),
        (
            {"activations": {"planes": 4}},
            "becomes codes for 'planes', .* 'planes' does not, but only what is made of it, 'active'",
        ),
        ({"activations": {"logits": 4}}, "becomes codes for 'logits', .* because no integer node reads it"),
    ],
)
def test_a_name_that_is_none_is_named(widths: dict[str, dict[str, int]], message: str) -> None:
    with pytest.raises(TapdotError, match=message):
        bits(**widths)


def test_a_layer_that_stays_float_takes_no_narrow_weights() -> None:
    with pytest.raises(TapdotError, match="to have weights of 4 bits, but 'long' stays float: keep_float"):
        integers(settings=("requantize.keep_float=long",), weights={"long": 4})
    integers(settings=("requantize.keep_float=long",), weights={"long": 8})
