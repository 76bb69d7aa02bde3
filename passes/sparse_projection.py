"""The nearest weights that have a structure: projections onto the pattern set and onto the connectivity set, in numpy.

Both are exact (PatDNN, ASPLOS 2020, section 4.2): among the weights whose every kernel follows one of K patterns, the nearest in
the Euclidean norm keeps for each kernel the pattern with the most energy (sum of squares); among those with so many kernels,
the nearest keeps the kernels of the most energy. Where ``share`` consecutive filters agree, the energy is that of the group.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapdot.kernels import patterns as table
from tapdot.kernels.fkw import Structure
from tapdot.kernels.patterns import KEPT, QUAD
from tapdot.passes.sparse_layers import SparseLayer

Weights = NDArray[np.floating[Any]]


def group_magnitudes(layer: SparseLayer, weight: Weights) -> NDArray[np.float32]:
    """``[groups, units, taps]``: the root of each tap's energy over the filters of a group; taps are 9, or a quad's 4."""
    rows = layer.rows(weight)
    if layer.by_quads and layer.inputs % KEPT:
        rows = np.pad(rows, ((0, 0), (0, -layer.inputs % KEPT)))
    grouped = rows.reshape(layer.groups, layer.share, layer.units, -1)
    if layer.share == 1:
        return np.abs(grouped[:, 0])
    return np.sqrt(np.einsum("gsut,gsut->gut", grouped, grouped))


def choose_patterns(layers: Sequence[SparseLayer], weights: Sequence[Weights], count: int) -> NDArray[np.uint8]:
    """``[count, 4]``: the patterns that most kernels (of share groups) of the 3x3 layers would choose, most frequent first."""
    magnitudes = [group_magnitudes(layer, array) for layer, array in zip(layers, weights, strict=True) if not layer.by_quads]
    return table.pattern_set(table.histogram(magnitudes), count)


def nearest_patterns(layer: SparseLayer, weight: Weights, patterns: NDArray[np.uint8]) -> Structure:
    """Every kernel with its best pattern, none removed; for quads, every quad."""
    if layer.by_quads:
        return Structure(np.zeros((layer.groups, layer.units), np.int64), QUAD, layer.share)
    return Structure(table.best_pattern(group_magnitudes(layer, weight), patterns), patterns, layer.share)


def unit_energies(layer: SparseLayer, weight: Weights) -> NDArray[np.float64]:
    """``[groups, units]``: the energy of every kernel or quad of a share group."""
    if layer.by_quads and not layer.inputs % KEPT:
        rows = layer.rows(weight)
        by_filter = np.einsum("fut,fut->fu", *(rows.reshape(layer.filters, layer.units, KEPT),) * 2)
        return by_filter.reshape(layer.groups, layer.share, layer.units).sum(1, dtype=np.float64)
    magnitudes = group_magnitudes(layer, weight)
    return np.einsum("gut,gut->gu", magnitudes, magnitudes, dtype=np.float64)


def kept_energies(layer: SparseLayer, weight: Weights, structure: Structure) -> NDArray[np.float64]:
    """The same of what a structure keeps."""
    return unit_energies(layer, weight if layer.by_quads else np.where(layer.mask(structure), weight, 0))


def strongest(energies: NDArray[np.float64], count: int) -> NDArray[np.bool_]:
    """Which ``count`` units have the most energy."""
    flat = energies.reshape(-1)
    kept = np.zeros(flat.size, np.bool_)
    if count >= flat.size:
        kept[:] = True
    elif count > 0:
        kept[np.argpartition(-flat, count - 1)[:count]] = True
    return kept.reshape(energies.shape)


def structure_of(layer: SparseLayer, weight: Weights, patterns: NDArray[np.uint8], count: int) -> Structure:
    """Patterns first, then the ``count`` kernels of which the patterns keep most: what the hard masks are made of."""
    best = nearest_patterns(layer, weight, patterns)
    kept = strongest(kept_energies(layer, weight, best), count)
    return Structure(np.where(kept, best.kept, -1), best.patterns, layer.share)


def connectivity_mask(layer: SparseLayer, weight: Weights, count: int) -> NDArray[np.bool_]:
    """The weights of the ``count`` strongest kernels, in the shape they are stored in."""
    kept = np.where(strongest(unit_energies(layer, weight), count), 0, -1)
    if layer.by_quads:
        return layer.mask(Structure(kept, QUAD, layer.share))
    whole = np.repeat(kept >= 0, layer.share, axis=0)[..., None]
    return np.broadcast_to(whole, (*whole.shape[:2], table.TAPS)).reshape(weight.shape)
