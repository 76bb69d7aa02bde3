"""Pruned networks by our kernels beside other engines' best dense form of the same weights before pruning, in turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import tapdot
from benchmarks.engines import ENGINES, Model, Pruned
from benchmarks.peers import PAUSE, calls_a_turn, held, reference, start_engine
from benchmarks.report import BASIS, Timing
from benchmarks.worker import Assignment, Worker, WorkerError
from tapdot.compiler.interpreter import interpret
from tapdot.passes.prune_rates import Allocation


@dataclass(frozen=True)
class Rates:
    """How a network is pruned, for the figures that are quoted: of 3x3 layers, and of 1x1 and fully connected ones."""

    rate: float
    quad_rate: float = 1.0
    allocation: Allocation = "uniform"

    def pruned(self, share: int, dense: bool = False) -> Pruned:
        """As engines take it."""
        return Pruned(self.rate, self.quad_rate, share, dense, self.allocation)


NETWORKS = {
    "resnet18": Rates(8.1),
    "vgg16": Rates(8.1, 8.1),
    "resnet50": Rates(4.4, 4.4),
    "mobilenet_v2": Rates(1.0, 2.0),
}


@dataclass(frozen=True)
class Contender:
    """One row of a network's table."""

    engine: str
    precision: str
    pruned: Pruned | None = None

    @property
    def title(self) -> str:
        """For tables."""
        name = f"{ENGINES[self.engine].title}, {self.precision}"
        if self.pruned is None:
            return name
        kind = "pruned, dense kernels" if self.pruned.dense else "pruned"
        return f"{name}, {kind}, share {self.pruned.share}"


@dataclass
class NetworkResult:
    """All contenders of one network, and a sentence for each that did not run."""

    network: str
    title: str
    rates: Rates
    timings: dict[Contender, Timing] = field(default_factory=dict)
    absent: dict[Contender, str] = field(default_factory=dict)

    def best_peer(self, precision: str) -> tuple[Contender, Timing] | None:
        """The fastest other engine."""
        peers = [(one, timing) for one, timing in self.timings.items() if one.engine != BASIS and one.precision == precision]
        return min(peers, key=lambda pair: pair[1].median) if peers else None

    def json(self) -> dict[str, Any]:
        """Plain data; ``faster_than`` by the precision of the best peer."""
        return {
            "network": self.network,
            "rate": self.rates.rate,
            "quad_rate": self.rates.quad_rate,
            "allocation": self.rates.allocation,
            "contenders": [self._row(one, timing) for one, timing in self.timings.items()],
            "absent": {one.title: why for one, why in self.absent.items()},
        }

    def _row(self, one: Contender, timing: Timing) -> dict[str, Any]:
        best = {precision: self.best_peer(precision) for precision in ("int8", "float")}
        return {
            **asdict(one),
            "version": timing.version,
            "milliseconds": timing.median * 1e3,
            "quartiles_ms": [second * 1e3 for second in timing.quartiles],
            "best_ms": timing.best * 1e3,
            "largest_error": timing.error,
            "faster_than": {name: peer[1].ratio_to(timing) for name, peer in best.items() if peer is not None},
        }


def contenders(
    engines: Sequence[str], precisions: Sequence[str], peer_precisions: Sequence[str], rates: Rates, shares: Sequence[int]
) -> list[Contender]:
    """Other engines in every precision; ours dense, pruned by every share, and pruned but computed by dense kernels."""
    found = [Contender(name, precision) for name in engines if name != BASIS for precision in peer_precisions]
    for precision in precisions:
        found.append(Contender(BASIS, precision))
        found += [Contender(BASIS, precision, rates.pruned(share)) for share in shares]
        found.append(Contender(BASIS, precision, rates.pruned(shares[-1], dense=True)))
    return found


def expected_logits(model: Model) -> NDArray[np.float32]:
    """The reference's answer, of the pruned weights where the model is pruned."""
    if model.pruned is None:
        return reference(model)
    graph = tapdot.trace(model.onnx())
    results = interpret(graph, {graph.inputs[0]: torch.from_numpy(model.image)})
    logits: NDArray[np.float32] = results[graph.outputs[0]].numpy()[0]
    return logits


def measure_network(
    name: str,
    chosen: Sequence[Contender],
    rates: Rates,
    folder: Path,
    cores: Sequence[int],
    rounds: int,
    clock: str = "wall",
    lock: Path | None = None,
    seed: int = 0,
    report: Callable[[str], object] = lambda line: None,
) -> NetworkResult:
    """Prepares and checks every contender, then times them round by round."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = Model(name, folder, seed)
    result = NetworkResult(name, whole.network.title, rates)
    answers: dict[Path, NDArray[np.float32]] = {}
    running: list[tuple[Contender, Worker]] = []
    try:
        for one in chosen:
            report(f"{whole.network.title}: preparing {one.title}")
            model = Model(name, folder, seed, one.pruned)
            if model.onnx() not in answers:
                answers[model.onnx()] = expected_logits(model)
            if one.precision == "int8" and one.engine != BASIS:
                model.quantized_onnx()
            pruned = None if one.pruned is None else asdict(one.pruned)
            assignment = Assignment(one.engine, tuple(cores), name, str(folder), seed, one.precision, pruned)
            try:
                worker, timing = start_engine(one.engine, assignment, answers[model.onnx()])
            except WorkerError as error:
                result.absent[one] = str(error)
                report(f"  {one.title}: {error}")
                continue
            result.timings[one] = timing
            running.append((one, worker))
        with held(lock):
            for index in range(rounds):
                report(f"{whole.network.title}: round {index + 1} of {rounds}")
                start = index % max(1, len(running))
                for one, worker in (*running[start:], *running[:start]):
                    time.sleep(PAUSE)
                    calls = calls_a_turn(worker.prepared["call_seconds"])
                    result.timings[one].turns.append(worker.turn("forward", calls, clock))
    finally:
        for _, worker in running:
            worker.close()
    return result
