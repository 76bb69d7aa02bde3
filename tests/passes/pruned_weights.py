"""Weights pruned at random to a known structure."""

from __future__ import annotations

import numpy as np

from tapdot.kernels.fkw import Structure
from tapdot.kernels.patterns import ALL_PATTERNS, QUAD


def pruned_kernels(seed: int, groups: int, share: int, inputs: int, count: int) -> tuple[np.ndarray, Structure]:
    """float32 ``[groups * share, inputs, 3, 3]`` in ``count`` patterns, every one in use; kept weights are not zero."""
    numbers = np.random.default_rng(seed)
    table = ALL_PATTERNS[np.sort(numbers.permutation(56)[:count])]
    kept = numbers.integers(0, count, (groups, inputs))
    kept[numbers.random(kept.shape) < 0.6] = -1
    kept.reshape(-1)[: min(count, kept.size)] = np.arange(min(count, kept.size))
    return _fill(numbers, Structure(kept, table, share), (groups * share, inputs, 3, 3))


def pruned_quads(seed: int, groups: int, share: int, inputs: int) -> tuple[np.ndarray, Structure]:
    """float32 ``[groups * share, inputs]``, about half of its quads removed."""
    numbers = np.random.default_rng(seed)
    kept = np.where(numbers.random((groups, -(-inputs // 4))) < 0.5, 0, -1)
    kept[0, 0] = 0
    return _fill(numbers, Structure(kept, QUAD, share), (groups * share, inputs))


def _fill(numbers: np.random.Generator, structure: Structure, shape: tuple[int, ...]) -> tuple[np.ndarray, Structure]:
    weight = numbers.uniform(0.5, 1.5, shape) * numbers.choice([-1, 1], shape)
    return np.where(structure.mask(shape), weight, 0).astype(np.float32), structure
