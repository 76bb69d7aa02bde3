"""Weights on a device: sent once, checked, mapped, dropped when there is no room."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import numpy as np
import pytest
from tests.runtime.conftest import StartAgent, device_of

from tapdot.compiler.errors import DeviceError
from tapdot.kernels.tvm_adapter import rpc
from tapdot.runtime.devices.agent_process import AgentProcess
from tapdot.runtime.devices.remote import RemoteDevice, RemoteSession

MEBIBYTE = 2**20


def weights_file(path: Path, size: int, seed: int = 0) -> tuple[Path, str]:
    content = np.random.default_rng(seed).bytes(size)
    path.write_bytes(content)
    return path, hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("size", [0, 1, 64, 4096, 5 * MEBIBYTE + 3])
def test_weights_arrive_whole_and_aligned(device: RemoteDevice, agent: AgentProcess, tmp_path: Path, size: int) -> None:
    path, sha256 = weights_file(tmp_path / "weights.bin", size)
    with device.open() as session:
        tensor = session.map_weights(path, sha256)
        assert tensor.shape == (size,) and session.array(tensor).tobytes() == path.read_bytes()
    assert (agent.cache / sha256).read_bytes() == path.read_bytes()


def test_weights_are_sent_once(device: RemoteDevice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, sha256 = weights_file(tmp_path / "weights.bin", 1000)
    with device.open() as session:
        session.map_weights(path, sha256)

    def refuse(*arguments: object) -> None:
        raise AssertionError("sent again")

    monkeypatch.setattr(RemoteSession, "_store_weights", refuse)
    with device.open() as session:
        assert session.array(session.map_weights(path, sha256)).tobytes() == path.read_bytes()


def test_part_of_a_file_can_be_mapped(device: RemoteDevice, tmp_path: Path) -> None:
    path, _ = weights_file(tmp_path / "package", 10_000)
    part = path.read_bytes()[128:9000]
    with device.open() as session:
        tensor = session.map_weights(path, hashlib.sha256(part).hexdigest(), 128, len(part))
        assert session.array(tensor).tobytes() == part


def test_damaged_weights_are_refused_and_not_kept(device: RemoteDevice, agent: AgentProcess, tmp_path: Path) -> None:
    path, sha256 = weights_file(tmp_path / "weights.bin", 1000)
    path.write_bytes(b"x" + path.read_bytes()[1:])
    with device.open() as session:
        with pytest.raises(DeviceError, match="arrived damaged: expected SHA-256"):
            session.map_weights(path, sha256)
        assert not list(agent.cache.iterdir())
        path, sha256 = weights_file(tmp_path / "weights.bin", 1000)
        session.map_weights(path, sha256)  # the session goes on


def test_an_upload_keeps_to_its_protocol(agent: AgentProcess) -> None:
    session = rpc.connect("127.0.0.1", agent.port, agent.key)
    begin, append, commit, map_weights = (
        session.get_function(f"tapdot.weights.{name}") for name in ("begin", "append", "commit", "map")
    )
    content = b"weights"
    sha256 = hashlib.sha256(content).hexdigest()
    for call, arguments, words in (
        (append, (b"x",), "no upload of weights was begun"),
        (commit, (), "no upload of weights was begun"),
        (map_weights, (sha256,), "are not on this device"),
        (begin, ("../../etc/passwd", 5), "64 lower-case hexadecimal digits"),
        (begin, (sha256.upper(), 5), "64 lower-case hexadecimal digits"),
        (begin, (sha256, -1), "exceed the device's cache limit"),
        (begin, (sha256, 2**50), "exceed the device's cache limit"),
    ):
        with pytest.raises(RuntimeError, match=words):
            call(*arguments)
    begin(sha256, len(content))
    with pytest.raises(RuntimeError, match="more weights arrived than were announced"):
        append(content + b"!")
    append(content[:3])
    with pytest.raises(RuntimeError, match="expected 7 bytes of weights, received 3"):
        commit()
    assert not list(agent.cache.iterdir())


def test_weights_used_longest_ago_make_room(start_agent: StartAgent, tmp_path: Path) -> None:
    agent = start_agent("--cache-limit", "3")
    with device_of(agent).open() as session:
        digests = []
        for seed in range(3):
            path, sha256 = weights_file(tmp_path / f"{seed}.bin", MEBIBYTE, seed)
            tensor = session.map_weights(path, sha256)
            digests.append(sha256)
            os.utime(agent.cache / sha256, (0, 1000 + seed))
        held = session.map_weights(tmp_path / "0.bin", digests[0])  # used again, so the second is now the oldest
        path, sha256 = weights_file(tmp_path / "3.bin", 2 * MEBIBYTE, 3)
        session.map_weights(path, sha256)
        assert {file.name for file in agent.cache.iterdir()} == {digests[0], sha256}
        assert session.array(tensor).tobytes() == (tmp_path / "2.bin").read_bytes()  # dropped, yet still mapped
        assert session.array(held).tobytes() == (tmp_path / "0.bin").read_bytes()


def test_uploads_cut_short_are_swept_and_running_ones_are_not(device: RemoteDevice, agent: AgentProcess, tmp_path: Path) -> None:
    abandoned = agent.cache / "partial-abandoned"
    abandoned.write_bytes(bytes(1000))
    os.utime(abandoned, (0, time.time() - 60))
    running = rpc.connect("127.0.0.1", agent.port, agent.key)
    running.get_function("tapdot.weights.begin")("0" * 64, 1000)
    (partial,) = agent.cache.glob("partial-0*")
    os.utime(partial, (0, time.time() - 60))
    path, sha256 = weights_file(tmp_path / "weights.bin", 1000)
    with device.open() as session:
        session.map_weights(path, sha256)
    assert partial.exists() and not abandoned.exists()
