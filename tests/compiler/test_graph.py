"""The graph and its builder: looking around, networkx, pruning, names."""

from __future__ import annotations

import networkx
import numpy as np
import pytest
from hypothesis import given, settings
from tests.random_graphs import graphs

from tapdot.compiler.errors import GraphError
from tapdot.compiler.graph import Graph, GraphBuilder, Node
from tapdot.compiler.types import TensorType


@pytest.fixture
def diamond() -> Graph:
    """Two branches from one value, joined again, and a node nobody reads."""
    builder = GraphBuilder("diamond")
    x = builder.input("x", TensorType((1, 4, 5, 5), "float32"))
    w = builder.constant(np.ones((4, 4, 1, 1), np.float32), "w")
    (stem,) = builder.add("Conv", [x, w], name="stem")
    (left,) = builder.add("Relu", [stem], name="left")
    (right,) = builder.add("Sigmoid", [stem], name="right")
    builder.add("Tanh", [stem], name="unread")
    (joined,) = builder.add("Mul", [left, right], name="join")
    return builder.build([joined])


def test_looking_around(diamond: Graph) -> None:
    assert [node.name for node in diamond.nodes] == ["stem", "left", "right", "join"]
    assert diamond.producer("stem") is diamond.nodes[0]
    assert diamond.producer("x") is None and diamond.producer("w") is None
    assert [node.name for node in diamond.consumers["stem"]] == ["left", "right"]
    assert diamond.uses("stem") == 2 and diamond.uses("join") == 1
    assert diamond.input_types(diamond.nodes[0]) == (diamond.type("x"), diamond.type("w"))


def test_what_nobody_reads_is_left_out(diamond: Graph) -> None:
    assert "unread" not in diamond.types
    only_left = diamond.replace(outputs=("left",)).pruned()
    assert [node.name for node in only_left.nodes] == ["stem", "left"]
    assert set(only_left.types) == {"x", "w", "stem", "left"}
    assert diamond.replace(outputs=("x",)).pruned().constants == {}


def test_the_networkx_view(diamond: Graph) -> None:
    view = diamond.networkx()
    assert networkx.is_directed_acyclic_graph(view)
    assert set(networkx.descendants(view, "stem")) == {"left", "right", "join", "output:join"}
    assert networkx.immediate_dominators(view, "input:x")["join"] == "stem"
    (edge,) = view.get_edge_data("left", "join").values()
    assert edge == {"value": "left", "index": 0, "bytes": 4 * 5 * 5 * 4}
    assert view.nodes["join"]["node"] is diamond.nodes[-1]


def test_a_value_read_twice_by_one_node_counts_twice() -> None:
    builder = GraphBuilder("twice")
    x = builder.input("x", TensorType((2,), "float32"))
    graph = builder.build(builder.add("Add", [x, x]))
    assert graph.uses("x") == 2
    assert graph.networkx().number_of_edges("input:x", "add") == 2


@given(graphs())
@settings(max_examples=20, deadline=None)
def test_random_graphs_keep_the_rules(graph: Graph) -> None:
    graph.verify()
    order = {node.name: position for position, node in enumerate(graph.nodes)}
    for start, end in graph.networkx().edges():
        if start in order and end in order:
            assert order[start] < order[end]
    assert graph.pruned().nodes == graph.nodes


def test_nodes_are_values_and_their_attributes_cannot_change() -> None:
    node = Node("Softmax", ("x",), ("y",), {"axis": 1}, "n")
    assert node == Node("Softmax", ("x",), ("y",), {"axis": 1}, "n")
    with pytest.raises(TypeError):
        node.attributes["axis"] = 2  # type: ignore[index]
    assert node.with_attributes(axis=2).attributes == {"axis": 2}
    assert node.operand(1) == ""


def test_builders_make_names_unique() -> None:
    builder = GraphBuilder("names")
    x = builder.input("relu", TensorType((2,), "float32"))
    (first,), (second,) = builder.add("Relu", [x]), builder.add("Relu", [x])
    assert (first, second) == ("relu_1", "relu_1_1")
    assert len({node.name for node in builder.nodes}) == 2
    assert builder.constant(np.zeros(1), "relu") == "relu_2"
    with pytest.raises(GraphError, match="second 'relu'"):
        builder.input("relu", TensorType((2,), "float32"))


def test_builders_continue_a_graph_without_touching_it(diamond: Graph) -> None:
    builder = GraphBuilder.of(diamond)
    (more,) = builder.add("Relu", ["join"], name="join")
    longer = builder.build([more])
    assert len(diamond.nodes) == 4 and len(longer.nodes) == 5
    assert longer.nodes[-1].name == "join_1"
    longer.verify()


def test_several_results() -> None:
    builder = GraphBuilder("several")
    x = builder.input("x", TensorType((4, 6), "float32"))
    parts = builder.add("Split", [x], {"axis": 1, "num_outputs": 3}, name="s")
    assert parts == ("s", "s.1", "s.2")
    assert [builder.types[part].shape for part in parts] == [(4, 2)] * 3
    assert builder.add("TopK", [x, builder.constant(np.array([2]))], name="top") == ("top", "top.1")
    named = builder.add("Split", [x, builder.constant(np.array([1, 5]))], {"axis": 1}, outputs=["a", "b"])
    assert [builder.types[part].shape for part in named] == [(4, 1), (4, 5)]


def test_scalars_stay_scalars() -> None:
    builder = GraphBuilder("scalar")
    assert builder.types[builder.constant(np.array(3.0, np.float32))].shape == ()
