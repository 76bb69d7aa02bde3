"""Verification notices what it is there to notice."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import tapdot
from tapdot import api
from tapdot.compiler.graph import Graph, GraphBuilder
from tapdot.compiler.memory import MemoryPlan
from tapdot.compiler.types import TensorType
from tapdot.kernels.layout import Halo, Layout
from tapdot.runtime.exactness import Classification, Exactness
from tapdot.runtime.program import LoadedProgram, filled
from tapdot.runtime.verify import Comparison, flat_in_layout, halo_holds, made_up_inputs, verify


def pools(*more: str) -> Graph:
    """A maximum, an average, and ``more`` pools, each of what the one before makes."""
    builder = GraphBuilder("pools")
    x = builder.input("x", TensorType((1, 4, 8, 8), "float32"))
    window = {"kernel_shape": (3, 3), "pads": (1, 1, 1, 1)}
    (first,) = builder.add("MaxPool", [x], window, name="first")
    (last,) = builder.add("AveragePool", [first], window, name="second")
    for op in more:
        (last,) = builder.add(op, [last], window)
    return builder.build([last])


def test_a_right_program_passes() -> None:
    report = tapdot.connect("host").verify(tapdot.compile(pools()))
    assert report.passed and "verified on host" in str(report)


def test_memory_that_nobody_wrote(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that leaves a kernel out reads dirt, which differs from run to run."""
    plan_memory = api.plan_memory

    def forgetful(graph: Graph) -> MemoryPlan:
        plan = plan_memory(graph)
        return dataclasses.replace(plan, vanished=plan.vanished | {"first"})

    monkeypatch.setattr(api, "plan_memory", forgetful)
    report = tapdot.connect("host").verify(tapdot.compile(pools()))
    assert not report.passed and not report.repeatable
    assert "memory that nobody wrote" in str(report)


