"""What the tests of devices share: agents of this machine's own architecture, and small libraries to load on them."""

from __future__ import annotations

import platform
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tapdot.runtime.bundle import GLIBC, Bundle, build_bundle
from tapdot.runtime.devices.agent_process import AgentProcess
from tapdot.runtime.devices.connection import RPC_MAGIC
from tapdot.runtime.devices.remote import RemoteDevice

StartAgent = Callable[..., AgentProcess]

# Functions as TVM's code generator exports them: int function(self, arguments, count, result).
MISBEHAVING_SOURCE = """
int __tvm_ffi_nothing(void *self, const void *arguments, int count, void *result) { return 0; }
int __tvm_ffi_crash(void *self, const void *arguments, int count, void *result) { *(volatile int *)0 = 1; return 0; }
int __tvm_ffi_hang(void *self, const void *arguments, int count, void *result) { for (volatile int i = 0;; ++i) {} }
"""


def link_source(source: str, architecture: str, path: Path) -> Path:
    """Compiles C source into a shared library without dependencies, as kernels are."""
    text = path.with_suffix(".c")
    text.write_text(source)
    subprocess.run(
        [
            *(sys.executable, "-m", "ziglang", "cc", "-target", f"{architecture}-linux-gnu.{GLIBC}"),
            *("-shared", "-nostdlib", "-fPIC", "-O1", "-fno-sanitize=all", str(text), "-o", str(path)),
        ],
        check=True,
        capture_output=True,
    )
    return path


@pytest.fixture(scope="session")
def native_bundle() -> Bundle:
    return build_bundle(platform.machine())


@pytest.fixture(scope="session")
def misbehaving_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Functions ``nothing``, ``crash`` and ``hang``, for this machine."""
    return link_source(MISBEHAVING_SOURCE, platform.machine(), tmp_path_factory.mktemp("library") / "misbehaving.so")


@pytest.fixture
def start_agent(native_bundle: Bundle, tmp_path: Path) -> Iterator[StartAgent]:
    """Starts agents of this machine's architecture with the options given; they end with the test."""
    started: list[AgentProcess] = []

    def start(*options: str, cache: Path | None = None) -> AgentProcess:
        started.append(AgentProcess(native_bundle, [], cache or tmp_path / "weights", options))
        return started[-1]

    yield start
    for agent in started:
        agent.stop()


@pytest.fixture
def agent(start_agent: StartAgent) -> AgentProcess:
    return start_agent()


@pytest.fixture
def device(agent: AgentProcess) -> RemoteDevice:
    return device_of(agent)


def device_of(agent: AgentProcess) -> RemoteDevice:
    """The device a client elsewhere would see."""
    return RemoteDevice("127.0.0.1", agent.port, agent.key)


def greeting(key: str, length: int | None = None) -> bytes:
    """The first bytes of TVM's protocol from a client with this key, with another length stated if given."""
    text = f"client:{key}".encode()
    return struct.pack("<ii", RPC_MAGIC, len(text) if length is None else length) + text


def send(port: int, data: bytes, seconds: float = 10.0) -> bytes:
    """What an agent answers to these bytes before it hangs up or has said 4."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        connection.sendall(data)
        answer = b""
        try:
            while len(answer) < 4 and (chunk := connection.recv(4 - len(answer))):
                answer += chunk
        except ConnectionResetError:
            pass
        return answer


def assert_serves(agent: AgentProcess, library: Path) -> None:
    """The next client is served."""
    with device_of(agent).open(20) as session:
        session.call(session.load_library(library), "nothing", [])
