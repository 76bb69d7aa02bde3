"""Does another sample give another order of layers: Kendall's tau between the rankings that a method's seeds give."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from scipy.stats import kendalltau

from benchmarks.bits.networks import kept_sensitivity, miniature
from benchmarks.miniatures.trained import MINIATURES
from tapdot.passes.sensitivity import Sensitivity

ASKED = 0.9
"""Least tau of every two seeds that the project asks for."""
CALIBRATION_IMAGES, BATCH = 4, 50


@dataclass(frozen=True)
class Stability:
    """One method on one trained network and for one candidate."""

    network: str
    trained_seed: int
    method: str
    candidate: str
    layers: int
    samples: int
    taus: tuple[float, ...]
    """Of every two seeds."""

    @property
    def least(self) -> float:
        """Of the two seeds that differ most."""
        return min(self.taus)

    @property
    def mean(self) -> float:
        """Of all pairs."""
        return statistics.fmean(self.taus)

    def json(self) -> dict[str, Any]:
        """Plain data."""
        told = {name: getattr(self, name) for name in ("network", "trained_seed", "method", "candidate", "layers", "samples")}
        return {**told, "least": self.least, "mean": self.mean, "taus": list(self.taus), "met": self.least >= ASKED}


def taus(found: Sequence[Sensitivity], candidate: str) -> tuple[float, ...]:
    """Kendall's tau between the layers' values of every two seeds; layers that cannot take the candidate are left out."""
    columns = [[row.values[candidate] for row in one.layers if candidate in row.values] for one in found]
    return tuple(float(kendalltau(one, other).statistic) for one, other in itertools.combinations(columns, 2))


def measure(
    network: str,
    trained_seeds: Sequence[int],
    methods: Sequence[str],
    seeds: Sequence[int],
    samples: int | None,
    widths: Sequence[int],
    epochs: int | None,
    report: Callable[[str], object],
) -> list[Stability]:
    """Every method on every trained network of that name; seeds draw other training images, and other probes or masks."""
    results = []
    for trained_seed in trained_seeds:
        prepared = miniature(network, trained_seed, epochs, CALIBRATION_IMAGES, BATCH)
        for method in methods:
            title = f"{MINIATURES[network].title}, seed {trained_seed}, {method}"
            found = []
            for seed in seeds:
                report(f"{title}: with seed {seed}")
                found.append(kept_sensitivity(network, trained_seed, epochs, prepared, method, widths, samples, seed))
            results += [
                Stability(
                    network, trained_seed, method, str(bits), len(found[0].layers), found[0].samples, taus(found, str(bits))
                )
                for bits in widths
            ]
    return results
