"""Statistics of repeated times that assume no distribution: the noise of a computer is one-sided and comes in bursts."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

CONFIDENCE = 0.95


def spread(samples: Sequence[float]) -> float:
    """Half the distance between the quartiles, as a share of the median; of fewer than four samples, between the extremes."""
    if len(samples) < 4:
        return (max(samples) - min(samples)) / 2 / statistics.median(samples) if samples else 0.0
    low, _, high = statistics.quantiles(samples, n=4)
    return (high - low) / 2 / statistics.median(samples)


@dataclass(frozen=True)
class Ratio:
    """How many times as long one thing takes as another: the median over rounds, and an interval that holds the true median with
    probability ``confidence`` or more. ``low`` is 0 and ``high`` infinite where the rounds are too few to say.
    """

    median: float
    low: float
    high: float
    rounds: int
    confidence: float = CONFIDENCE

    @property
    def beyond_noise(self) -> bool:
        """Whether the interval leaves out 1."""
        return not self.low <= 1 <= self.high

    @property
    def told(self) -> bool:
        """Whether there were rounds enough for an interval."""
        return self.low > 0 and math.isfinite(self.high)

    def inverse(self) -> Ratio:
        """The other one's times over this one's."""
        return Ratio(1 / self.median, 1 / self.high, 1 / self.low if self.low else math.inf, self.rounds, self.confidence)

    def json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "median": self.median,
            "low": self.low if self.told else None,
            "high": self.high if self.told else None,
            "rounds": self.rounds,
            "confidence": self.confidence,
            "beyond_noise": self.beyond_noise,
        }

    def __str__(self) -> str:
        interval = f"{self.low:.3f} to {self.high:.3f}" if self.told else f"{self.rounds} rounds are too few for an interval"
        return f"{self.median:.3f} ({interval})"


def shared_confidence(comparisons: int) -> float:
    """Of each of so many comparisons, for all together to hold with the usual one (Bonferroni): whoever looks at many differences
    finds one in the noise.
    """
    return 1 - (1 - CONFIDENCE) / max(1, comparisons)


def least_rounds(confidence: float = CONFIDENCE) -> int:
    """With fewer, even the extremes of the ratios are no interval of that confidence: 6 for 95 %."""
    return math.ceil(1 - math.log2(1 - confidence))


def paired_ratio(times: Sequence[float], basis: Sequence[float], confidence: float = CONFIDENCE) -> Ratio:
    """``times`` over ``basis``, each pair from one round, so that a slow minute of the device divides out.

    The interval is the sign test's: of ``n`` sorted ratios, those at places ``k`` and ``n + 1 - k`` hold the median between them
    unless fewer than ``k`` of ``n`` tosses of a fair coin are heads, or tails (Conover, "Practical Nonparametric Statistics",
    section 3.2).
    """
    from scipy.special import bdtr

    ratios = sorted(math.exp(math.log(own) - math.log(other)) for own, other in zip(times, basis, strict=True))
    count = len(ratios)
    median = statistics.median(ratios)
    place = sum(bool(bdtr(tail, count, 0.5) <= (1 - confidence) / 2) for tail in range(count))
    if place < 1:
        return Ratio(median, 0.0, math.inf, count, confidence)
    return Ratio(median, ratios[place - 1], ratios[count - place], count, confidence)
