"""Measuring: what is reported adds up, and statistics are what they say."""

from __future__ import annotations

import dataclasses
import json

import pytest
from tests.small_networks import small_network

import tapdot
from tapdot.compiler.package import Package
from tapdot.runtime.measure import TIMED_STRETCH, Measurement, _calls_to_time


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
    assert (few.median, few.spread) == (2.0, 0.0)
    spread = dataclasses.replace(measurement, times=tuple(float(value) for value in range(1, 10)))
    assert spread.median == 5.0
    assert spread.spread == pytest.approx(0.5)


def test_an_emulated_figure_is_never_a_latency(measurement: Measurement) -> None:
    information = dataclasses.replace(measurement.information, emulated=True)
    emulated = dataclasses.replace(measurement, information=information, times=(), kernels=(), instructions=1_500_000)
    assert "1.5 million instructions an inference" in str(emulated)
    assert " ms" not in str(emulated)
    facts = emulated.json()
    assert facts["instructions"] == 1_500_000
    assert not {"median_seconds", "times", "spread"} & set(facts)


def test_short_kernels_are_timed_many_at_a_time() -> None:
    assert _calls_to_time(1.0) == 1
    assert _calls_to_time(TIMED_STRETCH / 10) == 10
    assert _calls_to_time(0.0) > 1


@pytest.mark.emulated
def test_an_emulated_phone_counts_instructions() -> None:
    result = tapdot.connect("emulated").measure(tapdot.compile(small_network(), target="cortex-a76"))
    assert result.times == ()
    assert result.instructions is not None
    assert 10_000 < result.instructions < 10_000_000
