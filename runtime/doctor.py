"""Walking through the set-up of a device, step by step, up to the first that fails."""

from __future__ import annotations

import importlib.metadata
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tapdot.compiler.errors import TapdotError
from tapdot.kernels.target import find_target
from tapdot.runtime.clock import ClockStability, clock_stability
from tapdot.runtime.devices import connect
from tapdot.runtime.devices.base import Check, Device, DeviceInformation, Session
from tapdot.runtime.devices.targets import target_for
from tapdot.runtime.echo import ELEMENTS, SYMBOL, echo_library, run_echo
from tapdot.runtime.instructions import Argument, count_call, counting_cpu

SESSION_SECONDS = 60.0
PINGS = 5


@dataclass(frozen=True)
class Step:
    """One step of set-up: what was checked, whether it holds, what was found, or what went wrong and what to do."""

    name: str
    passed: bool
    detail: str


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
    """The steps for a device: its own, then those of every session. A step sees what the ones before it left, so they come one
    at a time.
    """
    yield "TVM", _tvm_versions
    yield from device.steps()
    sessions: list[Session] = []

    def open_session() -> str:
        started = time.perf_counter()
        sessions.append(resources.enter_context(device.open(SESSION_SECONDS)))
        return f"opened in {time.perf_counter() - started:.2f} s"

    yield "session", open_session
    session, told = sessions[0], _Told()
    yield from session.steps()
    yield "device", lambda: _describe(told.ask(session))
    information = told.information
    assert information is not None
    yield "target", lambda: _target(information)
    if information.agent_version is not None:
        yield "ping", lambda: _ping(session)
    folder = Path(resources.enter_context(tempfile.TemporaryDirectory(prefix="tapdot-doctor-")))
    yield "echo kernel", lambda: _echo(session, information.architecture, folder)
    if information.emulated:
        yield "instruction counter", lambda: _count(counting_cpu(device.line, information), folder)
    else:
        yield "clock", lambda: describe_clock(clock_stability(session))


class _Told:
    """What the device said of itself, once it was asked."""

    information: DeviceInformation | None = None

    def ask(self, session: Session) -> DeviceInformation:
        self.information = session.information()
        return self.information


def _tvm_versions() -> str:
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("apache-tvm", "apache-tvm-ffi"))


def _describe(information: DeviceInformation) -> str:
    return (
        f"{information.title}; {information.free_memory_mebibytes:.0f} of {information.memory_mebibytes:.0f} MiB free, "
        f"{information.free_disk_mebibytes:.0f} MiB of disk free"
    )


def _target(information: DeviceInformation) -> str:
    name = target_for(information)
    features = ", ".join(find_target(name).features) or "no vector instructions"
    return f"{name}, whose code uses {features}"


def _ping(session: Session) -> str:
    durations = []
    for _ in range(PINGS):
        started = time.perf_counter()
        session.information()
        durations.append(time.perf_counter() - started)
    return f"{1000 * min(durations):.2f} ms there and back"


def _echo(session: Session, architecture: str, folder: Path) -> str:
    run_echo(session, echo_library(architecture, folder / "echo.so"))
    return f"compiled, loaded, doubled {ELEMENTS} numbers"


def _count(cpu: str, folder: Path) -> str:
    values = np.ones(ELEMENTS, np.float32)
    arguments = [Argument.read(values), Argument.write(values.shape, values.dtype)]
    return f"{count_call(folder / 'echo.so', SYMBOL, arguments, cpu).per_run} instructions for the echo kernel, counted on {cpu}"


def describe_clock(found: ClockStability) -> str:
    """How steady a clock is, and what to do about one that is not."""
    advice = ""
    if not found.steady:
        advice = "; small differences will drown in it, so end what else runs there, let it cool, keep it on its charger"
    return f"{'steady' if found.steady else 'unsteady'}: {found}{advice}"
