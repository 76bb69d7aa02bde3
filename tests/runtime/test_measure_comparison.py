"""Packages in turns: nobody wins inside the noise, answers come first, and what was measured survives the device."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil
import pytest
from tests.runtime.conftest import StartAgent, device_of
from tests.runtime.test_measure import losing
from tests.runtime.test_measure_conditions import STEADY
from tests.small_networks import small_network

import tapdot
from tapdot.compiler.errors import DeviceError, InputError
from tapdot.compiler.package import Package
from tapdot.runtime import compare as comparing
from tapdot.runtime import conditions
from tapdot.runtime.compare import Comparison, labels_of
from tapdot.runtime.devices.base import DeviceInformation
from tapdot.runtime.devices.host import HostSession
from tapdot.runtime.measure import DeviceLostError, Measurement, Subject
from tapdot.runtime.program import LoadedProgram

HERE = DeviceInformation("x86_64", "a processor", (), 2, 8192, 4096, 10_000, False, "Linux")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return saved(small_network(), "a", tmp_path_factory.mktemp("a"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return saved(small_network(), "b", tmp_path_factory.mktemp("b"))


def saved(network: object, name: str, folder: Path, target: str = "host:generic") -> Package:
    return tapdot.load(tapdot.compile(network, target=target).save(folder / f"{name}.tapdot"))


@pytest.fixture(autouse=True)
def short_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conditions, "WARM_UP_LEAST", 0.0)
    monkeypatch.setattr(conditions, "WARM_UP_LIMIT", 5)


# -- verdicts -------------------------------------------------------------------------------------------------------------------


def compared(*times: Sequence[float], labels: Sequence[str] = ("a", "b", "c")) -> Comparison:
    """A comparison of which only the times are real."""
    found = [Measurement("net", "host", "host", "float", 1, tuple(own), 0.0, 1, 1, 1, HERE) for own in times]
    return Comparison(tuple(labels[: len(found)]), tuple(found), STEADY)


def noisy(level: float, seed: int, rounds: int = 40) -> list[float]:
    return list(level * (1 + np.random.default_rng(seed).exponential(0.05, rounds)))


def test_a_plain_winner() -> None:
    found = compared(noisy(2e-3, 0), noisy(1e-3, 1))
    assert found.fastest == 1
    assert found.verdict.startswith("b is faster: a takes 1.999 (")
    assert found.json()["fastest"] == "b" and found.json()["ratios"][0]["beyond_noise"]


def test_no_winner_inside_the_noise() -> None:
    found = compared(noisy(1e-3, 0), noisy(1.005e-3, 1))
    assert found.fastest is None and found.json()["fastest"] is None
    assert found.verdict.startswith("No difference beyond noise: b takes ")
    assert found.ratios[0].low < 1 < found.ratios[0].high


def test_the_fastest_of_three_beats_every_other() -> None:
    assert compared(noisy(2e-3, 0), noisy(1e-3, 1), noisy(3e-3, 2)).verdict == "b is the fastest, beyond noise."
    two_alike = compared(noisy(2e-3, 0), noisy(1e-3, 1), noisy(1.002e-3, 2))
    assert two_alike.fastest is None and two_alike.verdict.startswith("No fastest beyond noise: ")


def test_few_runs_name_no_winner() -> None:
    found = compared([2.0] * 5, [1.0] * 5)
    assert found.fastest is None and found.verdict.startswith(
        "5 runs are too few to tell a difference from noise; 6 are the least"
    )
    json.dumps(found.json(), allow_nan=False)


def test_the_text_names_everything() -> None:
    lines = str(compared(noisy(2e-3, 0), noisy(1e-3, 1))).splitlines()
    assert lines[0] == "On host, 1 thread, 40 rounds in turns:"
    assert lines[1].startswith("a ") and " ms, spread " in lines[1]
    assert lines[2].endswith(" times a") and lines[3].startswith("b is faster")


def test_labels_tell_packages_apart(package: Package, other: Package, tmp_path: Path) -> None:
    assert labels_of([package, other]) == ("a", "b")
    namesake = tapdot.load(other.save(tmp_path / "a.tapdot"))
    assert labels_of([package, namesake]) == (str(package.path), str(namesake.path))
    assert labels_of([package, package, other]) == ("a #1", "a #2", "b #1")


# -- taking turns ----------------------------------------------------------------------------------------------------------------


def test_every_package_has_its_turn_in_every_round(package: Package, other: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[str] = []
    loads: list[str] = []
    turn, load_again = Subject.turn, Subject.load_again
    monkeypatch.setattr(Subject, "turn", lambda self, runs: (turns.append(self.package.path.stem), turn(self, runs))[1])
    monkeypatch.setattr(Subject, "load_again", lambda self: (loads.append(self.package.path.stem), load_again(self))[1])
    found = tapdot.connect("host").compare([package, other], runs=24)
    rounds = [tuple(turns[index : index + 2]) for index in range(0, len(turns), 2)]
    assert len(rounds) == 24 and set(rounds) == {("a", "b"), ("b", "a")}
    assert loads == ["a", "b"] * ((24 - 1) // comparing.ROUNDS_A_LOADING)
    assert [len(measured.times) for measured in found.measurements] == [24, 24]
    document = json.loads(json.dumps(found.json(), allow_nan=False))
    assert [entry["label"] for entry in document["packages"]] == ["a", "b"] and document["rounds"] == 24
    assert document["remarks"] == [] and document["conditions"]["warm_up_runs"] > 0


def test_another_network_is_remarked_on(package: Package, tmp_path: Path) -> None:
    import torch

    plain = tapdot.compile(torch.nn.ReLU(), torch.zeros(1, 3), target="host:generic")
    found = tapdot.connect("host").compare([package, plain], runs=1, labels=["net", "relu"])
    assert found.remarks == ("relu takes or gives other tensors than net: they are not two forms of one network.",)


def test_nothing_is_timed_where_one_answer_is_wrong(package: Package, other: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    run = LoadedProgram.run

    def wrong(self: LoadedProgram, inputs: object) -> dict[str, np.ndarray]:
        answers = run(self, inputs)  # type: ignore[arg-type]
        return {name: value + (self.package is other) for name, value in answers.items()}

    monkeypatch.setattr(LoadedProgram, "run", wrong)
    monkeypatch.setattr(HostSession, "time", lambda *_: pytest.fail("timed"))
    with pytest.raises(DeviceError, match=r"^b: The answer of b\.tapdot on host differs .* so nothing was timed"):
        tapdot.connect("host").compare([package, other])


def test_a_package_for_another_device_is_named(package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    foreign = saved(small_network(), "phone", tmp_path, "cortex-a76")
    monkeypatch.setattr(HostSession, "time", lambda *_: pytest.fail("timed"))
    with pytest.raises(DeviceError, match=r"^phone: The package is for aarch64 \(target cortex-a76\)"):
        tapdot.connect("host").compare([package, foreign])


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ({"runs": 0}, "Expected 1 run or more"),
        ({"threads": 4096}, "asked for 4096 threads"),
        ({"cores": [4095]}, "asked for core 4095"),
    ],
)
def test_choices_that_cannot_be_met(package: Package, choices: dict[str, object], words: str) -> None:
    with pytest.raises((DeviceError, InputError), match=words):
        tapdot.connect("host").compare([package, package], **choices)  # type: ignore[arg-type]


def test_one_package_is_no_comparison(package: Package) -> None:
    with pytest.raises(InputError, match="two packages or more to compare, found 1"):
        tapdot.connect("host").compare([package])


def test_an_emulated_phone_has_no_latency_to_compare(package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    information = HostSession.information
    monkeypatch.setattr(HostSession, "information", lambda session: dataclasses.replace(information(session), emulated=True))
    with pytest.raises(InputError, match="is emulated and has no latency to compare"):
        tapdot.connect("host").compare([package, package])


# -- what happens meanwhile ------------------------------------------------------------------------------------------------------


def test_a_device_that_heats_up_is_paused_for(package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six degrees in the third round, two of which go with every second of rest; nobody really sleeps."""
    celsius = [30.0]
    information, turn, turns = HostSession.information, Subject.turn, itertools.count(1)

    def heating(self: Subject, runs: int) -> None:
        celsius[0] += 6 * (next(turns) == 6)
        turn(self, runs)

    def cooling(seconds: float) -> None:
        celsius[0] -= 2 * seconds

    monkeypatch.setattr(
        HostSession,
        "information",
        lambda session: dataclasses.replace(information(session), temperatures_celsius=(celsius[0],)),
    )
    monkeypatch.setattr(Subject, "turn", heating)
    monkeypatch.setattr(conditions, "CHECK_EVERY", 0.0)
    monkeypatch.setattr(conditions.Thermostat.__init__, "__defaults__", (cooling, lambda: 0.0))
    found = tapdot.connect("host").compare([package, package], runs=8)
    assert (found.conditions.pauses, found.conditions.paused_seconds) == (1, 2.0)
    assert "Paused once, 2 s in all, to cool down (30 °C at the start, 36 °C at most)." in str(found)
    assert [len(measured.times) for measured in found.measurements] == [8, 8]


