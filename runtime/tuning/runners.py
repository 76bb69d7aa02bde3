"""Running candidates, each kind of device in its way, always in a process of its own with a time limit.

On this machine a worker process loads and times them; on a device far away every session is a forked child of the agent; on an
emulated one instructions are counted. A runner belongs to one thread at a time.
"""

from __future__ import annotations

import json
import os
import select
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tapdot.compiler.errors import DeviceError
from tapdot.runtime.conditions import Thermostat, thermostat_of
from tapdot.runtime.devices.base import Device, Session
from tapdot.runtime.devices.emulated import DEFAULT_CPU
from tapdot.runtime.instructions import Argument, count_call, counting_cpu
from tapdot.runtime.samples import spread
from tapdot.runtime.tuning.candidates import Candidate, CandidateError
from tapdot.runtime.tuning.record import DONE, FAILED, INSTRUCTIONS, SECONDS, WRONG, Finding
from tapdot.runtime.tuning.timing import Loaded, set_up_threads, time_in_turns, time_kernel
from tapdot.runtime.tuning.workloads import Subject

START_SECONDS = 120.0
"""For a worker to start: TVM loads in two, on a busy machine in many more."""
ATTEMPTS = 3
"""Of a candidate that ended a session, where the device was there again each time: then it is the candidate's fault."""


class Runner(ABC):
    """Measures candidates. ``limit`` is in seconds, for each of them."""

    unit = SECONDS

    def prepare(self) -> None:  # noqa: B027 most need nothing
        """Starts what takes long to start, before the first candidate is there."""

    @abstractmethod
    def measure(self, candidate: Candidate, best: float | None, limit: float) -> tuple[Sequence[np.ndarray], Sequence[float]]:
        """The flat results of a candidate, and its figures, one or more.

        Raises CandidateError where the fault is the candidate's, DeviceError where it is the device's.
        """

    @abstractmethod
    def compare(self, candidates: Sequence[Candidate], rounds: int, limit: float) -> list[list[float]]:
        """Figures of several candidates, measured in turns."""

    def try_out(self, candidate: Candidate, best: float | None, limit: float) -> Finding:
        """Measures a candidate and checks its answer. Raises DeviceError where the device failed."""
        try:
            results, samples = self.measure(candidate, best, limit)
        except CandidateError as error:
            return Finding(FAILED, detail=str(error))
        if mistake := candidate.subject.mistake(results):
            return Finding(WRONG, detail=mistake)
        return Finding(DONE, statistics.median(samples), spread(samples), len(samples))

    def close(self) -> None:  # noqa: B027 most hold nothing
        """Ends what the runner holds on the device. May be called twice."""


def runner_for(device: Device, threads: int, fingerprint: str) -> Runner:
    """The way to run candidates on a device."""
    if device.emulated:
        return CountingRunner(counting_cpu(device.line))
    if device.in_process:
        return WorkerRunner(threads)
    return SessionRunner(device, threads, fingerprint)


