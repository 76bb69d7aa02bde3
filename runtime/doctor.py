"""Walking through the set-up of a device, step by step, up to the first that fails."""

from __future__ import annotations

import importlib.metadata
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tapdot.compiler.errors import DeviceError, TapdotError
from tapdot.runtime.bundle import build_bundle
from tapdot.runtime.devices import DEVICE_KINDS, EMULATED, connect
from tapdot.runtime.devices.base import Device, Session
from tapdot.runtime.devices.connection import greet
from tapdot.runtime.devices.emulated import EmulatedDevice, find_emulator
from tapdot.runtime.devices.host import HostDevice
from tapdot.runtime.devices.remote import AGENT_VERSION, RemoteDevice
from tapdot.runtime.echo import ELEMENTS, SYMBOL, echo_library, run_echo
from tapdot.runtime.instructions import Argument, count_call

SESSION_SECONDS = 60.0
PINGS = 5


@dataclass(frozen=True)
class Step:
    """One step of set-up: what was checked, whether it holds, what was found, or what went wrong and what to do."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class ListedDevice:
    """A way to write a device, and whether it can be used from here now.

    ``available`` is None where only the device itself could tell, as for a form with an address to fill in.
    """

    line: str
    meaning: str
    available: bool | None
    detail: str


Check = tuple[str, Callable[[], str]]


def list_devices() -> list[ListedDevice]:
    """The forms of device line, with what is known of each without reaching anything. Takes milliseconds."""
    listed = []
    for kind in DEVICE_KINDS:
        available: bool | None = True
        detail = "ready"
        if kind.far_away:
            available, detail = None, "fill in the address; see tapdot doctor"
        elif kind is EMULATED:
            try:
                detail = f"ready, with {find_emulator()}"
            except DeviceError as error:
                available, detail = False, str(error)
        listed.append(ListedDevice(kind.form, kind.meaning, available, detail))
    return listed


def doctor(line: str) -> list[Step]:
    """Checks every step of a device's set-up, in order, and stops at the first that fails; its detail says what to do.

    Raises DeviceError only for a line that names no device.
    """
    device = connect(line)
    steps = []
    with ExitStack() as resources:
        for name, check in _checks(device, resources):
            try:
                steps.append(Step(name, True, check()))
            except TapdotError as error:
                steps.append(Step(name, False, str(error)))
                break
    return steps


def _checks(device: Device, resources: ExitStack) -> Iterator[Check]:
    """The steps for a device. A step sees what the ones before it left, so they come one at a time."""
    yield "TVM", _tvm_versions
    if isinstance(device, EmulatedDevice):
        yield "emulator", find_emulator
        yield "bundle", _bundle
    if isinstance(device, RemoteDevice):
        yield "key", lambda: f"{len(device.key)} bytes"
        yield "agent answers", lambda: _greet(device)
    sessions: list[Session] = []

    def open_session() -> str:
        started = time.perf_counter()
        sessions.append(resources.enter_context(device.open(SESSION_SECONDS)))
        return f"opened in {time.perf_counter() - started:.2f} s"

    yield "session", open_session
    session = sessions[0]
    yield "device", lambda: _describe(session)
    if not isinstance(device, HostDevice):
        yield "ping", lambda: _ping(session)
    folder = Path(resources.enter_context(tempfile.TemporaryDirectory(prefix="tapdot-doctor-")))
    yield "echo kernel", lambda: _echo(session, folder)
    if isinstance(device, EmulatedDevice):
        yield "instruction counter", lambda: _count(device, folder)


def _tvm_versions() -> str:
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("apache-tvm", "apache-tvm-ffi"))


def _bundle() -> str:
    bundle = build_bundle("aarch64")
    if damaged := bundle.damaged_files():
        raise DeviceError(
            f"{', '.join(damaged)} in {bundle.directory} differ from what was built. Delete that folder and try again."
        )
    return str(bundle.directory)


def _greet(device: RemoteDevice) -> str:
    greet(device.host, device.port, device.key, device.line)
    return f"{device.host}:{device.port} accepts the key"


def _describe(session: Session) -> str:
    information = session.information()
    if information.agent_version not in (None, AGENT_VERSION):
        raise DeviceError(
            f"The agent of {session.line} has version {information.agent_version}, this tapdot speaks to {AGENT_VERSION}. "
            f"Copy the bundle of this version there and start it."
        )
    return (
        f"{information.cpu} ({information.architecture}), {information.cores} cores, "
        f"{information.free_memory_mebibytes:.0f} of {information.memory_mebibytes:.0f} MiB free, "
        f"{information.free_disk_mebibytes:.0f} MiB of disk free"
    )


def _ping(session: Session) -> str:
    durations = []
    for _ in range(PINGS):
        started = time.perf_counter()
        session.information()
        durations.append(time.perf_counter() - started)
    return f"{1000 * min(durations):.2f} ms there and back"


def _echo(session: Session, folder: Path) -> str:
    run_echo(session, echo_library(session.information().architecture, folder / "echo.so"))
    return f"compiled, loaded, doubled {ELEMENTS} numbers"


def _count(device: EmulatedDevice, folder: Path) -> str:
    values = np.ones(ELEMENTS, np.float32)
    arguments = [Argument.read(values), Argument.write(values.shape, values.dtype)]
    return f"{count_call(folder / 'echo.so', SYMBOL, arguments, device.cpu).per_run} instructions for the echo kernel"
