"""tapdot and other engines on the same networks, in turns, on the same pinned cores.

    python -m benchmarks.peers --models resnet18,vgg16 --rounds 15 --precision float

Every round gives each engine one turn; no engine is timed before its logits agree with torch's.
"""

import argparse
import contextlib
import fcntl
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from benchmarks import machine, zoo
from benchmarks.engines import ENGINES, Model
from benchmarks.report import Rate, Report, Table, Timing
from benchmarks.worker import CLOCKS, Assignment, Worker, WorkerError
from benchmarks.zoo.macs import count_macs

TOLERANCE = {"float": 1e-3, "int8": 0.25}
"""Largest difference from torch's logits that is let pass, as a share of their range. Untrained weights and sixteen
calibration images make int8 coarse: its bound only catches what is plainly wrong."""
TURN_SECONDS = 0.05
"""A turn makes as many calls as fit, within CALLS."""
CALLS = (2, 20)
PAUSE = 0.02
"""Seconds between turns, so that one engine's idle threads stop spinning before the next one starts."""

progress = Console(stderr=True)


def reference(model: Model) -> np.ndarray:
    """Torch's logits on the model's image: float32 [classes]."""
    with torch.no_grad():
        return model.module(torch.from_numpy(model.image)).numpy()[0]


def largest_error(logits: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference as a share of the expected range; infinite where the shapes differ, NaN where a logit is."""
    if logits.shape != expected.shape:
        return float("inf")
    return float(np.abs(logits - expected).max() / np.ptp(expected))


def start_engine(name: str, assignment: Assignment, expected: np.ndarray) -> tuple[Worker, Timing]:
    """A prepared engine whose logits were found right; WorkerError where they are not, or it cannot run at all."""
    worker = Worker(assignment, Path(assignment.folder) / f"{name}.log")
    error = largest_error(np.asarray(worker.prepared["logits"], np.float32), expected)
    if not error <= TOLERANCE[assignment.precision]:
        worker.close()
        raise WorkerError(
            f"not timed, its logits differ from torch's by {error:.2e} of their range, more than "
            f"{TOLERANCE[assignment.precision]:.0e}"
        )
    return worker, Timing(name, worker.prepared["version"], error, worker.prepared["prepare_seconds"])


def calls_a_turn(call_seconds: float) -> int:
    fewest, most = CALLS
    return max(fewest, min(most, round(TURN_SECONDS / call_seconds)))


@contextlib.contextmanager
def held(lock: Path | None) -> Iterator[None]:
    """Hold a file's lock, so that measurements on one machine wait for each other."""
    if lock is None:
        yield
        return
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def measure_model(
    model: Model,
    engines: list[str],
    precision: str,
    cores: list[int],
    rounds: int,
    clock: str,
    limits: tuple[Worker, dict[str, Rate]] | None,
    lock: Path | None,
) -> Table:
    """Prepare and check every engine, then time them round by round, each round starting with another engine."""
    expected = reference(model)
    # Written here, so that no engine's process has to.
    model.onnx()
    if precision == "int8":
        model.quantized_onnx()
    table = Table(model.name, count_macs(zoo.skeleton(model.name), model.network.input_shape))
    running: list[tuple[Worker, Timing]] = []
    try:
        for name in engines:
            progress.print(f"{model.network.title}: preparing {ENGINES[name].title}")
            assignment = Assignment(name, tuple(cores), model.name, str(model.folder), model.seed, precision)
            try:
                running.append(start_engine(name, assignment, expected))
            except WorkerError as error:
                table.absent[name] = str(error)
                progress.print(f"  {ENGINES[name].title}: {error}")
        with held(lock):
            for index in range(rounds):
                progress.print(f"{model.network.title}: round {index + 1} of {rounds}", end="\r")
                start = index % len(running) if running else 0
                for worker, timing in running[start:] + running[:start]:
                    time.sleep(PAUSE)
                    try:
                        timing.turns.append(worker.turn("forward", calls_a_turn(worker.prepared["call_seconds"]), clock))
                    except WorkerError as error:
                        table.absent[timing.engine] = str(error)
                        worker.close()
                running = [pair for pair in running if pair[1].engine not in table.absent]
                if limits is not None:
                    for rate in limits[1].values():
                        rate.turns.append(limits[0].turn(rate.name, 1, clock))
            progress.print()
        table.timings = [timing for _, timing in running]
    finally:
        for worker, _ in running:
            worker.close()
    return table


def names(value: str, known: dict[str, object], kind: str) -> list[str]:
    """The comma-separated names of an option, each checked."""
    chosen = [name.strip() for name in value.split(",") if name.strip()]
    for name in chosen:
        if name not in known:
            raise argparse.ArgumentTypeError(f"unknown {kind} '{name}'; there are {', '.join(known)}")
    return chosen


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers", description="Compare tapdot with other engines, interleaved and pinned."
    )
    parser.add_argument(
        "--models",
        type=lambda value: names(value, dict(zoo.NETWORKS), "network"),
        default=["vgg16", "resnet18", "resnet50", "mobilenet_v2"],
        help=f"comma-separated, of {', '.join(zoo.NETWORKS)}",
    )
    parser.add_argument(
        "--engines",
        type=lambda value: names(value, dict(ENGINES), "engine"),
        default=list(ENGINES),
        help=f"comma-separated, of {', '.join(ENGINES)}",
    )
    parser.add_argument("--precision", choices=sorted(TOLERANCE), default="float")
    parser.add_argument("--threads", type=int, default=1, help="threads, and cores they are pinned to")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument(
        "--clock",
        choices=sorted(CLOCKS),
        default="wall",
        help="cpu leaves out what other programs took of the core: for one thread on a machine that is not quiet",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the networks' weights")
    parser.add_argument("--folder", type=Path, default=Path("build/zoo"), help="where converted networks are kept")
    parser.add_argument("--no-limits", action="store_true", help="do not measure the machine's own limits")
    parser.add_argument("--lock", type=Path, help="a file to lock while timing")
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    options = parser.parse_args(arguments)
    if options.clock == "cpu" and options.threads > 1:
        parser.error("--clock cpu adds up what all threads spent, waiting included; measure several threads by wall time")
    return options


def measure(options: argparse.Namespace) -> Report:
    """The whole measurement that the command line asked for."""
    cores = machine.choose_cores(options.threads)
    options.folder.mkdir(parents=True, exist_ok=True)
    limits: tuple[Worker, dict[str, Rate]] | None = None
    if not options.no_limits:
        worker = Worker(Assignment("limits", tuple(cores)), options.folder / "limits.log")
        limits = worker, {name: Rate(name, **told) for name, told in worker.prepared.items()}
    try:
        tables = [
            measure_model(
                Model(name, options.folder, options.seed),
                options.engines,
                options.precision,
                cores,
                options.rounds,
                options.clock,
                limits,
                options.lock,
            )
            for name in options.models
        ]
    finally:
        if limits is not None:
            limits[0].close()
    return Report(
        machine.describe(),
        options.precision,
        options.threads,
        options.rounds,
        options.clock,
        tables,
        {} if limits is None else limits[1],
    )


def main() -> None:
    options = parse()
    try:
        report = measure(options)
    except (ValueError, WorkerError) as error:
        progress.print(str(error), style="red", markup=False)
        sys.exit(1)
    print(json.dumps(report.json(), indent=2) if options.json else report.markdown())


if __name__ == "__main__":
    main()
