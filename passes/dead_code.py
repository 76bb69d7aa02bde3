"""Nodes nobody reads, and constants nobody names, go.

Before::

    %a = Relu(%x)
    %b = Exp(%x)                        # read by nobody
    return %a

After::

    %a = Relu(%x)
    return %a

Legal where
  1. no result of the node leads to an output of the graph; operators here have no effects besides their results.

Inputs of the graph stay, read or not: they are the caller's agreement.
"""

from __future__ import annotations

from dataclasses import dataclass

from tapdot.compiler.graph import Graph
from tapdot.compiler.pipeline import Notes, Pass, Property


def _dead(graph: Graph) -> str | None:
    needed = set(graph.outputs)
    for node in reversed(graph.nodes):
        if needed.isdisjoint(node.outputs):
            return f"nobody needs node {node.name!r}"
        needed.update(node.inputs)
    return None


NO_DEAD_CODE = Property("a graph without dead nodes", _dead)


@dataclass(frozen=True)
class DeadCode(Pass):
    """See the module."""

    ensures = (NO_DEAD_CODE,)
    tolerance = 0.0

    def run(self, graph: Graph, notes: Notes) -> Graph:
        pruned = graph.pruned()  # (1)
        same = len(pruned.nodes) == len(graph.nodes) and len(pruned.constants) == len(graph.constants)
        return graph if same else pruned
