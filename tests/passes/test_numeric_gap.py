"""Which tensor lost how much."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tests.passes.before_and_after import graph
from tests.small_networks import INPUT_SHAPE, small_network

from tapdot.compiler.graph import Graph
from tapdot.compiler.pipeline import run
from tapdot.passes.numeric_gap import in_plain_floats, matched, numeric_gap
from tapdot.passes.recipes import Calibration, recipe

IMAGES = np.random.default_rng(1).standard_normal((6, *INPUT_SHAPE[1:])).astype(np.float32)


@pytest.fixture(scope="module")
def pair() -> tuple[Graph, Graph]:
    model = small_network()
    return run(model, recipe("float")).graph, run(model, recipe("int8", (), Calibration(IMAGES))).graph


def test_every_tensor_of_codes_has_a_gap_worst_first(pair: tuple[Graph, Graph]) -> None:
    reference, integer = pair
    gaps = numeric_gap(reference, integer, IMAGES)
    computed = {name for node in integer.nodes for name in node.outputs if integer.type(name).quant is not None}
    assert {gap.value for gap in gaps} == computed and len(gaps) >= 3
    decibels = [gap.decibels for gap in gaps]
    assert decibels == sorted(decibels) and 15 < decibels[0] < decibels[-1] < 80
    assert all(gap.node == integer.producers[gap.value].name for gap in gaps)


def test_a_layer_that_is_broken_is_first(pair: tuple[Graph, Graph]) -> None:
    reference, integer = pair
    before = {gap.value: gap.decibels for gap in numeric_gap(reference, integer, IMAGES)}
    victim = [node for node in integer.nodes if node.op == "QConv"][-1]
    weight = victim.inputs[1]
    broken = integer.replace(constants={**integer.constants, weight: -integer.constants[weight]})
    gaps = numeric_gap(reference, broken, IMAGES)
    assert gaps[0].decibels < 3 < before[gaps[0].value]
    found = {gap.value: gap.decibels for gap in gaps}
    assert found[victim.output] < 3


def test_the_formula() -> None:
    header = "input %x: float32[1,4]\n"
    reference = graph(f"{header}%y: float32[1,4] = Relu(%x)\nreturn %y")
    kind = "uint8[1,4] !quant(bits=8 scale=0.5 zero_point=0)"
    integer = graph(
        f'{header}%y.codes: {kind} = Quantize(%x) {{scale=0.5, low=0, high=255, dtype="uint8"}}'
        "\n%y: float32[1,4] = Dequantize(%y.codes) {scale=0.5}\nreturn %y"
    )
    (gap,) = numeric_gap(reference, integer, np.array([[1.0, 0.6, -3.0, 2.0]], np.float32))
    assert (gap.value, gap.op) == ("y.codes", "Quantize")
    assert gap.decibels == pytest.approx(10 * math.log10((1 + 0.36 + 4) / 0.01), rel=1e-5)
    (exact,) = numeric_gap(reference, integer, np.array([[1.0, 0.5, -3.0, 2.0]], np.float32))
    assert exact.decibels == math.inf


def test_what_the_reference_simulates_is_left_out(pair: tuple[Graph, Graph]) -> None:
    text = """
        input %x: float32[1,4]
        %q: float32[1,4] = FakeQuantize(%x) {scale=0.5, low=0, high=255, dtype="uint8"}
        %y: float32[1,4] = Elementwise(%q) {expression="Relu(FakeQuantize(acc, dtype='uint8', high=9, low=0, scale=1.0))"}
        return %y"""
    plain = in_plain_floats(graph(text)).verify()
    assert [node.op for node in plain.nodes] == ["Identity", "Elementwise"]
    assert plain.nodes[1].attributes["expression"] == "Relu(acc)"
    assert matched(*pair)
