"""Every kernel of the 3x3 layers keeps four taps: one of the few patterns that a model uses.

Before (a kernel of trained weights)::

    .1  .5 -.2
    .4  .9  .3
    .0 -.6  .1

After (pattern ``.x.|xx.|.x.``)::

     0  .5   0
    .4  .9   0
     0 -.6   0

The set is made from the trained kernels' own histogram: each votes for the pattern, of the 56 that hold the centre and three
other taps, that keeps most of its energy, and the K with the most votes are the model's (PatDNN, ASPLOS 2020, section 4.1).
Each kernel then takes the one of the K that keeps most, which is the Euclidean projection of eq. 6. ``share`` consecutive filters
agree: they vote and choose by the energy of all of them.

Legal for the layers that ``passes.sparse_layers`` (1), (3) to (5) lists; the others are named with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass

from tapdot.compiler.graph import Graph
from tapdot.compiler.pipeline import Notes, Pass
from tapdot.kernels.patterns import DEFAULT_PATTERN_COUNT
from tapdot.passes.prune_rates import PATTERN_RATE
from tapdot.passes.sparsity_plan import Pruning, graph_plan, masked


@dataclass(frozen=True)
class PrunePatterns(Pass):
    """See the module."""

    patterns: int = DEFAULT_PATTERN_COUNT
    """Size of the pattern set."""
    share: int = 1
    skip: tuple[str, ...] = ()
    """Layers that stay as they are, by name."""

    tolerance = None

    def run(self, graph: Graph, notes: Notes) -> Graph:
        plan = graph_plan(graph, Pruning(PATTERN_RATE, 1.0, self.share, self.patterns, skip=self.skip))
        for layer in plan.skipped:
            notes.reasons[layer.name] = layer.reason
        notes.add(f"Pruned {plan}")
        return masked(graph, {layer.weight: plan.mask(layer, graph.constants[layer.weight]) for layer in plan.layers})
