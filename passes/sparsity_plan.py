"""What pruning aims at: layers, the pattern set, and how many kernels every layer keeps, all decided from the dense weights."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapdot.compiler.costs import node_macs
from tapdot.compiler.errors import TapdotError
from tapdot.compiler.graph import Graph
from tapdot.kernels.fkw import Structure
from tapdot.kernels.patterns import DEFAULT_PATTERN_COUNT, KEPT, MOST_PATTERNS, picture
from tapdot.passes.prune_rates import FLOOR, SIZE_EXPONENT, Allocation, Rates, kept_units
from tapdot.passes.sparse_layers import LAST_LAYER, Choice, Found, SkippedLayer, SparseLayer, graph_layers
from tapdot.passes.sparse_projection import choose_patterns, kept_energies, nearest_patterns, structure_of

Weights = Mapping[str, NDArray[Any]]
"""By the names of constants or parameters."""


@dataclass(frozen=True)
class Pruning:
    """What the user asks for. Rates are weights before, divided by weights kept; see ``passes.prune_rates``."""

    rate: float = 4.0
    """Of the 3x3 layers together, patterns (2.25) included; 1 leaves them dense."""
    quad_rate: float = 1.0
    """Of the 1x1 and fully connected layers together, by quads of inputs; 1 leaves them dense."""
    share: int = 2
    """1, 2, 4 or 8 consecutive filters agree on positions and patterns: less accuracy, more speed."""
    patterns: int = DEFAULT_PATTERN_COUNT
    """Size of the model's pattern set, 1 to 12; the paper uses 6, 8 or 12."""
    layer_rates: Mapping[str, float] = field(default_factory=dict)
    """Of single layers, by name."""
    layer_shares: Mapping[str, int] = field(default_factory=dict)
    allocation: Allocation = "energy"
    """How the common rates are met: kernels go where they are missed least, or every layer has the same rate (``uniform``)."""
    floor: float = FLOOR
    """For ``energy``: the least a layer keeps, as a share of what ``uniform`` would leave it."""
    size_exponent: float = SIZE_EXPONENT
    """For ``energy``: how much more a larger layer counts, from 0 (all alike: small layers stay dense) to 1 (by its size)."""
    skip: Collection[str] = ()
    """Layers that stay dense, by name."""
    last_layer: bool = False
    """Whether ``quad_rate`` is for the last fully connected layer too."""

    @property
    def choice(self) -> Choice:
        """What of this concerns which layers are pruned."""
        return Choice(self.share, self.layer_shares, self.skip, self.last_layer)

    @property
    def rates(self) -> Rates:
        """What of this concerns how much is pruned."""
        return Rates(self.rate, self.quad_rate, self.layer_rates, self.allocation, self.floor, self.size_exponent)


@dataclass(frozen=True)
class LayerRate:
    """A layer's share of the plan, for reports."""

    layer: str
    kind: str
    weights: int
    kept: int
    share: int

    @property
    def rate(self) -> float:
        """Weights before, divided by weights kept."""
        return self.weights / self.kept


@dataclass(frozen=True)
class Plan:
    """Which layers are pruned, to what; see :func:`make_plan`."""

    layers: tuple[SparseLayer, ...]
    skipped: tuple[SkippedLayer, ...]
    patterns: NDArray[np.uint8]
    """``[K, 4]``, most frequent first."""
    counts: Mapping[str, int]
    """Kernels (or quads) of share groups that every layer keeps, by its name."""

    def structure(self, layer: SparseLayer, weight: NDArray[Any]) -> Structure:
        """What the plan keeps of these weights."""
        return structure_of(layer, weight, self.patterns, self.counts[layer.name])

    def mask(self, layer: SparseLayer, weight: NDArray[Any]) -> NDArray[np.bool_]:
        """The same as booleans, in the shape the weights are stored in."""
        return layer.mask(self.structure(layer, weight))

    @property
    def rates(self) -> tuple[LayerRate, ...]:
        """Layer by layer."""
        return tuple(
            LayerRate(layer.name, layer.kind, layer.weights, self.counts[layer.name] * layer.share * KEPT, layer.share)
            for layer in self.layers
        )

    def rate(self, *, by_quads: bool = False) -> float | None:
        """Of all layers of a kind together; None where there are none."""
        chosen = [row for row, layer in zip(self.rates, self.layers, strict=True) if layer.by_quads is by_quads]
        return sum(row.weights for row in chosen) / sum(row.kept for row in chosen) if chosen else None

    def __str__(self) -> str:
        """One sentence a kind."""
        lines = []
        for by_quads, title in ((False, "3x3 layers by patterns"), (True, "1x1 and fully connected layers by quads")):
            count = sum(layer.by_quads is by_quads for layer in self.layers)
            if count:
                lines.append(f"{count} {title}, {self.rate(by_quads=by_quads):.2f}x fewer weights")
        text = "; ".join(lines)
        if any(not layer.by_quads for layer in self.layers):
            text += f"; patterns {' '.join(picture(pattern) for pattern in self.patterns)}"
        return text + "."


