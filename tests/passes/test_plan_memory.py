"""The arena: what is still needed is never overwritten, and no byte is spent without need."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from tests.passes.physical_graphs import FOUR_LANES, SIXTEEN_LANES, convolution, network, physical
from tests.random_graphs import graphs

from tapdot.compiler.graph import Graph
from tapdot.compiler.memory import ARENA, CONSTANT, INPUT, OUTPUT, MemoryPlan
from tapdot.compiler.types import DTYPES
from tapdot.kernels.layout import ALIGNMENT
from tapdot.passes.plan_memory import plan_memory

quick = settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
SOURCE = "input %x: float32[1,16,8,8]"


class Rehearsal:
    """Runs a plan with the name of its value written into every byte, and looks at what every kernel would find."""

    def __init__(self, graph: Graph, plan: MemoryPlan) -> None:
        self.graph, self.plan = graph, plan
        self.numbers = {name: index + 1 for index, name in enumerate(graph.types)}
        self.memory: dict[tuple[str, int], np.ndarray] = {(ARENA, 0): np.zeros(plan.arena_bytes, np.int32)}
        for space, names in ((INPUT, graph.inputs), (OUTPUT, graph.outputs)):
            for index, name in enumerate(names):
                self.memory[space, index] = np.zeros(graph.type(name).bytes, np.int32)

    def cells(self, value: str) -> np.ndarray:
        """The bytes of a value, as a view that can be written."""
        place = self.plan.places[value]
        block = self.memory[place.space, place.index]
        size = self.graph.type(value).bytes
        assert place.offset % self.alignment(value) == 0
        assert place.offset + size <= len(block), f"{value} does not fit where it lies"
        return block[place.offset : place.offset + size]

    def alignment(self, value: str) -> int:
        """Buffers begin at cache lines, slices of them at least at a vector of channels."""
        kind = self.graph.type(value)
        is_slice = any(value in node.inputs and node.name in self.plan.vanished for node in self.graph.consumers[value])
        if not is_slice or kind.layout is None or kind.layout.channel_block == 1:
            return ALIGNMENT
        return min(ALIGNMENT, kind.layout.channel_block * DTYPES[kind.dtype].itemsize)

    def content(self, value: str) -> np.ndarray:
        """What the bytes of a value must hold: its own number, or that of the values it is made of."""
        node = self.graph.producer(value)
        if node is None or node.name not in self.plan.vanished:
            return np.full(self.graph.type(value).bytes, self.numbers[value], np.int32)
        parts = [self.content(name) for name in (node.inputs if node.op == "Concat" else node.inputs[:1])]
        return np.concatenate(parts)

    def run(self) -> None:
        graph = self.graph
        for name in graph.inputs:
            assert self.plan.places[name].space == INPUT
            self.cells(name)[:] = self.numbers[name]
        for node in graph.nodes:
            if node.name in self.plan.vanished:
                continue
            variable = [name for name in node.inputs if name and self.plan.places[name].space != CONSTANT]
            for name in variable:
                assert np.array_equal(self.cells(name), self.content(name)), f"{node.name} finds {name!r} overwritten"
            for name in filter(None, node.outputs):
                assert self.plan.places[name].space in (ARENA, OUTPUT), "a kernel writes only what is its own"
                for other in (*variable, *(other for other in node.outputs if other and other != name)):
                    assert not np.shares_memory(self.cells(name), self.cells(other)), f"{node.name} writes over its own {other!r}"
                self.cells(name)[:] = self.numbers[name]
        for index, name in enumerate(graph.outputs):
            place = self.plan.places[name]
            assert (place.space, place.index, place.offset) == (OUTPUT, index, 0)
            assert np.array_equal(self.cells(name), self.content(name))


def checked(graph: Graph) -> MemoryPlan:
    """The plan, after a rehearsal."""
    plan = plan_memory(graph)
    assert set(plan.places) == set(graph.types)
    assert plan.arena_bytes >= plan.lower_bound_bytes
    Rehearsal(graph, plan).run()
    return plan


@quick
@given(graphs())
@pytest.mark.parametrize("target", [FOUR_LANES, SIXTEEN_LANES])
def test_nothing_needed_is_ever_overwritten(target: str, graph: Graph) -> None:
    checked(physical(graph, target))


def test_a_chain_takes_turns_in_two_buffers() -> None:
    lines = [convolution(f"v{step}", "x" if step == 0 else f"v{step - 1}", (16, 16), 8) for step in range(6)]
    model = physical(network(SOURCE, *lines, "return %v5"))
    plan = checked(model)
    largest = sorted((model.type(name).bytes for name, place in plan.places.items() if place.space == ARENA), reverse=True)
    assert plan.arena_bytes == plan.lower_bound_bytes <= 2 * (largest[0] + ALIGNMENT)


def test_branches_lie_inside_the_result_of_their_concatenation() -> None:
    model = physical(
        network(
            SOURCE,
            convolution("a", "x", (16, 32), 8),
            convolution("b", "x", (16, 16), 8),
            "%all: float32[1,48,8,8] = Concat(%a, %b) {axis=1}",
            convolution("y", "all", (48, 16), 8),
            "return %y",
        )
    )
    plan = checked(model)
    assert "all" in plan.vanished
    whole, first, second = (plan.places[name] for name in ("all", "a", "b"))
    assert (first.offset, second.offset) == (whole.offset, whole.offset + model.type("a").bytes)
    assert second.offset + model.type("b").bytes == whole.offset + model.type("all").bytes


def test_a_concatenation_within_another_nests() -> None:
    model = physical(
        network(
            SOURCE,
            convolution("a", "x", (16, 16), 8),
            convolution("b", "x", (16, 16), 8),
            convolution("c", "x", (16, 16), 8),
            "%inner: float32[1,32,8,8] = Concat(%a, %b) {axis=1}",
            "%outer: float32[1,48,8,8] = Concat(%inner, %c) {axis=1}",
            convolution("y", "outer", (48, 16), 8),
            convolution("z", "inner", (32, 16), 8),
            "return %y, %z",
        )
    )
    plan = checked(model)
    assert {"inner", "outer"} <= plan.vanished
    assert plan.places["b"].offset == plan.places["outer"].offset + model.type("a").bytes


def test_a_branch_in_two_concatenations_is_a_slice_of_one() -> None:
    model = physical(
        network(
            SOURCE,
            convolution("a", "x", (16, 16), 8),
            convolution("b", "x", (16, 16), 8),
            "%one: float32[1,32,8,8] = Concat(%a, %b) {axis=1}",
            "%two: float32[1,32,8,8] = Concat(%b, %a) {axis=1}",
            "%s: float32[1,32,8,8] = Add(%one, %two)",
            convolution("y", "s", (32, 16), 8),
            "return %y",
        )
    )
    assert len(checked(model).vanished & {"one", "two"}) == 1


def test_a_value_twice_in_a_concatenation_is_copied() -> None:
    lines = (convolution("a", "x", (16, 16), 8), "%all: float32[1,32,8,8] = Concat(%a, %a) {axis=1}")
    model = physical(network(SOURCE, *lines, convolution("y", "all", (32, 16), 8), "return %y"))
    assert "all" not in checked(model).vanished


def test_a_view_costs_nothing_but_between_the_callers_buffers() -> None:
    text = "input %x: float32[1,8,2]\n%r: float32[1,8,2] = Relu(%x)\n%v: float32[1,16] = Flatten(%r) {axis=1}\nreturn %v"
    plan = checked(physical(text))
    assert plan.vanished == {"v"}
    assert plan.places["r"].space == OUTPUT
    assert plan.arena_bytes == 0
    direct = checked(physical("input %x: float32[1,8,2]\n%v: float32[1,16] = Flatten(%x) {axis=1}\nreturn %v"))
    assert not direct.vanished


def test_a_value_that_is_read_late_keeps_its_place() -> None:
    lines = [convolution(f"v{step}", "early" if step == 0 else f"v{step - 1}", (16, 16), 8) for step in range(4)]
    text = network(
        SOURCE, convolution("early", "x", (16, 16), 8), *lines, "%y: float32[1,16,8,8] = Add(%v3, %early)", "return %y"
    )
    plan = checked(physical(text))
    assert plan.arena_bytes >= plan.lower_bound_bytes > 0


def test_branches_of_codes_begin_at_any_block() -> None:
    """A plane of 7 by 7 codes in blocks of 16 is no whole number of cache lines."""
    model = physical(
        network(
            "input %x: float32[1,16,7,7]",
            '%a: uint8[1,16,7,7] = Quantize(%x) {dtype="uint8", high=255, low=0, scale=0.1}',
            '%b: uint8[1,16,7,7] = Quantize(%x) {dtype="uint8", high=255, low=0, scale=0.2}',
            '%c: uint8[1,5,7,7] = Quantize(%z) {dtype="uint8", high=255, low=0, scale=0.2}',
            "input %z: float32[1,5,7,7]",
            "%all: uint8[1,37,7,7] = Concat(%a, %b, %c) {axis=1}",
            "%y: float32[1,37,7,7] = Dequantize(%all) {scale=0.1}",
            "return %y",
        )
    )
    plan = checked(model)
    assert "all" in plan.vanished
    whole, first, second, third = (plan.places[name].offset for name in ("all", "a", "b", "c"))
    assert (first - whole, second - whole, third - whole) == (0, 7 * 7 * 16, 2 * 7 * 7 * 16)
