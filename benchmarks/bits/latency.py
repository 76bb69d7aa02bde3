"""Is the predicted latency the measured one: random bits of zoo networks, all compiled, timed in turns on one device."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.stats import kendalltau

import tapdot
from benchmarks import zoo
from benchmarks.bits.networks import Prepared
from benchmarks.bits.random_choices import of_all_sizes
from tapdot.compiler.lower import lower
from tapdot.compiler.package import Package
from tapdot.kernels.target import find_target
from tapdot.passes.assign_layouts import AssignLayouts
from tapdot.passes.bit_widths import BitWidths
from tapdot.passes.plan_memory import plan_memory
from tapdot.runtime.bit_latencies import measure_layers
from tapdot.runtime.devices import connect
from tapdot.runtime.samples import paired_ratio, shared_confidence

CALIBRATION_IMAGES = 2
"""Ranges decide no latency."""
ASKED_ERROR, ASKED_TAU = 0.15, 0.8


@dataclass(frozen=True)
class Latencies:
    """One network: bits of every assignment, and seconds predicted and measured."""

    network: str
    device: str
    rounds: int
    bits: tuple[str, ...]
    predicted: tuple[float, ...]
    measured: tuple[float, ...]
    differing: tuple[tuple[int, int], ...]
    """Places of the pairs of assignments of which the first is faster beyond the noise."""
    remarks: tuple[str, ...] = ()

    @property
    def errors(self) -> tuple[float, ...]:
        """Predicted over measured, less one."""
        return tuple(ours / theirs - 1 for ours, theirs in zip(self.predicted, self.measured, strict=True))

    @property
    def worst(self) -> float:
        """The error that is farthest from none."""
        return max(self.errors, key=abs)

    @property
    def tau(self) -> float:
        """Kendall's, between predicted and measured; no number where all predictions are the same."""
        return float(kendalltau(self.predicted, self.measured).statistic)

    @property
    def tau_beyond_noise(self) -> float:
        """Kendall's, over the pairs that differ beyond the noise only: the order of the others says nothing."""
        signs = [np.sign(self.predicted[slow] - self.predicted[fast]) for fast, slow in self.differing]
        return float(np.mean(signs)) if signs else math.nan

    def json(self) -> dict[str, Any]:
        """Plain data; times in seconds."""
        return {
            "network": self.network,
            "device": self.device,
            "rounds": self.rounds,
            "assignments": [
                {"bits": bits, "predicted": ours, "measured": theirs, "error": error}
                for bits, ours, theirs, error in zip(self.bits, self.predicted, self.measured, self.errors, strict=True)
            ],
            "worst_error": self.worst,
            "tau": None if math.isnan(self.tau) else self.tau,
            "pairs_beyond_noise": len(self.differing),
            "tau_beyond_noise": None if math.isnan(self.tau_beyond_noise) else self.tau_beyond_noise,
            "met": abs(self.worst) <= ASKED_ERROR and self.tau >= ASKED_TAU,
            "remarks": list(self.remarks),
        }


def measure(
    network: str,
    line: str,
    widths: tuple[int, ...],
    count: int,
    rounds: int,
    layer_runs: int,
    seed: int,
    report: Callable[[str], object],
) -> Latencies:
    """One network of the zoo with seeded weights. Layers that were measured on such a device before are not measured again.

    Raises TapdotError for a device that cannot be reached or is emulated.
    """
    entry = zoo.find(network)
    report(f"{entry.title}: calibrating")
    images = zoo.seeded_images(CALIBRATION_IMAGES, entry.input_size).numpy()
    prepared = Prepared.of(tapdot.trace(zoo.build(network, seed), (torch.zeros(entry.input_shape),)), images)
    device = connect(line)
    target = find_target(device.default_target())
    uniform = {width: prepared.integers(prepared.widths(width)) for width in widths}
    figures = measure_layers(
        device, uniform, prepared.names, target, runs=layer_runs, progress=lambda text: report(f"{entry.title}: {text}")
    )
    chosen = of_all_sizes(len(prepared.names), widths, count, seed)
    predicted = [
        math.fsum(figures.by_layer[name][bits] for name, bits in zip(prepared.names, choice, strict=True)) + figures.rest
        for choice in chosen
    ]
    texts = tuple("".join(map(str, choice)) for choice in chosen)
    packages = []
    for text, choice in zip(texts, chosen, strict=True):
        report(f"{entry.title}: compiling {text}")
        packages.append(_package(prepared, prepared.widths(choice), target, text))
    report(f"{entry.title}: {rounds} rounds of {len(packages)} packages in turns")
    comparison = device.compare(packages, labels=texts, runs=rounds)
    measured = tuple(float(np.median(found.times)) for found in comparison.measurements)
    differing = beyond_noise([found.times for found in comparison.measurements])
    return Latencies(network, device.line, rounds, texts, tuple(predicted), measured, differing, comparison.remarks)


def beyond_noise(times: Sequence[Sequence[float]]) -> tuple[tuple[int, int], ...]:
    """The pairs of places of which the first takes less time, in rounds that belong together, beyond the noise of all pairs."""
    pairs = list(itertools.combinations(range(len(times)), 2))
    found = []
    for one, other in pairs:
        ratio = paired_ratio(times[one], times[other], shared_confidence(len(pairs)))
        if ratio.beyond_noise:
            found.append((one, other) if ratio.median < 1 else (other, one))
    return tuple(found)


def _package(prepared: Prepared, bits: BitWidths, target: Any, name: str) -> Package:
    physical = AssignLayouts(target)(prepared.integers(bits))
    return Package.create(lower(physical, plan_memory(physical), target), target, name=name, recipe="mixed")
