"""The graph: an acyclic graph of nodes with ordered operands over typed values.

A graph is immutable. A pass takes one and returns another; what did not change is shared. Values are known by name, as in ONNX,
so a graph prints, compares and travels as plain data, and an imported file reads the same after import.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import networkx
import numpy as np

from tapdot.compiler.errors import GraphError
from tapdot.compiler.types import TensorType

if TYPE_CHECKING:
    from tapdot.compiler.interpreter import GraphModule

Attribute = int | float | str | tuple[int, ...] | tuple[float, ...] | tuple[str, ...]


@dataclass(frozen=True)
class Node:
    """One application of an operator.

    ``inputs`` are names of values in operand order; an omitted optional operand is the empty string, as in ONNX.
    ``name`` is for people and reports; it is unique in its graph.
    """

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute] = field(default_factory=lambda: MappingProxyType({}))
    name: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "attributes", MappingProxyType(dict(self.attributes)))

    @property
    def output(self) -> str:
        """The name of the only (or first) result."""
        return self.outputs[0]

    def operand(self, index: int) -> str:
        """The name of an operand, or the empty string where it is omitted."""
        return self.inputs[index] if index < len(self.inputs) else ""

    def with_attributes(self, **attributes: Attribute) -> Node:
        """The same node with some attributes set."""
        return replace(self, attributes={**self.attributes, **attributes})


@dataclass(frozen=True, eq=False)
class Graph:
    """Nodes in topological order over values; ``types`` holds the type of every value, ``constants`` the known arrays."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    types: Mapping[str, TensorType]
    constants: Mapping[str, np.ndarray]
    notes: tuple[str, ...] = ()
    """What the import decided for the user, for reports."""

    # -- looking around -----------------------------------------------------------------------------------------------------

    @cached_property
    def producers(self) -> Mapping[str, Node]:
        """The node that makes each value that is neither input nor constant."""
        return {output: node for node in self.nodes for output in node.outputs}

    @cached_property
    def consumers(self) -> Mapping[str, tuple[Node, ...]]:
        """The nodes that read each value, in order, a node once for each operand it fills with it."""
        found: dict[str, list[Node]] = {name: [] for name in self.types}
        for node in self.nodes:
            for name in node.inputs:
                if name:
                    found.setdefault(name, []).append(node)
        return {name: tuple(nodes) for name, nodes in found.items()}

    def producer(self, value: str) -> Node | None:
        """The node that makes a value, or None for inputs and constants."""
        return self.producers.get(value)

    def uses(self, value: str) -> int:
        """How often a value is read, being an output of the graph included."""
        return len(self.consumers.get(value, ())) + self.outputs.count(value)

    def type(self, value: str) -> TensorType:
        """The type of a value."""
        return self.types[value]

    def input_types(self, node: Node) -> tuple[TensorType | None, ...]:
        """Operand types of a node, None where an operand is omitted."""
        return tuple(self.types[name] if name else None for name in node.inputs)

    def networkx(self) -> networkx.MultiDiGraph:
        """A view for graph algorithms: vertices are node names (and ``input:x``, ``output:x``), edges are values.

        Every edge carries ``value``, ``index`` (the operand it fills) and ``bytes``; node vertices carry ``node``.
        """
        view = networkx.MultiDiGraph(name=self.name)
        source = {name: f"input:{name}" for name in self.inputs}
        for name, vertex in source.items():
            view.add_node(vertex, value=name)
        for node in self.nodes:
            view.add_node(node.name, node=node)
            source.update(dict.fromkeys(node.outputs, node.name))
        for node in self.nodes:
            for index, name in enumerate(node.inputs):
                if name in source:
                    view.add_edge(source[name], node.name, value=name, index=index, bytes=self.types[name].bytes)
        for index, name in enumerate(self.outputs):
            view.add_node(f"output:{name}", value=name)
            if name in source:
                view.add_edge(source[name], f"output:{name}", value=name, index=index, bytes=self.types[name].bytes)
        return view

    # -- making another -----------------------------------------------------------------------------------------------------

    def replace(self, **fields: Any) -> Graph:
        """The same graph with some fields changed."""
        return replace(self, **fields)

    def pruned(self) -> Graph:
        """Without nodes nobody reads, and without types and constants nobody names."""
        needed = set(self.outputs)
        kept: list[Node] = []
        for node in reversed(self.nodes):
            if needed.intersection(node.outputs):
                kept.append(node)
                needed.update(name for name in node.inputs if name)
        kept.reverse()
        alive = needed.union(self.inputs, *(node.outputs for node in kept))
        alive.discard("")
        return replace(
            self,
            nodes=tuple(kept),
            types={name: kind for name, kind in self.types.items() if name in alive},
            constants={name: array for name, array in self.constants.items() if name in alive},
        )

    def map_nodes(self, change: Callable[[Node], Node]) -> Graph:
        """The same graph with every node passed through ``change``, which keeps names and types of results."""
        return replace(self, nodes=tuple(change(node) for node in self.nodes))

    # -- what others do with it, reachable from here ------------------------------------------------------------------------

    def verify(self) -> Graph:
        """Returns the graph itself, or raises GraphError that says what is wrong, where, and shows the node."""
        from tapdot.compiler.verifier import verify

        verify(self)
        return self

    def __str__(self) -> str:
        from tapdot.compiler.text import print_graph

        return print_graph(self)

    def to_torch(self, fake_quant: bool = False) -> GraphModule:
        """An ``nn.Module`` over the same weights: the differentiable reference; see ``compiler.interpreter``.

        With ``fake_quant``, of a calibrated graph, it computes with what the weights' codes stand for; see
        ``passes.fake_quantize``.
        """
        if fake_quant:
            from tapdot.passes.fake_quantize import FakeQuantizedModule

            return FakeQuantizedModule(self)
        from tapdot.compiler.interpreter import GraphModule

        return GraphModule(self)


