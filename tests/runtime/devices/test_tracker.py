"""A tracker and its shelf: who gets which device, what happens to those that are lost, and that TVM's own programs fit."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import secrets
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from tests.runtime.conftest import greeting, send

from tapdot.compiler.errors import DeviceError
from tapdot.kernels.tvm_adapter import rpc
from tapdot.runtime import shelf
from tapdot.runtime.devices import connect
from tapdot.runtime.devices.connection import RPC_CODE_MISMATCH
from tapdot.runtime.devices.tracker import TrackerDevice
from tapdot.runtime.devices.tracker_protocol import TRACKER_MAGIC, TrackerCode, TrackerConnection
from tapdot.runtime.echo import echo_library, run_echo
from tapdot.runtime.shelf import Place, ServedDevice
from tapdot.runtime.tracker import track

KEY = "some-phone"


@pytest.fixture
def tracker() -> Iterator[int]:
    """The port of a tracker."""
    loop, place = asyncio.new_event_loop(), {}
    listening = threading.Event()

    def ready(host: str, port: int) -> None:
        place["port"] = port
        listening.set()

    tasks: list[asyncio.Task[None]] = []

    def run() -> None:
        tasks.append(loop.create_task(track("127.0.0.1", 0, ready)))
        with pytest.raises(asyncio.CancelledError):
            loop.run_until_complete(tasks[0])
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    assert listening.wait(10)
    yield place["port"]
    loop.call_soon_threadsafe(tasks[0].cancel)
    thread.join()


class ServerProcess:
    """A device on a tracker's shelf, in a process of its own: while TVM frees what lies on a device, no thread of its own process
    runs, and so no server may live there.
    """

    def __init__(self, line: str, tracker: int) -> None:
        context = multiprocessing.get_context("fork")
        self._said = context.SimpleQueue()
        self._lines: list[str] = []
        place = Place("127.0.0.1", tracker, KEY)
        served = ServedDevice(connect(line), place, self._said.put, retry=0.2, health=0.2)
        self._process = context.Process(target=served.serve, daemon=True)
        self._process.start()

    @property
    def said(self) -> list[str]:
        while not self._said.empty():
            self._lines.append(self._said.get())
        return self._lines

    @property
    def agent(self) -> int | None:
        """The process of the agent, where there is one now."""
        server = psutil.Process(self._process.pid)
        found = [child for child in server.children() if any("tapdot-agent" in word for word in child.cmdline())]
        return found[0].pid if found and found[0].status() != psutil.STATUS_ZOMBIE else None

    def kill_agent(self) -> None:
        before = self.agent
        assert before is not None
        os.kill(before, signal.SIGKILL)

    def stop(self) -> None:
        self._process.kill()
        self._process.join()


class Shelf:
    """The servers of a test."""

    def __init__(self, tracker: int) -> None:
        self.tracker = tracker
        self._servers: list[ServerProcess] = []

    def put(self, line: str = "host") -> ServerProcess:
        self._servers.append(ServerProcess(line, self.tracker))
        return self._servers[-1]

    def stop(self) -> None:
        for server in self._servers:
            server.stop()


@pytest.fixture
def on_shelf(tracker: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shelf]:
    monkeypatch.setattr(shelf, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr("tapdot.runtime.devices.tracker.LOOK_SECONDS", 0.1)
    devices = Shelf(tracker)
    yield devices
    devices.stop()


def device_at(tracker: int, key: str = KEY, grace: float = 30.0) -> TrackerDevice:
    return TrackerDevice("127.0.0.1", tracker, key, grace)


def wait_for(condition: Callable[[], object], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return echo_library(os.uname().machine, tmp_path_factory.mktemp("echo") / "echo.so")


# -- the tracker alone --------------------------------------------------------------------------------------------------------


def test_offers_meet_requests_in_order(tracker: int) -> None:
    with (
        TrackerConnection("127.0.0.1", tracker) as server,
        TrackerConnection("127.0.0.1", tracker) as first,
        TrackerConnection("127.0.0.1", tracker) as second,
        TrackerConnection("127.0.0.1", tracker) as urgent,
    ):
        server.introduce(KEY, None, 4000)
        first.send(TrackerCode.REQUEST, KEY, "", 1)
        wait_for(lambda: server.summary()["queue_info"].get(KEY) == {"free": 0, "pending": 1})
        second.send(TrackerCode.REQUEST, KEY, "", 1)
        wait_for(lambda: server.summary()["queue_info"][KEY]["pending"] == 2)
        urgent.send(TrackerCode.REQUEST, KEY, "", 5)
        wait_for(lambda: server.summary()["queue_info"][KEY]["pending"] == 3)
        keys = [server.offer(KEY, None, 4000) for _ in range(2)]
        assert urgent.answer() == [TrackerCode.SUCCESS, ["127.0.0.1", 4000, keys[0]]]
        assert first.answer() == [TrackerCode.SUCCESS, ["127.0.0.1", 4000, keys[1]]]
        assert server.pending() == [] and not second.wait(0.1)
        second.close()  # a client that leaves the queue is not handed the next one
        wait_for(lambda: server.summary()["queue_info"][KEY]["pending"] == 0)
        kept = server.offer(KEY, "10.0.0.7", 4001)
        assert server.pending() == [kept]
        assert first.ask(TrackerCode.REQUEST, KEY, "", 1) == [TrackerCode.SUCCESS, ["10.0.0.7", 4001, kept]]
        assert server.summary()["server_info"] == [{"key": f"server:{KEY}", "addr": ["127.0.0.1", 4000]}]
        server.offer(KEY, None, 4000)
        server.close()  # a server that leaves takes its offers along
        wait_for(lambda: first.summary() == {"queue_info": {KEY: {"free": 0, "pending": 0}}, "server_info": []})
        assert first.ask(TrackerCode.PING) == TrackerCode.SUCCESS
        assert first.ask(TrackerCode.STOP, "guessed") == TrackerCode.FAIL


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack("<i", TRACKER_MAGIC) + struct.pack("<i", -1),
        struct.pack("<i", TRACKER_MAGIC) + struct.pack("<i", 2**30),
        struct.pack("<i", TRACKER_MAGIC) + struct.pack("<i", 4) + b"{{{{",
        struct.pack("<i", TRACKER_MAGIC) + struct.pack("<i", 2) + b"[]",
        struct.pack("<i", TRACKER_MAGIC) + struct.pack("<i", 4) + b"[99]",
        struct.pack("<i", TRACKER_MAGIC) + struct.pack("<i", 12) + b'[3, "k", 17]',
    ],
)
def test_garbage_ends_one_conversation_and_no_other(tracker: int, data: bytes) -> None:
    with TrackerConnection("127.0.0.1", tracker) as other:
        with socket.create_connection(("127.0.0.1", tracker), timeout=10) as stranger:
            stranger.sendall(data)
            while stranger.recv(100):
                pass
        assert other.ask(TrackerCode.PING) == TrackerCode.SUCCESS


def test_no_tracker_is_a_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(DeviceError, match=rf"Nothing listens at 127\.0\.0\.1:{port}\. Start a tracker there: tapdot tracker"):
        device_at(port).open()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=lambda: listener.accept()[0].sendall(b"HTTP"), daemon=True).start()
        with pytest.raises(DeviceError, match=r"is no tracker\. Check the port"):
            device_at(listener.getsockname()[1]).open()


def test_a_key_without_devices_is_a_sentence(tracker: int, on_shelf: Shelf) -> None:
    with TrackerConnection("127.0.0.1", tracker) as server:
        server.introduce("another-phone", None, 1)
        with pytest.raises(
            DeviceError, match=r"some-phone has no device under that key\. Keys it knows: another-phone\. Put one"
        ):
            device_at(tracker, grace=0.3).open()
        server.introduce(KEY, None, 1)  # there, and never free
        with pytest.raises(DeviceError, match=r"had no free device for 0 s: 1 are there, and 1 clients wait"):
            device_at(tracker).open(time_limit=0.4)


# -- devices on the shelf -----------------------------------------------------------------------------------------------------


def test_sessions_follow_one_another(tracker: int, on_shelf: Shelf, library: Path) -> None:
    server = on_shelf.put()
    device = device_at(tracker)
    for _ in range(3):
        with device.open(60) as session:
            assert session.line == f"tracker://127.0.0.1:{tracker}/{KEY}"
            run_echo(session, library)
    assert device.default_target() == "host"
    assert len(server.said) == 1 and "host is on the shelf of the tracker at 127.0.0.1:" in server.said[0]


def test_clients_queue_for_two_devices(tracker: int, on_shelf: Shelf, library: Path) -> None:
    for _ in range(2):
        on_shelf.put()
    at_once, most, lock = 0, 0, threading.Lock()
    pairs = threading.Barrier(2, timeout=60)  # nobody leaves before another has come
    failures: list[BaseException] = []

    def client() -> None:
        nonlocal at_once, most
        try:
            with device_at(tracker).open(60) as session:
                with lock:
                    at_once += 1
                    most = max(most, at_once)
                run_echo(session, library)
                pairs.wait()
                with lock:
                    at_once -= 1
        except BaseException as error:
            failures.append(error)

    clients = [threading.Thread(target=client) for _ in range(6)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    assert not failures and most == 2


def test_a_device_that_is_killed_is_told_of_and_comes_back(tracker: int, on_shelf: Shelf, library: Path) -> None:
    phone = on_shelf.put()
    device = device_at(tracker)
    with device.open(60) as session:
        phone.kill_agent()
        with pytest.raises(
            DeviceError, match=r"the device at 127\.0\.0\.1:\d+ ended the session\. .* next session gets one that"
        ):
            run_echo(session, library)
    with device.open(60) as session:  # waits until it is back
        run_echo(session, library)
    wait_for(lambda: phone.agent is not None)
    phone.kill_agent()  # now while nobody uses it
    wait_for(lambda: sum("off the shelf: the agent ended" in line for line in phone.said) == 2)
    with device.open(60) as session:
        run_echo(session, library)


def test_a_dead_device_does_not_keep_clients_from_a_live_one(tracker: int, on_shelf: Shelf, library: Path) -> None:
    """An offer whose server has died unnoticed: the client asks again and gets another."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with TrackerConnection("127.0.0.1", tracker) as dead:
        dead.introduce(KEY, None, port)
        dead.offer(KEY, None, port)
        on_shelf.put()
        wait_for(lambda: dead.summary()["queue_info"][KEY]["free"] == 2)
        with device_at(tracker).open(60) as session:
            run_echo(session, library)
        for _ in range(5):
            dead.offer(KEY, None, port)
        on_shelf.stop()
        with pytest.raises(DeviceError, match=r"handed out a device 5 times, and none could be used\. The last: "):
            device_at(tracker).open(60)


