"""Nodes whose operands are all known become constants.

Before::

    %s = Shape(%x)                      # %x: float32[1,64,7,7]
    %w = Mul(%kernel, %scale)           # both constants
    %y = Conv(%x, %w)

After::

    %y = Conv(%x, %w)                   # %w a constant

Legal where
  1. every operand is a constant, or the operator (Shape, Size) reads types only,
  2. no result is an output of the graph, which keeps a node that makes it,
  3. the result is at most ``max_bytes`` large, or no larger than the constants it is made from: an Expand of one number over
     a whole plane is better computed than stored.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tapdot.compiler.graph import Graph, Node
from tapdot.compiler.interpreter import evaluate_node
from tapdot.compiler.pipeline import Notes, Pass

READS_TYPES_ONLY = frozenset({"Shape", "Size"})


@dataclass(frozen=True)
class FoldConstants(Pass):
    """See the module."""

    max_bytes: int = 1 << 20
    """Bytes a result may have however small its operands are."""

    tolerance = 0.0

    def run(self, graph: Graph, notes: Notes) -> Graph:
        constants = dict(graph.constants)
        outputs = frozenset(graph.outputs)
        kept: list[Node] = []
        for node in graph.nodes:
            known = node.op in READS_TYPES_ONLY or all(name in constants for name in node.inputs if name)  # (1)
            if known and outputs.isdisjoint(node.outputs) and self.is_worth_storing(graph, node):  # (2), (3)
                operands = [self.operand(graph, constants, node, name) for name in node.inputs]
                constants.update(zip(node.outputs, evaluate_node(node, operands), strict=False))
            else:
                kept.append(node)
        if len(kept) == len(graph.nodes):
            return graph
        constants.pop("", None)
        return graph.replace(nodes=tuple(kept), constants=constants).pruned()

    def is_worth_storing(self, graph: Graph, node: Node) -> bool:
        """Criterion 3."""
        made = sum(graph.type(name).bytes for name in node.outputs if name)
        return made <= max(self.max_bytes, sum(graph.type(name).bytes for name in set(node.inputs) if name))

    def operand(self, graph: Graph, constants: dict[str, np.ndarray], node: Node, name: str) -> np.ndarray | None:
        """An operand's array; where only its type is read, a stand-in of that type."""
        if not name:
            return None
        if node.op in READS_TYPES_ONLY and name not in constants:
            kind = graph.type(name)
            return np.empty(kind.shape, kind.dtype)
        return constants[name]
