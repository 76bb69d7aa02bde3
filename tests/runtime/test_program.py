"""Loaded programs: what fits runs, and what does not is refused before anything runs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from tests.random_graphs import graphs
from tests.small_networks import INPUT_SHAPE, small_network

import tapdot
from tapdot.compiler.errors import DeviceError, InputError
from tapdot.compiler.graph import Graph, GraphBuilder
from tapdot.compiler.package import Package
from tapdot.compiler.types import TensorType
from tapdot.runtime.program import DIRTY, NOT_NUMBERS, LoadedProgram, filled


@pytest.fixture(scope="module")
def package() -> Package:
    return tapdot.compile(small_network(), target="host:generic")


def image(**changes: object) -> np.ndarray:
    facts = {"shape": INPUT_SHAPE, "dtype": "float32", **changes}
    return np.random.default_rng(1).standard_normal(facts["shape"]).astype(facts["dtype"])


def test_the_answer_is_the_references(package: Package) -> None:
    graph, x = small_network(), image()
    from tapdot.compiler.interpreter import interpret

    expected = interpret(graph, {"image": torch.from_numpy(x)})[graph.outputs[0]].numpy()
    found = tapdot.connect("host").run(package, {"image": x})
    assert list(found) == list(graph.outputs)
    np.testing.assert_allclose(found[graph.outputs[0]], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ({}, r"The input 'image' is missing; expected float32\[1, 3, 8, 8\]"),
        ({"picture": image()}, "The model has no input 'picture'; it takes: image"),
        ({"image": image(), "mask": image()}, "no input 'mask'"),
        (
            {"image": image(shape=(1, 3, 8, 9))},
            r"Expected float32\[1, 3, 8, 8\] for the input 'image', found float32\[1, 3, 8, 9\]",
        ),
        ({"image": image(shape=(3, 8, 8))}, r"found float32\[3, 8, 8\]"),
        ({"image": image(dtype="float64")}, r"found float64\[1, 3, 8, 8\]"),
        ({"image": image(dtype="uint8")}, r"found uint8"),
    ],
)
def test_inputs_that_do_not_fit_are_named(package: Package, inputs: dict[str, np.ndarray], sentence: str) -> None:
    device = tapdot.connect("host")
    for use in (device.run, device.verify):
        with pytest.raises(InputError, match=sentence):
            use(package, inputs)


def test_strided_inputs_are_read_by_value(package: Package) -> None:
    x = image()
    turned = np.asfortranarray(x)
    device = tapdot.connect("host")
    (first,), (second,) = (device.run(package, {"image": array}).values() for array in (x, turned))
    assert first.tobytes() == second.tobytes()


def test_a_package_for_another_processor_says_what_to_compile_for() -> None:
    package = tapdot.compile(small_network(), target="generic-aarch64:generic")
    if package.target.architecture == tapdot.compile(small_network(), target="host:generic").target.architecture:
        pytest.skip("this host is aarch64")
    with pytest.raises(DeviceError, match=r"The package is for aarch64 .* --target host"):
        tapdot.connect("host").run(package, {"image": image()})


def test_outputs_keep_the_models_names_where_a_copy_is_made_for_the_caller() -> None:
    builder = GraphBuilder("names")
    x = builder.input("x", TensorType((1, 16, 6, 6), "float32"))
    kernel = np.random.default_rng(0).standard_normal((16, 16, 3, 3)).astype(np.float32)
    (y,) = builder.add("Conv", (x, builder.constant(kernel)), {"pads": (1, 1, 1, 1)})
    graph = builder.build([y, y, x])
    package = tapdot.compile(graph)
    first, second, third = (tensor.name for tensor in package.program.outputs)
    assert (first, third) == (y, x)
    assert second not in (y, x)
    values = np.ones((1, 16, 6, 6), np.float32)
    answers = tapdot.connect("host").run(package, {"x": values})
    assert answers[first].tobytes() == answers[second].tobytes()
    assert answers[third].tobytes() == values.tobytes()


@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(graphs(max_steps=6))
def test_dirt_in_memory_does_not_reach_the_answer(graph: Graph) -> None:
    package = tapdot.compile(graph)
    inputs = {name: image(shape=graph.type(name).shape) for name in graph.inputs}
    with tapdot.connect("host").open() as session:
        loaded = LoadedProgram(session, package)
        answers = []
        for byte in (DIRTY, DIRTY, NOT_NUMBERS):
            loaded.dirty(byte)
            answers.append({name: array.tobytes() for name, array in loaded.run(inputs).items()})
    assert answers[0] == answers[1] == answers[2]


@pytest.mark.parametrize("dtype", ["float32", "uint8", "bool", "int64"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_filled_memory_has_the_byte_everywhere(shape: tuple[int, ...], dtype: str) -> None:
    array = filled(shape, dtype, DIRTY)
    assert (array.shape, array.dtype) == (shape, np.dtype(dtype))
    assert set(array.tobytes()) == {DIRTY}
