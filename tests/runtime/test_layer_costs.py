"""Layers measured dense and sparse on this machine, once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.passes.test_compress_weights import EVERYWHERE, chain

import tapdot
from tapdot.compiler.errors import TapdotError
from tapdot.kernels.target import find_target
from tapdot.passes.compress_weights import sparse_nodes
from tapdot.runtime import layer_costs
from tapdot.runtime.devices.host import HostSession
from tapdot.runtime.layer_costs import LayerTimes


def test_what_was_measured_is_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer_costs, "cache_directory", lambda: tmp_path)
    dense = chain(8, channels=16, size=8)
    sparse = EVERYWHERE(dense)
    names = frozenset(node.name for node in sparse_nodes(sparse))
    times = LayerTimes(tapdot.connect("host"), runs=2)
    first, costs = times(dense, sparse, names, find_target("host"))
    assert set(first) == names and all(found.dense > 0 and found.sparse > 0 for found in first.values())
    assert costs.unit == "us" and costs.copy(dense.type("x")) > 0
    monkeypatch.setattr(type(times.device), "measure", lambda *_, **__: pytest.fail("measured again"))
    again, _ = times(dense, sparse, names, find_target("host"))
    assert again == first


def test_times_of_a_device_of_the_same_kind_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer_costs, "cache_directory", lambda: tmp_path)
    model, target = chain(8, channels=16, size=8), find_target("host")
    first, _ = LayerTimes(tapdot.connect("host"), runs=2)(model, model, frozenset(), target)
    device = tapdot.connect("host")
    monkeypatch.setattr(device, "line", "host elsewhere", raising=False)
    monkeypatch.setattr(type(device), "measure", lambda *_, **__: pytest.fail("measured again"))
    assert LayerTimes(device, runs=2)(model, model, frozenset(), target)[0] == first


@pytest.mark.parametrize("other", ["processor", "threads"])
def test_times_of_another_device_are_not_taken(other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer_costs, "cache_directory", lambda: tmp_path)
    model, target = chain(8, channels=16, size=8), find_target("host")
    LayerTimes(tapdot.connect("host"), runs=2)(model, model, frozenset(), target)
    device = tapdot.connect("host")
    if other == "processor":
        information = HostSession.information
        monkeypatch.setattr(HostSession, "information", lambda session: replace(information(session), cpu="another"))
    asked = []

    def refuse(*_: object, threads: int, **__: object) -> None:
        asked.append(threads)
        raise TapdotError("measured again")

    monkeypatch.setattr(type(device), "measure", refuse)
    with pytest.raises(TapdotError, match="measured again"):
        LayerTimes(device, runs=2, threads=2 if other == "threads" else 1)(model, model, frozenset(), target)
    assert asked == [2 if other == "threads" else 1]


def test_code_for_another_processor_is_not_measured_here() -> None:
    model = chain(8, channels=16, size=8)
    with pytest.raises(TapdotError, match=r"Expected a target that runs on the device host .* found cortex-a76"):
        LayerTimes(tapdot.connect("host"))(model, EVERYWHERE(model), frozenset(), find_target("cortex-a76"))
