"""Trials on their way: built by some threads, run by others, with an account of where the time goes."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from tapdot.compiler.errors import DeviceError
from tapdot.kernels.family import Config
from tapdot.runtime.tuning.candidates import Candidate, CandidateError
from tapdot.runtime.tuning.record import FAILED, Finding
from tapdot.runtime.tuning.runners import Runner
from tapdot.runtime.tuning.workloads import Subject

AWAY_SECONDS = 60.0
"""Without an answer from any device for that long, tuning ends."""
PAUSE_SECONDS = 0.5
"""Before a device that was away is tried again."""


class Gate:
    """Lets builds and runs pass; where both use the same cores, runs pass alone. Keeps the time of each."""

    def __init__(self, alone: bool) -> None:
        self.alone = alone
        self._condition = threading.Condition()
        self._builds = self._runs = self._waiting = 0
        self._since = time.monotonic()
        self.building_seconds = self.running_seconds = self.busy_seconds = 0.0

    @contextmanager
    def building(self) -> Iterator[None]:
        """For the time of a build."""
        with self._condition:
            while self.alone and (self._runs or self._waiting):
                self._condition.wait()
            self._count()
            self._builds += 1
        try:
            yield
        finally:
            with self._condition:
                self._count()
                self._builds -= 1
                self._condition.notify_all()

    @contextmanager
    def running(self) -> Iterator[None]:
        """For the time of a run."""
        with self._condition:
            self._waiting += 1
            while self.alone and (self._builds or self._runs):
                self._condition.wait()
            self._waiting -= 1
            self._count()
            self._runs += 1
        try:
            yield
        finally:
            with self._condition:
                self._count()
                self._runs -= 1
                self._condition.notify_all()

    def _count(self) -> None:
        """Adds the time since the last change to what went on meanwhile."""
        now = time.monotonic()
        passed, self._since = now - self._since, now
        self.building_seconds += passed * (self._builds > 0)
        self.running_seconds += passed * (self._runs > 0)
        self.busy_seconds += passed * (self._builds > 0 or self._runs > 0)


@dataclass(frozen=True)
class Trial:
    """A configuration of a subject on its way; ``best`` is what was known to be possible when it started."""

    index: int
    subject: Subject
    config: Config
    best: float | None


@dataclass(frozen=True)
class Ended:
    """A trial and what was found; ``finding`` None and ``error`` where no device could be had, or this machine failed."""

    trial: Trial
    finding: Finding | None
    error: Exception | None = None


class Pipeline:
    """Builders and runners between :meth:`put` and :meth:`get`. A runner that loses its device leaves its trial to the others."""

    def __init__(
        self,
        runners: Sequence[Runner],
        builders: int,
        build: Callable[[Subject, Config], Candidate],
        limit: float,
        alone: bool,
        away_seconds: float = AWAY_SECONDS,
    ) -> None:
        self.runners, self.limit, self.away_seconds = runners, limit, away_seconds
        self.gate = Gate(alone)
        self._build = build
        self._builders = ThreadPoolExecutor(builders, thread_name_prefix="tapdot-build")
        self._built: queue.Queue[tuple[Trial, Candidate]] = queue.Queue()
        self._ended: queue.Queue[Ended] = queue.Queue()
        self._stopped = threading.Event()
        self._failing_since: float | None = None
        self._threads = [
            threading.Thread(target=self._run, args=(runner,), name=f"tapdot-run-{number}", daemon=True)
            for number, runner in enumerate(runners)
        ]
        for thread in self._threads:
            thread.start()

    def put(self, trial: Trial) -> None:
        """Starts a trial."""
        self._builders.submit(self._make, trial)

    def get(self, seconds: float) -> Ended | None:
        """The next trial that ended, or None where none did meanwhile."""
        try:
            return self._ended.get(timeout=seconds)
        except queue.Empty:
            return None

    def stop(self, drop: bool = False) -> None:
        """Ends all threads. To ``drop`` trials under way their runners are closed."""
        self._stopped.set()
        self._builders.shutdown(wait=False, cancel_futures=True)
        for runner in self.runners if drop else ():
            runner.close()
        for thread in self._threads:
            thread.join(timeout=5)

    def _make(self, trial: Trial) -> None:
        try:
            with self.gate.building():
                candidate = self._build(trial.subject, trial.config)
        except CandidateError as error:
            self._ended.put(Ended(trial, Finding(FAILED, detail=str(error))))
        except Exception as error:
            self._ended.put(Ended(trial, None, error))
        else:
            self._built.put((trial, candidate))

    def _run(self, runner: Runner) -> None:
        """The life of a runner's thread."""
        with suppress(DeviceError):  # the first trial meets it again
            runner.prepare()
        while not self._stopped.is_set():
            try:
                trial, candidate = self._built.get(timeout=0.2)
            except queue.Empty:
                continue
            try:
                with self.gate.running():
                    finding = runner.try_out(candidate, trial.best, self.limit)
            except DeviceError as error:
                self._away(trial, candidate, error)
            except Exception as error:
                self._ended.put(Ended(trial, None, error))
            else:
                self._failing_since = None
                if not self._stopped.is_set():  # else a runner that was ended took it for the candidate's fault
                    self._ended.put(Ended(trial, finding))

    def _away(self, trial: Trial, candidate: Candidate, error: DeviceError) -> None:
        """Leaves a trial to whoever has a device next, unless nobody had one for too long."""
        since = self._failing_since = self._failing_since or time.monotonic()
        if time.monotonic() - since > self.away_seconds:
            self._ended.put(Ended(trial, None, error))
        else:
            self._built.put((trial, candidate))
            self._stopped.wait(min(PAUSE_SECONDS, self.away_seconds / 4))
