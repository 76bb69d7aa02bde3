"""Whole kernels go: connections between an input and an output channel that carry the least.

Before (norms of the kernels from four input channels)::

    filter 0:  .9  .1  .4  .2
    filter 1:  .8  .3  .1  .1

After, with two thirds of the kernels gone and ``share = 2`` (the two filters agree)::

    filter 0:  .9   0  .4   0
    filter 1:  .8   0  .1   0

1x1 and fully connected layers lose quads of four consecutive inputs instead. The kernels of the most energy stay, which is the
Euclidean projection of PatDNN (ASPLOS 2020, eq. 6) onto the set of so many kernels; ``passes.prune_rates`` says how many each
layer keeps. A kernel of a 3x3 layer counts four weights: this pass comes after ``prune_patterns``, and ``rate`` is that of both.

Legal for the layers that ``passes.sparse_layers`` lists; the others are named with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass

from tapdot.compiler.graph import Graph
from tapdot.compiler.pipeline import Notes, Pass
from tapdot.passes.prune_rates import FLOOR, SIZE_EXPONENT, Allocation, kept_units
from tapdot.passes.sparse_layers import graph_layers
from tapdot.passes.sparse_projection import connectivity_mask, unit_energies
from tapdot.passes.sparsity_plan import Pruning, masked


@dataclass(frozen=True)
class PruneConnectivity(Pass):
    """See the module."""

    rate: float = 4.0
    """Of the 3x3 layers together, patterns included; 1 leaves them as they are."""
    quad_rate: float = 1.0
    """Of the 1x1 and fully connected layers together."""
    share: int = 1
    allocation: Allocation = "energy"
    floor: float = FLOOR
    size_exponent: float = SIZE_EXPONENT
    skip: tuple[str, ...] = ()
    """Layers that stay as they are, by name."""
    last_layer: bool = False
    """Whether the last fully connected layer is pruned too."""

    tolerance = None

    def run(self, graph: Graph, notes: Notes) -> Graph:
        asked = Pruning(
            self.rate,
            self.quad_rate,
            self.share,
            allocation=self.allocation,
            floor=self.floor,
            size_exponent=self.size_exponent,
            skip=self.skip,
            last_layer=self.last_layer,
        )
        candidates, skipped = graph_layers(graph, asked.choice)
        layers = [layer for layer in candidates if asked.rates.prunes(layer)]
        counts = kept_units(layers, lambda layer: unit_energies(layer, graph.constants[layer.weight]), asked.rates)
        for layer in skipped:
            notes.reasons[layer.name] = layer.reason
        kept, total = sum(counts.values()), sum(layer.unit_count for layer in layers)
        notes.add(f"Kept {kept:,} of {total:,} kernels and quads of {len(layers)} layers, in groups of {self.share} filters.")
        return masked(
            graph,
            {layer.weight: connectivity_mask(layer, graph.constants[layer.weight], counts[layer.name]) for layer in layers},
        )
