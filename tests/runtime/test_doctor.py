"""The doctor: every step in order, up to the first that fails."""

from __future__ import annotations

import pytest
from tests.runtime.conftest import StartAgent, device_of

from tapdot.compiler.errors import DeviceError
from tapdot.runtime.doctor import doctor, list_devices


def steps(line: str) -> list[tuple[str, bool]]:
    return [(step.name, step.passed) for step in doctor(line)]


def test_this_machine_is_well() -> None:
    assert steps("host") == [("TVM", True), ("session", True), ("device", True), ("echo kernel", True)]


@pytest.mark.emulated
def test_an_emulated_phone_is_well() -> None:
    names = ["TVM", "emulator", "bundle", "session", "device", "ping", "echo kernel", "instruction counter"]
    assert steps("emulated") == [(name, True) for name in names]


def test_an_agent_is_well(start_agent: StartAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = start_agent()
    monkeypatch.setenv("TAPDOT_KEY", agent.key)
    names = ["TVM", "key", "agent answers", "session", "device", "ping", "echo kernel"]
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


def test_a_missing_emulator_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert steps("emulated") == [("TVM", True), ("emulator", False)]
    listed = {device.line: device for device in list_devices()}
    assert listed["host"].available is True and listed["rpc://HOST:PORT"].available is None
    assert listed["emulated[:CPU]"].available is False and "apt install qemu-user" in listed["emulated[:CPU]"].detail


def test_no_device_of_that_name() -> None:
    with pytest.raises(DeviceError, match="names no device"):
        doctor("toaster")
