"""A soak of one agent: many sessions, clients that are killed, strangers who send garbage or nothing. ``--soak`` makes it ten
minutes and a thousand sessions; without, it is the same in small.
"""

from __future__ import annotations

import random
import secrets
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from tests.runtime.conftest import StartAgent, assert_serves, device_of, greeting

from tapdot.compiler.errors import DeviceError
from tapdot.runtime.devices.agent_process import AgentProcess
from tapdot.runtime.devices.connection import RPC_MAGIC

CLIENT = """
import os, sys
from pathlib import Path
from tapdot.runtime.devices.remote import RemoteDevice

def client(port, key, library):
    session = RemoteDevice("127.0.0.1", port, key).open(30)
    module = session.load_library(library)
    os.write(1, b"o")
    session.call(module, "nothing" if os.getpid() % 2 else "hang", [])

os.write(1, b"r")
while word := os.read(0, 1):  # once, before the processes part: loading TVM takes seconds
    child = os.fork()
    if child == 0:
        client(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
        os._exit(0)
    os.read(0, 1)
    os.kill(child, 9)
    os.waitpid(child, 0)
    os.write(1, b"k")
"""
"""For each byte pair: a client that is killed with SIGKILL at whatever it is doing then."""


@dataclass(frozen=True)
class Length:
    """How much of it: sessions in all and seconds at most."""

    sessions: int
    seconds: float


def length(config: pytest.Config) -> Length:
    return Length(1000, 600.0) if config.getoption("--soak") else Length(60, 25.0)


class Strangers(threading.Thread):
    """Whoever finds the port and has no key: random bytes, greetings cut short, wrong keys, connections that drip."""

    def __init__(self, agent: AgentProcess, seed: int) -> None:
        super().__init__(daemon=True)
        self.agent, self.random = agent, random.Random(seed)
        self.done = threading.Event()
        self.sent = 0
        self.served: list[bytes] = []
        """Answers that a stranger must not have been given."""

    def run(self) -> None:
        dripping: list[tuple[socket.socket, bytes]] = []
        while not self.done.wait(0.02):
            with suppress(OSError):
                if self.random.random() < 0.3 and len(dripping) < 6:
                    dripping.append((socket.create_connection(("127.0.0.1", self.agent.port), timeout=5), self.words()))
                else:
                    self.speak(self.words())
                self.sent += 1
            for connection, words in list(dripping):
                dripping.remove((connection, words))
                try:
                    connection.sendall(words[:1])
                    dripping.append((connection, words[1:] or b"x"))
                except OSError:
                    connection.close()
        for connection, _ in dripping:
            connection.close()

    def words(self) -> bytes:
        kind = self.random.randrange(5)
        if kind == 0:
            return self.random.randbytes(self.random.randrange(1, 5000))
        if kind == 1:
            return greeting(secrets.token_hex(16)) + self.random.randbytes(100)
        if kind == 2:
            return greeting(self.agent.key)[: self.random.randrange(1, 40)]
        if kind == 3:
            return struct.pack("<ii", RPC_MAGIC, self.random.randrange(-(2**31), 2**31))
        return greeting(self.agent.key[:-1] + "!") + b"\0" * 64

    def speak(self, words: bytes) -> None:
        with socket.create_connection(("127.0.0.1", self.agent.port), timeout=1) as connection:
            connection.sendall(words)
            connection.shutdown(socket.SHUT_WR)
            if (answer := connection.recv(64))[:4] == struct.pack("<i", RPC_MAGIC):
                self.served.append(answer)


def test_an_agent_survives_a_day_in_the_open(
    start_agent: StartAgent, misbehaving_library: Path, request: pytest.FixtureRequest
) -> None:
    asked = length(request.config)
    agent = start_agent("--handshake-seconds", "1", "--sessions", "8")
    process = psutil.Process(agent.process_id)
    assert_serves(agent, misbehaving_library)
    settle(process)
    here = psutil.Process()
    files, memory, descriptors = files_of(agent), process.memory_info().rss, process.num_fds()

    killed = subprocess.Popen(
        [sys.executable, "-c", CLIENT, str(agent.port), agent.key, str(misbehaving_library)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
    )
    assert killed.stdin is not None and killed.stdout is not None and killed.stdout.read(1) == b"r"
    strangers = [Strangers(agent, seed) for seed in range(2)]
    for stranger in strangers:
        stranger.start()
    chance = random.Random(0)
    counts: Counter[str] = Counter()
    deadline = time.monotonic() + asked.seconds
    try:
        while sum(counts.values()) < asked.sessions and time.monotonic() < deadline:
            if chance.random() < 0.2:
                killed.stdin.write(b"g")
                time.sleep(chance.random() * 0.3)
                killed.stdin.write(b"k")
                while killed.stdout.read(1) != b"k":
                    pass
                counts["killed"] += 1
            elif chance.random() < 0.1:
                with device_of(agent).open(20) as session:
                    module = session.load_library(misbehaving_library)
                    with pytest.raises(DeviceError, match="ended without an answer"):
                        session.call(module, "crash", [])
                counts["crashed"] += 1
            else:
                assert_serves(agent, misbehaving_library)
                counts["served"] += 1
    finally:
        for stranger in strangers:
            stranger.done.set()
        end(killed)
    for stranger in strangers:
        stranger.join(10)
    settle(process)
    print(f"sessions: {dict(counts)}; strangers: {sum(stranger.sent for stranger in strangers)}")
    assert counts["served"] >= 10 and counts["killed"] >= 2 and counts["crashed"] >= 1
    assert all(stranger.sent > 10 and not stranger.served for stranger in strangers)
    assert process.is_running() and process.num_fds() == descriptors and files_of(agent) == files
    assert process.memory_info().rss < memory + 2**20
    assert here.num_threads() < 20
    assert_serves(agent, misbehaving_library)


def end(client: subprocess.Popen[bytes]) -> None:
    client.kill()
    client.wait()
    for stream in (client.stdin, client.stdout):
        if stream is not None:
            stream.close()


def files_of(agent: AgentProcess) -> list[str]:
    """What lies in the agent's folders, besides weights."""
    return sorted(str(path.relative_to(agent.directory)).split("-")[0] for path in agent.directory.rglob("*"))


def settle(process: psutil.Process) -> None:
    """Waits until no session is left: those whose clients were killed in a call that hangs take two seconds to be ended."""
    deadline = time.monotonic() + 30
    while process.children():
        assert time.monotonic() < deadline, "a session did not end"
        time.sleep(0.05)


def test_a_hung_kernel_whose_client_was_killed_is_ended(start_agent: StartAgent, misbehaving_library: Path) -> None:
    agent = start_agent("--sessions", "1")
    always_hangs = CLIENT.replace('"nothing" if os.getpid() % 2 else ', "")
    client = subprocess.Popen(
        [sys.executable, "-c", always_hangs, str(agent.port), agent.key, str(misbehaving_library)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
    )
    assert client.stdin is not None and client.stdout is not None
    client.stdin.write(b"g")
    assert client.stdout.read(1) + client.stdout.read(1) == b"ro"
    time.sleep(0.3)
    (session,) = psutil.Process(agent.process_id).children()
    client.stdin.write(b"k")
    started = time.monotonic()
    settle(psutil.Process(agent.process_id))
    assert 1 < time.monotonic() - started < 15 and not session.is_running()
    end(client)
    assert_serves(agent, misbehaving_library)
