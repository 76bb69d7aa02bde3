"""What every graph must satisfy, whoever made it."""

from __future__ import annotations

from collections.abc import Iterator

from tapdot.compiler.errors import GraphError
from tapdot.compiler.graph import Graph, Node
from tapdot.compiler.operators import infer
from tapdot.compiler.text import print_name, print_node
from tapdot.compiler.types import TensorType, described


def verify(graph: Graph) -> None:
    """Raises GraphError for the first rule that is broken, with the node's line where a node breaks it.

    1. Inputs, constants and results have one name each, and a type; constants are arrays of that type.
    2. Node names are unique and not empty.
    3. Nodes stand in topological order: operands are inputs, constants or results of nodes before.
    4. Operands, attributes and static operands fit the operator table, and result types are those it infers (shape and element
       type; quantization and layout are what passes decide, and are not judged here).
    5. Outputs of the graph exist.
    """
    known: set[str] = set()
    for name in [*graph.inputs, *graph.constants]:
        _introduce(name, known, graph, None)
    for name, array in graph.constants.items():
        kind = graph.types[name]
        if not kind.holds(array):
            raise GraphError(f"Expected constant {print_name(name)} to be {kind}, found an array {described(array)}.")
    node_names: set[str] = set()
    for node in graph.nodes:
        if not node.name or node.name in node_names:
            raise _broken(graph, node, f"Expected every node to have a name of its own, found {node.name!r} again or empty")
        node_names.add(node.name)
        _verify_node(graph, node, known)
    for name in graph.outputs:
        if name not in known:
            raise GraphError(
                f"Expected output {print_name(name)} of graph {graph.name!r} to be a value of it, found no such value."
            )


def _verify_node(graph: Graph, node: Node, known: set[str]) -> None:
    for name in node.inputs:
        if name and name not in known:
            where = "a node further down" if name in graph.producers else "nothing in the graph"
            raise _broken(
                graph,
                node,
                f"Expected operand {print_name(name)} to be known before its reader, found it made by {where}",
            )
    try:
        inferred = infer(node, graph.input_types(node), graph.constants)
    except GraphError as error:
        raise _broken(graph, node, str(error).rstrip(".")) from error
    if not any(node.outputs):
        raise _broken(graph, node, "Expected a node to have a result, found none")
    for name in filter(None, node.outputs):
        _introduce(name, known, graph, node)
    for name, kind in _results(node, inferred):
        found = graph.types[name]
        if (found.shape, found.dtype) != (kind.shape, kind.dtype):
            raise _broken(graph, node, f"Expected result {print_name(name)} to be {kind}, found it typed {found}")


def _results(node: Node, kinds: tuple[TensorType, ...]) -> Iterator[tuple[str, TensorType]]:
    return ((name, kind) for name, kind in zip(node.outputs, kinds, strict=True) if name)


def _introduce(name: str, known: set[str], graph: Graph, node: Node | None) -> None:
    """Notes a value at the place where it comes into being."""
    problem = None
    if name in known:
        problem = f"Expected every value to be made once, found {print_name(name)} made again"
    elif name not in graph.types:
        problem = f"Expected a type for {print_name(name)}, found none"
    if problem:
        raise (_broken(graph, node, problem) if node else GraphError(f"{problem}, as an input or constant of {graph.name!r}."))
    known.add(name)


def _broken(graph: Graph, node: Node, problem: str) -> GraphError:
    return GraphError(f"{problem}.\n  in graph {graph.name!r}, at: {print_node(node, graph.types)}")
