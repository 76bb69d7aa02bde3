"""A connection to an agent: TVM's RPC session, with refusals, time-outs and lost devices told in sentences.

TVM's client waits for ever: for a host that does not answer, for a device that hangs. So the greeting is first tried from here,
with a deadline, which also tells a wrong key from a wrong port; and while a call is under way a watchdog may shut the session's
socket down, which makes TVM's wait end.
"""

from __future__ import annotations

import os
import socket
import stat
import struct
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from tapdot.compiler.errors import DeviceError
from tapdot.kernels.tvm_adapter import rpc
from tapdot.runtime.devices.sockets import keep_watch
from tapdot.runtime.devices.watchdog import watchdog

# tvm/rpc/base.py
RPC_MAGIC = 0xFF271
RPC_CODE_DUPLICATE = RPC_MAGIC + 1
RPC_CODE_MISMATCH = RPC_MAGIC + 2
GREETING_SECONDS = 10.0
OPENING_SECONDS = 60.0
"""For the first answer of a session, for which the device loads TVM."""
# Names of the errors TVM's client raises about its connection; what went wrong on the other side is an RPCError.
BROKEN_CONVERSATION = ("InternalError", "RPCServerError", "RPCSessionTimeoutError")


class BusyError(DeviceError):
    """All sessions of an agent are taken."""


def greeting(name: str) -> bytes:
    """How both sides of TVM's protocol begin: ``client:KEY`` with options, or ``server:KEY``."""
    return struct.pack("<ii", RPC_MAGIC, len(name.encode())) + name.encode()


def greet(host: str, port: int, key: str, line: str, seconds: float = GREETING_SECONDS) -> None:
    """Shows the key to the agent and leaves again. Raises DeviceError unless the agent would have served us."""
    try:
        with socket.create_connection((host, port), timeout=seconds) as connection:
            connection.sendall(greeting(f"client:{key}"))
            answer = receive(connection, 4)
            # Leaving is not done before the agent has noticed: until then this greeting occupies one of its sessions.
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(4096):
                pass
    except TimeoutError as error:
        raise DeviceError(
            f"{line} did not answer within {seconds:g} s. Check that it is on, that the agent runs there, and the address."
        ) from error
    except ConnectionRefusedError as error:
        raise DeviceError(f"Nothing listens at {host}:{port} ({line}). Start the agent there, or check the port.") from error
    except socket.gaierror as error:
        raise DeviceError(f"The host name '{host}' of {line} is unknown ({error.strerror}).") from error
    except OSError as error:
        raise DeviceError(f"{line} cannot be reached ({error.strerror or error}).") from error
    code = struct.unpack("<i", answer)[0] if len(answer) == 4 else None
    if code == RPC_CODE_MISMATCH:
        raise DeviceError(f"{line} refused the key. Set TAPDOT_KEY to the key its agent was started with.")
    if code == RPC_CODE_DUPLICATE:
        raise BusyError(
            f"{line} is busy: all its sessions are taken. Wait for one to end, or start its agent with more --sessions."
        )
    if code != RPC_MAGIC:
        raise DeviceError(f"What listens at {host}:{port} ({line}) is not a tapdot agent or another TVM RPC server.")


def receive(connection: socket.socket, size: int) -> bytes:
    """The next ``size`` bytes; fewer where the other side ends."""
    received = b""
    while len(received) < size and (chunk := connection.recv(size - len(received))):
        received += chunk
    return received


