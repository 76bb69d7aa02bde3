"""The device ``emulated``: an aarch64 phone's CPU under QEMU user mode, on this machine.

``emulated`` is a Cortex-A76; ``emulated:max`` has every extension QEMU knows but SME, with which kernels compute wrong results
there.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import secrets
import select
import shutil
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from tapdot.compiler.cache import cache_directory
from tapdot.compiler.errors import DeviceError
from tapdot.runtime.bundle import Bundle, build_bundle
from tapdot.runtime.devices.base import Device, Session
from tapdot.runtime.devices.connection import Connection
from tapdot.runtime.devices.remote import RemoteSession, chunks

EMULATOR = "qemu-aarch64"
DEFAULT_CPU = "cortex-a76"
CPU_OPTIONS = {"max": "max,sme=off"}
START_SECONDS = 60.0


def find_emulator() -> str:
    """Path of QEMU's user-mode emulator. Raises DeviceError when it is not installed."""
    if path := shutil.which(EMULATOR):
        return path
    raise DeviceError(f"An emulated phone needs {EMULATOR}, which is not installed. Run: apt install qemu-user")


def emulator_command(cpu: str = DEFAULT_CPU) -> list[str]:
    """The start of a command line that runs an aarch64 program on an emulated ``cpu`` (a name of QEMU's, or ``max``)."""
    return [find_emulator(), "-cpu", CPU_OPTIONS.get(cpu, cpu)]


class AgentProcess:
    """An agent started by us: on loopback, at a port of the system's choice, with a random key.

    It ends when ``stop`` is called, and also when this process ends in any way whatever: it holds the other end of a pipe.
    """

    def __init__(self, bundle: Bundle, emulator: list[str], cache: Path, options: tuple[str, ...] = ()) -> None:
        self.key = secrets.token_hex(16)
        self.cache = cache
        self.directory = Path(tempfile.mkdtemp(prefix="tapdot-agent-"))
        cache.mkdir(parents=True, exist_ok=True)
        command = [*emulator, *bundle.command("tapdot-agent"), "--port", "0", "--exit-with-stdin", *options]
        with open(self.directory / "errors", "wb") as errors:
            self._process = subprocess.Popen(
                [*command, "--directory", str(self.directory), "--cache", str(cache)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=os.environ | {"TAPDOT_KEY": self.key},
                start_new_session=True,  # Ctrl-C at the terminal is ours to handle
            )
        try:
            self.port = self._read_port()
        except BaseException:
            self.stop()
            raise

    @property
    def process_id(self) -> int:
        """Of the agent's parent process."""
        return self._process.pid

    def _read_port(self) -> int:
        assert self._process.stdout is not None
        deadline = time.monotonic() + START_SECONDS
        said = b""
        while not said.endswith(b"\n"):
            ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            chunk = os.read(self._process.stdout.fileno(), 4096) if ready else b""
            if not chunk:
                break
            said += chunk
        if found := re.fullmatch(rb"listening on \S+:(\d+)\n", said):
            return int(found[1])
        raise DeviceError(f"The agent did not start: {self.complaint() or 'it said nothing'}.")

    def complaint(self) -> str:
        """The last line the agent wrote to its error output; empty if none."""
        lines = (self.directory / "errors").read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""

    def wait(self, seconds: float) -> int:
        """Exit status of the agent's parent process, which must end within ``seconds``."""
        return self._process.wait(timeout=seconds)

    def stop(self) -> None:
        """Ends the agent and every session of it. May be called twice."""
        process = self._process
        if process.stdin is not None:
            process.stdin.close()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
        shutil.rmtree(self.directory, ignore_errors=True)


class EmulatedDevice(Device):
    """An emulated phone, started for each session and gone after it. Weights sent to it are kept for the next."""

    emulated = True

    def __init__(self, cpu: str = DEFAULT_CPU) -> None:
        self.cpu = cpu
        self.line = "emulated" if cpu == DEFAULT_CPU else f"emulated:{cpu}"

    def open(self, time_limit: float = 600.0) -> Session:
        emulator = emulator_command(self.cpu)
        agent = AgentProcess(build_bundle("aarch64"), emulator, cache_directory() / "emulated-weights", ("--emulated",))
        try:
            return SpawnedSession(agent, self.line, time_limit)
        except BaseException:
            agent.stop()
            raise

    def default_target(self) -> str:
        return DEFAULT_CPU


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