class GraphBuilder:
    """Makes a graph node by node; result types come from the operator table.

    Raises GraphError, naming the node, where operands do not fit the operator.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.inputs: list[str] = []
        self.nodes: list[Node] = []
        self.types: dict[str, TensorType] = {}
        self.constants: dict[str, np.ndarray] = {}
        self._node_names: set[str] = set()

    @classmethod
    def of(cls, graph: Graph) -> GraphBuilder:
        """A builder that starts with everything ``graph`` has."""
        builder = cls(graph.name)
        builder.inputs = list(graph.inputs)
        builder.nodes = list(graph.nodes)
        builder.types = dict(graph.types)
        builder.constants = dict(graph.constants)
        builder._node_names = {node.name for node in graph.nodes}
        return builder

    def input(self, name: str, kind: TensorType) -> str:
        """Declares an input of the graph."""
        if name in self.types:
            raise GraphError(f"Expected every value to have its own name, found a second {name!r}; rename the input.")
        self.inputs.append(name)
        self.types[name] = kind
        return name

    def constant(self, array: np.ndarray, name: str = "constant", dtype: str | None = None) -> str:
        """Adds a known array; the name is made unique. ``dtype`` is its element type where the array's own is wider."""
        name = self.fresh(name)
        # (ascontiguousarray would turn a scalar into a vector)
        self.constants[name] = np.array(array, order="C", copy=None)
        kind = TensorType.of(self.constants[name])
        self.types[name] = replace(kind, dtype=dtype or kind.dtype)
        return name

    def add(
        self,
        op: str,
        inputs: Sequence[str],
        attributes: Mapping[str, Attribute] | None = None,
        *,
        name: str | None = None,
        outputs: Sequence[str] | int | None = None,
    ) -> tuple[str, ...]:
        """Adds a node and returns the names of its results.

        ``outputs`` names the results, or says how many there are (default: as the operator table says, one for most).
        """
        from tapdot.compiler.operators import infer, lookup

        operator = lookup(op)
        node_name = self._fresh_node(name or op.lower())
        if outputs is None:
            outputs = operator.output_count(attributes or {})
        if isinstance(outputs, int):
            outputs = [self.fresh(node_name if index == 0 else f"{node_name}.{index}") for index in range(outputs)]
        node = Node(op, tuple(inputs), tuple(outputs), attributes or {}, node_name)
        kinds = infer(node, [self.types[name] if name else None for name in inputs], self.constants)
        self.nodes.append(node)
        for output, kind in zip(outputs, kinds, strict=True):
            if output:
                self.types[output] = kind
        return tuple(outputs)

    def fresh(self, name: str) -> str:
        """A value name not used yet that begins with ``name``."""
        return unique_name(name, self.types)

    def _fresh_node(self, name: str) -> str:
        unique = unique_name(name, self._node_names)
        self._node_names.add(unique)
        return unique

    def build(self, outputs: Iterable[str]) -> Graph:
        """The finished graph; what the outputs do not need is left out."""
        return Graph(self.name, tuple(self.inputs), tuple(outputs), tuple(self.nodes), self.types, self.constants).pruned()


def unique_name(name: str, taken: Mapping[str, Any] | set[str]) -> str:
    """``name``, or the first of ``name_1``, ``name_2``, ... that is not taken."""
    if name not in taken:
        return name
    number = 1
    while f"{name}_{number}" in taken:
        number += 1
    return f"{name}_{number}"
