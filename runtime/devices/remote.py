"""The device ``rpc://host:port``: a machine where the agent runs."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from tapdot.compiler.errors import DeviceError
from tapdot.runtime.devices.base import (
    AgentAddress,
    Check,
    Core,
    Device,
    DeviceInformation,
    Module,
    Session,
    Tensor,
    check_cores,
    fastest_name,
)
from tapdot.runtime.devices.connection import Connection, greet
from tapdot.runtime.devices.cores import compiler_features, core_name
from tapdot.runtime.devices.targets import target_for

CHUNK_BYTES = 2**22
# What the agent of this version calls itself (kAgentVersion in agent/options.h).
AGENT_VERSION = "2"
# What it tells of each core a session may use, a list each; 0 where the system does not say.
CORE_FIELDS = ("core_numbers", "core_main_ids", "core_capacities", "core_maximum_megahertz", "core_megahertz")


def key_from_environment() -> str | None:
    """``TAPDOT_KEY``, else the first line of the file ``TAPDOT_KEY_FILE`` names, else None."""
    if key := os.environ.get("TAPDOT_KEY"):
        return key
    if path := os.environ.get("TAPDOT_KEY_FILE"):
        try:
            return Path(path).read_text().splitlines()[0].strip()
        except (OSError, IndexError) as error:
            raise DeviceError(f"The key file {path} (TAPDOT_KEY_FILE) cannot be read or is empty.") from error
    return None


class RemoteDevice(Device):
    """An agent at ``host:port``. The key is ``TAPDOT_KEY``'s, the key file's, or ``key``."""

    def __init__(self, host: str, port: int, key: str | None = None) -> None:
        self.host, self.port, self._key = host, port, key
        self.line = f"rpc://[{host}]:{port}" if ":" in host else f"rpc://{host}:{port}"

    @property
    def key(self) -> str:
        """The key shown to the agent. Raises DeviceError when there is none."""
        if key := self._key or key_from_environment():
            return key
        raise DeviceError(f"{self.line} needs its agent's key. Put it into TAPDOT_KEY or its file's name into TAPDOT_KEY_FILE.")

    def open(self, time_limit: float = 600.0) -> Session:
        return RemoteSession(Connection(self.host, self.port, self.key, self.line), time_limit)

    @contextmanager
    def agent(self, sessions: int = 4) -> Iterator[AgentAddress]:
        greet(self.host, self.port, self.key, self.line)
        yield AgentAddress(self.host, self.port, self.key)

    def steps(self) -> Iterator[Check]:
        def answers() -> str:
            greet(self.host, self.port, self.key, self.line)
            return f"{self.host}:{self.port} accepts the key"

        yield "key", lambda: f"{len(self.key)} bytes"
        yield "agent answers", answers

    def default_target(self) -> str:
        """The target that fits what the agent reports. Asks the device."""
        with self.open() as session:
            return target_for(session.information())


class RemoteSession(Session):
    """A session with an agent."""

    def __init__(self, connection: Connection, time_limit: float) -> None:
        self._connection = connection
        self.line = connection.line
        self.device = connection.device
        self.time_limit = time_limit
        self._numbers = itertools.count()

    @contextmanager
    def watch(self, doing: str, seconds: float | None = None) -> Iterator[None]:
        with self._connection.watch(doing, self.time_limit if seconds is None else seconds):
            yield

    def load_library(self, path: Path) -> Module:
        name = f"library-{next(self._numbers)}.so"
        with open(path, "rb") as file, self.watch(f"Loading {path.name}"):
            append = self._connection.function("tapdot.agent.append")
            for chunk in chunks(file, path.stat().st_size):
                append(name, chunk)
            module = self._connection.session.load_module(name)
            self._connection.session.remove(name)  # mapped by now: a session may load any number
            return module

    def map_weights(self, path: Path, sha256: str, offset: int = 0, size: int | None = None) -> Tensor:
        size = path.stat().st_size - offset if size is None else size
        with self.watch("Looking for the weights"):
            present = int(self._connection.function("tapdot.weights.size")(sha256)) == size
        if not present:
            with open(path, "rb") as file:
                file.seek(offset)
                self._store_weights(file, sha256, size)
        with self.watch("Mapping the weights"):
            return self._connection.function("tapdot.weights.map")(sha256)

    def _store_weights(self, file: BinaryIO, sha256: str, size: int) -> None:
        """Sends ``size`` bytes of a file, from where it stands, to the device's cache."""
        with self.watch("Sending the weights"):
            self._connection.function("tapdot.weights.begin")(sha256, size)
            append = self._connection.function("tapdot.weights.append")
        for chunk in chunks(file, size):
            with self.watch("Sending the weights"):
                append(chunk)
        with self.watch("Storing the weights"):
            self._connection.function("tapdot.weights.commit")()

    def set_threads(self, threads: int, cores: Sequence[int] = ()) -> None:
        information = self.information()
        check_cores(self.line, cores, threads, information.usable_cores)
        if 1 <= threads <= information.cores:
            with self.watch("Setting the number of threads"):
                set_threads = self._connection.function("tapdot.agent.set_threads")
                pin_threads = self._connection.function("tapdot.agent.pin_threads")
                chosen = ",".join(map(str, cores[:threads]))
                granted = pin_threads(threads, chosen) if cores else set_threads(threads)
                if int(granted) == threads:
                    return
        raise DeviceError(f"{self.line} was asked for {threads} threads and has {information.cores} cores to run them on.")

    def steps(self) -> Iterator[Check]:
        yield "agent version", lambda: str(self.information().agent_version)

    def information(self) -> DeviceInformation:
        with self.watch("Asking the device about itself"):
            told: dict[str, Any] = json.loads(self._connection.function("tapdot.agent.information")())
        if (version := told.get("agent_version")) != AGENT_VERSION:
            raise DeviceError(
                f"The agent of {self.line} has version {version}, and this tapdot speaks to version {AGENT_VERSION}. Copy this "
                f"tapdot's bundle there (tapdot bundle) and start that agent."
            )
        architecture = told["architecture"]
        cores = tuple(
            Core(int(number), capacity or None, highest or None, now or None, core_name(int(main_id), architecture))
            for number, main_id, capacity, highest, now in zip(*(told[name] for name in CORE_FIELDS), strict=True)
        )
        return DeviceInformation(
            architecture=architecture,
            cpu=told["processor"] or fastest_name(cores) or core_name(int(told["main_id"]), architecture),
            features=compiler_features(told["features"], architecture),
            cores=int(told["cores"]),
            memory_mebibytes=told["memory_mebibytes"],
            free_memory_mebibytes=told["free_memory_mebibytes"],
            free_disk_mebibytes=told["free_disk_mebibytes"],
            emulated=told["emulated"],
            system=told["system"],
            agent_version=told["agent_version"],
            frequencies_megahertz=tuple(told["frequencies_megahertz"]),
            temperatures_celsius=tuple(told["temperatures_celsius"]),
            usable_cores=cores,
            machine=told["machine"],
        )

    def close(self) -> None:
        self._connection.close()


def chunks(file: BinaryIO, size: int) -> Iterator[bytes]:
    """The next ``size`` bytes of a file, piece by piece; fewer where the file ends."""
    while size > 0 and (chunk := file.read(min(size, CHUNK_BYTES))):
        size -= len(chunk)
        yield chunk
