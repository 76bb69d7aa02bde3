"""What the verifier refuses, and what it says."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from tests.random_graphs import graphs

from tapdot.compiler.errors import GraphError
from tapdot.compiler.graph import Graph, GraphBuilder, Node
from tapdot.compiler.text import parse_graph
from tapdot.compiler.types import Quant, TensorType
from tapdot.compiler.verifier import verify
from tapdot.kernels.layout import Halo, Layout


def small() -> Graph:
    builder = GraphBuilder("small")
    x = builder.input("x", TensorType((1, 4, 6, 6), "float32"))
    w = builder.constant(np.ones((8, 4, 3, 3), np.float32), "w")
    (conv,) = builder.add("Conv", [x, w], {"pads": (1, 1, 1, 1)}, name="conv")
    (flat,) = builder.add("Reshape", [conv, builder.constant(np.array([1, -1]), "shape")], name="flat")
    return builder.build([flat])


def changed(graph: Graph, index: int, **fields: object) -> Graph:
    """The graph with one node's fields replaced."""
    nodes = list(graph.nodes)
    old = nodes[index]
    parts = {"op": old.op, "inputs": old.inputs, "outputs": old.outputs, "attributes": old.attributes, "name": old.name}
    nodes[index] = Node(**{**parts, **fields})  # type: ignore[arg-type]
    return graph.replace(nodes=tuple(nodes))


def typed(graph: Graph, name: str, kind: TensorType) -> Graph:
    return graph.replace(types={**graph.types, name: kind})


def without_constant(graph: Graph, name: str) -> Graph:
    constants = {key: array for key, array in graph.constants.items() if key != name}
    return graph.replace(constants=constants, inputs=(*graph.inputs, name))


BROKEN: dict[str, tuple[Callable[[Graph], Graph], str]] = {
    "operand nobody makes": (lambda g: changed(g, 0, inputs=("z", "w")), "operand %z .* made by nothing in the graph"),
    "operand from below": (lambda g: changed(g, 0, inputs=("flat", "w")), "operand %flat .* made by a node further down"),
    "two nodes of one name": (lambda g: changed(g, 1, name="conv"), "a name of its own, found 'conv' again"),
    "no node name": (lambda g: changed(g, 1, name=""), "a name of its own"),
    "value made twice": (lambda g: changed(g, 1, outputs=("conv",)), "%conv made again"),
    "constant and input": (lambda g: g.replace(inputs=("x", "w")), "%w made again"),
    "wrong shape": (lambda g: typed(g, "conv", TensorType((1, 8, 6, 5), "float32")), r"%conv to be float32\[1,8,6,6\]"),
    "wrong element type": (lambda g: typed(g, "conv", TensorType((1, 8, 6, 6), "int8")), "found it typed int8"),
    "no type": (lambda g: g.replace(types={k: v for k, v in g.types.items() if k != "flat"}), "a type for %flat"),
    "no input type": (lambda g: g.replace(types={k: v for k, v in g.types.items() if k != "x"}), "a type for %x"),
    "array unlike its type": (
        lambda g: g.replace(constants={**g.constants, "w": np.ones((8, 4, 3, 3))}),
        "constant %w to be float32.* found an array float64",
    ),
    "unknown operator": (lambda g: changed(g, 0, op="Konv"), "Unknown operator 'Konv'. Did you mean Conv"),
    "unknown attribute": (lambda g: changed(g, 0, attributes={"pad": 1}), "Unknown attribute 'pad'"),
    "attribute of another kind": (lambda g: changed(g, 0, attributes={"group": 1.5}), "'group' .* to be an integer"),
    "numpy in attributes": (lambda g: changed(g, 0, attributes={"group": np.int64(1)}), "'group' .* to be an integer"),
    "too few operands": (lambda g: changed(g, 0, inputs=("x",)), "Expected 2 to 3 operands"),
    "shape at run time": (lambda g: without_constant(g, "shape"), "operand 'shape' .* to be a constant"),
    "no result": (lambda g: changed(g, 1, outputs=()), "to have a result"),
    "unknown output": (lambda g: g.replace(outputs=("y",)), "output %y of graph 'small'"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_rule_is_named(fault: str) -> None:
    graph = small()
    verify(graph)
    breaking, message = BROKEN[fault]
    with pytest.raises(GraphError, match=message):
        verify(breaking(graph))


def test_the_message_shows_the_node() -> None:
    with pytest.raises(GraphError) as caught:
        verify(changed(small(), 1, inputs=("nowhere", "shape")))
    assert "in graph 'small', at: %flat: float32[1,288] = Reshape(%nowhere, %shape)" in str(caught.value)


def test_quantization_and_layout_are_not_judged() -> None:
    graph = small()
    kind = graph.type("conv")
    placed = TensorType(kind.shape, kind.dtype, Quant(8, (0.5,)), Layout(4, Halo(1, 1, 1, 1)))
    verify(typed(graph, "conv", placed))


@given(graphs())
@settings(max_examples=20, deadline=None)
def test_random_graphs_pass_and_fail_when_a_node_is_dropped(graph: Graph) -> None:
    verify(graph)
    if len(graph.nodes) > 1:
        with pytest.raises(GraphError, match=r"made by nothing|output .* no such value"):
            verify(graph.replace(nodes=graph.nodes[1:]))


def test_narrow_weights_must_fit_their_type() -> None:
    text = """graph "g"
input %x: uint8[1,2]
constant %w: int4[2,2] = [7, -7, 0, 8]
%y: int32[1,2] = QGemm(%x, %w) {zero_point=0}
return %y
"""
    parse_graph(text.replace("8]", "-8]")).verify()
    with pytest.raises(GraphError, match=r"constant %w to be int4\[2,2\], found an array int8\[2,2\] of -7 to 8"):
        parse_graph(text).verify()
    assert str(parse_graph(text)) == text
