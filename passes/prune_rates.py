"""How many kernels each layer keeps: rates by layer, or one rate for all that an allocation meets.

A rate is the number of weights of the pruned layers before, divided by those that are kept: patterns alone give 9/4 = 2.25 in a
3x3 layer, and 8.1 is patterns times a connectivity rate of 3.6. Layers of quads (1x1, fully connected) have a rate of their own.

``uniform`` gives every layer the same rate. ``energy`` asks which kernels the network can miss most easily. A batch norm after a
layer takes away whatever scale its weights have, so a unit counts by its share of its layer's energy: with ``e_u`` the energy of
unit ``u``, ``n_l`` the units of its layer and ``E_l = sum_u e_u``, the units of the largest ``e_u n_l^a / E_l`` are kept. All
units cost the same weights, so no other choice of as many loses less of ``sum_l n_l^a (energy lost in l) / E_l``. The energy lost
in a layer, as a share of what it has, is about the noise that its result gets, and noises of layers add up, which is the case
``a = 0``. But it leaves the small layers dense, and these work on large planes: they hold few weights and many multiplies. With
``a = 1`` a layer counts by its size, and rates differ only by how unequal a layer's kernels are. ``size_exponent`` is ``a``, by
default between the two. No layer's rate becomes more than ``1 / floor`` times the one asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tapdot.compiler.errors import TapdotError
from tapdot.kernels.patterns import KEPT, TAPS
from tapdot.passes.sparse_layers import SparseLayer, check_names

Allocation = Literal["energy", "uniform"]

PATTERN_RATE = TAPS / KEPT
"""What patterns alone give."""
FLOOR = 0.4
SIZE_EXPONENT = 0.5
"""Between the two cases: on the miniature ResNet at 8x it learns far faster than 1, and as fast as 0 with fewer multiplies."""


@dataclass(frozen=True)
class Rates:
    """What is asked for."""

    rate: float = 8.0
    """Of the 3x3 layers together."""
    quad_rate: float = 1.0
    """Of the 1x1 and fully connected layers together; 1 leaves them dense."""
    layers: Mapping[str, float] = field(default_factory=dict)
    """Of single layers by name, which the others do not have to make up for."""
    allocation: Allocation = "energy"
    floor: float = FLOOR
    """For ``energy``: the least a layer keeps, as a share of what ``uniform`` would leave it."""
    size_exponent: float = SIZE_EXPONENT
    """For ``energy``: how much more a larger layer counts, from 0 (all alike) to 1 (by its size)."""

    def of_kind(self, layer: SparseLayer) -> float:
        """The common rate that is asked of a layer's kind."""
        return self.quad_rate if layer.by_quads else self.rate

    def prunes(self, layer: SparseLayer) -> bool:
        """Whether the layer is to lose weights at all."""
        return self.layers.get(layer.name, self.of_kind(layer)) != 1


def check_rates(rates: Rates, layers: Sequence[SparseLayer]) -> None:
    """Raises TapdotError, saying what could be met, for rates that cannot."""
    check_names(rates.layers, [layer.name for layer in layers])
    if rates.allocation not in ("energy", "uniform"):
        raise TapdotError(f"Expected the allocation energy or uniform, found {rates.allocation!r}.")
    if not 0 <= rates.floor <= 1:
        raise TapdotError(f"Expected a floor between 0 and 1, found {rates.floor:g}.")
    if not 0 <= rates.size_exponent <= 1:
        raise TapdotError(f"Expected a size exponent between 0 and 1, found {rates.size_exponent:g}.")
    for layer in layers:
        if layer.name in rates.layers:
            _check(rates.layers[layer.name], [layer], f"of layer {layer.name!r}")
    kinds = ((False, rates.rate, "of the 3x3 layers"), (True, rates.quad_rate, "of 1x1 and fully connected layers"))
    for by_quads, rate, what in kinds:
        chosen = [layer for layer in layers if layer.by_quads is by_quads and layer.name not in rates.layers]
        if chosen:
            _check(rate, chosen, what)


def _check(rate: float, layers: Sequence[SparseLayer], what: str) -> None:
    least = 1.0 if layers[0].by_quads else PATTERN_RATE
    if rate == 1 or np.isclose(rate, least):
        return
    most = least * sum(layer.unit_count * layer.share for layer in layers) / sum(layer.share for layer in layers)
    if not rate > least:
        why = "" if layers[0].by_quads else ": patterns alone keep 4 of 9 weights; 1 leaves the layers dense"
        raise TapdotError(f"Expected a rate {what} of at least {least:g}, found {rate:g}{why}.")
    if not rate <= most:
        raise TapdotError(
            f"The rate {rate:g} {what} cannot be met: with one {'quad' if layers[0].by_quads else 'kernel'} left in every layer "
            f"(for {max(layer.share for layer in layers)} filters together) it is {most:.4g}. Choose a smaller rate or share."
        )


