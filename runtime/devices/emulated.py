"""The device ``emulated``: an aarch64 phone's CPU under QEMU user mode, on this machine.

``emulated`` is a Cortex-A76; ``emulated:max`` has every extension QEMU knows but SME, with which kernels compute wrong results
there.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

from tapdot.compiler.cache import cache_directory
from tapdot.compiler.errors import DeviceError
from tapdot.kernels.target import target_names
from tapdot.runtime.bundle import build_bundle, check_bundle
from tapdot.runtime.devices.agent_process import AgentProcess
from tapdot.runtime.devices.base import AgentAddress, Check, Device, Session
from tapdot.runtime.devices.connection import Connection
from tapdot.runtime.devices.remote import RemoteSession, chunks
from tapdot.runtime.devices.targets import target_for

EMULATOR = "qemu-aarch64"
DEFAULT_CPU = "cortex-a76"
CPU_OPTIONS = {"max": "max,sme=off"}


def find_emulator() -> str:
    """Path of QEMU's user-mode emulator. Raises DeviceError when it is not installed."""
    if path := shutil.which(EMULATOR):
        return path
    raise DeviceError(f"An emulated phone needs {EMULATOR}, which is not installed. Run: apt install qemu-user")


def emulator_command(cpu: str = DEFAULT_CPU) -> list[str]:
    """The start of a command line that runs an aarch64 program on an emulated ``cpu`` (a name of QEMU's, or ``max``)."""
    return [find_emulator(), "-cpu", CPU_OPTIONS.get(cpu, cpu)]


class EmulatedDevice(Device):
    """An emulated phone, started for each session and gone after it. Weights sent to it are kept for the next."""

    emulated = True

    def __init__(self, cpu: str = DEFAULT_CPU) -> None:
        self.cpu = cpu
        self.line = "emulated" if cpu == DEFAULT_CPU else f"emulated:{cpu}"

    def open(self, time_limit: float = 600.0) -> Session:
        agent = self._start()
        try:
            return SpawnedSession(agent, self.line, time_limit)
        except BaseException:
            agent.stop()
            raise

    @contextmanager
    def agent(self, sessions: int = 4) -> Iterator[AgentAddress]:
        agent = self._start("--sessions", str(sessions))
        try:
            yield AgentAddress("127.0.0.1", agent.port, agent.key, agent.ended)
        finally:
            agent.stop()

    def steps(self) -> Iterator[Check]:
        yield "emulator", find_emulator
        yield "bundle", lambda: check_bundle("aarch64")

    def _start(self, *options: str) -> AgentProcess:
        emulator = emulator_command(self.cpu)
        return AgentProcess(build_bundle("aarch64"), emulator, cache_directory() / "emulated-weights", ("--emulated", *options))

    def default_target(self) -> str:
        """The CPU's own entry where there is one; else by what it says of itself, for which the phone is started."""
        if self.cpu in target_names():
            return self.cpu
        with self.open() as session:
            return target_for(session.information())


class SpawnedSession(RemoteSession):
    """A session with an agent that lives as long as the session."""

    def __init__(self, agent: AgentProcess, line: str, time_limit: float) -> None:
        self.agent = agent
        super().__init__(Connection("127.0.0.1", agent.port, agent.key, line, known=True), time_limit)

    def _store_weights(self, file: BinaryIO, sha256: str, size: int) -> None:
        # The agent's disk is a folder of this machine: TVM's protocol moves 6 MB/s into an emulated process, a copy 1 GB/s.
        with self.watch("Making room for the weights"):
            self._connection.function("tapdot.weights.make_room")(size)
        cache = self.agent.cache
        digest = hashlib.sha256()
        try:
            with tempfile.NamedTemporaryFile(dir=cache, prefix="partial-") as copy:
                fcntl.flock(copy, fcntl.LOCK_EX)  # tells agents that this file is being written
                for chunk in chunks(file, size):
                    digest.update(chunk)
                    copy.write(chunk)
                copy.flush()
                if digest.hexdigest() != sha256:
                    raise DeviceError(
                        f"The weights in {file.name} are damaged: expected SHA-256 {sha256}, found {digest.hexdigest()}."
                    )
                with suppress(FileExistsError):  # another session was faster
                    os.link(copy.name, cache / sha256)
        except OSError as error:
            raise DeviceError(f"The weights cannot be copied into {cache} ({error.strerror or error}).") from error

    def close(self) -> None:
        super().close()
        self.agent.stop()
