"""A shelf of devices: each is offered to a tracker for one session at a time, and offered again when that has ended.

A client shows the match key it was given; what it then says is carried to the device's own agent, whose key it never learns. A
device that is lost is withdrawn from the tracker, and comes back when it answers again.
"""

from __future__ import annotations

import secrets
import select
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from tapdot.compiler.errors import DeviceError, TapdotError
from tapdot.runtime.devices.base import AgentAddress, Device
from tapdot.runtime.devices.connection import (
    GREETING_SECONDS,
    RPC_CODE_MISMATCH,
    RPC_MAGIC,
    BusyError,
    greet,
    greeting,
    receive,
)
from tapdot.runtime.devices.sockets import address_text, keep_watch
from tapdot.runtime.devices.tracker_protocol import TrackerConnection

LOOK_SECONDS = 2.0
"""How often the tracker and the offer of an idle device are looked after."""
FORGOTTEN_SECONDS = 6.0
"""A match key that was handed out and not shown for so long is replaced: its client is gone."""
HEALTH_SECONDS = 10.0
"""How often an idle device itself is asked whether it is there."""
RETRY_SECONDS = 3.0
SILENT_SECONDS = 600.0
"""For a side that does not take what the other sends: it may be computing."""
GREETING_LIMIT = 256
GREETERS = 16
CHUNK_BYTES = 2**16


@dataclass(frozen=True)
class Place:
    """Where offers go, and where their clients come: the tracker and its key; the address to listen on, and the one to tell of,
    None for the one the tracker sees.
    """

    tracker_host: str
    tracker_port: int
    key: str
    listen: str = "127.0.0.1"
    announced: str | None = None


class ServedDevice:
    """A device on the shelf. ``serve`` runs until ``stop`` is called from another thread; ``say`` is told what happens."""

    def __init__(
        self,
        device: Device,
        place: Place,
        say: Callable[[str], None],
        retry: float = RETRY_SECONDS,
        health: float = HEALTH_SECONDS,
    ) -> None:
        self.device, self.place, self.retry, self.health = device, place, retry, health
        self._say = say
        self._told = ""
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Ends ``serve`` soon; a session under way is cut."""
        self._stopping.set()

    def serve(self) -> None:
        """Offers the device, session after session, and finds it again when it was lost."""
        while not self._stopping.is_set():
            try:
                with self.device.agent(sessions=1) as agent:
                    self._offer(agent)
            except TapdotError as error:
                if str(error) != self._told:  # the same sentence every few seconds helps nobody
                    self._told = str(error)
                    self._say(f"{self.device.line} is off the shelf: {self._told}")
                self._stopping.wait(self.retry)

    def _offer(self, agent: AgentAddress) -> None:
        """Offers an agent until it, the tracker, or this ends. Raises DeviceError for the first two."""
        place = self.place
        with ExitStack() as resources:
            family = socket.AF_INET6 if ":" in place.listen else socket.AF_INET
            try:
                listener = resources.enter_context(socket.create_server((place.listen, 0), family=family))
            except OSError as error:
                raise DeviceError(f"A device cannot be served at the address {place.listen} ({error.strerror}).") from error
            tracker = resources.enter_context(TrackerConnection(place.tracker_host, place.tracker_port))
            door = resources.enter_context(_Door(listener))
            port = listener.getsockname()[1]
            self._wait_until_free(agent)
            tracker.introduce(place.key, place.announced, port)
            self._told = ""
            self._say(
                f"{self.device.line} is on the shelf of {tracker.place} as {place.key}, at {address_text(place.listen, port)}"
            )
            while not self._stopping.is_set():
                self._wait_until_free(agent)
                if (client := self._await_client(tracker, door, port, agent)) is not None:
                    with client:
                        self._carry(client, door.options, agent)

    def _wait_until_free(self, agent: AgentAddress) -> None:
        """Returns when the agent would serve a session. Raises DeviceError when it has gone."""
        while not self._stopping.is_set():
            if reason := agent.lost():
                raise DeviceError(reason)
            try:
                return greet(agent.host, agent.port, agent.key, self.device.line)
            except BusyError:  # the last session ends still, or somebody else has the device
                self._stopping.wait(0.05)

    def _await_client(self, tracker: TrackerConnection, door: _Door, port: int, agent: AgentAddress) -> socket.socket | None:
        """The client that shows the match key of an offer; None when this is to stop."""
        match_key, handed_out = tracker.offer(self.place.key, self.place.announced, port), None
        door.key = match_key
        asked = time.monotonic()
        try:
            while not self._stopping.is_set():
                if (client := door.wait(LOOK_SECONDS)) is not None:
                    return client
                if time.monotonic() > asked + self.health:
                    self._wait_until_free(agent)
                    asked = time.monotonic()
                if match_key in tracker.pending():
                    handed_out = None
                elif handed_out is None:
                    handed_out = time.monotonic()
                elif time.monotonic() > handed_out + FORGOTTEN_SECONDS:
                    match_key, handed_out = tracker.offer(self.place.key, self.place.announced, port), None
                    door.key = match_key
        finally:
            door.key = None
        return None

    def _carry(self, client: socket.socket, options: str, agent: AgentAddress) -> None:
        """A session: the client's bytes to the agent and back, until either leaves."""
        try:
            server = socket.create_connection((agent.host, agent.port), timeout=GREETING_SECONDS)
        except OSError as error:
            raise DeviceError(f"{self.device.line} does not answer any more ({error.strerror or error}).") from error
        with server:
            try:
                server.sendall(greeting(f"client:{agent.key}{options}"))
                answer = receive(server, 8)
                code, size = struct.unpack("<ii", answer) if len(answer) == 8 else (0, 0)
                if code != RPC_MAGIC or len(receive(server, size)) != size:
                    return  # the client sees the end of the conversation, and asks for another device
                client.sendall(greeting(f"server:{self.place.key}"))
                keep_watch(client)
                _pump(client, server, self._stopping)
            except OSError:
                return  # either has gone without a word; the agent, if it is that one, is missed at the next look


