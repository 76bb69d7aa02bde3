"""Samples for calibration where there is no data: made from the batch norms, before they are folded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tapdot.compiler.graph import Graph
from tapdot.compiler.pipeline import Notes, Pass
from tapdot.passes.distill import distill


@dataclass(frozen=True)
class DistillSamples(Pass):
    """Leaves the graph as it is and puts samples into a list, for the passes behind it (see ``passes.distill``)."""

    into: list[Mapping[str, np.ndarray]]
    """The list that is filled."""
    count: int = 16
    """How many samples."""
    seed: int = 0
    steps: int | None = None
    """Steps of descent; by default what half a minute allows."""
    gaussian: bool = False
    """White noise instead, for models without batch norms where accuracy does not matter."""

    tolerance = 0.0

    def run(self, graph: Graph, notes: Notes) -> Graph:
        if any(node.op == "FakeQuantize" for node in graph.nodes):
            return graph  # the model says its own scales
        made = distill(graph, self.count, seed=self.seed, steps=self.steps, gaussian=self.gaussian, progress=notes.progress)
        self.into[:] = made.data
        if self.gaussian:
            notes.add(f"Calibrated with {self.count} samples of Gaussian noise, which fits no particular network.")
        else:
            notes.add(
                f"Distilled {self.count} samples in {made.steps} steps: their batch norm loss is {made.loss:.3g}, that of "
                f"Gaussian input {made.gaussian_loss:.3g}."
            )
        return graph
