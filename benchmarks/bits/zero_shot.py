"""How long a choice of bits takes where there is no data: distil, sensitivity by KL divergence, front by size."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

import tapdot
from benchmarks import zoo
from tapdot.compiler import pipeline
from tapdot.compiler.graph import Graph
from tapdot.passes.bit_candidates import BitChoices, model_layers, rows_of
from tapdot.passes.bit_widths import BitWidths
from tapdot.passes.distill_samples import DistillSamples
from tapdot.passes.pareto_front import Front, pareto_front
from tapdot.passes.recipes import Calibration, recipe
from tapdot.passes.sensitivity import measure_sensitivity

ASKED = 600.0
"""Seconds, on two cores, that ResNet-50 may take."""
PARTS = {"clean up": "import and clean up", "distil": "distil", "fold": "fold batch norms"}


@dataclass
class ZeroShot:
    """Seconds of each part, in order, and what came out."""

    network: str
    method: str
    threads: int
    seconds: dict[str, float] = field(default_factory=dict)
    layers: int = 0
    samples: int = 0
    distilled: int = 0
    front: Front | None = None

    @property
    def total(self) -> float:
        """Seconds."""
        return sum(self.seconds.values())

    def json(self) -> dict[str, Any]:
        """Plain data."""
        told = {
            name: getattr(self, name) for name in ("network", "method", "threads", "layers", "samples", "distilled", "seconds")
        }
        front = None if self.front is None else self.front.json()
        return {**told, "total": self.total, "met": self.total < ASKED, "front": front}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Adds what the body takes."""
        begin = time.monotonic()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - begin


def measure(
    network: str,
    method: str,
    widths: Sequence[int],
    samples: int | None,
    settings: Sequence[str],
    seed: int,
    report: Callable[[str], object],
) -> ZeroShot:
    """One network of the zoo with seeded weights. Nothing is kept: what is asked for is the time."""
    result = ZeroShot(network, method, torch.get_num_threads())
    entry = zoo.find(network)
    module = zoo.build(network, seed)
    phases = recipe("mixed", settings, Calibration(zero_shot=True), bits=BitWidths(default=8))
    (distil,) = [step for phase in phases for step in phase.passes if isinstance(step, DistillSamples)]
    with result.part(PARTS["clean up"]):
        graph: Graph = tapdot.trace(module, (torch.zeros(entry.input_shape),))
    for phase in phases:
        if phase.name == "calibrate":
            break
        report(f"{entry.title}: {phase.name}")
        with result.part(PARTS.get(phase.name, PARTS["clean up"])):
            graph = pipeline.run(graph, (phase,), progress=report).graph
    result.distilled = distil.count
    with result.part("sensitivity"):
        sensitivity = measure_sensitivity(
            graph, distil.into, method=method, candidates=widths, samples=samples, seed=seed, source="distilled", progress=report
        )
    result.samples = sensitivity.samples
    with result.part("front"):
        rows = rows_of(model_layers(graph), widths, "fixed")
        result.layers = len(rows)
        result.front = pareto_front(BitChoices(rows, sensitivity, None).table, "size")
    return result
