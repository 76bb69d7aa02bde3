"""The device ``rpc://host:port``: a machine where the agent runs."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from tapdot.compiler.errors import DeviceError
from tapdot.runtime.devices.base import Device, DeviceInformation, Module, Session, Tensor
from tapdot.runtime.devices.connection import Connection

CHUNK_BYTES = 2**22
# What the agent of this version calls itself (kAgentVersion in agent/options.h).
AGENT_VERSION = "1"
# Part numbers of ARM's own cores in MIDR_EL1 (implementer 0x41), from their technical reference manuals.
ARM_PARTS = {
    0xD03: "cortex-a53",
    0xD04: "cortex-a35",
    0xD05: "cortex-a55",
    0xD07: "cortex-a57",
    0xD08: "cortex-a72",
    0xD09: "cortex-a73",
    0xD0A: "cortex-a75",
    0xD0B: "cortex-a76",
    0xD0C: "neoverse-n1",
    0xD0D: "cortex-a77",
    0xD40: "neoverse-v1",
    0xD41: "cortex-a78",
    0xD44: "cortex-x1",
    0xD46: "cortex-a510",
    0xD47: "cortex-a710",
    0xD48: "cortex-x2",
    0xD49: "neoverse-n2",
    0xD4D: "cortex-a715",
    0xD4E: "cortex-x3",
    0xD4F: "neoverse-v2",
    0xD80: "cortex-a520",
    0xD81: "cortex-a720",
    0xD82: "cortex-x4",
}


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

    def default_target(self) -> str:
        """The target of the core the agent reports; ``cortex-a76`` for one unknown here. Asks the device."""
        with self.open() as session:
            information = session.information()
        if information.architecture == "x86_64":
            return "host"
        return information.cpu if information.cpu in ARM_PARTS.values() else "cortex-a76"


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

    def set_threads(self, threads: int) -> None:
        cores = self.information().cores
        if 1 <= threads <= cores:
            with self.watch("Setting the number of threads"):
                if int(self._connection.function("tapdot.agent.set_threads")(threads)) == threads:
                    return
        raise DeviceError(f"{self.line} was asked for {threads} threads and has {cores} cores to run them on.")

    def information(self) -> DeviceInformation:
        with self.watch("Asking the device about itself"):
            told: dict[str, Any] = json.loads(self._connection.function("tapdot.agent.information")())
        return DeviceInformation(
            architecture=told["architecture"],
            cpu=_core_name(int(told["main_id"]), told["architecture"]),
            features=tuple(told["features"]),
            cores=int(told["cores"]),
            memory_mebibytes=told["memory_mebibytes"],
            free_memory_mebibytes=told["free_memory_mebibytes"],
            free_disk_mebibytes=told["free_disk_mebibytes"],
            emulated=told["emulated"],
            system=told["system"],
            agent_version=told["agent_version"],
            frequencies_megahertz=tuple(told["frequencies_megahertz"]),
            temperatures_celsius=tuple(told["temperatures_celsius"]),
        )

    def close(self) -> None:
        self._connection.close()


def chunks(file: BinaryIO, size: int) -> Iterator[bytes]:
    """The next ``size`` bytes of a file, piece by piece; fewer where the file ends."""
    while size > 0 and (chunk := file.read(min(size, CHUNK_BYTES))):
        size -= len(chunk)
        yield chunk


def _core_name(main_id: int, architecture: str) -> str:
    """The name of a core by its MIDR_EL1, its numbers where the name is unknown, the architecture where there is no MIDR."""
    if main_id == 0:
        return architecture
    implementer, part = main_id >> 24 & 0xFF, main_id >> 4 & 0xFFF
    known = ARM_PARTS.get(part) if implementer == 0x41 else None
    return known or f"implementer 0x{implementer:02x} part 0x{part:03x}"
