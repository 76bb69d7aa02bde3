"""Models quantized elsewhere: every operator on codes means what onnxruntime says, and codes of weights come back."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from tapdot.compiler.errors import ModelError
from tapdot.compiler.frontends.onnx import import_onnx
from tapdot.compiler.interpreter import interpret
from tapdot.compiler.types import Quant

NUMBERS = np.random.default_rng(0)
X = NUMBERS.standard_normal((1, 4, 6, 5)).astype(np.float32)
SCALES = {
    "xs": np.array(0.02, np.float32),
    "xz": np.array(120, np.uint8),
    "ys": np.array(0.05, np.float32),
    "yz": np.array(128, np.uint8),
    "as": np.array(0.03, np.float32),
    "az": np.array(90, np.uint8),
}
Q = helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["q"], "quantize")
D = helper.make_node("DequantizeLinear", ["o", "ys", "yz"], ["y"], "dequantize")


def microsoft(op: str, inputs: list[str], **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs, ["o"], "node", domain="com.microsoft", **attributes)


def model_of(nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray], x: np.ndarray = X) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in {**SCALES, **weights}.items()],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def compare(model: onnx.ModelProto, step: float, x: np.ndarray = X, share: float = 0.05) -> None:
    """Answers are those of onnxruntime, but for a share that is one code off: ties, mostly."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (wanted,) = session.run(["y"], {"x": x})
    graph = import_onnx(model)
    with torch.no_grad():
        found = interpret(graph, {"x": torch.from_numpy(x)})["y"].numpy()
    assert np.ptp(wanted) > 6 * step, "the test must be able to fail"
    wrong = np.abs(wanted - found)
    assert wrong.max() <= 1.001 * step and (wrong > 0.01 * step).mean() < share


WEIGHT = NUMBERS.integers(-127, 128, (6, 4, 3, 3)).astype(np.int8)
CONVOLUTION = {
    "w": WEIGHT,
    "ws": NUMBERS.uniform(0.001, 0.003, 6).astype(np.float32),
    "wz": np.zeros(6, np.int8),
    "b": NUMBERS.integers(-5000, 5000, 6).astype(np.int32),
}
MATRIX = {
    "m": NUMBERS.integers(-127, 128, (4, 7)).astype(np.int8),
    "ms": np.array(0.004, np.float32),
    "mz": np.array(0, np.int8),
    "c": NUMBERS.integers(-900, 900, 7).astype(np.int32),
}
ROWS = NUMBERS.standard_normal((5, 4)).astype(np.float32)
X8 = ["q", "xs", "xz"]
Y8 = ["ys", "yz"]
OTHER = helper.make_node("QuantizeLinear", ["x", "as", "az"], ["other"], "quantize_other")


@pytest.mark.parametrize("bias", [True, False])
def test_convolution(bias: bool) -> None:
    inputs = [*X8, "w", "ws", "wz", *Y8, *(["b"] if bias else [])]
    node = helper.make_node("QLinearConv", inputs, ["o"], "conv", pads=[1, 1, 1, 1], strides=[2, 1])
    compare(model_of([Q, node, D], CONVOLUTION), 0.05)


def test_codes_of_weights_come_back() -> None:
    node = helper.make_node("QLinearConv", [*X8, "w", "ws", "wz", *Y8, "b"], ["o"], "conv")
    graph = import_onnx(model_of([Q, node, D], CONVOLUTION))
    (conv,) = (node for node in graph.nodes if node.op == "Conv")
    assert conv.name == "conv"
    weight, bias = conv.inputs[1:]
    scales = CONVOLUTION["ws"]
    assert graph.type(weight).quant == Quant(8, tuple(map(float, scales)), (0,) * 6, 0)
    np.testing.assert_array_equal(np.rint(graph.constants[weight] / scales.reshape(-1, 1, 1, 1)), WEIGHT)
    quant = graph.type(bias).quant
    assert quant is not None and quant.bits == 32
    np.testing.assert_array_equal(np.rint(graph.constants[bias] / np.array(quant.scale)), CONVOLUTION["b"])


def test_a_transposed_weight_keeps_its_codes() -> None:
    nodes = [
        helper.make_node("DequantizeLinear", ["t", "ts", "tz"], ["tr"], "dequantize_weight", axis=0),
        helper.make_node("Transpose", ["tr"], ["w"], "transpose", perm=[1, 0]),
        helper.make_node("MatMul", ["x", "w"], ["y"], "product"),
    ]
    weights = {"t": MATRIX["m"].T.copy(), "ts": np.linspace(0.1, 0.7, 7, dtype=np.float32), "tz": np.zeros(7, np.int8)}
    graph = import_onnx(model_of(nodes, weights, ROWS))
    quant = graph.type(graph.nodes[-1].inputs[1]).quant
    assert quant is not None and quant.axis == 1 and len(quant.scale) == 7


@pytest.mark.parametrize(
    "node",
    [
        helper.make_node("QLinearMatMul", [*X8, "m", "ms", "mz", *Y8], ["o"], "product"),
        microsoft("QGemm", [*X8, "m", "ms", "mz", "c", *Y8]),
        microsoft("QGemm", [*X8, "m", "ms", "mz", "c", *Y8], alpha=0.5),
    ],
    ids=["QLinearMatMul", "QGemm", "QGemm-alpha"],
)
def test_products(node: onnx.NodeProto) -> None:
    compare(model_of([Q, node, D], MATRIX, ROWS), 0.05, ROWS)


def test_a_product_that_ends_in_floats() -> None:
    node = microsoft("QGemm", [*X8, "m", "ms", "mz", "c"])
    node.output[0] = "y"
    compare(model_of([Q, node], MATRIX, ROWS), 0.02, ROWS)


@pytest.mark.parametrize(
    "node",
    [
        microsoft("QLinearAdd", [*X8, "other", "as", "az", *Y8]),
        microsoft("QLinearMul", [*X8, "other", "as", "az", *Y8]),
        microsoft("QLinearGlobalAveragePool", [*X8, "ps", "pz"]),
        microsoft("QLinearAveragePool", [*X8, *Y8], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        microsoft("QLinearLeakyRelu", [*X8, *Y8], alpha=0.3),
        microsoft("QLinearSigmoid", [*X8, "ps", "pz"]),
        microsoft("QLinearSoftmax", [*X8, "ps", "pz"], axis=1, opset=13),
        microsoft("QLinearConcat", [*Y8, *X8, "other", "as", "az"], axis=1),
    ],
    ids=lambda node: node.op_type,
)
def test_operators_of_onnxruntime(node: onnx.NodeProto) -> None:
    scales = {"ps": np.array(0.004, np.float32), "pz": np.array(128 if "Pool" in node.op_type else 0, np.uint8)}
    ends = helper.make_node("DequantizeLinear", ["o", *node.input[-2:]], ["y"], "dequantize")
    if node.op_type == "QLinearConcat":
        ends = D
    step = 0.004 if "ps" in node.input else 0.05
    approximate = 0.6 if node.op_type in ("QLinearSoftmax", "QLinearGlobalAveragePool") else 0.05  # tables there; four numbers
    compare(model_of([Q, OTHER, node, ends], scales), step, share=approximate)


def test_channels_last_is_refused() -> None:
    node = microsoft("QLinearGlobalAveragePool", [*X8, *Y8], channels_last=1)
    with pytest.raises(ModelError, match=r"QLinearGlobalAveragePool of domain 'com\.microsoft'"):
        import_onnx(model_of([Q, node, D], {}))