class Connection:
    """An open RPC session. All calls to the device go through the body of a ``watch``.

    ``known`` skips the check of address and key, for an agent this process has just started itself, and for a key that is good
    for one greeting only. ``lost`` says in a sentence what became of a device that has gone; None where nobody knows.
    """

    def __init__(
        self,
        host: str,
        port: int,
        key: str,
        line: str,
        known: bool = False,
        lost: Callable[[], str | None] = lambda: None,
    ) -> None:
        if not known:
            greet(host, port, key, line)
        self.line = line
        self._what_was_lost = lost
        self._lost = False
        self._depth = 0
        # TVM keeps the socket to itself; a second descriptor of the same socket is enough to shut it down.
        self.session, self._socket = _connect(host, port, key, line, lost)
        self.device = self.session.cpu(0)
        self._functions: dict[str, Any] = {}

    def function(self, name: str) -> Any:
        """A global function on the device."""
        if name not in self._functions:
            try:
                self._functions[name] = self.session.get_function(name)
            except AttributeError as error:
                raise DeviceError(
                    f"The agent of {self.line} has no function {name}: it is not tapdot's, or an older one. Start the agent of "
                    f"this version there."
                ) from error
        return self._functions[name]

    @contextmanager
    def watch(self, doing: str, seconds: float) -> Iterator[None]:
        """Runs the body under a time limit; failures of any kind leave as DeviceErrors that begin with ``doing``.

        May be nested: the outermost limit holds.
        """
        if self._depth > 0:
            yield
            return
        if self._lost:
            raise DeviceError(f"{doing} is not possible: the session with {self.line} has ended. Open a new one.")
        self._depth += 1
        try:
            with watchdog(seconds, self._cut) as timed_out:
                try:
                    yield
                except DeviceError:
                    raise
                except (RuntimeError, OSError) as error:
                    raise DeviceError(self._sentence(doing, seconds, error, timed_out())) from error
        finally:
            self._depth -= 1

    def close(self) -> None:
        """Ends the session; the agent removes what it left there."""
        if not self._lost:
            self._lost = True
            with suppress(RuntimeError):  # the other side may have gone already
                self.session.get_function("CloseRPCConnection")()
        self._shut()
        self._functions.clear()
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _cut(self) -> None:
        self._lost = True
        self._shut()

    def _shut(self) -> None:
        if self._socket is not None:
            with suppress(OSError):  # not connected any more
                self._socket.shutdown(socket.SHUT_RDWR)

    def _sentence(self, doing: str, seconds: float, error: Exception, timed_out: bool) -> str:
        if timed_out:
            return (
                f"{doing} took longer than {seconds:g} s on {self.line}, and the session was ended. Allow more time or check the "
                f"device."
            )
        # An error of the other side arrives as an answer; these are a broken conversation instead.
        if isinstance(error, OSError) or type(error).__name__ in BROKEN_CONVERSATION:
            self._lost = True
            if reason := self._what_was_lost():
                return f"{doing} ended without an answer: {reason}"
            return (
                f"{doing} ended without an answer: {self.line} closed the connection. Its agent was stopped, or the code crashed "
                f"there."
            )
        return f"{doing} failed on {self.line}: {_reason(error)}"


def _reason(error: Exception) -> str:
    """The other side's own words on one line, without TVM's prefix and trace."""
    lines = [line.strip() for line in str(error).strip().splitlines()]
    lines = [line for line in lines if line and not line.startswith(("RPCError:", "Traceback", "File "))]
    return " ".join(lines) or type(error).__name__


_connecting = threading.Lock()
"""Whoever connects looks at which sockets appear meanwhile, so only one may."""


def _connect(host: str, port: int, key: str, line: str, lost: Callable[[], str | None]) -> tuple[Any, socket.socket | None]:
    """TVM's session and its socket, which is shut under TVM's hands where the host stays silent: TVM would wait for ever."""
    with _connecting:
        before = _sockets()

        def cut() -> None:
            if (opened := _socket_opened_since(before, port)) is not None:
                with opened, suppress(OSError):
                    opened.shutdown(socket.SHUT_RDWR)

        try:
            with watchdog(OPENING_SECONDS, cut) as timed_out:
                session = rpc.connect(host, port, key)
        except (RuntimeError, OSError) as error:
            reason = f"it did not answer within {OPENING_SECONDS:g} s." if timed_out() else lost() or _reason(error)
            raise DeviceError(f"The session with {line} could not be opened: {reason}") from error
        opened = _socket_opened_since(before, port)
        if opened is not None:
            # Freeing what lies on the device waits for it with Python's lock in hand, where no watchdog of ours can run.
            keep_watch(opened)
        return session, opened


def _sockets() -> dict[int, int]:
    """This process's sockets: a descriptor by the socket's own number, which, unlike a descriptor's, is not used again."""
    found = {}
    for name in os.listdir("/dev/fd"):  # noqa: PTH208 - names, not paths
        with suppress(OSError):  # the descriptor of this very listing
            status = os.fstat(int(name))
            if stat.S_ISSOCK(status.st_mode):
                found[status.st_ino] = int(name)
    return found


def _socket_opened_since(before: Collection[int], port: int) -> socket.socket | None:
    """A second descriptor of the socket to ``port`` that appeared since ``before``; None when there is none."""
    for number, descriptor in _sockets().items():
        if number in before:
            continue
        candidate = socket.socket(fileno=os.dup(descriptor))
        with suppress(OSError):
            if candidate.getpeername()[1] == port:
                return candidate
        candidate.close()
    return None
