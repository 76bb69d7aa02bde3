"""Older and newer opsets: what a model means at its own opset is what its graph means."""

from __future__ import annotations

from dataclasses import dataclass, field
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

IMAGE = (2, 4, 6, 5)


@dataclass(frozen=True)
class Case:
    """One node at one opset."""

    op: str
    opset: int
    attributes: dict[str, Any] = field(default_factory=dict)
    constants: tuple[Any, ...] = ()
    shape: tuple[int, ...] = IMAGE

    def __str__(self) -> str:
        return f"{self.op}-{self.opset}-{'-'.join(map(str, self.attributes.values()))}".replace(" ", "")


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def floats(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).uniform(0.5, 1.5, shape).astype(np.float32)


CASES = [
    Case("Upsample", 7, {"mode": "nearest", "scales": [1.0, 1.0, 2.0, 3.0]}),
    Case("Upsample", 8, {"mode": "linear", "scales": [1.0, 1.0, 2.0, 2.0]}),
    Case("Upsample", 9, {"mode": "nearest"}, (np.array([1, 1, 2, 2], np.float32),)),
    Case("Upsample", 9, {"mode": "linear"}, (np.array([1, 1, 3, 2], np.float32),)),
    Case("Resize", 10, {"mode": "nearest"}, (np.array([1, 1, 2, 2], np.float32),)),
    Case("Resize", 10, {"mode": "linear"}, (np.array([1, 1, 2, 3], np.float32),)),
    Case("Resize", 10, {"mode": "nearest"}, (np.array([1, 1, 1.7, 2.6], np.float32),)),
    Case("Resize", 11, {"mode": "nearest"}, (np.zeros(0, np.float32), np.array([1, 1, 2, 2], np.float32))),
    Case("Slice", 9, {"axes": [1, 3], "starts": [1, -3], "ends": [3, 1000]}),
    Case("Slice", 10, {}, (ints(1, -3), ints(3, 1000), ints(1, 3), ints(1, 2))),
    Case("Pad", 7, {"mode": "constant", "pads": [0, 0, 1, 2, 0, 0, 3, 0], "value": 1.5}),
    Case("Pad", 10, {"mode": "reflect", "pads": [0, 0, 1, 2, 0, 0, 3, 0]}),
    Case("Clip", 7, {"min": 0.3, "max": 0.8}),
    Case("Clip", 10, {"max": 0.8}),
    Case("Dropout", 7, {"ratio": 0.3}),
    Case("Dropout", 10, {"ratio": 0.3}),
    Case("Squeeze", 9, {"axes": [1]}, shape=(2, 1, 3)),
    Case("Squeeze", 11, {}, shape=(2, 1, 3)),
    Case("Unsqueeze", 9, {"axes": [0, 3]}),
    Case("ReduceSum", 11, {"axes": [2, 3], "keepdims": 0}),
    Case("ReduceMean", 12, {"axes": [2, 3]}),
    Case("ReduceMax", 13, {"axes": [-1]}),
    Case("ReduceL2", 11, {}),
    Case("Split", 11, {"axis": 1, "split": [1, 3]}),
    Case("Split", 13, {"axis": 1}, (ints(2, 2),)),
    Case("Softmax", 9, {"axis": 1}),
    Case("Softmax", 12, {"axis": 2}),
    Case("Softmax", 11, {"axis": 1}, shape=(3, 7)),
    Case("LogSoftmax", 9, {"axis": 1}),
    Case("Hardmax", 11, {"axis": 1}),
    Case("BatchNormalization", 7, {"epsilon": 1e-3}, (floats(4), floats(4), floats(4), floats(4))),
    Case("BatchNormalization", 9, {"momentum": 0.8}, (floats(4), floats(4), floats(4), floats(4))),
    Case("BatchNormalization", 14, {}, (floats(4), floats(4), floats(4), floats(4))),
    Case("PRelu", 7, {}, (floats(4, 1, 1),)),
    Case("PRelu", 9, {}, (floats(4, 1, 1),)),
    Case("Gemm", 7, {"transB": 1, "alpha": 0.5}, (floats(3, 7), floats(3)), (2, 7)),
    Case("Gemm", 9, {"beta": 0.5}, (floats(7, 3), floats(2, 1)), (2, 7)),
    Case("TopK", 9, {"k": 2, "axis": 1}),
    Case("TopK", 10, {"axis": 1}, (ints(3),)),
    Case("AveragePool", 7, {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2]}),
    Case("AveragePool", 10, {"kernel_shape": [2, 2], "ceil_mode": 1, "strides": [2, 2]}),
    Case("MaxPool", 7, {"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    Case("MaxPool", 8, {"kernel_shape": [2, 2], "strides": [2, 2]}),
    Case("MaxPool", 10, {"kernel_shape": [2, 2], "ceil_mode": 1, "strides": [2, 2]}),
    Case("LRN", 7, {"size": 3, "alpha": 0.01}),
    Case("InstanceNormalization", 7, {}, (floats(4), floats(4))),
    Case("Conv", 7, {"kernel_shape": [3, 3], "pads": [1, 0, 1, 0], "group": 2}, (floats(6, 2, 3, 3),)),
    Case("ConvTranspose", 7, {"strides": [2, 2], "output_padding": [1, 1]}, (floats(4, 3, 3, 3), floats(3))),
    Case("Sum", 8, {}, (floats(4, 1, 1), floats(5))),
    Case("Pow", 7, {}, (np.array(2.0, np.float32),)),
    Case("Max", 8, {}, (floats(4, 1, 1),)),
    Case("Gather", 7, {"axis": 2}, (ints(0, 3, 1),)),
    Case("Flatten", 8, {"axis": 2}),
    Case("Reshape", 7, {}, (ints(0, -1, 5),)),
    Case("Expand", 8, {}, (ints(3, 2, 4, 6, 5),)),
    Case("Transpose", 7, {"perm": [0, 2, 3, 1]}),
    Case("DepthToSpace", 10, {"blocksize": 2}),
    Case("SpaceToDepth", 10, {"blocksize": 2}, shape=(1, 3, 4, 6)),
    Case("Cast", 8, {"to": TensorProto.INT32}),
    Case("ArgMax", 8, {"axis": 1, "keepdims": 0}),
    Case("Tile", 7, {}, (ints(1, 2, 1, 2),)),
    Case("Elu", 7, {"alpha": 0.7}),
    Case("HardSigmoid", 7, {"alpha": 0.3}),
    Case("LeakyRelu", 7, {"alpha": 0.3}),
    Case("GlobalAveragePool", 7),
    Case("Mish", 18),
    Case("Gelu", 20, {"approximate": "tanh"}),
    Case("GroupNormalization", 21, {"num_groups": 2}, (floats(4), floats(4))),
    Case("Reshape", 21, {}, (ints(0, -1, 5),)),
    Case("AveragePool", 22, {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
    Case("Resize", 19, {"mode": "cubic"}, (np.zeros(0, np.float32), np.array([1, 1, 2, 2], np.float32))),
]


def model_of(case: Case) -> onnx.ModelProto:
    """A model of that node alone; its constants are initializers."""
    names = [f"c{index}" for index in range(len(case.constants))]
    outputs = {"Split": 2, "TopK": 2}.get(case.op, 1)
    node = helper.make_node(case.op, ["x", *names], [f"y{index}" for index in range(outputs)], "node", **case.attributes)
    integer = {("ArgMax", 0): TensorProto.INT64, ("TopK", 1): TensorProto.INT64, ("Cast", 0): TensorProto.INT32}
    graph = helper.make_graph(
        [node],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, case.shape)],
        [
            helper.make_tensor_value_info(f"y{index}", integer.get((case.op, index), TensorProto.FLOAT), None)
            for index in range(outputs)
        ],
        [numpy_helper.from_array(array, name) for name, array in zip(names, case.constants, strict=True)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", case.opset)], ir_version=8)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_means_the_same_as_at_its_own_opset(case: Case) -> None:
    model = model_of(case)
    x = np.random.default_rng(0).uniform(-1, 1, case.shape).astype(np.float32)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    expected = onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, {"x": x})
    graph = import_onnx(model)
    results = interpret(graph, {"x": torch.from_numpy(x)})
    for name, array in zip(graph.outputs, expected, strict=True):
        np.testing.assert_allclose(results[name].numpy(), array, rtol=1e-4, atol=1e-5)


def test_names_survive_conversion() -> None:
    model = model_of(Case("Upsample", 9, {"mode": "nearest"}, (np.array([1, 1, 2, 2], np.float32),)))
    graph = import_onnx(model)
    assert [node.name for node in graph.nodes] == ["node"]
    assert (graph.inputs, graph.outputs) == (("x",), ("y0",))


def test_an_opset_before_the_oldest_is_refused() -> None:
    model = model_of(Case("Relu", 6))
    with pytest.raises(ModelError, match="opset 6; opset 7 is the oldest"):
        import_onnx(model)


def test_an_attribute_newer_than_the_table_is_refused() -> None:
    model = model_of(Case("AveragePool", 19, {"kernel_shape": [2, 2], "dilations": [2, 2]}))
    with pytest.raises(ModelError, match="'dilations' of opset"):
        import_onnx(model)


def test_a_newer_attribute_that_means_nothing_is_dropped() -> None:
    graph = import_onnx(model_of(Case("AveragePool", 19, {"kernel_shape": [2, 2], "ceil_mode": 0})))
    assert graph.nodes[0].op == "AveragePool"
