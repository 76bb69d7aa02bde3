"""Agents that this process starts itself, here or on a phone, and that end with it."""

from __future__ import annotations

import os
import re
import secrets
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from tapdot.compiler.errors import DeviceError
from tapdot.runtime.bundle import Bundle

START_SECONDS = 60.0
STOP_SECONDS = 5.0


class RunningAgent:
    """An agent behind the process of a command: on loopback, at a port of the system's choice, with a random key.

    It ends when ``stop`` is called, and also when this process ends in any way whatever: it holds the other end of a pipe.
    ``first_line`` is what the command reads from that pipe before the agent is there. Raises DeviceError when none comes up.
    """

    def __init__(
        self, command: Sequence[str], key: str, environment: Mapping[str, str] | None = None, first_line: str = ""
    ) -> None:
        self.key = key
        self._errors = tempfile.TemporaryFile(prefix="tapdot-agent-")  # noqa: SIM115 - closed by stop
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env=environment,
                start_new_session=True,  # Ctrl-C at the terminal is ours to handle
            )
        except BaseException:
            self._errors.close()
            raise
        try:
            assert self._process.stdin is not None
            with suppress(BrokenPipeError):  # then it has ended, which the next line tells
                self._process.stdin.write(first_line.encode())
                self._process.stdin.flush()
            self.port = self._read_port()
        except BaseException:
            self.stop()
            raise

    @property
    def process_id(self) -> int:
        """Of the command's process: the agent's own, where the command is the agent."""
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
        if found := re.fullmatch(rb"listening on \S+:(\d+)\r?\n", said):
            return int(found[1])
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=1.0)  # its last words come just before its end
        raise DeviceError(f"The agent did not start: {self.complaint() or 'it said nothing'}.")

    def complaint(self) -> str:
        """The last line the agent wrote to its error output; empty if none."""
        size = os.fstat(self._errors.fileno()).st_size
        lines = os.pread(self._errors.fileno(), 4096, max(0, size - 4096)).decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""

    def ended(self) -> str | None:
        """What the agent said when it ended, as a sentence; None while it runs."""
        return None if self._process.poll() is None else f"the agent ended: {self.complaint() or 'it said nothing'}."

    def wait(self, seconds: float) -> int:
        """Exit status of the command, which must end within ``seconds``."""
        return self._process.wait(timeout=seconds)

    def stop(self) -> None:
        """Ends the agent and every session of it. May be called twice."""
        process = self._process
        if process.stdin is not None:
            with suppress(BrokenPipeError):
                process.stdin.close()
        try:
            process.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
        self._errors.close()


class AgentProcess(RunningAgent):
    """An agent on this machine, under an emulator or not. Its folder goes with it; its weights stay in ``cache``."""

    def __init__(self, bundle: Bundle, emulator: list[str], cache: Path, options: tuple[str, ...] = ()) -> None:
        self.cache = cache
        self.directory = Path(tempfile.mkdtemp(prefix="tapdot-agent-"))
        cache.mkdir(parents=True, exist_ok=True)
        key = secrets.token_hex(16)
        command = [*emulator, *bundle.command("tapdot-agent"), "--port", "0", "--exit-with-stdin", *options]
        command += ["--directory", str(self.directory), "--cache", str(cache)]
        try:
            super().__init__(command, key, os.environ | {"TAPDOT_KEY": key})
        except BaseException:
            shutil.rmtree(self.directory, ignore_errors=True)
            raise

    def stop(self) -> None:
        """Ends the agent and every session of it. May be called twice."""
        super().stop()
        shutil.rmtree(self.directory, ignore_errors=True)
