"""What is special to an emulated phone: its processes, its cache, its missing parts."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from tests.conftest import HEARS_CONTROL_C

from tapdot.compiler.errors import DeviceError
from tapdot.runtime.devices import connect
from tapdot.runtime.devices.emulated import SpawnedSession

OPEN_AND_WAIT = """
from tapdot.runtime.devices import connect
with connect("emulated").open() as session:
    print(session.agent.process_id, flush=True)
    input()
"""


def family_of(process: int) -> list[psutil.Process]:
    parent = psutil.Process(process)
    return [parent, *parent.children(recursive=True)]


@pytest.mark.emulated
def test_closing_ends_every_process() -> None:
    with connect("emulated").open() as session:
        assert isinstance(session, SpawnedSession)
        family = family_of(session.agent.process_id)
        directory = session.agent.directory
        assert len(family) == 2 and directory.exists()
    assert not psutil.wait_procs(family, timeout=5)[1] and not directory.exists()


@pytest.mark.emulated
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_client_takes_its_phone_along(how: signal.Signals) -> None:
    client = subprocess.Popen(
        [sys.executable, "-c", HEARS_CONTROL_C + OPEN_AND_WAIT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert client.stdout is not None
    family = family_of(int(client.stdout.readline()))
    client.send_signal(how)
    client.wait(timeout=30)  # its input stays open, so that nothing but the signal ends it
    client.communicate()
    assert len(family) == 2 and not psutil.wait_procs(family, timeout=10)[1]


@pytest.mark.emulated
def test_a_killed_phone_is_a_sentence() -> None:
    with connect("emulated").open() as session:
        assert isinstance(session, SpawnedSession)
        for process in family_of(session.agent.process_id):
            os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(DeviceError, match="emulated closed the connection"):
            session.information()


@pytest.mark.emulated
def test_damaged_weights_are_refused_before_they_are_stored(tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    path.write_bytes(os.urandom(1000))
    other = hashlib.sha256(os.urandom(8)).hexdigest()
    with connect("emulated").open() as session:
        assert isinstance(session, SpawnedSession)
        with pytest.raises(DeviceError, match="are damaged: expected SHA-256"):
            session.map_weights(path, other)
        assert not (session.agent.cache / other).exists()


@pytest.mark.emulated
def test_an_unknown_cpu_is_a_sentence() -> None:
    with pytest.raises(DeviceError, match=r"The agent did not start: .+"):
        connect("emulated:pentium").open()


def test_a_missing_emulator_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(DeviceError, match=r"qemu-aarch64, which is not installed\. Run: apt install qemu-user"):
        connect("emulated").open()
