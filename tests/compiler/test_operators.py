"""Every entry of the operator table against ONNX's own reference evaluator, on small cases; and what the table refuses."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from onnxruntime import InferenceSession
from tests.compiler.operator_cases import ALL, Case, ints, normal

from tapdot.compiler.errors import GraphError
from tapdot.compiler.graph import Graph, GraphBuilder
from tapdot.compiler.interpreter import interpret
from tapdot.compiler.operators import OPSET, lookup, registered
from tapdot.compiler.operators.geometry import window
from tapdot.compiler.operators.table import DTYPE_NAMES
from tapdot.compiler.types import TensorType


def expected(case: Case) -> list[np.ndarray]:
    """What ONNX's reference says, or onnxruntime."""
    names = ["" if x is None else f"x{index}" for index, x in enumerate(case.operands)]
    results = [f"y{index}" for index in range(case.results)]
    node = onnx.helper.make_node(case.op, names, results, **case.attributes)

    def described(name: str, array: np.ndarray) -> onnx.ValueInfoProto:
        return onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)

    feeds = {name: x for name, x in zip(names, case.operands, strict=True) if x is not None}
    inputs = [described(name, x) for name, x in feeds.items()]
    outputs = [onnx.helper.make_empty_tensor_value_info(name) for name in results]
    graph = onnx.helper.make_graph([node], "case", inputs, outputs)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=8)
    if case.judge == "onnxruntime":
        return InferenceSession(onnx.shape_inference.infer_shapes(model).SerializeToString()).run(None, feeds)
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
    elsewhere = {"FusedConv", "FusedGemm", "Elementwise", "Relayout", "Gelu", "ConstantOfShape"}
    own = (".integer", ".sparse")  # dialects with tests of their own
    integer = {name for name, entry in registered().items() if entry.compute.__module__.endswith(own)}
    assert {case.op for case in ALL} | elsewhere | integer == set(registered())


# -- entries without a counterpart in the reference -------------------------------------------------------------------------


def run(op: str, *operands: np.ndarray | None, **attributes: object) -> torch.Tensor:
    graph, feeds = built(Case(op, operands, attributes))
    return interpret(graph, feeds)[graph.outputs[0]]


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu(approximate: str) -> None:
    x = normal(3, 5)
    wanted = torch.nn.functional.gelu(torch.from_numpy(x), approximate=approximate)
    torch.testing.assert_close(run("Gelu", x, approximate=approximate), wanted, atol=1e-6, rtol=1e-5)


def test_constant_of_shape() -> None:
    assert run("ConstantOfShape", ints(2, 3)).equal(torch.zeros(2, 3))
    assert run("ConstantOfShape", ints(2), np.array([7], np.int32)).equal(torch.tensor([7, 7], dtype=torch.int32))


@pytest.mark.parametrize(
    ("epilogue", "extras"),
    [
        ("acc", 0),
        ("Relu(acc)", 0),
        ("Relu(Add(acc, r0))", 1),
        ("Clip(Mul(Add(acc, r0), Sigmoid(r1)), min=-0.5, max=0.75)", 2),
        ("Max(Mul(acc, 0.5), -1.0)", 0),
        ("Mul(acc, HardSigmoid(acc, alpha=0.25))", 0),
    ],
)
def test_fused_nodes_are_their_parts_in_sequence(epilogue: str, extras: int) -> None:
    x, w, b = normal(2, 4, 6, 5), normal(6, 2, 3, 3), normal(6)
    operands = [torch.from_numpy(normal(2, 6, 3, 5)), torch.from_numpy(normal(1, 6, 1, 1))][:extras]
    attributes = {"strides": (2, 1), "pads": (1, 1, 0, 1), "dilations": (1, 1), "group": 2}
    acc = run("Conv", x, w, b, **attributes)
    wanted = {
        "acc": lambda: acc,
        "Relu(acc)": lambda: acc.relu(),
        "Relu(Add(acc, r0))": lambda: (acc + operands[0]).relu(),
        "Clip(Mul(Add(acc, r0), Sigmoid(r1)), min=-0.5, max=0.75)": lambda: ((acc + operands[0]) * operands[1].sigmoid()).clamp(
            -0.5, 0.75
        ),
        "Max(Mul(acc, 0.5), -1.0)": lambda: (acc * 0.5).clamp(min=-1),
        "Mul(acc, HardSigmoid(acc, alpha=0.25))": lambda: acc * (acc * 0.25 + 0.5).clamp(0, 1),
    }[epilogue]()
    more = [operand.numpy() for operand in operands]
    torch.testing.assert_close(run("FusedConv", x, w, b, *more, **attributes, epilogue=epilogue), wanted)
    torch.testing.assert_close(run("Elementwise", acc.numpy(), *more, expression=epilogue), wanted)


