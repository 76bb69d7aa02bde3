"""The device ``tracker://host:port/key``: whichever of the devices that a tracker has under a key is free."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from tapdot.compiler.errors import DeviceError
from tapdot.runtime.devices.base import Check, Device, Session
from tapdot.runtime.devices.connection import Connection
from tapdot.runtime.devices.remote import RemoteSession
from tapdot.runtime.devices.sockets import address_text
from tapdot.runtime.devices.targets import target_for
from tapdot.runtime.devices.tracker_protocol import TrackerCode, TrackerConnection

ATTEMPTS = 5
"""A device that was handed out and does not answer has been dropped by then, or soon will be; so many others are asked for."""
LOOK_SECONDS = 2.0
GRACE_SECONDS = 15.0
"""How long a key may have no device at all: one that was lost comes back within this, if ever."""


@dataclass(frozen=True)
class Shelf:
    """What a tracker has under a key: devices in all, those free now, and clients that wait."""

    devices: int
    free: int
    waiting: int
    other_keys: tuple[str, ...]


class TrackerDevice(Device):
    """One of several like devices. A session waits in the tracker's queue until one is free."""

    def __init__(self, host: str, port: int, key: str, grace: float = GRACE_SECONDS) -> None:
        self.host, self.port, self.key = host, port, key
        self.grace = grace
        self.line = f"tracker://{address_text(host, port)}/{key}"

    def open(self, time_limit: float = 600.0) -> Session:
        """A session with the next free device. ``time_limit`` also bounds the wait for one.

        Raises DeviceError when none is free in time, when there is none, and when those handed out do not answer.
        """
        deadline = time.monotonic() + time_limit
        failures: list[str] = []
        while len(failures) < ATTEMPTS:
            host, port, match_key = self._request(deadline, time_limit)
            place = address_text(host, port)
            try:
                connection = Connection(host, port, match_key, f"{self.line} ({place})", known=True, lost=partial(_gone, place))
            except DeviceError as error:
                failures.append(str(error))
                continue
            connection.line = self.line
            return RemoteSession(connection, time_limit)
        raise DeviceError(f"{self.line} handed out a device {ATTEMPTS} times, and none could be used. The last: {failures[-1]}")

    def default_target(self) -> str:
        """The target that fits what the next free device reports. Asks it."""
        with self.open() as session:
            return target_for(session.information())

    @property
    def parallel(self) -> int:
        with TrackerConnection(self.host, self.port) as tracker:
            return max(1, look(tracker, self.key).free)

    def steps(self) -> Iterator[Check]:
        def answers() -> str:
            with TrackerConnection(self.host, self.port) as tracker:
                return f"{tracker.place} answers"

        def devices() -> str:
            with TrackerConnection(self.host, self.port) as tracker:
                shelf = look(tracker, self.key)
            if shelf.devices == 0:
                raise self._nothing(shelf)
            return f"{shelf.devices} under the key {self.key}, {shelf.free} free, {shelf.waiting} clients waiting"

        yield "tracker", answers
        yield "devices", devices

    def _request(self, deadline: float, time_limit: float) -> tuple[str, int, str]:
        """Host, port and match key of the next free device."""
        with TrackerConnection(self.host, self.port) as queue, TrackerConnection(self.host, self.port) as side:
            queue.send(TrackerCode.REQUEST, self.key, "", 1)
            last_seen = time.monotonic()
            while not queue.wait(LOOK_SECONDS):
                shelf = look(side, self.key)
                now = time.monotonic()
                if shelf.devices > 0:
                    last_seen = now
                elif now > last_seen + self.grace:
                    raise self._nothing(shelf)
                if now > deadline:
                    raise DeviceError(
                        f"{self.line} had no free device for {time_limit:.0f} s: {shelf.devices} are there, and {shelf.waiting} "
                        f"clients wait. Allow more time, or put more devices on the shelf (tapdot serve)."
                    )
            code, place = queue.answer()
            if code != TrackerCode.SUCCESS:
                raise DeviceError(f"{queue.place.capitalize()} refused the request for {self.key}.")
            host, port, match_key = place
            return str(host), int(port), str(match_key)

    def _nothing(self, shelf: Shelf) -> DeviceError:
        others = f" Keys it knows: {', '.join(shelf.other_keys)}." if shelf.other_keys else ""
        return DeviceError(
            f"{self.line} has no device under that key.{others} Put one there with: tapdot serve --device DEVICE --tracker "
            f"{address_text(self.host, self.port)} --key {self.key}"
        )


def _gone(place: str) -> str:
    return (
        f"the device at {place} ended the session. The code crashed there, or the device was stopped or unplugged; the next "
        f"session gets one that answers."
    )


def look(tracker: TrackerConnection, key: str) -> Shelf:
    """What a tracker says of a key."""
    summary = tracker.summary()
    servers = [str(server.get("key", "")).removeprefix("server:") for server in summary["server_info"]]
    queue = summary["queue_info"].get(key, {})
    return Shelf(
        servers.count(key), int(queue.get("free", 0)), int(queue.get("pending", 0)), tuple(sorted({*servers} - {key, ""}))
    )