class WorkerRunner(Runner):
    """This machine, in a worker process that serves until something goes wrong with it."""

    def __init__(self, threads: int = 1) -> None:
        self.threads = threads
        self._folder = tempfile.TemporaryDirectory(prefix="tapdot-tune-")
        self._process: subprocess.Popen[bytes] | None = None
        self._inputs: tuple[str, list[str]] = ("", [])
        self._said = b""
        self._closed, self._taking_away = threading.Event(), threading.Lock()
        self._one_at_a_time = threading.RLock()  # a thread may still be starting the worker when another one has a job for it

    def prepare(self) -> None:
        with self._one_at_a_time:
            if self._process is None:
                self._start()

    def measure(self, candidate: Candidate, best: float | None, limit: float) -> tuple[Sequence[np.ndarray], Sequence[float]]:
        places = [self._place(f"result-{index}.npy") for index in range(len(candidate.subject.results))]
        answer = self._ask({"kernels": [self._kernel(candidate, 0)], "results": places, "best": best}, limit)
        return [np.load(place, allow_pickle=False) for place in places], answer["samples"]

    def compare(self, candidates: Sequence[Candidate], rounds: int, limit: float) -> list[list[float]]:
        kernels = [self._kernel(candidate, index) for index, candidate in enumerate(candidates)]
        found: list[list[float]] = self._ask({"kernels": kernels, "rounds": rounds}, limit)["samples"]
        return found

    def close(self) -> None:
        self._closed.set()  # before the worker is looked for: one that starts just now is ended by who starts it
        self._end()
        self._folder.cleanup()

    def _kernel(self, candidate: Candidate, index: int) -> dict[str, Any]:
        """A candidate as a job names it; inputs are written once for all candidates of a subject."""
        subject = candidate.subject
        if self._inputs[0] != subject.workload.key:
            self._inputs = (subject.workload.key, self._save("input", subject.inputs))
        return {
            "library": str(candidate.library),
            "symbol": candidate.symbol,
            "packed": self._save(f"packed-{index}", candidate.packed),
            "inputs": self._inputs[1],
            "results": subject.results,
        }

    def _save(self, name: str, arrays: Sequence[np.ndarray]) -> list[str]:
        places = [self._place(f"{name}-{index}.npy") for index in range(len(arrays))]
        for place, array in zip(places, arrays, strict=True):
            np.save(place, array, allow_pickle=False)
        return places

    def _place(self, name: str) -> str:
        return str(Path(self._folder.name) / name)

    def _ask(self, job: dict[str, Any], limit: float) -> dict[str, Any]:
        """The worker's answer. Raises CandidateError where it crashes, takes too long, or complains."""
        with self._one_at_a_time:
            self.prepare()
            answer = self._exchange(job, limit)
        if "error" in answer:
            raise CandidateError(answer["error"])
        return answer

    def _start(self) -> None:
        self._said = b""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tapdot.runtime.tuning.worker", self._folder.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C at the terminal is ours to handle
            env=os.environ | {"TMPDIR": self._folder.name, "TVM_NUM_THREADS": str(max(self.threads, os.cpu_count() or 1))},
        )
        if self._closed.is_set():
            self._end()
            raise _closed_here()
        try:
            self._exchange(None, START_SECONDS)
            self._exchange({"threads": self.threads, "limit": START_SECONDS}, START_SECONDS)
        except CandidateError as error:
            raise DeviceError(f"The process that runs kernels on this machine did not start: {error}.") from error

    def _exchange(self, job: dict[str, Any] | None, limit: float) -> dict[str, Any]:
        process = self._process
        if process is None:  # its start is over, and another thread closed the runner
            raise _closed_here()
        assert process.stdin is not None and process.stdout is not None
        try:
            if job is not None:
                process.stdin.write(json.dumps({**job, "limit": limit}).encode() + b"\n")
                process.stdin.flush()
            deadline = time.monotonic() + limit
            while b"\n" not in self._said:
                ready, _, _ = select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))
                if not ready:
                    raise CandidateError(f"it took longer than {limit:g} s")
                chunk = os.read(process.stdout.fileno(), 65536)
                if not chunk:
                    raise CandidateError(f"it crashed ({_ending(process.wait())})")
                self._said += chunk
            line, _, self._said = self._said.partition(b"\n")
            answer: dict[str, Any] = json.loads(line)
            return answer
        except BrokenPipeError as error:
            self._end()  # it died between two jobs, and the next one needs another worker
            raise CandidateError(f"it crashed ({_ending(process.wait())})") from error
        except (OSError, ValueError) as error:  # pipes that another thread closes say so in these
            if self._closed.is_set():
                raise _closed_here() from error
            self._end()
            raise
        except BaseException:
            self._end()
            raise

    def _end(self) -> None:
        with self._taking_away:
            process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()


