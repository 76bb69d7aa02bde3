"""Every entry of the operator table against ONNX's own reference evaluator, on small cases; and what the table refuses."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator

from tapdot.compiler.errors import GraphError
from tapdot.compiler.graph import Graph, GraphBuilder
from tapdot.compiler.interpreter import interpret
from tapdot.compiler.operators import OPSET, infer, lookup, registered
from tapdot.compiler.operators.geometry import window
from tapdot.compiler.operators.table import DTYPE_NAMES, TORCH_DTYPES
from tapdot.compiler.types import TensorType
from tests.compiler.operator_cases import ALL, Case, ints, normal, number


def expected(case: Case) -> list[np.ndarray]:
    """What ONNX's reference says."""
    names = ["" if x is None else f"x{index}" for index, x in enumerate(case.operands)]
    results = [f"y{index}" for index in range(case.results)]
    node = onnx.helper.make_node(case.op, names, results, **case.attributes)

    def described(name: str, array: np.ndarray) -> onnx.ValueInfoProto:
        return onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)

    feeds = {name: x for name, x in zip(names, case.operands, strict=True) if x is not None}
    inputs = [described(name, x) for name, x in feeds.items()]
    outputs = [onnx.helper.make_empty_tensor_value_info(name) for name in results]
    graph = onnx.helper.make_graph([node], "case", inputs, outputs)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)])
    return [np.asarray(result) for result in ReferenceEvaluator(model).run(None, feeds)]


def built(case: Case) -> tuple[Graph, dict[str, torch.Tensor]]:
    """The same node as a graph; operands that need not be constants are inputs."""
    builder, feeds = GraphBuilder("case"), {}
    names = []
    for index, x in enumerate(case.operands):
        if x is None:
            names.append("")
        elif lookup(case.op).is_static(index):
            names.append(builder.constant(x, f"x{index}"))
        else:
            names.append(builder.input(f"x{index}", TensorType.of(x)))
            feeds[f"x{index}"] = torch.from_numpy(np.array(x))
    results = builder.add(case.op, names, case.attributes, outputs=[f"y{index}" for index in range(case.results)])
    return builder.build(results), feeds


@pytest.mark.parametrize("case", ALL, ids=str)
def test_agrees_with_the_reference(case: Case) -> None:
    graph, feeds = built(case)
    graph.verify()
    found = interpret(graph, feeds)
    for name, wanted in zip(graph.outputs, expected(case), strict=True):
        assert TensorType(tuple(found[name].shape), DTYPE_NAMES[found[name].dtype]) == graph.type(name), "inferred type"
        assert graph.type(name) == TensorType.of(wanted)
        np.testing.assert_allclose(found[name].numpy(), wanted, case.tolerance, case.tolerance, equal_nan=True)


def test_every_entry_has_a_case() -> None:
    elsewhere = {"FusedConv", "FusedGemm", "Elementwise", "Gelu", "GlobalLpPool", "ConstantOfShape"}
    assert {case.op for case in ALL} | elsewhere == set(registered())
