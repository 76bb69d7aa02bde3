"""Graphs as text: what it looks like, that it reads back, and what is said where it does not."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.compiler.test_types import types
from tests.random_graphs import graphs

from tapdot.compiler.errors import GraphError
from tapdot.compiler.graph import Attribute, Graph, GraphBuilder, Node
from tapdot.compiler.text import fingerprint, parse_graph, print_graph, print_node, shortened
from tapdot.compiler.types import DTYPES, TensorType


def small() -> Graph:
    builder = GraphBuilder("small")
    x = builder.input("x", TensorType((1, 3, 8, 8), "float32"))
    w = builder.constant(np.arange(108, dtype=np.float32).reshape(4, 3, 3, 3), "conv.weight")
    b = builder.constant(np.array([0, 0.5, -1, 1e-9], np.float32), "odd name")
    (y,) = builder.add("Conv", [x, w, b], {"pads": (1, 1, 1, 1), "auto_pad": "NOTSET"}, name="conv_1", outputs=["y"])
    (z,) = builder.add("Clip", [y, "", builder.constant(np.array(6, np.float32), "max")], name="z", outputs=["z"])
    return builder.build([z, y])


TEXT = """\
graph "small"
input %x: float32[1,3,8,8]
constant %conv.weight: float32[4,3,3,3] = sha256:HASH
constant %"odd name": float32[4] = [0.0, 0.5, -1.0, 1e-09]
constant %max: float32[] = [6.0]
%y: float32[1,4,8,8] = Conv(%x, %conv.weight, %"odd name") {pads=[1, 1, 1, 1], auto_pad="NOTSET"}  # node "conv_1"
%z: float32[1,4,8,8] = Clip(%y, _, %max)
return %z, %y
"""


def same(one: Graph, other: Graph) -> bool:
    """Whether two graphs are equal in everything, constants bit by bit (any NaN equals any other)."""
    assert (one.name, one.inputs, one.outputs, one.nodes) == (other.name, other.inputs, other.outputs, other.nodes)
    assert dict(one.types) == dict(other.types)
    assert list(one.constants) == list(other.constants)
    for name, array in one.constants.items():
        assert array.dtype == other.constants[name].dtype
        np.testing.assert_array_equal(array, other.constants[name])
        if array.dtype.kind == "f":
            signs = np.copysign(1, np.nan_to_num(array)), np.copysign(1, np.nan_to_num(other.constants[name]))
            np.testing.assert_array_equal(*signs, "the sign of zero")
    return True


def test_what_it_looks_like() -> None:
    graph = small()
    assert str(graph) == TEXT.replace("HASH", fingerprint(graph.constants["conv.weight"]))


def test_a_reader_is_shown_a_few_elements_of_a_constant() -> None:
    builder = GraphBuilder("g")
    x = builder.input("x", TensorType((1, 3), "float32"))
    long = builder.constant(np.arange(16, dtype=np.float32), "odd = [name")
    short = builder.constant(np.array([True, False, True, True]), "short")
    text = str(builder.build([x, long, short]))
    lines = shortened(text).splitlines()
    assert lines[2] == 'constant %"odd = [name": float32[16] = [0.0, 1.0, 2.0, ... 13 more]'
    assert [line for index, line in enumerate(lines) if index != 2] == [
        line for index, line in enumerate(text.splitlines()) if index != 2
    ]
    assert shortened(str(small())) == str(small())


def test_it_reads_back() -> None:
    graph = small()
    text = print_graph(graph)
    assert same(parse_graph(text, graph.constants), graph)
    commented = "# a note\n\n" + text.replace("return", "  # another\nreturn")
    assert same(parse_graph(commented, graph.constants), graph)


@given(graphs())
@settings(max_examples=30, deadline=None)
def test_random_graphs_read_back(graph: Graph) -> None:
    assert same(parse_graph(print_graph(graph), graph.constants), graph)


odd_names = st.sampled_from(
    ["a", "layer1.0.conv1.weight", "/model/conv", "x:0", "_", "%x", "a b", 'say "hi"', "é\n#", "= ,", "->"]
)
plain = st.integers(-(2**63), 2**63 - 1) | st.floats() | odd_names
attributes = st.dictionaries(
    st.sampled_from(["alpha", "kernel_shape", "mode"]),
    plain
    | st.lists(st.integers(-9, 9), max_size=4).map(tuple)
    | st.lists(st.floats(allow_nan=False), max_size=3).map(tuple)
    | st.lists(odd_names, max_size=3).map(tuple),
)


def _equal(one: Attribute, other: Attribute) -> bool:
    return type(one) is type(other) and (one == other or one != one)


@given(st.lists(odd_names, min_size=1, max_size=4, unique=True), odd_names, attributes, st.lists(types(), min_size=4, max_size=4))
def test_any_node_reads_back(values: list[str], name: str, settings_: dict[str, Attribute], kinds: list[TensorType]) -> None:
    """Names, attributes, quantization and layouts of every kind, whether or not the operator exists."""
    *operands, result = values
    node = Node("Anything", (*operands, "", *operands), (result, ""), settings_, name)
    typed = dict(zip(values, kinds, strict=False))
    graph = Graph(name, tuple(operands), (result,), (node,), typed, {})
    read = parse_graph(print_graph(graph))
    (found,) = read.nodes
    assert (found.op, found.inputs, found.outputs, found.name) == (node.op, node.inputs, node.outputs, node.name)
    assert found.attributes.keys() == settings_.keys()
    assert all(_equal(found.attributes[key], value) for key, value in settings_.items())
    assert read.types == typed and read.outputs == graph.outputs and read.inputs == graph.inputs


@given(st.sampled_from(sorted(DTYPES)), st.data())
def test_small_constants_read_back_exactly(dtype: str, data: st.DataObject) -> None:
    kind = DTYPES[dtype]
    raw = data.draw(st.binary(min_size=4 * kind.itemsize, max_size=4 * kind.itemsize))
    array = np.frombuffer(raw, np.uint8).view(kind) if dtype != "bool" else np.frombuffer(raw, np.uint8) % 2 == 1
    graph = Graph("g", (), ("c",), (), {"c": TensorType((2, 2), dtype)}, {"c": array.reshape(2, 2)})
    assert same(parse_graph(print_graph(graph)), graph)


def test_a_node_alone_prints_without_types() -> None:
    assert print_node(Node("Relu", ("x",), ("y",), {}, "r"), {}) == '%y = Relu(%x)  # node "r"'


@pytest.mark.parametrize(
    ("broken", "with_", "line", "message"),
    [
        ('graph "small"', "graph small", 1, "Expected a name in double quotes, found 'small'"),
        ('graph "small"', "grph", 1, "Expected a first line such as"),
        ("%x: float32[1,3,8,8]", "%x float32[1,3,8,8]", 2, "Expected a colon and the type of %x"),
        ("%x: float32[1,3,8,8]", "%x: float33[1]", 2, "Expected a type such as"),
        ("sha256:", "sha256:0", 3, "text and arrays are not from one graph"),
        ("[0.0, 0.5, -1.0, 1e-09]", "[0.0, 0.5]", 4, "Expected 4 elements"),
        ("[0.0, 0.5, -1.0, 1e-09]", "[0.0, 0.5,", 4, "Expected elements such as"),
        ("[0.0, 0.5, -1.0, 1e-09]", '["a", 0, 0, 0]', 4, "Expected elements of float32"),
        ("%max: float32[]", "%x: float32[]", 5, "a second %x"),
        ("= Conv(", "Conv(", 6, "Expected a type such as"),
        ("Conv(%x, ", "Conv(x, ", 6, "Expected a value such as %x, found 'x"),
        ("Conv(%x, ", "Conv(%x ", 6, "Expected a comma or )"),
        ("pads=[1", "pads=(1", 6, "Expected the value of attribute pads"),
        ('"NOTSET"}', '"NOTSET"', 6, "Expected a comma or }"),
        ("_, %max)", "_, %max) and more", 7, "Expected the end of the line"),
        ("return %z, %y", "return %z, %y\n%q: int8[1] = Relu(%z)", 9, "nothing after the return line"),
    ],
)
def test_errors_name_the_line_and_show_it(broken: str, with_: str, line: int, message: str) -> None:
    graph = small()
    text = print_graph(graph)
    assert broken in text
    with pytest.raises(GraphError, match=message.replace("(", r"\(").replace(")", r"\)")) as caught:
        parse_graph(text.replace(broken, with_), graph.constants)
    changed = text.replace(broken, with_).splitlines()[line - 1]
    assert f"Line {line}: " in str(caught.value) and changed in str(caught.value)


def test_missing_parts_are_named() -> None:
    graph = small()
    with pytest.raises(GraphError, match=r"Line 3: Expected an array for constant %conv.weight"):
        parse_graph(print_graph(graph))
    with pytest.raises(GraphError, match="Expected a return line"):
        parse_graph('graph "g"\n')
    with pytest.raises(GraphError, match="Expected a graph line"):
        parse_graph("\n")


def test_integers_are_not_read_from_fractions_nor_out_of_range() -> None:
    for elements in ("[1.5]", "[300]", "[null]"):
        with pytest.raises(GraphError, match="Expected elements of int8"):
            parse_graph(f'graph "g"\nconstant %c: int8[1] = {elements}\nreturn %c\n')


def test_names_are_json_where_odd() -> None:
    assert json.dumps("a b") in print_node(Node("Relu", ("a b",), ("y",), {}, "y"), {})
