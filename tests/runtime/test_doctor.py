"""The doctor: every step in order, up to the first that fails."""

from __future__ import annotations

import pytest
from tests.runtime.conftest import StartAgent, device_of

from tapdot.compiler.errors import DeviceError
from tapdot.runtime import doctor as doctor_module
from tapdot.runtime.clock import ClockStability
from tapdot.runtime.devices import list_devices, remote
from tapdot.runtime.doctor import describe_clock, doctor


def steps(line: str) -> list[tuple[str, bool]]:
    return [(step.name, step.passed) for step in doctor(line)]


def test_this_machine_is_well() -> None:
    assert steps("host") == [(name, True) for name in ["TVM", "session", "device", "target", "echo kernel", "clock"]]


@pytest.mark.emulated
def test_an_emulated_phone_is_well() -> None:
    names = ["TVM", "emulator", "bundle", "session", "agent version", "device", "target", "ping", "echo kernel"]
    assert steps("emulated") == [(name, True) for name in [*names, "instruction counter"]]


def test_an_agent_is_well(start_agent: StartAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = start_agent()
    monkeypatch.setenv("TAPDOT_KEY", agent.key)
    names = ["TVM", "key", "agent answers", "session", "agent version", "device", "target", "ping", "echo kernel", "clock"]
    assert steps(device_of(agent).line) == [(name, True) for name in names]


def test_the_first_failure_ends_the_walk(start_agent: StartAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = start_agent()
    line = device_of(agent).line
    monkeypatch.delenv("TAPDOT_KEY", raising=False)
    assert steps(line) == [("TVM", True), ("key", False)]
    monkeypatch.setenv("TAPDOT_KEY", "wrong")
    assert steps(line) == [("TVM", True), ("key", True), ("agent answers", False)]
    assert "refused the key. Set TAPDOT_KEY" in doctor(line)[-1].detail
    agent.stop()
    assert "Nothing listens at" in doctor(line)[-1].detail


def test_an_agent_of_another_version_is_told_apart(start_agent: StartAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = start_agent()
    monkeypatch.setenv("TAPDOT_KEY", agent.key)
    monkeypatch.setattr(remote, "AGENT_VERSION", "99")
    last = doctor(device_of(agent).line)[-1]
    assert (last.name, last.passed) == ("agent version", False)
    assert "has version 2, and this tapdot speaks to version 99. Copy this tapdot's bundle there" in last.detail


def test_a_tracker_is_walked_through(monkeypatch: pytest.MonkeyPatch) -> None:
    line = "tracker://127.0.0.1:1/some-phone"
    assert steps(line) == [("TVM", True), ("tracker", False)]
    assert doctor(line)[-1].detail == "Nothing listens at 127.0.0.1:1. Start a tracker there: tapdot tracker"


def test_a_clock_is_called_what_it_is() -> None:
    def told(*times: float) -> str:
        return describe_clock(ClockStability(times, 1_000_000_000))

    assert told(1.0, 1.01, 1.0, 0.99, 1.0) == "steady: a fixed loop varies by 0.5% over 5 runs, at about 1010 MHz"
    assert told(1.0, 1.5, 1.0, 2.0, 1.2).startswith("unsteady: a fixed loop varies by")
    assert "let it cool" in told(1.0, 1.5, 1.0, 2.0, 1.2)


def test_the_clock_step_times_the_loop_of_all_measurements(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_module, "clock_stability", lambda session: ClockStability((1.0, 1.0), 2_000_000_000))
    assert doctor("host")[-1].detail == "steady: a fixed loop varies by 0.0% over 2 runs, at about 2000 MHz"


def test_a_missing_emulator_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert steps("emulated") == [("TVM", True), ("emulator", False)]
    listed = {device.line: device for device in list_devices()}
    assert listed["host"].available is True and listed["rpc://HOST:PORT"].available is None
    assert listed["emulated[:CPU]"].available is False and "apt install qemu-user" in listed["emulated[:CPU]"].detail


def test_no_device_of_that_name() -> None:
    with pytest.raises(DeviceError, match="names no device"):
        doctor("toaster")
