"""What a graph costs before anybody chose kernels for it."""

from __future__ import annotations

from tapdot.compiler.graph import Graph, Node
from tapdot.compiler.operators import lookup


def node_macs(graph: Graph, node: Node) -> int:
    """Multiply-accumulates of one node, by its operator's entry in the table."""
    operator = lookup(node.op)
    outputs = [graph.type(name) for name in node.outputs if name]
    return int(operator.macs(graph.input_types(node), outputs, operator.defaults(node.attributes)))


def graph_macs(graph: Graph) -> int:
    """Multiply-accumulates of one inference."""
    return sum(node_macs(graph, node) for node in graph.nodes)
