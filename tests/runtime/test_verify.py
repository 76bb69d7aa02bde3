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
from tapdot.runtime.program import filled
from tapdot.runtime.verify import halo_holds, verify


def two_pools() -> Graph:
    builder = GraphBuilder("pools")
    x = builder.input("x", TensorType((1, 4, 8, 8), "float32"))
    window = {"kernel_shape": (3, 3), "pads": (1, 1, 1, 1)}
    (first,) = builder.add("MaxPool", [x], window, name="first")
    (second,) = builder.add("AveragePool", [first], window, name="second")
    return builder.build([second])


def test_a_right_program_passes() -> None:
    report = tapdot.connect("host").verify(tapdot.compile(two_pools()))
    assert report.passed and "verified on host" in str(report)


def test_memory_that_nobody_wrote(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that leaves a kernel out reads dirt, which differs from run to run."""
    plan_memory = api.plan_memory

    def forgetful(graph: Graph) -> MemoryPlan:
        plan = plan_memory(graph)
        return dataclasses.replace(plan, vanished=plan.vanished | {"first"})

    monkeypatch.setattr(api, "plan_memory", forgetful)
    report = tapdot.connect("host").verify(tapdot.compile(two_pools()))
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
        report = verify(session, tapdot.compile(two_pools()))
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