def test_a_match_key_is_good_once_and_nothing_else_opens_the_door(tracker: int, on_shelf: Shelf, library: Path) -> None:
    on_shelf.put()
    with TrackerConnection("127.0.0.1", tracker) as client:
        _, (_, port, match_key) = client.ask(TrackerCode.REQUEST, KEY, "", 1, seconds=30)
    refused = struct.pack("<i", RPC_CODE_MISMATCH)
    assert send(port, greeting(KEY)) == refused
    assert send(port, greeting(f"{KEY}:{secrets.token_hex(12)}")) == refused
    assert send(port, b"GET / HTTP/1.1\r\n\r\n") == b""
    assert send(port, greeting("x" * 300)) == b""
    idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(8)]  # strangers who say nothing
    session = rpc.connect("127.0.0.1", port, match_key)
    assert session.get_function("tapdot.agent.information")()
    assert send(port, greeting(match_key)) == refused
    for stranger in idle:
        stranger.close()
    session.get_function("CloseRPCConnection")()


def test_a_match_key_nobody_shows_is_replaced(
    tracker: int, on_shelf: Shelf, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelf, "FORGOTTEN_SECONDS", 0.3)
    on_shelf.put()
    with TrackerConnection("127.0.0.1", tracker) as client:
        client.ask(TrackerCode.REQUEST, KEY, "", 1, seconds=30)  # and then it is killed, say
    with device_at(tracker).open(60) as session:
        run_echo(session, library)


