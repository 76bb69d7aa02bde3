"""Is it really faster? A candidate against the default, both measured in turns: no winner inside the noise."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

LEAST_GAIN = 1.01
"""Of times. What is less is not worth a change."""
LEAST_FEWER = 1.001
"""Of counts of instructions, which do not vary."""


def gain(default: Sequence[float], candidate: Sequence[float]) -> float:
    """How many times faster a candidate is than the default, by figures taken in turns; 1.0 where that is within the noise.

    It is the median of the rounds' ratios. It counts where three rounds of four agree that the candidate is faster, and the
    median says so by more than a hundredth. Single figures are counts, and compared as they are.
    """
    ratios = [left / right for left, right in zip(default, candidate, strict=True)]
    if len(ratios) < 4:
        found = statistics.median(ratios)
        return found if found >= LEAST_FEWER else 1.0
    low, middle, _ = statistics.quantiles(ratios, n=4)
    return middle if low > 1.0 and middle >= LEAST_GAIN else 1.0
