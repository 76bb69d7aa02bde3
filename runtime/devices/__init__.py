"""Devices, each named by a line: ``host``, ``emulated``, ``emulated:max``, ``rpc://host:port``."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from tapdot.compiler.errors import DeviceError
from tapdot.runtime.devices.base import Device, DeviceInformation, Module, Session, Tensor
from tapdot.runtime.devices.emulated import EmulatedDevice
from tapdot.runtime.devices.host import HostDevice
from tapdot.runtime.devices.remote import RemoteDevice

__all__ = ["DEVICE_KINDS", "Device", "DeviceInformation", "DeviceKind", "Module", "Session", "Tensor", "connect"]


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


def _remote(host: str, port: str) -> Device:
    if not 1 <= int(port) <= 65535:
        raise DeviceError(f"rpc://{host}:{port} has no port from 1 to 65535.")
    return RemoteDevice(host.strip("[]"), int(port))


DEVICE_KINDS = (
    DeviceKind("host", "this machine", re.compile(r"host"), HostDevice),
    DeviceKind(
        "emulated[:CPU]",
        "an aarch64 phone under QEMU on this machine",
        re.compile(r"emulated(?::([a-z0-9-]+))?"),
        EmulatedDevice,
    ),
    DeviceKind(
        "rpc://HOST:PORT",
        "a machine where the agent runs; its key in TAPDOT_KEY",
        re.compile(r"rpc://(\[[0-9a-fA-F:]+\]|[^:/\[\]\s]+):(\d{1,5})"),
        _remote,
        far_away=True,
    ),
)


def connect(line: str) -> Device:
    """The device a line names. Nothing is started or reached before its ``open``.

    Raises DeviceError for a line of no known form.
    """
    for kind in DEVICE_KINDS:
        if match := kind.pattern.fullmatch(line.strip()):
            return kind.create(*(group for group in match.groups() if group is not None))
    forms = ", ".join(kind.form for kind in DEVICE_KINDS)
    raise DeviceError(f"'{line}' names no device. A device is written as one of: {forms}.")