def test_a_tracker_that_is_not_there_is_tried_again() -> None:
    said: list[str] = []
    served = ServedDevice(connect("host"), Place("127.0.0.1", 1, KEY), said.append, retry=0.1)
    thread = threading.Thread(target=served.serve)
    thread.start()
    wait_for(lambda: said)
    time.sleep(0.5)
    served.stop()
    thread.join()
    assert len(said) == 1 and "host is off the shelf: Nothing listens at 127.0.0.1:1." in said[0]


# -- TVM's own programs -------------------------------------------------------------------------------------------------------


def test_tvms_own_client_gets_a_device(tracker: int, on_shelf: Shelf) -> None:
    on_shelf.put()
    client = rpc.connect_tracker("127.0.0.1", tracker)
    session = client.request(KEY, session_timeout=60)
    session.upload(bytearray(b"content"), "file")
    assert session.download("file") == b"content"
    summary = client.text_summary()
    assert f"server:{KEY}" in summary
    session.get_function("CloseRPCConnection")()


def test_tvms_own_tracker_serves_this_shelf(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tornado")
    from tvm.rpc.tracker import Tracker

    monkeypatch.setattr(shelf, "LOOK_SECONDS", 0.1)
    tracker = Tracker(host="127.0.0.1", port=9190, port_end=9290, silent=True)
    devices = Shelf(tracker.port)
    try:
        phone = devices.put()
        for _ in range(2):
            with device_at(tracker.port).open(60) as session:
                run_echo(session, library)
        wait_for(lambda: phone.agent is not None)
        phone.kill_agent()
        with device_at(tracker.port).open(60) as session:
            run_echo(session, library)
    finally:
        devices.stop()
        tracker.terminate()


@pytest.mark.emulated
def test_emulated_phones_share_a_key(tracker: int, on_shelf: Shelf, tmp_path: Path) -> None:
    phones = [on_shelf.put("emulated") for _ in range(2)]
    library = echo_library("aarch64", tmp_path / "echo.so")
    device = device_at(tracker)
    with device.open(120) as first, device.open(120) as second:
        for session in (first, second):
            information = session.information()
            assert information.emulated and information.cpu == "cortex-a76"
            run_echo(session, library)
        phones[0].kill_agent()
        outcomes = []
        for session in (first, second):
            try:
                run_echo(session, library)
                outcomes.append("done")
            except DeviceError:
                outcomes.append("lost")
        assert sorted(outcomes) == ["done", "lost"]
    with device.open(120) as first, device.open(120) as second:
        for session in (first, second):
            run_echo(session, library)
