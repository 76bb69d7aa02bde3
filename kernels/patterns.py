"""Patterns: which four taps of a 3x3 kernel are kept. The one place for their masks and their order.

Taps are numbered row by row, ``tap = 3 * row + column``; a pattern is four of them in ascending order, the centre (4) among them
(PatDNN, ASPLOS 2020, section 4.1). A layer without 3x3 kernels is pruned by quads of four consecutive inputs instead: its one
"pattern" is :data:`QUAD`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

TAPS = 9
"""Taps of a 3x3 kernel."""
KEPT = 4
"""Taps that a pattern keeps: as many as one lane of a dot product multiplies."""
CENTRE = 4

ALL_PATTERNS: NDArray[np.uint8] = np.array(
    [sorted((CENTRE, *others)) for others in combinations([tap for tap in range(TAPS) if tap != CENTRE], KEPT - 1)], np.uint8
)
"""The 56 patterns there are, ``[56, 4]``, in lexicographic order of their taps other than the centre."""

QUAD: NDArray[np.uint8] = np.arange(KEPT, dtype=np.uint8)[None]
"""The pattern table of layers pruned by quads, ``[1, 4]``."""

PATTERN_COUNTS = (6, 8, 12)
"""Sizes of a model's pattern set that the paper tries."""
MOST_PATTERNS = max(PATTERN_COUNTS)
"""Patterns that a layer's kernels may follow at most, where sparse kernels serve it."""
DEFAULT_PATTERN_COUNT = 8


def masks(patterns: NDArray[np.integer]) -> NDArray[np.bool_]:
    """``[K, 9]``: whether each pattern keeps each tap; ``patterns`` is ``[K, 4]``."""
    kept = np.zeros((len(patterns), TAPS), np.bool_)
    np.put_along_axis(kept, np.asarray(patterns, np.int64), True, axis=1)
    return kept


def energies(kernels: NDArray[np.floating], patterns: NDArray[np.integer] = ALL_PATTERNS) -> NDArray[np.float64]:
    """``[..., K]``: the energy (sum of squares) that each pattern keeps of each kernel; ``kernels`` is ``[..., 9]``."""
    return np.square(kernels, dtype=np.float64) @ masks(patterns).T.astype(np.float64)


def best_pattern(kernels: NDArray[np.floating], patterns: NDArray[np.integer] = ALL_PATTERNS) -> NDArray[np.intp]:
    """``[...]``: the row of the pattern that keeps most of each kernel ``[..., 9]``; the first of equals."""
    return np.argmax(energies(kernels, patterns), axis=-1)


def histogram(kernels: Sequence[NDArray[np.floating]]) -> NDArray[np.int64]:
    """How many kernels each of the 56 patterns serves best; each array is ``[..., 9]``. Kernels of zeros do not count."""
    counts = np.zeros(len(ALL_PATTERNS), np.int64)
    for array in kernels:
        flat = array.reshape(-1, TAPS)
        counts += np.bincount(best_pattern(flat[flat.any(axis=1)]), minlength=len(ALL_PATTERNS))
    return counts


def pattern_set(counts: NDArray[np.integer], size: int = DEFAULT_PATTERN_COUNT) -> NDArray[np.uint8]:
    """``[size, 4]``: the most frequent patterns, most frequent first, the earlier of equals first."""
    return ALL_PATTERNS[np.argsort(-np.asarray(counts), kind="stable")[:size]]


def picture(pattern: Sequence[int]) -> str:
    """A pattern as three short rows, ``.x.|xx.|x..`` for taps 1, 3, 4 and 6."""
    kept = {int(tap) for tap in pattern}
    marks = "".join("x" if tap in kept else "." for tap in range(TAPS))
    return "|".join(marks[row : row + 3] for row in range(0, TAPS, 3))
