"""One engine in a process of its own, pinned, answering requests for timings.

Apart, engines cannot disturb each other's allocators and thread pools, a crash is one engine's loss, and every library
finds its cores and threads set before it is first imported. Parent and worker speak JSON, one document a line: the
worker first tells what it prepared, then answers each `{"subject": ..., "calls": n, "clock": ...}` with the n times it took.
"""

import contextlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np
from numpy.typing import NDArray

from benchmarks import machine

if TYPE_CHECKING:
    from benchmarks.engines import Model

CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}
"""Wall time is what a user waits. CPU time leaves out what other programs took; it is honest for one thread only."""


@dataclass(frozen=True)
class Assignment:
    """What a worker is to prepare: an engine with a model, or, where `engine` is `limits`, the machine's own limits."""

    engine: str
    cores: tuple[int, ...]
    model: str = ""
    folder: str = ""
    seed: int = 0
    precision: str = "float"
    pruned: dict[str, Any] | None = None
    """The fields of `engines.Pruned` where the network is pruned."""


@dataclass(frozen=True)
class Turn:
    """Timed calls without a pause: seconds each, and how often the system took a core away meanwhile."""

    seconds: list[float]
    interruptions: int


@dataclass(frozen=True)
class Forward:
    """An engine's callable, and the model whose image it may read in place: that must live as long."""

    run: Callable[[], NDArray[np.float32]]
    model: "Model"

    def __call__(self) -> NDArray[np.float32]:
        return self.run()


class WorkerError(Exception):
    """An engine could not do what it was asked; the message is for the reader of the table."""


class MissingEngineError(WorkerError):
    """The engine's library is not installed."""


class Worker:
    """The parent's side. `prepared` is what the worker told of itself after preparing."""

    def __init__(self, assignment: Assignment, log: Path) -> None:
        self.assignment = assignment
        self._log = log.open("w")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", json.dumps(asdict(assignment))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        try:
            self.prepared = self._answer()
        except BaseException:
            self.close()
            raise

    def turn(self, subject: str, calls: int, clock: str = "wall") -> Turn:
        """One untimed call, which brings the engine's own data back into the caches, then `calls` timed ones."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # a worker that has died is told apart by its silence
            self._process.stdin.write(json.dumps({"subject": subject, "calls": calls, "clock": clock}) + "\n")
            self._process.stdin.flush()
        return Turn(**self._answer())

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            status = self._process.wait()
            raise WorkerError(f"its process ended with status {status}; its output is in {self._log.name}")
        answer: dict[str, Any] = json.loads(line)
        if "missing" in answer:
            raise MissingEngineError(answer["missing"])
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer

    def close(self) -> None:
        """End the process; an idle worker ends by itself when its input closes."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._log.close()


def prepare(assignment: Assignment) -> tuple[dict[str, Callable[[], object]], dict[str, Any]]:
    """The callables of an assignment by subject, and what is to be told of them."""
    if assignment.engine == "limits":
        from benchmarks.limits import prepare_limits

        limits = prepare_limits(len(assignment.cores))
        told = {limit.name: {"work": limit.work, "unit": limit.unit, "using": limit.instruction} for limit in limits}
        return {limit.name: limit.run for limit in limits}, told

    from benchmarks import engines

    try:
        engine = engines.load(assignment.engine)
    except ModuleNotFoundError as error:
        raise MissingEngineError(f"{error.name} is not installed: {engines.ENGINES[assignment.engine].pip}") from error
    if assignment.precision not in engine.precisions:
        raise WorkerError(f"has no {assignment.precision} adapter here")
    pruned = None if assignment.pruned is None else engines.Pruned(**assignment.pruned)
    model = engines.Model(assignment.model, Path(assignment.folder), assignment.seed, pruned)
    start = time.perf_counter()
    run = Forward(engine().prepare(model, assignment.precision, len(assignment.cores)), model)
    prepared = time.perf_counter() - start
    logits = np.asarray(run(), np.float32).reshape(1, -1)
    start = time.perf_counter()
    run()
    description: dict[str, Any] = {
        "version": engine.version(),
        "prepare_seconds": prepared,
        "call_seconds": time.perf_counter() - start,
        "logits": logits[0].tolist(),
    }
    return {"forward": run}, description


def serve(assignment: Assignment, requests: TextIO, answers: TextIO) -> None:
    """The worker's side: prepare, then answer until the requests end."""

    def answer(document: dict[str, Any]) -> None:
        print(json.dumps(document), file=answers, flush=True)

    try:
        subjects, told = prepare(assignment)
        answer(told)
        for line in requests:
            request = json.loads(line)
            answer(asdict(timed(subjects[request["subject"]], request["calls"], CLOCKS[request["clock"]])))
    except MissingEngineError as error:
        answer({"missing": str(error)})
    except Exception as error:  # whatever an engine throws is that engine's row in the table
        answer({"error": f"{type(error).__name__}: {error}"})
        raise


def timed(run: Callable[[], object], calls: int, clock: Callable[[], float]) -> Turn:
    """Times of `calls` calls after one that is not timed."""
    run()
    seconds = []
    switches = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
    for _ in range(calls):
        start = clock()
        run()
        seconds.append(clock() - start)
    return Turn(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw - switches)


def main() -> None:
    fields = json.loads(sys.argv[1])
    assignment = Assignment(**{**fields, "cores": tuple(fields["cores"])})
    machine.pin(list(assignment.cores))
    # Engines print to standard output as they please: keep the original for answers and send the rest to the log.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    serve(assignment, sys.stdin, answers)


if __name__ == "__main__":
    main()