Energies = Callable[[SparseLayer], NDArray[np.float64]]


def kept_units(layers: Sequence[SparseLayer], energies: Energies, rates: Rates) -> dict[str, int]:
    """How many units (kernels or quads of share groups) every layer keeps, by its name.

    ``energies`` gives ``[groups, units]`` of a layer, and is asked only where the allocation depends on it. Raises TapdotError
    for rates that cannot be met.
    """
    check_rates(rates, layers)
    counts: dict[str, int] = {}
    for by_quads in (False, True):
        together: list[SparseLayer] = []
        for layer in layers:
            if layer.by_quads is not by_quads:
                continue
            if layer.name in rates.layers:
                counts[layer.name] = max(1, round(layer.unit_count / _unit_rate(layer, rates.layers[layer.name])))
            else:
                together.append(layer)
        if together:
            counts.update(_allocated(together, energies, rates, _unit_rate(together[0], rates.of_kind(together[0]))))
    return counts


def _unit_rate(layer: SparseLayer, rate: float) -> float:
    """The connectivity rate: units before, divided by those kept."""
    return max(1.0, rate if layer.by_quads else rate / PATTERN_RATE)


def _allocated(layers: Sequence[SparseLayer], energies: Energies, rates: Rates, unit_rate: float) -> dict[str, int]:
    """Counts of layers that meet a rate together. Units weigh as many filters as their layer's groups share."""
    uniform = {layer.name: layer.unit_count / unit_rate for layer in layers}
    if unit_rate == 1:
        return {layer.name: layer.unit_count for layer in layers}
    if rates.allocation == "uniform":
        return _rounded(layers, uniform)
    least = {layer.name: max(1, round(rates.floor * uniform[layer.name])) for layer in layers}
    scores = {layer.name: _scores(energies(layer), rates.size_exponent) for layer in layers}
    budget = sum(layer.share * uniform[layer.name] for layer in layers)
    fixed: dict[str, int] = {}
    while True:
        free = [layer for layer in layers if layer.name not in fixed]
        left = budget - sum(layer.share * fixed[layer.name] for layer in layers if layer.name in fixed)
        counts = _by_threshold(free, scores, left)
        below = {name: least[name] for name, count in counts.items() if count < least[name]}
        if not below or len(below) == len(free):
            return {**fixed, **{name: max(count, least[name]) for name, count in counts.items()}}
        fixed.update(below)


def _scores(energies: NDArray[np.float64], exponent: float) -> NDArray[np.float32]:
    """Energies as shares of their layer's, times a power of its size."""
    total = max(float(energies.sum()), float(np.finfo(np.float64).tiny))
    return (energies.reshape(-1) * (energies.size**exponent / total)).astype(np.float32)


def _by_threshold(layers: Sequence[SparseLayer], scores: Mapping[str, NDArray[np.float32]], budget: float) -> dict[str, int]:
    """How many units of each layer are among the best that fit the budget."""
    everything = np.concatenate([scores[layer.name] for layer in layers])
    owner = np.repeat(np.arange(len(layers)), [layer.unit_count for layer in layers])
    cost = np.array([layer.share for layer in layers])
    if len(set(cost)) == 1:
        count = int(np.clip(round(budget / cost[0]), 0, everything.size))
        best = np.argpartition(-everything, count - 1)[:count] if 0 < count < everything.size else np.arange(count)
    else:
        order = np.argsort(-everything, kind="stable")
        spent = np.cumsum(cost[owner[order]])
        best = order[: int(np.searchsorted(spent, budget + cost.min() / 2, side="right"))]
    counts = np.bincount(owner[best], minlength=len(layers))
    return {layer.name: int(count) for layer, count in zip(layers, counts, strict=True)}


def _rounded(layers: Sequence[SparseLayer], wanted: Mapping[str, float]) -> dict[str, int]:
    """Whole numbers whose rounding errors do not add up."""
    counts, owed = {}, 0.0
    for layer in layers:
        exact = wanted[layer.name] + owed / layer.share
        counts[layer.name] = int(np.clip(round(exact), 1, layer.unit_count))
        owed = (exact - counts[layer.name]) * layer.share
    return counts
