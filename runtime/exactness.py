"""Which values of a compiled graph must be the reference's bit for bit, and which follow from floating-point sums.

Integer kernels, the quantization at the edges and every copy have one right answer. A float kernel in an integer network is an
*island*: its result is right within a tolerance, and so is all that follows from it. Codes made from such a result may be one
step off where a float lies on the border of two of them, and a network carries that step on.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from functools import cached_property

from tapdot.compiler.graph import Graph, Node
from tapdot.compiler.precision import float_islands, is_integer
from tapdot.compiler.workloads import VIEWS

WHOLE_TOLERANCE = 1e-3
"""Largest difference allowed for the outputs of float networks, as a share of the reference's largest magnitude."""
ROUNDED_AGAIN_TOLERANCE = 0.1
"""The same for what follows from codes of an island's result; kernel by kernel there is no such slack."""

MOVEMENTS = VIEWS | {
    "Concat",
    "DepthToSpace",
    "Dropout",
    "Expand",
    "Gather",
    "MaxPool",
    "Pad",
    "Relayout",
    "Slice",
    "SpaceToDepth",
    "Split",
    "Tile",
    "Transpose",
}
"""Operators that only move elements, or choose among them."""


class Exactness(IntEnum):
    """How near to the reference a value must be, in a program that runs from its inputs."""

    EXACT = 0
    AFTER_ISLAND = 1
    ROUNDED_AGAIN = 2

    @property
    def tolerance(self) -> float:
        """The largest relative error allowed."""
        return (0.0, WHOLE_TOLERANCE, ROUNDED_AGAIN_TOLERANCE)[self]


class Classification:
    """A graph's nodes and values by how exact they are. In a graph without codes every value is float work."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    @cached_property
    def is_integer(self) -> bool:
        """Whether the graph computes with codes."""
        return is_integer(self.graph)

    def is_exact(self, node: Node) -> bool:
        """Whether a kernel for the node has one right answer to given operands."""
        if not self.is_integer:
            return False
        kinds = [self.graph.type(name).dtype for name in node.inputs if name and name not in self.graph.constants]
        return node.op in MOVEMENTS or node.op == "Quantize" or not any(kind.startswith("float") for kind in kinds)

    @cached_property
    def values(self) -> Mapping[str, Exactness]:
        """Every value's class: that of its operands, or the island it comes from."""
        found = dict.fromkeys(self.graph.types, Exactness.EXACT)
        for node in self.graph.nodes:
            level = max((found[name] for name in node.inputs if name), default=Exactness.EXACT)
            if not self.is_exact(node):
                level = max(level, Exactness.AFTER_ISLAND)
            elif node.op == "Quantize" and level is not Exactness.EXACT:
                level = Exactness.ROUNDED_AGAIN
            for name in filter(None, node.outputs):
                found[name] = level
        return found

    def of_output(self, name: str) -> Exactness:
        """How near to the reference an output of the whole program must be; floats are compared tolerantly in float networks."""
        return self.values[name] if self.is_integer else Exactness.AFTER_ISLAND

    @cached_property
    def islands(self) -> tuple[str, ...]:
        """The first node of every island in which something is not exact, by the name that reports of precision give it."""
        groups = float_islands(self.graph)
        return tuple(nodes[0].name for nodes in groups if not all(map(self.is_exact, nodes)))