def test_whole_rounds_survive_a_lost_device(package: Package, other: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    turns = itertools.count(1)
    turn = Subject.turn

    def lost(self: Subject, runs: int) -> None:
        if next(turns) == 16:
            raise DeviceError("The cable came out.")
        turn(self, runs)

    monkeypatch.setattr(Subject, "turn", lost)
    with pytest.raises(DeviceLostError, match=r"The cable came out\. 7 of 30 rounds had been timed\.$") as found:
        tapdot.connect("host").compare([package, other], runs=30)
    partial = found.value.partial
    assert [len(measured.times) for measured in partial.measurements] == [7, 7]
    assert partial.verdict
    json.dumps(partial.json(), allow_nan=False)


def test_a_device_lost_before_the_first_round_leaves_nothing(package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HostSession, "time", losing(HostSession.time, lambda *_: True, 1))
    with pytest.raises(DeviceError, match=r"^The cable came out\.$") as found:
        tapdot.connect("host").compare([package, package], runs=3)
    assert not isinstance(found.value, DeviceLostError)


def test_an_agent_killed_in_the_middle(start_agent: StartAgent, package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = start_agent()
    turns = itertools.count(1)
    turn = Subject.turn

    def killing(self: Subject, runs: int) -> None:
        if next(turns) == 9:
            for child in psutil.Process(agent.process_id).children():
                os.kill(child.pid, signal.SIGKILL)
        turn(self, runs)

    monkeypatch.setattr(Subject, "turn", killing)
    with pytest.raises(DeviceLostError, match="4 of 20 rounds had been timed") as found:
        device_of(agent).compare([package, package], runs=20)
    assert [len(measured.times) for measured in found.value.partial.measurements] == [4, 4]
