"""Devices, each named by a line: ``host``, ``emulated``, ``emulated:max``, ``rpc://host:port``.

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

__all__ = ["DEVICE_KINDS", "DeviceKind", "connect", "find_kind"]


@dataclass(frozen=True)
class DeviceKind:
    """A form of device line: how it is written, what it means, and what makes a device of it.

    ``pattern`` matches the whole line; those of its groups that matched are the arguments of ``create``.
    """

    form: str
    meaning: str
    pattern: re.Pattern[str]
    create: Callable[..., Device]
    far_away: bool = False


def _host() -> Device:
    from tapdot.runtime.devices.host import HostDevice

    return HostDevice()


def _emulated(*cpu: str) -> Device:
    from tapdot.runtime.devices.emulated import EmulatedDevice

    return EmulatedDevice(*cpu)


def _remote(host: str, port: str) -> Device:
    if not 1 <= int(port) <= 65535:
        raise DeviceError(f"rpc://{host}:{port} has no port from 1 to 65535.")
    from tapdot.runtime.devices.remote import RemoteDevice

    return RemoteDevice(host.strip("[]"), int(port))


HOST = DeviceKind("host", "this machine", re.compile(r"host"), _host)
EMULATED = DeviceKind(
    "emulated[:CPU]",
    "an aarch64 phone under QEMU on this machine",
    re.compile(r"emulated(?::([a-z0-9-]+))?"),
    _emulated,
)
REMOTE = DeviceKind(
    "rpc://HOST:PORT",
    "a machine where the agent runs; its key in TAPDOT_KEY",
    re.compile(r"rpc://(\[[0-9a-fA-F:.]+\]|[^:/\[\]\s]+):(\d{1,5})"),
    _remote,
    far_away=True,
)
DEVICE_KINDS = (HOST, EMULATED, REMOTE)


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
