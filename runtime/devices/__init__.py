"""Devices, each named by a line: ``host``, ``emulated``, ``adb:SERIAL``, ``rpc://host:port``, ``tracker://host:port/key``.

What a line means is known here without TVM, which is loaded when a device is made of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tapdot.compiler.errors import DeviceError

if TYPE_CHECKING:
    from tapdot.runtime.devices.base import Device

__all__ = ["DEVICE_KINDS", "DeviceKind", "ListedDevice", "connect", "find_kind", "list_devices"]


@dataclass(frozen=True)
class ListedDevice:
    """A way to write a device, and whether it can be used from here now.

    ``available`` is None where only the device itself could tell, as for a form with an address to fill in.
    """

    line: str
    meaning: str
    available: bool | None
    detail: str


@dataclass(frozen=True)
class DeviceKind:
    """A form of device line: how it is written, what it means, and what makes a device of it.

    ``pattern`` matches the whole line; those of its groups that matched are the arguments of ``create``. ``look`` lists what
    there is of this kind without reaching a device.
    """

    form: str
    meaning: str
    pattern: re.Pattern[str]
    create: Callable[..., Device]
    look: Callable[[DeviceKind], list[ListedDevice]]


def _host() -> Device:
    from tapdot.runtime.devices.host import HostDevice

    return HostDevice()


def _emulated(*cpu: str) -> Device:
    from tapdot.runtime.devices.emulated import EmulatedDevice

    return EmulatedDevice(*cpu)


def _adb(*serial: str) -> Device:
    from tapdot.runtime.devices.adb import AdbDevice

    return AdbDevice(*serial)


def _remote(host: str, port: str) -> Device:
    from tapdot.runtime.devices.remote import RemoteDevice

    return RemoteDevice(host.strip("[]"), _port(f"rpc://{host}:{port}", port))


def _tracker(host: str, port: str, key: str) -> Device:
    from tapdot.runtime.devices.tracker import TrackerDevice

    return TrackerDevice(host.strip("[]"), _port(f"tracker://{host}:{port}/{key}", port), key)


def _port(line: str, text: str) -> int:
    if not 1 <= int(text) <= 65535:
        raise DeviceError(f"{line} has no port from 1 to 65535.")
    return int(text)


def _ready(kind: DeviceKind) -> list[ListedDevice]:
    return [ListedDevice(kind.form, kind.meaning, True, "ready")]


def _to_be_filled_in(kind: DeviceKind) -> list[ListedDevice]:
    return [ListedDevice(kind.form, kind.meaning, None, "fill in the address; see tapdot doctor")]


def _look_for_emulator(kind: DeviceKind) -> list[ListedDevice]:
    from tapdot.runtime.devices.emulated import find_emulator

    try:
        return [ListedDevice(kind.form, kind.meaning, True, f"ready, with {find_emulator()}")]
    except DeviceError as error:
        return [ListedDevice(kind.form, kind.meaning, False, str(error))]


def _look_for_phones(kind: DeviceKind) -> list[ListedDevice]:
    from tapdot.runtime.devices.adb_tool import NO_PHONE, READY, Adb, find_adb

    try:
        phones = Adb(find_adb()).attached()
    except DeviceError as error:
        return [ListedDevice(kind.form, kind.meaning, False, str(error))]
    found = []
    for phone in phones:
        ready = phone.state == READY
        detail = "ready" if ready else f"adb calls it '{phone.state}'; see tapdot doctor --device adb:{phone.serial}"
        found.append(ListedDevice(f"adb:{phone.serial}", phone.model or kind.meaning, ready, detail))
    return found or [ListedDevice(kind.form, kind.meaning, False, NO_PHONE)]


_HOST_AND_PORT = r"(\[[0-9a-fA-F:.]+\]|[^:/\[\]\s]+):(\d{1,5})"
HOST = DeviceKind("host", "this machine", re.compile(r"host"), _host, _ready)
EMULATED = DeviceKind(
    "emulated[:CPU]",
    "an aarch64 phone under QEMU on this machine",
    re.compile(r"emulated(?::([a-z0-9-]+))?"),
    _emulated,
    _look_for_emulator,
)
ADB = DeviceKind(
    "adb[:SERIAL]",
    "an Android phone on a cable",
    re.compile(r"adb(?::(\S+))?"),
    _adb,
    _look_for_phones,
)
REMOTE = DeviceKind(
    "rpc://HOST:PORT",
    "a machine where the agent runs; its key in TAPDOT_KEY",
    re.compile(rf"rpc://{_HOST_AND_PORT}"),
    _remote,
    _to_be_filled_in,
)
TRACKER = DeviceKind(
    "tracker://HOST:PORT/KEY",
    "whichever device of a shelf is free",
    re.compile(rf"tracker://{_HOST_AND_PORT}/([A-Za-z0-9._-]+)"),
    _tracker,
    _to_be_filled_in,
)
DEVICE_KINDS = (HOST, EMULATED, ADB, REMOTE, TRACKER)


def list_devices() -> list[ListedDevice]:
    """What there is of each kind of device, as far as this machine knows without reaching one."""
    return [listed for kind in DEVICE_KINDS for listed in kind.look(kind)]


def find_kind(line: str) -> tuple[DeviceKind, tuple[str, ...]]:
    """The kind of device a line names, and the arguments it gives for making one.

    Raises DeviceError for a line of no known form.
    """
    for kind in DEVICE_KINDS:
        if match := kind.pattern.fullmatch(line.strip()):
            return kind, tuple(group for group in match.groups() if group is not None)
    forms = ", ".join(kind.form for kind in DEVICE_KINDS)
    raise DeviceError(f"'{line}' names no device. A device is written as one of: {forms}.")


def connect(line: str) -> Device:
    """The device a line names. Nothing is started or reached before its ``open``.

    Raises DeviceError for a line of no known form.
    """
    kind, arguments = find_kind(line)
    return kind.create(*arguments)