def test_two_values_in_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels that are right alone, on a plan that is wrong: the whole differs."""
    plan_memory = api.plan_memory

    def crowded(graph: Graph) -> MemoryPlan:
        plan = plan_memory(graph)
        places = {
            name: dataclasses.replace(place, offset=0) if place.space == "arena" else place for name, place in plan.places.items()
        }
        return dataclasses.replace(plan, places=places)

    monkeypatch.setattr(api, "plan_memory", crowded)
    with tapdot.connect("host").open() as session:
        report = verify(session, tapdot.compile(pools("MaxPool", "AveragePool")))
    assert not report.passed and report.first_differing is None


def test_halos_are_checked() -> None:
    layout, shape = Layout(4, Halo(1, 1, 0, 2)), (1, 6, 3, 3)
    flat = layout.store(np.ones(shape, np.float32))
    assert halo_holds(flat, layout, shape)
    flat[layout.offset(shape, 0, 1, 0, 0) + 3] = 7  # a lane without a channel may hold anything
    assert halo_holds(flat, layout, shape)
    flat[layout.offset(shape, 0, 1, -1, 0)] = 7
    assert not halo_holds(flat, layout, shape)


@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
def test_filled(shape: tuple[int, ...]) -> None:
    array = filled(shape, "float32", 0xFF)
    assert array.shape == shape and array.dtype == np.float32 and np.isnan(array).all()


# -- integer packages --------------------------------------------------------------------------------------------------------

CODES = {"zero_point": 3, "low": -128, "high": 127, "dtype": "int8"}


def integer_network(island: bool = False) -> Graph:
    """A convolution of codes, perhaps with a sigmoid in the middle, and the real values at the end."""
    builder = GraphBuilder("integers")
    generator = np.random.default_rng(0)
    image = builder.input("image", TensorType((1, 3, 9, 8), "float32"))
    (x,) = builder.add("Quantize", [image], {"scale": 0.03, **CODES}, name="edge")
    weights = builder.constant(generator.integers(-127, 128, (20, 3, 3, 3)).astype(np.int8), "weights")
    epilogue = "Narrow(Dyadic(acc, multiplier=1500000000, shift=39), zero_point=3, low=-128, high=127, dtype='int8')"
    windows = {"strides": (1, 1), "pads": (1, 1, 1, 1), "dilations": (1, 1), "group": 1}
    (y,) = builder.add("QConv", [x, weights], {**windows, "zero_point": 3, "epilogue": epilogue}, name="convolution")
    if island:
        (real,) = builder.add("Dequantize", [y], {"scale": 0.05, "zero_point": 3})
        (curved,) = builder.add("Sigmoid", [real], name="curve")
        (curved,) = builder.add("Tanh", [curved], name="curve2")
        (y,) = builder.add("Quantize", [curved], {"scale": 1 / 127, **CODES})
    (real,) = builder.add("Dequantize", [y], {"scale": 0.05, "zero_point": 3}, name="end")
    (flat,) = builder.add("Flatten", [real], {"axis": 1})
    return builder.build([flat])


def test_an_integer_package_is_bit_exact() -> None:
    report = tapdot.connect("host").verify(tapdot.compile(integer_network()))
    assert report.passed and report.bit_exact and not report.islands
    assert "bit-exact" in str(report) and f"{len(report.kernels)} kernels" in str(report)
    values = sum(kernel.comparison.elements for kernel in report.kernels)
    assert f"{values:,} values" in str(report)
    plain = report.json()
    assert plain["bit_exact"] and all(kernel["exact"] and kernel["differing"] == 0 for kernel in plain["kernels"])


def test_an_island_is_named_and_what_follows_is_compared_tolerantly() -> None:
    report = tapdot.connect("host").verify(tapdot.compile(integer_network(island=True)))
    assert report.passed and not report.bit_exact
    assert len(report.islands) == 1 and "curve" in report.islands[0]
    assert "up to 1 float island" in str(report)
    exact = {kernel.node: kernel.exact for kernel in report.kernels}
    assert exact["convolution"] and exact["edge"] and not all(exact.values())
    assert [result.exactness for result in report.results.values()] == [Exactness.ROUNDED_AGAIN]


def test_one_wrong_code_is_found_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    run_kernel = LoadedProgram.run_kernel

    def careless(self, call, inputs):
        flats = run_kernel(self, call, inputs)
        if call.node == "convolution":
            layout = self.package.graph.type(call.outputs[0]).layout
            flats[0] = flats[0].copy()
            place = 5 if layout is None else layout.offset((1, 20, 9, 8), 0, 0, 0, 5)
            flats[0][place] ^= 1
        return flats

    monkeypatch.setattr(LoadedProgram, "run_kernel", careless)
    report = tapdot.connect("host").verify(tapdot.compile(integer_network()))
    assert not report.passed
    assert report.first_differing is not None and report.first_differing.node == "convolution"
    assert "1 of 1440 elements differ, the first at [0, 0, 0, 5]" in str(report)


def test_a_wrong_border_of_codes_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tapdot.runtime.verify.halo_holds", lambda *_: False)
    report = tapdot.connect("host").verify(tapdot.compile(integer_network()))
    assert not report.passed and "border" in str(report)


def test_one_different_code_in_the_whole_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    run = LoadedProgram.run

    def careless(self, inputs):
        answers = run(self, inputs)
        for array in answers.values():
            array.reshape(-1)[7] += 0.05
        return answers

    monkeypatch.setattr(LoadedProgram, "run", careless)
    report = tapdot.connect("host").verify(tapdot.compile(integer_network()))
    assert not report.passed and report.first_differing is None
    assert "1 of 1440 elements differ, the first at [0, 7]" in str(report)


def test_float_packages_are_no_integer_packages() -> None:
    report = tapdot.connect("host").verify(tapdot.compile(pools()))
    assert not report.integer and not report.bit_exact and not any(kernel.exact for kernel in report.kernels)


def test_lanes_without_a_channel_hold_garbage() -> None:
    for dtype, garbage in (("int8", 77), ("uint8", 0xA5)):
        kind = TensorType((1, 5, 1, 1), dtype, None, Layout(16))
        assert flat_in_layout(np.zeros(kind.shape, dtype), kind).tolist() == [0] * 5 + [garbage] * 11


def test_codes_given_by_the_caller_take_every_value() -> None:
    builder = GraphBuilder("codes")
    x = builder.input("x", TensorType((1, 3, 40, 40), "uint8"))
    (y,) = builder.add("Dequantize", [x], {"scale": 0.1})
    graph = builder.build([y])
    assert np.unique(made_up_inputs(graph)["x"]).size == 256
    assert Classification(graph).is_integer


def test_comparisons_say_what_differs() -> None:
    a = np.array([[1, 2], [3, 4]], np.int8)
    assert Comparison.of(a, a).differing == 0
    found = Comparison.of(a, np.array([[1, 2], [9, 8]], np.int8))
    assert (found.differing, found.first) == (2, (1, 0))
    assert Comparison.of(a, a.astype(np.uint8)).differing == 4
    numbers = np.array([np.nan, -0.0], np.float32)
    assert Comparison.of(numbers, np.array([np.nan, 0.0], np.float32)).differing == 0
