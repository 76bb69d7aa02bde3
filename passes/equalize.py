"""Cross-layer equalization: channels between two convolutions get weights of the same size on both sides.

Before and after, with ``s[i]`` for channel ``i`` of ``%h``::

    %h = Conv(%x, %w1, %b1)                     %h = Conv(%x, %w1 / s, %b1 / s)
    %r = Relu(%h)                               %r = Relu(%h)
    %y = Conv(%r, %w2, %b2)                     %y = Conv(%r, %w2 * s, %b2)

A ReLU passes positive factors through, so nothing changes in reals, but one scale then serves all channels of ``%r`` and of each
layer's weights better (Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019, eq.
11)::

    s_i = sqrt(r1_i * r2_i) / r2_i,    r1_i, r2_i = largest magnitude of channel i's weights in w1 and in w2

repeated over all pairs until no factor is far from 1. Depthwise convolutions take part on both sides, so that chains of three
(expand, depthwise, project) come to rest together. With scales by output channel the weights of ``%w1`` gain nothing; what the
activations' one scale gains remains.

Legal where
  1. both are convolutions with constant weights in the same number of channels, the second with one group or depthwise,
  2. between them is nothing, or Relu, LeakyRelu, max or average pools, and each value has one reader and is no output of the
     graph; a Clip from 0 (ReLU6) only with ``through_clip``, which first makes it a Relu and so changes what the network computes
     where the bound was reached,
  3. the folded weights are finite; a channel without weights on one side keeps its size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tapdot.compiler.graph import Graph, Node
from tapdot.compiler.pipeline import Notes, Pass
from tapdot.passes.fold_batch_norm import NO_BATCH_NORM
from tapdot.passes.resolve_windows import EXPLICIT_WINDOWS

HOMOGENEOUS = ("Relu", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool")
"""Operators with ``f(s * x) = s * f(x)`` for ``s > 0``, channel by channel."""


@dataclass(frozen=True)
class CrossLayerEqualization(Pass):
    """See the module."""

    rounds: int = 20
    """Most rounds over all pairs."""
    settled: float = 1e-3
    """Factors within this share of 1 end it."""
    through_clip: bool = False
    """Criterion 2: whether ReLU6 is replaced by ReLU and equalized through."""

    requires = (EXPLICIT_WINDOWS, NO_BATCH_NORM)

    @property
    def tolerance(self) -> float | None:  # type: ignore[override]
        """Nothing but rounding, unless bounds of activations go."""
        return None if self.through_clip else 1e-3

    def run(self, graph: Graph, notes: Notes) -> Graph:
        if self.through_clip:
            graph = _without_clips(graph, notes)
        pairs = list(_pairs(graph))
        weights = {name: graph.constants[name].astype(np.float64) for pair in pairs for name in pair.constants}
        for _ in range(self.rounds):
            moved = [pair.equalize(weights) for pair in pairs]
            if max(moved, default=0.0) <= self.settled:
                break
        constants = dict(graph.constants)
        changed = False
        for name, array in weights.items():
            rounded = array.astype(graph.constants[name].dtype)
            if not np.isfinite(rounded).all():  # (3)
                notes.add(f"Nothing was equalized: {name!r} would not be finite.")
                return graph
            changed |= not np.allclose(rounded, constants[name], rtol=self.settled, atol=0)
            constants[name] = rounded
        if not changed:
            return graph
        notes.add(f"{len(pairs)} pairs of convolutions were equalized channel by channel.")
        return graph.replace(constants=constants)


@dataclass(frozen=True)
class Pair:
    """Two convolutions with channels between them that nobody else sees."""

    first: Node
    second: Node
    depthwise: bool
    """Whether the second has one filter a channel."""

    @property
    def constants(self) -> tuple[str, ...]:
        """The weights, and the first one's bias."""
        return tuple(name for name in (self.first.inputs[1], self.first.operand(2), self.second.inputs[1]) if name)

    def equalize(self, weights: dict[str, np.ndarray]) -> float:
        """One application of eq. 11, in place; returns how far the factors were from 1."""
        first, second = weights[self.first.inputs[1]], weights[self.second.inputs[1]]
        axis = 0 if self.depthwise else 1
        one = _largest(first, 0)
        two = _largest(second, axis)
        known = (one > 0) & (two > 0)
        factors = np.where(known, np.sqrt(one * np.where(known, two, 1.0)) / np.where(known, two, 1.0), 1.0)
        weights[self.first.inputs[1]] = first / _along(factors, first, 0)
        weights[self.second.inputs[1]] = second * _along(factors, second, axis)
        if bias := self.first.operand(2):
            weights[bias] = weights[bias] / factors
        return float(np.abs(factors - 1).max(initial=0.0))


def _largest(array: np.ndarray, axis: int) -> np.ndarray:
    return np.asarray(np.abs(np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)).max(axis=1, initial=0.0))


def _along(factors: np.ndarray, array: np.ndarray, axis: int) -> np.ndarray:
    return factors.reshape([-1 if place == axis else 1 for place in range(array.ndim)])


def _pairs(graph: Graph) -> Iterator[Pair]:
    """Every pair, in order (1, 2)."""
    for node in graph.nodes:
        if not _is_convolution(graph, node):
            continue
        value, reader = node.output, _only_reader(graph, node.output)
        while reader is not None and reader.op in HOMOGENEOUS and reader.inputs[0] == value:
            value, reader = reader.output, _only_reader(graph, reader.output)
        if reader is None or not _is_convolution(graph, reader) or reader.inputs[0] != value:
            continue
        channels, group = graph.type(value).shape[1], reader.attributes.get("group", 1)
        shape = graph.constants[reader.inputs[1]].shape
        depthwise = group == channels == shape[0] and shape[1] == 1
        if group == 1 or depthwise:
            yield Pair(node, reader, depthwise)


def _is_convolution(graph: Graph, node: Node) -> bool:
    """Whether a node is a convolution whose weights, all its own, are known."""
    names = [name for name in node.inputs[1:] if name]
    return node.op == "Conv" and all(name in graph.constants and graph.uses(name) == 1 for name in names)


def _only_reader(graph: Graph, value: str) -> Node | None:
    readers = graph.consumers[value]
    return readers[0] if graph.uses(value) == 1 and readers else None


def _without_clips(graph: Graph, notes: Notes) -> Graph:
    """ReLU6 between two convolutions becomes ReLU."""
    replaced: list[str] = []

    def change(node: Node) -> Node:
        low = graph.constants.get(node.operand(1)) if node.op == "Clip" else None
        before, after = graph.producer(node.inputs[0]) if node.inputs else None, _only_reader(graph, node.output)
        between = before is not None and after is not None and _is_convolution(graph, before) and _is_convolution(graph, after)
        if low is None or low.size != 1 or low.item() != 0 or not between or graph.uses(node.inputs[0]) != 1:
            return node
        replaced.append(node.name)
        return Node("Relu", node.inputs[:1], node.outputs, {}, node.name)

    changed = graph.map_nodes(change)
    if not replaced:
        return graph
    notes.add(f"{len(replaced)} activations lost their upper bound to be equalized through, {replaced[0]!r} first.")
    return changed.pruned()