def make_plan(found: Found, weights: Weights, pruning: Pruning, name: str = "The model") -> Plan:
    """The plan for trained weights.

    ``found`` is what ``passes.sparse_layers`` says. Raises TapdotError for rates that cannot be met, a number of patterns that
    sparse kernels do not take, rates and shares of single layers that are not pruned, weights that are not finite, and where
    there is nothing to prune.
    """
    rates = pruning.rates
    if not 1 <= pruning.patterns <= MOST_PATTERNS:
        raise TapdotError(
            f"Expected a pattern set of 1 to {MOST_PATTERNS} patterns (6, 8 or 12 are usual), found {pruning.patterns}: sparse "
            f"kernels take at most {MOST_PATTERNS} a layer."
        )
    candidates, skipped = found
    _check_named(pruning, skipped)
    layers = tuple(layer for layer in candidates if rates.prunes(layer))
    skipped += tuple(SkippedLayer(layer.name, f"{layer.kind}, its rate is 1") for layer in candidates if layer not in layers)
    if not layers:
        raise TapdotError(_nothing(name, candidates, skipped, rates))
    arrays = {layer.name: np.asarray(weights[layer.weight]) for layer in layers}
    for layer in layers:
        if not np.isfinite(arrays[layer.name]).all():
            raise TapdotError(f"The weights of layer {layer.name!r} are not all finite; look at the model before pruning it.")
    patterns = choose_patterns(layers, [arrays[layer.name] for layer in layers], pruning.patterns)

    def energies(layer: SparseLayer) -> NDArray[np.float64]:
        array = arrays[layer.name]
        return kept_energies(layer, array, nearest_patterns(layer, array, patterns))

    known = {layer.name: rate for layer in candidates if (rate := rates.layers.get(layer.name)) is not None and rate != 1}
    there = {layer.name for layer in candidates} | {layer.name for layer in skipped}
    unknown = {layer: rate for layer, rate in rates.layers.items() if layer not in there}
    counts = kept_units(layers, energies, replace(rates, layers={**known, **unknown}))
    return Plan(layers, skipped, patterns, counts)


def _check_named(pruning: Pruning, skipped: tuple[SkippedLayer, ...]) -> None:
    """Raises TapdotError where a layer that is not pruned is given a rate (but 1, which it has) or a share of its own."""
    reasons = {layer.name: layer.reason for layer in skipped}
    for name in (*(name for name, rate in pruning.layer_rates.items() if rate != 1), *pruning.layer_shares):
        if name in reasons:
            hint = "; --last-layer (in Python last_layer=True) prunes it, too" if reasons[name] == LAST_LAYER else ""
            raise TapdotError(f"Layer {name!r} is not pruned: {reasons[name]}{hint}.")


def _nothing(name: str, candidates: tuple[SparseLayer, ...], skipped: tuple[SkippedLayer, ...], rates: Rates) -> str:
    """Why there is nothing to prune, and what would be."""
    quads = [layer for layer in candidates if layer.by_quads and layer.name not in rates.layers]
    if quads and rates.quad_rate == 1:
        return (
            f"{name} has no 3x3 layer to prune by patterns. It has {len(quads)} 1x1 and fully connected layers; prune them by "
            "quads of inputs with a quad rate (--quad-rate 2)."
        )
    reasons = "; ".join(map(str, skipped[:3])) + ("; ..." if len(skipped) > 3 else "")
    return f"{name} has nothing to prune" + (f" ({reasons})." if skipped else ": it has no convolution and no matrix product.")


def graph_plan(graph: Graph, pruning: Pruning | None = None) -> Plan:
    """The plan for a graph's own weights."""
    pruning = pruning or Pruning()
    return make_plan(graph_layers(graph, pruning.choice), graph.constants, pruning, f"Graph {graph.name!r}")


def kept_macs(graph: Graph, plan: Plan) -> tuple[int, int]:
    """Multiply-accumulates of one run of the graph: of the dense one, and of the pruned one where zeros cost nothing."""
    kept = {layer.weight: row.kept / row.weights for layer, row in zip(plan.layers, plan.rates, strict=True)}
    dense, left = 0, 0.0
    for node in graph.nodes:
        macs = node_macs(graph, node)
        dense += macs
        left += macs * kept.get(node.operand(1), 1.0)
    return dense, round(left)


def prune_by_projection(graph: Graph, pruning: Pruning | None = None) -> Graph:
    """The graph with the nearest weights that have the structure asked for; no data, no training.

    What ``prune_patterns`` and then ``prune_connectivity`` do. Good for measuring speed; accuracy needs the training that
    ``passes.prune`` adds.
    """
    plan = graph_plan(graph, pruning)
    return masked(graph, {layer.weight: plan.mask(layer, graph.constants[layer.weight]) for layer in plan.layers})


def masked(graph: Graph, masks: Mapping[str, NDArray[np.bool_]]) -> Graph:
    """The graph with zeros wherever a mask, by the name of its constant, is false."""
    pruned = {name: np.where(mask, graph.constants[name], np.float32(0)) for name, mask in masks.items()}
    return graph.replace(constants={**graph.constants, **pruned})
