"""What a layer's weights may become: codes of fewer bits, a sparse structure, or both; and which layers there are to choose for.

A layer is a convolution or matrix product with constant float32 weights, by its node's name once the graph is cleaned up and its
batch norms are folded: what ``calibrate`` and ``requantize`` make integers of. Quantized weights are symmetric codes with a scale
for each output channel, as ``kernels.numerics`` says; sparse ones are the projections of ``passes.sparse_projection``. A
candidate of both is the projection, quantized.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapdot.compiler.errors import TapdotError
from tapdot.compiler.graph import Graph, Node, unique_name
from tapdot.compiler.operators import lookup
from tapdot.kernels import numerics
from tapdot.kernels.patterns import DEFAULT_PATTERN_COUNT
from tapdot.passes.code_places import Placement
from tapdot.passes.correct_bias import OUTPUT_AXIS
from tapdot.passes.prune_rates import Rates, kept_units
from tapdot.passes.sparse_layers import SHARES, Choice, SparseLayer, graph_layers
from tapdot.passes.sparse_projection import choose_patterns, structure_of

FEWEST_BITS, MOST_BITS = 2, 8
Weights = NDArray[np.float32]

_LABEL = re.compile(r"(?P<bits>\d+)?(?:(?:^| )rate (?P<rate>\d+(?:\.\d+)?)(?: share (?P<share>\d+))?)?")


@dataclass(frozen=True)
class WeightForm:
    """A candidate for one layer; its label is ``8``, ``rate 4 share 2``, or ``8 rate 4 share 2``."""

    bits: int | None = None
    """Width of the weights' codes; None leaves them float."""
    rate: float | None = None
    """Weights before, divided by weights kept; None leaves the layer dense."""
    share: int = 1
    """How many consecutive filters agree on positions and patterns."""

    def __post_init__(self) -> None:
        if self.bits is None and self.rate is None:
            raise TapdotError("Expected a candidate with bits, a rate, or both, found neither.")
        if self.bits is not None and not FEWEST_BITS <= self.bits <= MOST_BITS:
            raise TapdotError(f"Expected bits between {FEWEST_BITS} and {MOST_BITS}, found {self.bits}.")
        if self.rate is not None and not 1 < self.rate < float("inf"):
            raise TapdotError(f"Expected a rate above 1 (weights before, divided by weights kept), found {self.rate:g}.")
        if self.share not in SHARES:
            raise TapdotError(
                f"Expected a share of 1, 2, 4 or 8 filters that agree on positions and patterns, found {self.share}."
            )

    @property
    def label(self) -> str:
        """The candidate's name in tables."""
        parts = [] if self.bits is None else [str(self.bits)]
        parts += [] if self.rate is None else [f"rate {self.rate:g} share {self.share}"]
        return " ".join(parts)

    def __str__(self) -> str:
        """For people: ``4 bits``, ``4x sparse, share 2``."""
        parts = [] if self.bits is None else [f"{self.bits} bits"]
        parts += [] if self.rate is None else [f"{self.rate:g}x sparse, share {self.share}"]
        return ", ".join(parts)

    @classmethod
    def parse(cls, label: str) -> WeightForm:
        """The candidate of a label, which may have ``=`` and commas between its words; TapdotError for other text."""
        found = _LABEL.fullmatch(" ".join(re.split("[ =,]+", label.strip())))
        if found is None or not any(found.groupdict().values()):
            raise TapdotError(f"Expected a candidate such as 4, rate 4 share 2 or 8 rate 4 share 2, found {label!r}.")
        bits, rate, share = found["bits"], found["rate"], found["share"]
        return cls(None if bits is None else int(bits), None if rate is None else float(rate), int(share or 1))


@dataclass(frozen=True)
class WeightLayer:
    """A layer there is to choose for."""

    name: str
    op: str
    weight: str
    """Of the graph's constant, which no other node reads."""
    shape: tuple[int, ...]
    axis: int
    """Along which the weights' output channels run."""
    kind: str
    """For people: ``3x3``, ``3x3 depthwise``, ``fully connected``."""
    sparse: SparseLayer | None = None
    """How it would be pruned; None where it is not."""

    @property
    def weights(self) -> int:
        """How many."""
        return int(np.prod(self.shape))


def with_own_weights(graph: Graph) -> Graph:
    """The graph where every layer has weights of its own, so that each can be changed alone."""
    constants, types = dict(graph.constants), dict(graph.types)
    seen: set[str] = set()
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.op in OUTPUT_AXIS and (name := node.inputs[1]) in constants:
            if name in seen or name in graph.outputs:
                own = unique_name(name, types)
                constants[own], types[own] = constants[name], types[name]
                node = replace(node, inputs=(node.inputs[0], own, *node.inputs[2:]))
            seen.add(node.inputs[1])
        nodes.append(node)
    return graph.replace(nodes=tuple(nodes), constants=constants, types=types)