def test_fused_gemm() -> None:
    a, w, b, other = normal(3, 4), normal(4, 5), normal(5), normal(1, 5)
    wanted = torch.relu(torch.from_numpy(a @ w + b + other))
    torch.testing.assert_close(run("FusedGemm", a, w, b, other, epilogue="Relu(Add(acc, r0))"), wanted)
    without_bias = run("FusedGemm", a, w, None, other, epilogue="Relu(Add(acc, r0))")
    torch.testing.assert_close(without_bias, torch.relu(torch.from_numpy(a @ w + other)))


def test_pad_wraps_and_cuts() -> None:
    x = np.arange(5, dtype=np.float32)
    assert run("Pad", x, ints(2, 1), mode="wrap").tolist() == [3, 4, 0, 1, 2, 3, 4, 0]
    assert run("Pad", x, ints(-1, 2), mode="edge").tolist() == [1, 2, 3, 4, 4, 4]
    assert run("Pad", x, ints(-1, 1)).tolist() == [1, 2, 3, 4, 0]


def test_mod_of_floats_takes_the_sign_of_the_divisor() -> None:
    a, b = normal(4, 5), normal(5)
    np.testing.assert_allclose(run("Mod", a, b).numpy(), np.mod(a, b), rtol=1e-5)


# -- what is refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "message"),
    [
        (Case("Conv", (normal(1, 3, 4, 4), normal(2, 4, 3, 3))), r"node 'conv' do not fit: filters .* do not fit 3 channels"),
        (Case("Conv", (normal(1, 3, 2, 2), normal(2, 3, 3, 3))), "a window of 3 does not fit into 2 positions"),
        (Case("Conv", (normal(1, 3, 4, 4), normal(2, 3, 3, 3), normal(3))), "2 filters need as many biases"),
        (Case("Conv", (normal(1, 3, 4, 4), normal(2, 3, 3, 3)), {"pads": (1, 1)}), "need 2 kernel sizes"),
        (Case("Conv", (normal(1, 3, 4, 4), normal(2, 3, 3, 3)), {"auto_pad": "SAME"}), "auto_pad must be one of"),
        (Case("Conv", (normal(1, 3, 4, 4), normal(2, 3, 3, 3)), {"pads": 1}), "'pads' .* to be a tuple of integers, found 1"),
        (Case("Conv", (normal(1, 3, 4, 4), normal(2, 3, 3, 3)), {"stride": (1, 1)}), "Unknown attribute 'stride'"),
        (Case("Conv", (normal(1, 3, 4, 4),)), "Expected 2 to 3 operands for Conv, found 1"),
        (Case("Conv", (normal(1, 3, 4, 4), None)), "Expected 2 to 3 operands"),
        (Case("LRN", (normal(1, 3, 4, 4),)), "Expected attribute 'size' on LRN node 'lrn'"),
        (Case("MaxPool", (normal(1, 3, 4, 4),), {"kernel_shape": (2, 2)}, results=2), "at most 1 results"),
        (Case("Add", (normal(2, 3), normal(2, 4))), "node 'add' do not fit.*float32.2,3., float32.2,4."),
        (Case("Add", (normal(2, 3), ints(1, 2, 3))), "insert a Cast"),
        (Case("Concat", (normal(2, 3), normal(3, 3)), {"axis": 1}), "agree on all axes but 1"),
        (Case("BatchNormalization", (normal(1, 3, 2, 2), *[normal(4)] * 4)), "must each have 3 elements"),
        (Case("BatchNormalization", (normal(1, 3), *[normal(3)] * 4), {"training_mode": 1}), "eval mode"),
        (Case("Softmax", (normal(2, 3),), {"axis": 2}), "do not fit"),
        (Case("Cast", (normal(2),), {"to": 8}), "element type number 8"),
        (Case("Resize", (normal(1, 1, 2, 2),)), "exactly one of the operands scales and sizes"),
        (Case("FusedGemm", (normal(1, 2), normal(2, 3)), {"epilogue": "Add(acc, r0)"}), "reads 'r0'"),
        (Case("FusedGemm", (normal(1, 2), normal(2, 3)), {"epilogue": "Softmax(acc)"}), "not element-wise"),
        (Case("FusedGemm", (normal(1, 2), normal(2, 3)), {"epilogue": "Rleu(acc)"}), "Did you mean Relu"),
        (
            Case("FusedGemm", (normal(1, 2), normal(2, 3), None, normal(4, 3)), {"epilogue": "Add(acc, r0)"}),
            "the epilogue turns the shape",
        ),
    ],
    ids=str,
)
def test_misfits_are_refused_in_words(case: Case, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        built(case)


def test_unknown_operators_are_refused() -> None:
    with pytest.raises(GraphError, match="Unknown operator 'Convolution'"):
        lookup("Convolution")


def test_a_shape_computed_at_run_time_is_refused() -> None:
    builder = GraphBuilder("g")
    x, shape = builder.input("x", TensorType((2, 3), "float32")), builder.input("shape", TensorType((1,), "int64"))
    with pytest.raises(GraphError, match="operand 'shape' of Reshape node 'reshape' to be a constant"):
        builder.add("Reshape", [x, shape])


# -- facts beside the semantics -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "macs"),
    [
        (Case("Conv", (normal(2, 4, 5, 5), normal(6, 2, 3, 3)), {"group": 2}), 2 * 6 * 3 * 3 * 2 * 9),
        (Case("ConvTranspose", (normal(1, 2, 4, 4), normal(2, 3, 2, 2))), 2 * 16 * 3 * 4),
        (Case("Gemm", (normal(4, 3), normal(5, 4)), {"transA": 1, "transB": 1}), 3 * 4 * 5),
        (Case("MatMul", (normal(2, 3, 4), normal(4, 5))), 2 * 3 * 4 * 5),
        (Case("FusedGemm", (normal(3, 4), normal(4, 5))), 3 * 4 * 5),
        (Case("Relu", (normal(3, 4),)), 0),
    ],
    ids=str,
)
def test_macs(case: Case, macs: int) -> None:
    graph, _ = built(case)
    (node,) = graph.nodes
    found = lookup(case.op).macs(graph.input_types(node), [graph.type(name) for name in node.outputs], node.attributes)
    assert found == macs


