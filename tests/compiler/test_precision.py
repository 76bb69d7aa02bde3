"""Who computes in which precision, as reports say it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tests.small_networks import INPUT_SHAPE, small_network

from tapdot.compiler.coverage import AFTER, BEFORE, BETWEEN, FLOAT, INTEGER, Conversion, Coverage
from tapdot.compiler.graph import Graph, GraphBuilder
from tapdot.compiler.pipeline import run
from tapdot.compiler.precision import NO_REASON, coverage
from tapdot.compiler.types import TensorType
from tapdot.passes.recipes import Calibration, recipe

CODES = {"low": -128, "high": 127, "dtype": "int8"}
SHAPE = (1, 4, 6, 6)


def network(*steps: str) -> Graph:
    """Operators one after the other; ``QConv`` is a 1x1 convolution that ends in codes."""
    builder = GraphBuilder("chain")
    value = builder.input("x", TensorType(SHAPE, "float32"))
    for place, step in enumerate(steps):
        if step in ("Quantize", "Dequantize"):
            attributes = {"scale": 0.1, "zero_point": 0, **(CODES if step == "Quantize" else {})}
            (value,) = builder.add(step, (value,), attributes, name=f"{step}{place}")
        elif step == "QConv":
            weight = builder.constant(np.ones((4, 4, 1, 1), np.int8), f"weight{place}")
            epilogue = "Narrow(Dyadic(acc, multiplier=1073741824, shift=34), low=-128, high=127, dtype='int8')"
            attributes = {"strides": (1, 1), "pads": (0, 0, 0, 0), "dilations": (1, 1), "epilogue": epilogue}
            (value,) = builder.add(step, (value, weight), attributes, name=f"{step}{place}")
        else:
            (value,) = builder.add(step, (value,), {}, name=f"{step}{place}")
    return builder.build([value])


def test_a_float_network_has_no_islands() -> None:
    found = coverage(small_network())
    assert not found.is_integer
    assert found.islands == () and found.conversions == ()
    assert found.integer_share == 0
    assert found.count(FLOAT) == 6, "the flatten is a view"
    assert set(found.weight_bytes) == {"float32"}


def test_an_integer_network() -> None:
    found = coverage(network("Quantize", "QConv", "QConv", "Dequantize"))
    assert found.is_integer
    assert found.operators == {INTEGER: {"QConv": 2}}
    assert found.macs == {INTEGER: 2 * 4 * 4 * 36}
    assert found.integer_share == 1
    assert found.islands == ()
    assert [(conversion.node, conversion.dtypes) for conversion in found.conversions] == [
        ("Quantize0", ("float32", "int8")),
        ("Dequantize3", ("int8", "float32")),
    ]
    assert found.weight_bytes == {"int8": 32}
    assert found.activation_bytes == {"float32": 4 * 144, "int8": 3 * 144}


@pytest.mark.parametrize(
    ("steps", "nodes", "place"),
    [
        (("Softmax", "Quantize", "QConv", "Dequantize"), ("Softmax0",), BEFORE),
        (("Quantize", "QConv", "Dequantize", "Softmax", "Quantize", "QConv", "Dequantize"), ("Softmax3",), BETWEEN),
        (("Quantize", "QConv", "Dequantize", "Softmax"), ("Softmax3",), AFTER),
        (("Quantize", "QConv", "Dequantize", "Exp", "Identity", "Softmax"), ("Exp3", "Softmax5"), AFTER),
    ],
)
def test_islands_are_named_in_their_place(steps: tuple[str, ...], nodes: tuple[str, ...], place: str) -> None:
    (island,) = coverage(network(*steps), {nodes[-1]: "no integer form"}).islands
    assert (island.nodes, island.place, island.reason) == (nodes, place, "no integer form")
    assert str(island) == f"{', '.join(nodes)} ({place}): no integer form"


def test_islands_apart_are_two_and_a_reason_nobody_gave_is_said() -> None:
    found = coverage(network("Softmax", "Quantize", "QConv", "Dequantize", "Exp"))
    assert [(island.nodes, island.place) for island in found.islands] == [(("Softmax0",), BEFORE), (("Exp4",), AFTER)]
    assert found.islands[0].reason == NO_REASON


def test_a_compiled_network_ends_in_floats_inside_a_kernel() -> None:
    images = np.random.default_rng(0).standard_normal(INPUT_SHAPE).astype(np.float32)
    outcome = run(small_network(), recipe("int8", (), Calibration(images)))
    found = coverage(outcome.graph, outcome.reasons)
    assert found.integer_share == 1 and not found.islands
    assert [conversion.costs_a_kernel for conversion in found.conversions] == [True, False]
    assert str(found.conversions[-1]).startswith("in the epilogue of ")
    kept = run(small_network(), recipe("int8", ("requantize.last_layer=float",), Calibration(images)))
    (island,) = coverage(kept.graph, kept.reasons).islands
    assert "last_layer=float" in island.reason and island.place == AFTER
    assert 0 < coverage(kept.graph).integer_share < 1


def test_copies_are_no_conversions_of_numbers() -> None:
    copy = Conversion("x.relayout0", "Relayout", ("uint8", "uint8"), 64)
    assert copy.costs_a_kernel and str(copy) == "x.relayout0 (Relayout, uint8)"


def test_json_and_back() -> None:
    found = coverage(network("Softmax", "Quantize", "QConv", "Dequantize"), {"Softmax0": "no integer form"})
    assert Coverage.from_json(json.loads(json.dumps(found.json()))) == found
