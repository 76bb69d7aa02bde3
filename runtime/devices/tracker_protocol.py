"""TVM's tracker as a client speaks to it (tvm/rpc/tracker.py and base.py of TVM 0.27), without the packages TVM's own needs.

A tracker knows devices by a key that says what they are, such as ``pixel-6``. Whoever serves one offers it with a match key, good
for one session; whoever wants one gets host, port and match key, or waits in a queue. Messages are an int32 of bytes and JSON.
"""

from __future__ import annotations

import json
import secrets
import select
import socket
import struct
import time
from contextlib import AbstractContextManager, suppress
from enum import IntEnum
from typing import Any

from tapdot.compiler.errors import DeviceError
from tapdot.runtime.devices.sockets import address_text, keep_watch

TRACKER_MAGIC = 0x2F271
MOST_BYTES = 2**20
ANSWER_SECONDS = 10.0


class TrackerCode(IntEnum):
    """What a message is about, and how it went."""

    FAIL = -1
    SUCCESS = 0
    PING = 1
    STOP = 2
    PUT = 3
    REQUEST = 4
    UPDATE_INFO = 5
    SUMMARY = 6
    GET_PENDING_MATCHKEYS = 7


def fresh_match_key(key: str) -> str:
    """A match key that nobody can guess. TVM's tracker finds the key again by cutting it off at the last colon."""
    return f"{key}:{secrets.token_hex(12)}"


class TrackerConnection(AbstractContextManager["TrackerConnection"]):
    """A conversation with the tracker at ``host:port``. Every method raises DeviceError when the tracker does not answer."""

    def __init__(self, host: str, port: int) -> None:
        self.place = f"the tracker at {address_text(host, port)}"
        try:
            self._socket = socket.create_connection((host, port), timeout=ANSWER_SECONDS)
        except ConnectionRefusedError as error:
            raise DeviceError(f"Nothing listens at {address_text(host, port)}. Start a tracker there: tapdot tracker") from error
        except socket.gaierror as error:
            raise DeviceError(f"The tracker's host name '{host}' is unknown ({error.strerror}).") from error
        except OSError as error:
            raise DeviceError(f"{self.place.capitalize()} cannot be reached ({error.strerror or error}).") from error
        try:
            keep_watch(self._socket)
            self._send(struct.pack("<i", TRACKER_MAGIC))
            if struct.unpack("<i", self._receive(4, ANSWER_SECONDS))[0] != TRACKER_MAGIC:
                raise DeviceError(f"What listens at {address_text(host, port)} is no tracker. Check the port.")
        except BaseException:
            self.close()
            raise

    def ask(self, *message: Any, seconds: float = ANSWER_SECONDS) -> Any:
        """The tracker's answer to a message."""
        self.send(*message)
        return self.answer(seconds)

    def send(self, *message: Any) -> None:
        """Sends a message whose answer comes later."""
        text = json.dumps(message).encode()
        self._send(struct.pack("<i", len(text)) + text)

    def answer(self, seconds: float = ANSWER_SECONDS) -> Any:
        """The next answer."""
        size = struct.unpack("<i", self._receive(4, seconds))[0]
        if not 0 < size <= MOST_BYTES:
            raise DeviceError(f"{self.place.capitalize()} answered with {size} bytes, which no tracker does.")
        try:
            return json.loads(self._receive(size, ANSWER_SECONDS))
        except ValueError as error:
            raise DeviceError(f"{self.place.capitalize()} answered with something that is no JSON.") from error

    def wait(self, seconds: float) -> bool:
        """Whether an answer, or the end of the conversation, has come within that time."""
        return bool(select.select([self._socket], [], [], seconds)[0])

    # -- what is asked of trackers ------------------------------------------------------------------------------------------

    def summary(self) -> dict[str, Any]:
        """``queue_info`` by key (``free`` devices, ``pending`` requests) and ``server_info``, one entry a server."""
        code, summary = self.ask(TrackerCode.SUMMARY)
        if code != TrackerCode.SUCCESS:
            raise DeviceError(f"{self.place.capitalize()} does not tell what it has.")
        return summary

    def introduce(self, key: str, host: str | None, port: int) -> None:
        """Says that this side serves a device; ``host`` None: at the address it is seen to come from."""
        self._accept(self.ask(TrackerCode.UPDATE_INFO, {"key": f"server:{key}", "addr": [host, port]}))

    def offer(self, key: str, host: str | None, port: int) -> str:
        """Offers the device for one session; returns the match key its client will show."""
        match_key = fresh_match_key(key)
        self._accept(self.ask(TrackerCode.PUT, key, [port, match_key], host))
        return match_key

    def pending(self) -> list[str]:
        """Match keys of this side's offers that nobody was given yet."""
        return list(self.ask(TrackerCode.GET_PENDING_MATCHKEYS))

    def _accept(self, answer: Any) -> None:
        if answer != TrackerCode.SUCCESS:
            raise DeviceError(f"{self.place.capitalize()} refused the device (it answered {answer}).")

    def close(self) -> None:
        """Ends the conversation; what was offered or asked for in it is void."""
        with suppress(OSError):
            self._socket.close()

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _send(self, data: bytes) -> None:
        try:
            self._socket.settimeout(ANSWER_SECONDS)
            self._socket.sendall(data)
        except OSError as error:
            raise self._gone(error) from error

    def _receive(self, size: int, seconds: float) -> bytes:
        deadline, received = time.monotonic() + seconds, b""
        try:
            while len(received) < size:
                self._socket.settimeout(max(0.01, deadline - time.monotonic()))
                chunk = self._socket.recv(size - len(received))
                if not chunk:
                    raise ConnectionResetError("it closed the connection")
                received += chunk
        except TimeoutError as error:
            raise DeviceError(f"{self.place.capitalize()} did not answer within {seconds:g} s.") from error
        except OSError as error:
            raise self._gone(error) from error
        return received

    def _gone(self, error: OSError) -> DeviceError:
        return DeviceError(f"{self.place.capitalize()} is gone ({error.strerror or error}). Start it again, then this.")
