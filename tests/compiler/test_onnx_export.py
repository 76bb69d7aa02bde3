"""Graphs written as ONNX: what is read back is the graph that was written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from tests.random_graphs import random_graph
from tests.small_networks import small_network

from tapdot.compiler.errors import ModelError, TapdotError
from tapdot.compiler.exporters.onnx import export_onnx, save_onnx
from tapdot.compiler.frontends import trace
from tapdot.compiler.graph import Attribute, Graph, GraphBuilder
from tapdot.compiler.operators import OPSET
from tapdot.compiler.pipeline import run
from tapdot.compiler.types import TensorType
from tapdot.passes.recipes import recipe


def rounded(value: Attribute) -> Attribute:
    """As ONNX stores attributes: floats are float32."""
    if isinstance(value, tuple):
        return tuple(rounded(item) for item in value)  # type: ignore[arg-type, return-value]
    return float(np.float32(value)) if isinstance(value, float) else value


def assert_same(one: Graph, two: Graph) -> None:
    assert (one.name, one.inputs, one.outputs) == (two.name, two.inputs, two.outputs)
    assert one.types == two.types
    assert set(one.constants) == set(two.constants)
    assert all(np.array_equal(one.constants[name], two.constants[name]) for name in one.constants)
    for ours, theirs in zip(one.nodes, two.nodes, strict=True):
        assert (ours.op, ours.name, ours.inputs, ours.outputs) == (theirs.op, theirs.name, theirs.inputs, theirs.outputs)
        assert {name: rounded(value) for name, value in ours.attributes.items()} == dict(theirs.attributes)


@pytest.mark.parametrize("seed", range(25))
def test_a_graph_comes_back_as_it_was(seed: int) -> None:
    graph = random_graph(seed, 12)
    model = export_onnx(graph)
    onnx.checker.check_model(model)
    assert_same(graph, trace(model))


def test_the_file_is_of_the_tables_opset_and_of_the_oldest_format_that_holds_it(tmp_path: Path) -> None:
    graph = small_network()
    save_onnx(graph, tmp_path / "small.onnx")
    model = onnx.load(tmp_path / "small.onnx")
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", OPSET)] and model.ir_version == 8
    assert_same(graph, trace(tmp_path / "small.onnx"))
    assert [path.name for path in tmp_path.iterdir()] == ["small.onnx"]


def test_operators_newer_than_the_tables_opset_raise_it() -> None:
    builder = GraphBuilder("gelu")
    x = builder.input("x", TensorType((1, 8, 2, 2), "float32"))
    graph = builder.build(builder.add("Gelu", (x,), {"approximate": "tanh"}))
    model = export_onnx(graph)
    onnx.checker.check_model(model, full_check=True)
    assert model.opset_import[0].version == 20
    assert_same(graph, trace(model))


def test_empty_lists_and_omitted_operands_survive() -> None:
    builder = GraphBuilder("clip")
    x = builder.input("x", TensorType((1, 8, 2, 2), "float32"))
    (clipped,) = builder.add("Clip", (x, "", builder.constant(np.asarray(6, np.float32), "six")), {})
    graph = builder.build(builder.add("ReduceMean", (clipped, builder.constant(np.array([2, 3]), "axes")), {"keepdims": 0}))
    assert_same(graph, trace(export_onnx(graph)))


def test_operators_of_tapdots_own_are_refused() -> None:
    fused = run(small_network(), recipe("float")).graph
    with pytest.raises(ModelError, match=r"ONNX has no operator FusedConv \(node '.*'\); export the graph as it was imported"):
        export_onnx(fused)


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(TapdotError, match="Could not write"):
        save_onnx(small_network(), tmp_path / "nowhere" / "small.onnx")
