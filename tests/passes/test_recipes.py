"""The whole way from an imported graph to the fused dialect, on random networks."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from tests.passes.before_and_after import assert_same_answers
from tests.random_graphs import graphs

from tapdot.compiler.errors import TapdotError
from tapdot.compiler.graph import Graph, GraphBuilder
from tapdot.compiler.pipeline import run
from tapdot.compiler.types import TensorType
from tapdot.passes.bit_widths import BitWidths
from tapdot.passes.calibrate import Calibrate
from tapdot.passes.correct_bias import BiasCorrection
from tapdot.passes.fuse import ELEMENTWISE, Fuse
from tapdot.passes.recipe_names import RECIPE_NAMES, check_bits
from tapdot.passes.recipes import RECIPES, Calibration, clean_up, recipe
from tapdot.passes.requantize import Requantize

torch.set_num_threads(1)
quick = settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@quick
@given(graphs())
def test_the_float_recipe_keeps_the_answer(graph: Graph) -> None:
    outcome = run(graph, recipe("float"))
    assert_same_answers(graph, outcome.graph, 1e-4)
    assert [outcome.graph.type(name) for name in outcome.graph.outputs] == [graph.type(name) for name in graph.outputs]


@quick
@given(graphs())
def test_every_pass_alone_keeps_the_answer(graph: Graph) -> None:
    for record in run(graph, recipe("float"), check=True).records:
        assert record.error is None or record.error <= 1e-4


@quick
@given(graphs())
def test_clean_up_twice_changes_nothing(graph: Graph) -> None:
    once = run(graph, (clean_up(),)).graph
    again = run(once, (clean_up(),))
    assert again.graph is once
    assert not any(record.changed for record in again.records)


@quick
@given(graphs())
def test_lowering_sees_one_form(graph: Graph) -> None:
    after = run(graph, recipe("float")).graph
    loose = {node.op for node in after.nodes} & {*ELEMENTWISE, "Conv", "Gemm", "MatMul", "BatchNormalization", "Dropout"}
    assert not loose
    for node in after.nodes:
        if node.op == "FusedConv":
            shape = after.type(node.output).shape
            assert all(after.type(name).shape in (shape, (1, shape[1], 1, 1)) for name in node.inputs[3:])


def test_the_graph_given_is_not_touched() -> None:
    graph = residual_network(2)
    text, arrays = str(graph), {name: array.copy() for name, array in graph.constants.items()}
    run(graph, recipe("float"))
    assert str(graph) == text
    assert all(np.array_equal(array, graph.constants[name]) for name, array in arrays.items())


def residual_network(stages: int) -> Graph:
    """Bottlenecks with batch norms as in ResNet-50, of few channels."""
    numbers = np.random.default_rng(0)
    builder = GraphBuilder("residual")

    def constant(*shape: int) -> str:
        return builder.constant(numbers.uniform(0.5, 1.5, shape).astype(np.float32), "c")

    def convolution(x: str, filters: int, kernel: int, activate: bool = True) -> str:
        channels, pad = builder.types[x].shape[1], kernel // 2
        (x,) = builder.add("Conv", [x, constant(filters, channels, kernel, kernel)], {"pads": (pad,) * 4})
        (x,) = builder.add("BatchNormalization", [x, *(constant(filters) for _ in range(4))])
        return builder.add("Relu", [x])[0] if activate else x

    x = convolution(builder.input("x", TensorType((1, 3, 8, 8), "float32")), 8, 7)
    for _ in range(stages):
        inner = convolution(convolution(x, 4, 1), 4, 3)
        (total,) = builder.add("Add", [convolution(inner, 8, 1, activate=False), x])
        (x,) = builder.add("Relu", [total])
    return builder.build([x])


def test_a_network_of_the_size_of_resnet_50_takes_seconds() -> None:
    graph = residual_network(16)
    begin = time.process_time()
    after = run(graph, recipe("float")).graph
    assert time.process_time() - begin < 10  # about half a second on an idle machine
    assert [node.op for node in after.nodes] == ["FusedConv"] * 49
    assert sum("Add" in str(node.attributes["epilogue"]) for node in after.nodes) == 16


# -- choosing recipes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_made_of_passes_that_say_what_they_do(name: str) -> None:
    for phase in recipe(name):
        for step in phase.passes:
            assert dataclasses.is_dataclass(step) and type(step).__dataclass_params__.frozen  # type: ignore[attr-defined]
            assert step.name == type(step).__module__.rsplit(".", 1)[-1]


def test_settings_reach_the_pass() -> None:
    steps = [step for phase in recipe("float", ["fuse.max_operators=3"]) for step in phase.passes if isinstance(step, Fuse)]
    assert [step.max_operators for step in steps] == [3]


def test_an_unknown_recipe_suggests_the_nearest() -> None:
    with pytest.raises(TapdotError, match=r"no recipe 'flaot'\. Did you mean 'float'\?"):
        recipe("flaot")


def test_the_light_list_of_names_is_the_table_of_recipes() -> None:
    assert tuple(RECIPES) == RECIPE_NAMES


def test_biases_are_corrected_for_the_codes_that_the_weights_will_have() -> None:
    """The correction knows the passes that follow as the settings made them."""
    lines = ("requantize.weight_bits=4", "requantize.per_channel=false", "requantize.keep_float=head", "fuse.max_operators=8")
    phases = recipe("int8", ("int8.bias_correction=true", *lines), Calibration(np.zeros((1, 3, 8, 8))))
    steps = {type(step): step for phase in phases for step in phase.passes}
    correction = steps[BiasCorrection]
    assert isinstance(correction, BiasCorrection)
    assert correction.requantize is steps[Requantize] and correction.fuse is steps[Fuse]
    assert correction.requantize == Requantize(per_channel=False, weight_bits=4, keep_float=("head",))


def test_bits_reach_the_passes(tmp_path: Path) -> None:
    (tmp_path / "bits.json").write_text('{"weights": {"conv": 4}}')
    for way in ({"bits": BitWidths({"conv": 4})}, {"settings": (f"mixed.bits={tmp_path / 'bits.json'}",)}):
        phases = recipe("mixed", calibration=Calibration(np.zeros((1, 3, 8, 8))), **way)  # type: ignore[arg-type]
        steps = {type(step): step for phase in phases for step in phase.passes}
        assert [steps[kind].widths for kind in (Calibrate, Requantize)] == [BitWidths({"conv": 4})] * 2  # type: ignore[attr-defined]
    with pytest.raises(TapdotError, match=r"an option of the recipe such as mixed\.bits=FILE, found 'mixed.bit=4'"):
        recipe("mixed", ("mixed.bit=4",))


def test_bits_are_given_once_and_to_the_recipe_that_takes_them() -> None:
    check_bits("int8", False)
    check_bits("mixed", True)
    check_bits("mixed", False, ("mixed.bits=f",))
    for arguments, message in (
        (("mixed", False), r"needs to know how many bits each layer gets: .*--bits FILE"),
        (("mixed", True, ("mixed.bits=f",)), "bit widths once"),
        (("int8", True), "recipe 'int8' takes no bit widths by layer; choose them with --recipe mixed"),
        (("float", False, (" mixed.bits = f",)), "recipe 'float' takes no bit widths"),
    ):
        with pytest.raises(TapdotError, match=message):
            check_bits(*arguments)