def weight_layers(graph: Graph) -> tuple[WeightLayer, ...]:
    """The layers of a graph of :func:`with_own_weights`, in order.

    Raises TapdotError where there are none, or weights are not finite.
    """
    placement = Placement(graph)
    # The last fully connected layer is pruned only where that is chosen; here the table says what it would cost.
    sparse = {layer.name: layer for layer in graph_layers(graph, Choice(last_layer=True))[0]}
    found = []
    for node in graph.nodes:
        if placement.is_sum(node):
            weight = graph.constants[node.inputs[1]]
            if not np.isfinite(weight).all():
                raise TapdotError(
                    f"The weights of layer {node.name!r} hold NaN or an infinity; look at the model before choosing bits for it."
                )
            kind = _kind(node, weight.shape)
            axis = OUTPUT_AXIS[node.op]
            found.append(WeightLayer(node.name, node.op, node.inputs[1], weight.shape, axis, kind, sparse.get(node.name)))
    if not found:
        raise TapdotError(
            f"Graph {graph.name!r} has no convolution and no matrix product with constant float32 weights, so there are no bits "
            "to choose."
        )
    return tuple(found)


def _kind(node: Node, shape: Sequence[int]) -> str:
    if node.op == "Gemm":
        return "fully connected"
    group = lookup(node.op).defaults(node.attributes)["group"]
    grouped = "" if group == 1 else " depthwise" if shape[1] == 1 else f" of {group} groups"
    return "x".join(map(str, shape[2:])) + grouped


def quantized_weights(weight: NDArray[Any], bits: int, axis: int) -> Weights:
    """The weights as their symmetric codes of ``bits``, with a scale for each output channel along ``axis``, give them back."""
    scales = numerics.weight_scales(weight, bits, axis)
    along = scales.reshape([-1 if place == axis else 1 for place in range(weight.ndim)])
    return np.asarray(numerics.weight_codes(weight, scales, bits, axis) * along, np.float32)


class Replacements:
    """The weights of every layer and candidate, computed when asked for."""

    def __init__(self, graph: Graph, layers: Sequence[WeightLayer], candidates: Sequence[WeightForm]) -> None:
        self.graph, self.layers, self.candidates = graph, tuple(layers), tuple(candidates)
        self._squares: dict[tuple[str, WeightForm], float] = {}

    def of(self, layer: WeightLayer) -> tuple[WeightForm, ...]:
        """The candidates that a layer can take."""
        return tuple(candidate for candidate in self.candidates if self._count(layer, candidate) is not None)

    def original(self, layer: WeightLayer) -> Weights:
        """As they were trained."""
        return np.asarray(self.graph.constants[layer.weight])

    def weights(self, layer: WeightLayer, candidate: WeightForm) -> Weights:
        """As the candidate leaves them, in the shape they are stored in."""
        weight = self.original(layer)
        if candidate.rate is not None:
            count = self._count(layer, candidate)
            assert layer.sparse is not None and count is not None
            pruned = replace(layer.sparse, share=candidate.share)
            structure = structure_of(pruned, weight, self._patterns[candidate.share], count)
            weight = np.where(pruned.mask(structure), weight, np.float32(0))
        return weight if candidate.bits is None else quantized_weights(weight, candidate.bits, layer.axis)

    def square(self, layer: WeightLayer, candidate: WeightForm) -> float:
        """``||W - Q(W)||^2``."""
        key = layer.name, candidate
        if key not in self._squares:
            difference = (self.original(layer) - self.weights(layer, candidate)).reshape(-1).astype(np.float64)
            self._squares[key] = float(difference @ difference)
        return self._squares[key]

    @cached_property
    def _patterns(self) -> Mapping[int, NDArray[np.uint8]]:
        """The model's pattern set for each share."""
        shares = {candidate.share for candidate in self.candidates if candidate.rate is not None}
        found = {}
        for share in shares:
            pruned = [replace(layer.sparse, share=share) for layer in self.layers if layer.sparse and _divides(layer, share)]
            arrays = [self.graph.constants[layer.weight] for layer in pruned]
            found[share] = choose_patterns(pruned, arrays, DEFAULT_PATTERN_COUNT)
        return found

    def _count(self, layer: WeightLayer, candidate: WeightForm) -> int | None:
        """How many units of a sparse layer stay, 0 for a candidate that is dense; None where the layer cannot take it."""
        if candidate.rate is None:
            return 0
        if layer.sparse is None or not _divides(layer, candidate.share):
            return None
        pruned = replace(layer.sparse, share=candidate.share)
        try:
            counts = kept_units([pruned], lambda _: np.zeros(0), Rates(layers={pruned.name: candidate.rate}))
        except TapdotError:  # the rate is below what patterns alone give, or would leave nothing
            return None
        return counts[pruned.name]


def _divides(layer: WeightLayer, share: int) -> bool:
    return layer.sparse is not None and layer.sparse.filters % share == 0