def _closed_here() -> DeviceError:
    return DeviceError("The process that runs kernels on this machine was closed.")


def _ending(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"status {status}"


class CountingRunner(Runner):
    """An emulated CPU: instructions of a call, counted in processes of their own."""

    unit = INSTRUCTIONS

    def __init__(self, cpu: str = DEFAULT_CPU) -> None:
        self.cpu = cpu

    def measure(self, candidate: Candidate, best: float | None, limit: float) -> tuple[Sequence[np.ndarray], Sequence[float]]:
        subject = candidate.subject
        arguments = [Argument.read(array) for array in candidate.arguments]
        arguments += [Argument.write((elements,), dtype) for elements, dtype in subject.results]
        try:
            counted = count_call(candidate.library, candidate.symbol, arguments, self.cpu, limit)
        except DeviceError as error:
            raise CandidateError(str(error)) from error
        return counted.outputs, [float(counted.per_run)]

    def compare(self, candidates: Sequence[Candidate], rounds: int, limit: float) -> list[list[float]]:
        """A count does not vary, so that one is enough."""
        return [list(self.measure(candidate, None, limit)[1]) for candidate in candidates]


class SessionRunner(Runner):
    """A device reached through sessions. One is kept while all goes well."""

    def __init__(self, device: Device, threads: int, fingerprint: str) -> None:
        self.device, self.threads, self.fingerprint = device, threads, fingerprint
        self._session: Session | None = None
        self._counting: CountingRunner | None = None
        self._thermostat: Thermostat | None = None

    def measure(self, candidate: Candidate, best: float | None, limit: float) -> tuple[Sequence[np.ndarray], Sequence[float]]:
        for attempt in range(1, ATTEMPTS + 1):
            session = self._open(limit)  # a device that is not there is not the candidate's fault
            try:
                loaded = self._load(session, candidate)
                results = loaded.run()
                if self._counting is not None:
                    return results, self._counting.measure(candidate, best, limit)[1]
                self._settle()
                samples = time_kernel(loaded, best)
                self._thermostat = self._thermostat or thermostat_of(session)  # sensors jump with the first work
                return results, samples
            except DeviceError as error:
                self.close()
                if attempt == ATTEMPTS:
                    self._open(limit)
                    raise CandidateError(str(error)) from error
        raise AssertionError

    def compare(self, candidates: Sequence[Candidate], rounds: int, limit: float) -> list[list[float]]:
        for attempt in range(1, ATTEMPTS + 1):
            session = self._open(limit)
            if self._counting is not None:
                return self._counting.compare(candidates, rounds, limit)
            try:
                self._settle()
                return time_in_turns([self._load(session, candidate) for candidate in candidates], rounds)
            except DeviceError:
                self.close()
                if attempt == ATTEMPTS:
                    raise
        raise AssertionError

    def close(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = self._thermostat = None

    def _settle(self) -> None:
        """Lets a phone cool down that grew hot: what was timed in the cold would win."""
        if self._thermostat is not None:
            self._thermostat.settle()

    def _load(self, session: Session, candidate: Candidate) -> Loaded:
        subject: Subject = candidate.subject
        return Loaded.load(session, candidate.library, candidate.symbol, candidate.packed, subject.inputs, subject.results)

    def _open(self, limit: float) -> Session:
        """The session at hand, or a new one. Raises DeviceError where the device is away, or another one answers."""
        if self._session is None:
            session = self.device.open(limit)
            try:
                information = session.information()
                if information.fingerprint != self.fingerprint:
                    raise DeviceError(
                        f"Another kind of device answered at {self.device.line} ({information.title}); tune each kind under a "
                        "key of its own."
                    )
                set_up_threads(session, self.threads)
                emulated = information.emulated
                self._counting = CountingRunner(counting_cpu(self.device.line, information)) if emulated else None
            except BaseException:
                session.close()
                raise
            self._session = session
        return self._session