class _Door:
    """Lets the one client in that shows the key of the moment. Strangers wait at it, a few seconds each, and keep nobody else."""

    def __init__(self, listener: socket.socket) -> None:
        self.key: str | None = None
        self.options = ""
        self._listener = listener
        self._greeters = threading.Semaphore(GREETERS)
        self._lock = threading.Lock()
        self._arrived = threading.Event()
        self._client: socket.socket | None = None
        self._open = True
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def __enter__(self) -> _Door:
        return self

    def __exit__(self, *exception: object) -> None:
        self._open = False
        self._thread.join()
        with self._lock:
            if self._client is not None:
                self._client.close()

    def wait(self, seconds: float) -> socket.socket | None:
        """The client, once it is there."""
        if not self._arrived.wait(seconds):
            return None
        with self._lock:
            self._arrived.clear()
            client, self._client = self._client, None
            return client

    def _accept(self) -> None:
        while self._open:
            if not select.select([self._listener], [], [], 0.2)[0]:
                continue
            with suppress(OSError):
                connection, _ = self._listener.accept()
                self._greeters.acquire()
                threading.Thread(target=self._greet, args=(connection,), daemon=True).start()

    def _greet(self, connection: socket.socket) -> None:
        try:
            shown = _read_greeting(connection)
            if shown is None:
                connection.close()
                return
            given, _, options = shown.partition(" ")
            with self._lock:
                if self.key is not None and secrets.compare_digest(given.encode(), f"client:{self.key}".encode()):
                    self.key, self._client = None, connection  # good once
                    self.options = f" {options}" if options else ""
                    self._arrived.set()
                    return
            connection.sendall(struct.pack("<i", RPC_CODE_MISMATCH))
            connection.close()
        except OSError:
            connection.close()
        finally:
            self._greeters.release()


def _read_greeting(connection: socket.socket) -> str | None:
    """What a client of TVM's protocol says first; None for anybody else, and for one that takes too long."""
    deadline, data, needed = time.monotonic() + GREETING_SECONDS / 2, b"", 8
    while len(data) < needed:
        connection.settimeout(max(0.01, deadline - time.monotonic()))
        chunk = connection.recv(needed - len(data))
        if not chunk or time.monotonic() > deadline:
            return None
        data += chunk
        if len(data) == 8:
            magic, size = struct.unpack("<ii", data)
            if magic != RPC_MAGIC or not 0 < size <= GREETING_LIMIT:
                return None
            needed += size
    return data[8:].decode(errors="replace")


def _pump(client: socket.socket, server: socket.socket, stopping: threading.Event) -> None:
    """Carries bytes both ways until one side ends, or ``stopping`` is set."""
    for one in (client, server):
        one.settimeout(SILENT_SECONDS)
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while not stopping.is_set():
        for one in select.select([client, server], [], [], 0.5)[0]:
            if not (chunk := one.recv(CHUNK_BYTES)):
                return
            (server if one is client else client).sendall(chunk)


def serve_all(devices: Sequence[ServedDevice]) -> None:
    """Serves devices side by side until this process is interrupted or asked to end."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    threads = [threading.Thread(target=device.serve, daemon=True) for device in devices]
    for thread in threads:
        thread.start()
    try:
        while any(thread.is_alive() for thread in threads):
            time.sleep(0.5)  # an interrupted join takes a thread that runs for one that has ended
    except KeyboardInterrupt:
        pass
    finally:
        for device in devices:
            device.stop()
        for thread in threads:
            thread.join()
