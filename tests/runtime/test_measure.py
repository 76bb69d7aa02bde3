"""Measuring: what is reported adds up, and statistics are what they say."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
from collections.abc import Callable, Sequence

import pytest
from tests.small_networks import small_network

import tapdot
from tapdot.compiler.errors import DeviceError, InputError
from tapdot.compiler.package import Package
from tapdot.runtime import limit_kernels
from tapdot.runtime.devices.base import Session
from tapdot.runtime.devices.host import HostSession
from tapdot.runtime.measure import DeviceLostError, Measurement
from tapdot.runtime.program import LoadedProgram


@pytest.fixture(scope="module")
def package() -> Package:
    return tapdot.compile(small_network(), target="host:generic")


@pytest.fixture(scope="module")
def measurement(package: Package) -> Measurement:
    return tapdot.connect("host").measure(package, runs=7, per_layer=True)


def test_times_and_sizes(package: Package, measurement: Measurement) -> None:
    assert len(measurement.times) == 7
    assert 0 < min(measurement.times) <= measurement.median <= max(measurement.times)
    assert measurement.error <= 1e-4
    assert measurement.weights_bytes == package.program.weights_bytes
    assert measurement.arena_bytes == package.program.arena_bytes
    assert measurement.macs == 64 * 16 * 9 * (3 + 16) + 16 * 5


def test_the_profile_has_every_kernel_and_shares_add_up(package: Package, measurement: Measurement) -> None:
    assert [kernel.node for kernel in measurement.kernels] == [call.node for call in package.program.calls]
    assert sum(kernel.share for kernel in measurement.kernels) == pytest.approx(1)
    assert sum(kernel.macs for kernel in measurement.kernels) == measurement.macs
    assert all(kernel.seconds > 0 for kernel in measurement.kernels)


def test_json_holds_the_same_facts(measurement: Measurement) -> None:
    facts = json.loads(json.dumps(measurement.json()))
    assert facts["median_seconds"] == measurement.median
    assert facts["runs"] == 7
    assert len(facts["kernels"]) == len(measurement.kernels)


def test_the_sentence_says_what_and_where(measurement: Measurement) -> None:
    assert str(measurement).startswith("small on host: ")
    assert "ms median of 7 runs" in str(measurement)
    assert "1 thread," in str(measurement)


def test_median_and_spread(measurement: Measurement) -> None:
    steady = dataclasses.replace(measurement, times=(2.0, 2.0, 2.0, 2.0, 2.0))
    assert (steady.median, steady.spread) == (2.0, 0.0)
    few = dataclasses.replace(measurement, times=(1.0, 3.0))
    assert (few.median, few.spread) == (2.0, 0.5)
    spread = dataclasses.replace(measurement, times=tuple(float(value) for value in range(1, 10)))
    assert spread.median == 5.0
    assert spread.spread == pytest.approx(0.5)


def test_an_emulated_figure_is_never_a_latency(measurement: Measurement) -> None:
    information = dataclasses.replace(measurement.information, emulated=True)
    emulated = dataclasses.replace(measurement, information=information, times=(), profile=None, instructions=1_500_000)
    assert "1.5 million instructions an inference" in str(emulated)
    assert " ms" not in str(emulated)
    facts = emulated.json()
    assert facts["instructions"] == 1_500_000
    assert not {"median_seconds", "times", "spread"} & set(facts)


def test_conditions_are_noted(measurement: Measurement) -> None:
    facts = measurement.json()["conditions"]
    assert facts["warm_up_runs"] > 5 and facts["cores"] is None and facts["pauses"] == 0
    assert facts["megahertz_before"] > 100 and facts["clock"] in ("told by the device", "by timing a loop")


def test_warnings_stand_below_the_figure(measurement: Measurement) -> None:
    assert measurement.conditions is not None
    moved = dataclasses.replace(measurement.conditions, megahertz_before=2000.0, megahertz_after=1000.0)
    lines = str(dataclasses.replace(measurement, conditions=moved)).splitlines()
    assert any(line.startswith("Warning: The clock moved by -50%, from 2000 to 1000 MHz") for line in lines[1:])


def test_no_runs_are_refused(package: Package) -> None:
    with pytest.raises(InputError, match="Expected 1 run or more"):
        tapdot.connect("host").measure(package, runs=0)


def test_cores_of_an_emulated_phone_are_refused_before_anything_runs(package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    information = HostSession.information
    monkeypatch.setattr(HostSession, "information", lambda session: dataclasses.replace(information(session), emulated=True))
    with pytest.raises(InputError, match="instructions are counted there, and cores play no part"):
        tapdot.connect("host").measure(package, cores="big")


def test_a_pinned_measurement_says_so_and_leaves_the_process_free(package: Package) -> None:
    allowed = os.sched_getaffinity(0)
    measured = tapdot.connect("host").measure(package, runs=2, cores=[max(allowed)])
    assert f"1 thread on core {max(allowed)}, weights" in str(measured)
    assert os.sched_getaffinity(0) == allowed


def test_what_was_measured_before_a_device_was_lost_is_kept(package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HostSession, "time", losing(HostSession.time, in_a_row(5), 2))
    with pytest.raises(DeviceLostError, match=r"^The cable came out\. 5 of 12 runs had been timed\.$") as lost:
        tapdot.connect("host").measure(package, runs=12)
    assert len(lost.value.partial.times) == 5 and lost.value.partial.conditions.megahertz_after is None
    json.dumps(lost.value.partial.json())


def test_the_whole_is_kept_where_a_device_is_lost_during_the_profile(package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HostSession, "time", losing(HostSession.time, in_a_row(4), 2))
    with pytest.raises(DeviceLostError, match="The whole had been timed, its kernels not yet") as lost:
        tapdot.connect("host").measure(package, runs=4, per_layer=True)
    assert len(lost.value.partial.times) == 4 and lost.value.partial.profile is None


def test_a_wrong_answer_has_no_latency(package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    run = LoadedProgram.run
    monkeypatch.setattr(LoadedProgram, "run", lambda *arguments: {name: value + 1 for name, value in run(*arguments).items()})
    monkeypatch.setattr(HostSession, "time", lambda *_: pytest.fail("timed"))
    with pytest.raises(DeviceError, match="so nothing was timed"):
        tapdot.connect("host").measure(package)


Counted = Callable[[str, int], bool]


def in_a_row(runs: int) -> Counted:
    """Calls of kernels that are timed so often; the loop that counts cycles is none."""
    return lambda name, repeat: name != limit_kernels.COUNT and repeat == runs


def losing(time: Callable[..., list[float]], counted: Counted, at: int) -> Callable[..., list[float]]:
    """``Session.time`` that fails at the ``at``-th of the calls, told by function and repeats, that are counted."""
    calls = itertools.count(1)

    def timed(
        session: Session, module: object, name: str, arguments: Sequence[object], number: int = 1, repeat: int = 1
    ) -> list[float]:
        if counted(name, repeat) and next(calls) == at:
            raise DeviceError("The cable came out.")
        return time(session, module, name, arguments, number, repeat)

    return timed


@pytest.mark.emulated
def test_an_emulated_phone_counts_instructions() -> None:
    result = tapdot.connect("emulated").measure(tapdot.compile(small_network(), target="cortex-a76"))
    assert result.times == ()
    assert result.instructions is not None
    assert 10_000 < result.instructions < 10_000_000
