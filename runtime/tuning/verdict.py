"""Is it really faster? A candidate against the default, both measured in turns: no winner inside the noise.

What noise is, ``runtime.samples`` says, for this as for packages that are compared (``runtime.compare``).
"""

from __future__ import annotations

from collections.abc import Sequence

from tapdot.runtime.samples import paired_ratio, shared_confidence

LEAST_GAIN = 1.01
"""Of times. What is less is not worth a change, and may be the place in memory that a kernel's tensors happened to get."""
LEAST_FEWER = 1.001
"""Of counts of instructions, which do not vary."""


def gain(default: Sequence[float], candidate: Sequence[float], candidates: int = 1) -> float:
    """How many times faster a candidate is than the default, by figures taken in turns; 1.0 where that is within the noise.

    It is the median of the rounds' ratios, and counts where their interval leaves out 1; the mistakes allowed are split over all
    ``candidates`` held against one default. Single figures are counts, and compared as they are.
    """
    if len(default) == len(candidate) == 1:
        fewer = default[0] / candidate[0]
        return fewer if fewer >= LEAST_FEWER else 1.0
    ratio = paired_ratio(default, candidate, shared_confidence(candidates))
    return ratio.median if ratio.low > 1.0 and ratio.median >= LEAST_GAIN else 1.0