@pytest.mark.parametrize("case", [case for case in ALL if lookup(case.op).elementwise], ids=str)
def test_elementwise_entries_look_at_one_position_only(case: Case) -> None:
    """The first position computed alone is the first position of the whole."""
    graph, feeds = built(case)
    whole_result = interpret(graph, feeds)[graph.outputs[0]]
    firsts = [x if x is None or lookup(case.op).is_static(i) else x.reshape(-1)[:1] for i, x in enumerate(case.operands)]
    alone, feeds = built(Case(case.op, firsts, case.attributes))
    torch.testing.assert_close(interpret(alone, feeds)["y0"].reshape(()), whole_result.reshape(-1)[0], equal_nan=True)


def _differentiable(case: Case) -> bool:
    step_like = {"Floor", "Ceil", "Round", "Sign", "Hardmax", "ScatterND"}
    first = case.operands[0]
    return first is not None and first.dtype == np.float32 and first.size > 0 and case.op not in step_like


@pytest.mark.parametrize("case", [case for case in (*ALL,) if _differentiable(case)][::3], ids=str)
def test_gradients_flow(case: Case) -> None:
    graph, feeds = built(case)
    first = feeds[graph.inputs[0]].requires_grad_()
    result = interpret(graph, feeds)[graph.outputs[0]]
    if result.is_floating_point():
        result.nan_to_num().sum().backward()
        assert first.grad is not None


def test_hot_inference_does_not_wake_torchs_compiler() -> None:
    """Importing it takes longer than inferring a whole network."""
    program = """
import sys, numpy as np
from tapdot.compiler.graph import GraphBuilder
from tapdot.compiler.types import TensorType
b = GraphBuilder("g")
x = b.input("x", TensorType((1, 8, 16, 16), "float32"))
c = [b.constant(np.ones(8, "float32")) for _ in range(4)]
(y,) = b.add("Conv", [x, b.constant(np.ones((8, 8, 3, 3), "float32")), c[0]], {"pads": (1, 1, 1, 1)})
(y,) = b.add("Relu", b.add("BatchNormalization", [y, *c]))
(y,) = b.add("Concat", [y, *b.add("Add", [x, y])], {"axis": 1})
(y,) = b.add("AveragePool", b.add("MaxPool", [y], {"kernel_shape": (2, 2)}), {"kernel_shape": (2, 2)})
(y,) = b.add("Flatten", b.add("GlobalAveragePool", [y]))
(y,) = b.add("Softmax", b.add("Gemm", [y, b.constant(np.ones((16, 4), "float32"))]))
b.build([y])
print("torch._dynamo" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("kind", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize(("size", "kernel", "stride"), [(7, 3, 2), (8, 3, 2), (8, 2, 1), (5, 1, 2), (9, 5, 3)])
def test_same_padding_covers_every_stride(kind: str, size: int, kernel: int, stride: int) -> None:
    over = window([size], [kernel], (stride,), None, None, kind)
    assert over.output([size]) == (-(-size // stride),)
    assert abs(over.begin[0] - over.end[0]) <= 1
    assert over.begin <= over.end if kind == "SAME_UPPER" else over.begin >= over.end
