"""Fallback kernels against onnx's reference implementation, and what they link to."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from onnx.reference import ReferenceEvaluator

from tapdot.compiler.operators import lookup, registered
from tapdot.kernels.fallback import Fallback, reason, supported_operators
from tapdot.kernels.target import find_target
from tapdot.kernels.tvm_adapter import build, object_code, tvm
from tapdot.kernels.workload import Operand, Workload

OPSET = 18
FAMILY = Fallback()
GENERATOR = np.random.default_rng(1)


def reference(op: str, arrays: Sequence[np.ndarray | None], outputs: int, attributes: dict[str, Any]) -> list[np.ndarray]:
    """The results by onnx's own evaluator."""
    names = ["" if array is None else f"x{index}" for index, array in enumerate(arrays)]
    node = helper.make_node(op, names, [f"y{index}" for index in range(outputs)], **attributes)
    values = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in zip(names, arrays, strict=True)
        if array is not None
    ]
    graph = helper.make_graph([node], "g", values, [helper.make_tensor_value_info(f"y{i}", 0, None) for i in range(outputs)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    feeds = {name: array for name, array in zip(names, arrays, strict=True) if array is not None}
    return [np.asarray(result) for result in ReferenceEvaluator(model).run(None, feeds)]


def from_table(
    op: str, arrays: Sequence[np.ndarray | None], static: Sequence[int], attributes: dict[str, Any]
) -> list[np.ndarray]:
    """The results by the operator table, for operators of which onnx's evaluator is wrong or incomplete."""
    operands = [array if array is None or index in static else torch.from_numpy(array) for index, array in enumerate(arrays)]
    plain = {name: tuple(value) if isinstance(value, list) else value for name, value in attributes.items()}
    result = lookup(op).compute(*operands, **plain)
    return [value.numpy() for value in (result if isinstance(result, tuple) else (result,))]


BY_TABLE = ("LRN", "OneHot", "ConvTranspose", "Pad", "DequantizeLinear")


def workload_of(
    op: str,
    arrays: Sequence[np.ndarray | None],
    static: Sequence[int],
    constant: Sequence[int],
    results: Sequence[np.ndarray],
    attributes: dict[str, Any],
) -> Workload:
    inputs = tuple(
        None if array is None else Operand(array.shape, array.dtype.name, None, index in static or index in constant)
        for index, array in enumerate(arrays)
    )
    plain = {name: tuple(value) if isinstance(value, list) else value for name, value in attributes.items()}
    for index in static:
        if arrays[index] is not None:
            plain[f"static_{index}"] = tuple(arrays[index].reshape(-1).tolist())
    return Workload(op, inputs, tuple(Operand(y.shape, y.dtype.name) for y in results), tuple(sorted(plain.items())))


def run(workload: Workload, arrays: Sequence[np.ndarray | None], target_name: str) -> list[np.ndarray]:
    """What the kernel computes, in buffers that lie at an odd offset inside larger ones."""
    target = find_target(target_name)
    assert reason(workload, target) is None
    function = FAMILY.build(workload, {}, target, "kernel")
    library = build({"kernel": function}, target.llvm())
    constants = {i: arrays[i] for i, x in enumerate(workload.inputs) if x is not None and x.constant}
    packed = FAMILY.pack(workload, {}, target, constants)
    for index, array in FAMILY.unpack(workload, {}, target, packed).items():
        np.testing.assert_array_equal(array, constants[index])
    variable = [arrays[i].reshape(-1) for i, x in enumerate(workload.inputs) if x is not None and not x.constant]
    outputs = [tvm.runtime.tensor(np.full(y.shape, 77).astype(y.dtype).reshape(-1)) for y in workload.outputs]
    library["kernel"](*(tvm.runtime.tensor(np.ascontiguousarray(x)) for x in (*packed, *variable)), *outputs)
    return [y.numpy().reshape(operand.shape) for y, operand in zip(outputs, workload.outputs, strict=True)]


def floats(*shape: int) -> np.ndarray:
    return GENERATOR.standard_normal(shape).astype(np.float32)


def i64(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


X = floats(2, 3, 5, 7)
CASES: list[tuple[str, str, list[Any], list[int], list[int], int, dict[str, Any]]] = []
"""(id, operator, operands, static ones, other constants, number of results, attributes)"""


def case(
    op: str, *arrays: Any, static: Sequence[int] = (), constant: Sequence[int] = (), outputs: int = 1, **attributes: Any
) -> None:
    CASES.append((f"{op}-{len(CASES)}", op, list(arrays), list(static), list(constant), outputs, attributes))


# Movement
case("Transpose", X, perm=[0, 2, 3, 1])
case("Transpose", X)
case("Concat", X, floats(2, 4, 5, 7), axis=1)
case("Concat", X, X, axis=-1)
case("Slice", X, i64(1, -1), i64(5, -8), i64(2, 3), i64(2, -2), static=[1, 2, 3, 4])
case("Slice", X, i64(-2), i64(100), i64(-1), static=[1, 2, 3])
case("Split", X, i64(1, 2), static=[1], outputs=2, axis=1)
case("Split", X, outputs=3, axis=1, num_outputs=3)
case("Expand", floats(3, 1, 7), i64(2, 1, 5, 1), static=[1])
case("Tile", X, i64(1, 2, 1, 3), static=[1])
case("Pad", X, i64(0, 0, 1, 2, 0, 0, 3, 1), np.array(2.5, np.float32), static=[1, 2])
case("Pad", X, i64(0, 0, 1, 2, 0, 0, 3, 1), static=[1], mode="reflect")
case("Pad", X, i64(0, 0, 1, 2, 0, 0, 3, 1), static=[1], mode="edge")
case("Pad", X, i64(0, 0, -1, 2, 0, 0, 3, -2), static=[1])
case("Reshape", X, i64(2, 15, 7), static=[1])
case("Flatten", X, axis=2)
case("DepthToSpace", floats(2, 8, 3, 4), blocksize=2, mode="DCR")
case("DepthToSpace", floats(2, 8, 3, 4), blocksize=2, mode="CRD")
case("SpaceToDepth", floats(2, 3, 4, 6), blocksize=2)
case("Cast", X * 5, to=onnx.TensorProto.INT32)
case("Cast", X, to=onnx.TensorProto.FLOAT16)
case("Cast", X, to=onnx.TensorProto.DOUBLE)
case("Cast", (X > 0), to=onnx.TensorProto.FLOAT)
case("Cast", np.round(X), to=onnx.TensorProto.BOOL)
# Indexing
case("Gather", X, i64(4, 0, -1), axis=2)
case("Gather", X, np.array([[0, 1], [2, -3]], np.int32), axis=1)
case("GatherElements", floats(3, 4), GENERATOR.integers(-3, 3, (2, 4)), axis=0)
case("GatherND", floats(2, 3, 4), np.array([[0, 1], [1, 2]], np.int64))
case("GatherND", floats(2, 3, 4), np.array([[1], [2]], np.int64), batch_dims=1)
case("ScatterElements", floats(3, 4), np.array([[1, 0, 2, 1]]), floats(1, 4), axis=0)
case("ScatterND", floats(4, 5), np.array([[1], [3]]), floats(2, 5))
case("ScatterND", floats(4, 5), np.array([[1], [1]]), floats(2, 5), reduction="add")
case("OneHot", i64(0, 2, -1, 9), i64(5), np.array([0.5, 2], np.float32), static=[1], axis=0)
case("Trilu", floats(2, 4, 5), np.array(1, np.int64), static=[1], upper=0)
# Element-wise
case("Where", X > 0, X, floats(7))
for _op in ("Add", "Sub", "Mul", "Div", "Max", "Min", "Pow"):
    case(_op, np.abs(X) + 0.1, floats(3, 1, 7))
for _op in ("Add", "Sub", "Mul", "Div", "Max", "Min"):
    case(_op, GENERATOR.integers(-9, 9, (3, 4)), GENERATOR.integers(1, 9, (4,)))
case("Pow", GENERATOR.integers(-4, 5, (3, 4)), GENERATOR.integers(0, 6, (4,)))
case("Mod", GENERATOR.integers(-9, 9, (3, 4)), GENERATOR.integers(1, 9, (4,)))
case("Mod", X * 10, floats(3, 5, 7), fmod=1)
case("Mod", X * 10, floats(3, 5, 7), fmod=0)
case("BitShift", np.array([16, -4, 1, -1], np.int32), np.array([1, 40, -1, 32], np.int32), direction="LEFT")
case("BitShift", np.array([16, -4, 1, -1], np.int32), np.array([1, 40, -1, 32], np.int32), direction="RIGHT")
case("BitShift", np.array([16, 200, 1], np.uint8), np.array([1, 9, 8], np.uint8), direction="RIGHT")
for _op in ("Equal", "Less", "GreaterOrEqual"):
    case(_op, np.round(X), np.round(floats(5, 7)))
for _op in ("And", "Or", "Xor"):
    case(_op, X > 0, floats(7) > 0)
case("Not", X > 0)
case("BitShift", GENERATOR.integers(0, 9, (5,)).astype(np.uint8), np.full(5, 2, np.uint8), direction="LEFT")
case("IsNaN", np.where(X > 0.5, np.nan, X).astype(np.float32))
case("IsInf", np.where(X > 0.5, np.inf, np.where(X < -1, -np.inf, X)).astype(np.float32), detect_negative=0)
for _op in ("Relu", "Sigmoid", "Tanh", "Exp", "Erf", "HardSwish", "Softplus", "Selu", "Abs", "Neg", "Floor", "Sign", "Softsign"):
    case(_op, X)
case("Clip", X, np.array(-0.5, np.float32), np.array(1.0, np.float32), static=[1, 2])
case("Exp", X.astype(np.float64))
case("Log", np.abs(X).astype(np.float64))
case("Sigmoid", X.astype(np.float16))
# Reductions
for _op in ("Sum", "Mean", "Max", "Min", "Prod", "L1", "L2", "SumSquare", "LogSum", "LogSumExp"):
    case(f"Reduce{_op}", np.abs(X) + 0.1, i64(1, -1), static=[1], keepdims=0)
case("ReduceSum", floats(3, 1000), i64(1), static=[1])
case("ReduceSum", floats(3, 1003), i64(1), static=[1])
case("ReduceMax", floats(1000))
case("ReduceMean", X, keepdims=0)
case("ReduceSum", GENERATOR.integers(-9, 9, (3, 40)), i64(0), static=[1])
case("ArgMax", np.round(X), axis=2)
case("ArgMax", np.round(X), axis=-1, keepdims=0, select_last_index=1)
case("ArgMin", np.round(X), axis=1)
case("CumSum", X, np.array(2, np.int32), static=[1])
case("CumSum", X, np.array(-1, np.int32), static=[1], exclusive=1, reverse=1)
case("TopK", floats(3, 9), i64(4), static=[1], outputs=2)
case("TopK", floats(3, 9), i64(2), static=[1], outputs=2, axis=0, largest=0)
# Normalization
case("Softmax", X, axis=1)
case("Softmax", floats(2, 1000))
case("LogSoftmax", X, axis=-1)
case("Hardmax", np.round(X), axis=1)
case("LRN", floats(2, 7, 4, 5), size=5, alpha=0.02, beta=0.75, bias=1.5)
case("LRN", floats(2, 7, 4, 5), size=4, alpha=0.02, beta=0.6)
case("BatchNormalization", X, floats(3), floats(3), floats(3), np.abs(floats(3)), constant=[1, 2, 3, 4])
case("InstanceNormalization", X, floats(3), floats(3), constant=[1, 2])
case("LayerNormalization", X, floats(5, 7), floats(5, 7), constant=[1, 2], axis=2)
case("GroupNormalization", floats(2, 6, 5, 7), floats(3), floats(3), constant=[1, 2], num_groups=3)
case("MeanVarianceNormalization", X)
case("LpNormalization", X, axis=1, p=2)
# Products
case("MatMul", floats(2, 3, 5, 7), floats(7, 9))
case("MatMul", floats(3, 5, 7), floats(3, 7, 600))
case("MatMul", floats(7), floats(7, 4))
case("MatMul", floats(4, 70), floats(70))
case("Gemm", floats(5, 7), floats(9, 7), floats(9), transB=1, alpha=0.5, beta=2.0, constant=[1, 2])
case("Gemm", floats(7, 5), floats(7, 9), transA=1)
case("Einsum", floats(3, 4), floats(4, 5), equation="ij,jk->ik")
case("Conv", floats(2, 4, 11), floats(6, 2, 3), floats(6), group=2, pads=[1, 2], strides=[2])
case("Conv", X, floats(4, 3, 3, 3), pads=[1, 1, 1, 1], dilations=[2, 1])
case("Conv", X, floats(4, 3, 2, 2), auto_pad="SAME_UPPER", strides=[2, 2])
case("Conv", floats(1, 2, 4, 5, 6), floats(3, 2, 2, 3, 2), floats(3), constant=[1, 2])
case("ConvTranspose", floats(1, 2, 5), floats(2, 3, 3), strides=[2], pads=[1, 1], output_padding=[1])
case(
    "ConvTranspose",
    floats(1, 4, 3, 4),
    floats(4, 2, 3, 2),
    floats(4),
    constant=[1, 2],
    group=2,
    strides=[2, 3],
    pads=[1, 0, 0, 1],
)
case("ConvTranspose", floats(1, 2, 3, 3), floats(2, 2, 3, 3), strides=[3, 2], output_shape=[10, 8])
case("ConvTranspose", floats(1, 1, 2, 3, 3), floats(1, 2, 2, 2, 2), strides=[2, 1, 1])
# Pools
case("MaxPool", floats(1, 2, 9), kernel_shape=[3], strides=[2], pads=[1, 1])
case("MaxPool", floats(1, 2, 5, 6, 7), kernel_shape=[2, 3, 2], strides=[2, 1, 2])
case("AveragePool", X, kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 1])
case("AveragePool", X, kernel_shape=[3, 3], strides=[1, 1], pads=[1, 1, 1, 1], count_include_pad=1)
case("AveragePool", floats(1, 2, 5, 6, 7), kernel_shape=[2, 2, 2], strides=[2, 2, 2])
case("LpPool", X, kernel_shape=[3, 2], strides=[2, 2], p=2)
case("GlobalAveragePool", X)
case("GlobalMaxPool", floats(2, 3, 40, 7))
# Codes that only move, or of which the largest counts
Q = GENERATOR.integers(-128, 128, (2, 3, 5, 7)).astype(np.int8)
case("MaxPool", Q, kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 1])
case("Pad", Q.view(np.uint8), i64(0, 0, 1, 2, 0, 0, 3, 1), np.array(7, np.uint8), static=[1, 2])
case("Concat", Q, Q, axis=1)
case("Transpose", Q, perm=[0, 2, 3, 1])
case("Slice", Q, i64(1, -1), i64(5, -8), i64(2, 3), i64(2, -2), static=[1, 2, 3, 4])
case("Split", Q, i64(1, 2), static=[1], outputs=2, axis=1)
case("Reshape", Q, i64(2, 15, 7), static=[1])
case("Resize", Q, None, np.array([1, 1, 2, 1.5], np.float32), static=[2], mode="nearest", nearest_mode="floor")
# Quantization as ONNX has it
case("QuantizeLinear", X * 40, np.array(0.25, np.float32), np.array(-3, np.int8), constant=[1, 2])
case("QuantizeLinear", X * 40, np.abs(floats(3)) + 0.1, GENERATOR.integers(0, 255, 3).astype(np.uint8), constant=[1, 2], axis=1)
case("DequantizeLinear", Q, np.array(0.25, np.float32), np.array(-3, np.int8), constant=[1, 2])
case("DequantizeLinear", Q, np.abs(floats(7)), GENERATOR.integers(-9, 9, 7).astype(np.int8), constant=[1, 2], axis=-1)
# Resize
for _attributes in (
    {"mode": "nearest"},
    {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
    {"mode": "linear"},
    {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
    {"mode": "cubic"},
):
    case("Resize", X, None, np.array([1, 1, 2, 1.5], np.float32), static=[2], **_attributes)
case("Resize", X, None, None, i64(2, 3, 3, 10), static=[3], mode="linear")


@pytest.mark.parametrize(
    ("op", "arrays", "static", "constant", "outputs", "attributes"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_kernel_computes_the_operator(
    op: str, arrays: list[Any], static: list[int], constant: list[int], outputs: int, attributes: dict[str, Any]
) -> None:
    by_table = op in BY_TABLE
    expected = from_table(op, arrays, static, attributes) if by_table else reference(op, arrays, outputs, attributes)
    workload = workload_of(op, arrays, static, constant, expected, attributes)
    for got, wanted in zip(run(workload, arrays, "host"), expected, strict=True):
        if wanted.dtype.kind == "f":
            coarse = wanted.dtype == np.float16
            np.testing.assert_allclose(got, wanted, rtol=2e-3 if coarse else 3e-5, atol=2e-3 if coarse else 2e-5)
        else:
            np.testing.assert_array_equal(got, wanted)


def undefined_symbols(code: bytes, folder: Path) -> list[str]:
    """What an object file expects others to define, besides the runtime and the two functions every system has."""
    path = folder / "kernel.o"
    path.write_bytes(code)
    lines = subprocess.run(["nm", "-u", path], capture_output=True, text=True, check=True).stdout.splitlines()
    names = [line.split()[-1] for line in lines]
    return [name for name in names if not name.startswith(ALLOWED_PREFIXES) and name not in ("memcpy", "memset")]


ALLOWED_PREFIXES = ("TVMFFI", "__TVMFFI", "TVMBackend", "__TVMBackend")


@pytest.mark.parametrize("target_name", ["generic-x86-64", "cortex-a76"])
def test_kernels_need_nothing_but_the_runtime(target_name: str, tmp_path: Path) -> None:
    target, functions = find_target(target_name), {}
    for name, op, arrays, static, constant, outputs, attributes in CASES:
        symbol = f"kernel_{op}"
        if symbol in functions:
            continue
        by_table = op in BY_TABLE
        results = from_table(op, arrays, static, attributes) if by_table else reference(op, arrays, outputs, attributes)
        workload = workload_of(op, arrays, static, constant, results, attributes)
        assert FAMILY.serves(workload, target), name
        functions[symbol] = FAMILY.build(workload, {}, target, symbol)
    assert undefined_symbols(object_code(functions, target.llvm()), tmp_path) == []


@pytest.mark.parametrize("target_name", ["host", "cortex-a76"])
def test_doubles_become_halves_by_one_rounding_and_no_library(target_name: str, tmp_path: Path) -> None:
    """By way of float32, values next to the middle between two halves would be rounded twice; LLVM calls __truncdfhf2."""
    middles = np.float64(1) + np.arange(1, 64, 2) / 2**11
    near = [middles, np.nextafter(middles, 0), np.nextafter(middles, 9), middles * (1 + 2.0**-40), middles * (1 - 2.0**-40)]
    edges = [0.0, -0.0, 2.0**-24, 2.0**-25, 2.0**-25 * (1 + 2.0**-40), 5e-324, 65519.999, 65520.0, 1e39, 1e300, np.inf, np.nan]
    numbers = np.concatenate([*near, edges, np.ldexp(GENERATOR.standard_normal(2000), GENERATOR.integers(-30, 20, 2000))])
    numbers = np.concatenate([numbers, -numbers])
    with np.errstate(over="ignore"):
        expected = numbers.astype(np.float16)
    attributes = {"to": int(onnx.TensorProto.FLOAT16)}
    workload, target = workload_of("Cast", [numbers], [], [], [expected], attributes), find_target(target_name)
    code = object_code({"kernel": FAMILY.build(workload, {}, target, "kernel")}, target.llvm())
    assert undefined_symbols(code, tmp_path) == []
    if target_name == "host":
        np.testing.assert_array_equal(run(workload, [numbers], "host")[0], expected)


def test_the_fused_dialect_runs() -> None:
    x, w, bias, extra = floats(1, 3, 6, 7), floats(4, 3, 3, 3), floats(4), floats(1, 4, 6, 7)
    attributes = {"strides": (1, 1), "pads": (1, 1, 1, 1), "dilations": (1, 1), "group": 1, "epilogue": "Relu(Add(acc, r0))"}
    expected = from_table("FusedConv", [x, w, bias, extra], [], attributes)
    workload = workload_of("FusedConv", [x, w, bias, extra], [], [1, 2], expected, attributes)
    np.testing.assert_allclose(run(workload, [x, w, bias, extra], "host")[0], expected[0], rtol=1e-4, atol=1e-4)
    chain = {"expression": "Mul(Sigmoid(acc), r0)"}
    expected = from_table("Elementwise", [x, floats(7)], [], chain)
    workload = workload_of("Elementwise", [x, floats(7)], [], [], expected, chain)
    assert FAMILY.serves(workload, find_target("host"))


def codes(*shape: int) -> np.ndarray:
    return GENERATOR.integers(-128, 128, shape).astype(np.int8)


def pair(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Multipliers and shifts, one a channel, from the smallest to the largest."""
    multipliers = GENERATOR.integers(2**30, 2**31, (1, count, 1, 1)).astype(np.int32)
    multipliers[0, 0], multipliers[0, -1] = 2**30, 2**31 - 1
    return multipliers, np.linspace(30, 62, count).astype(np.int32).reshape(1, count, 1, 1)


NARROW = "Narrow({}, zero_point=-5, low=-90, high=120, dtype='int8')"
WINDOWS: dict[str, Any] = {"strides": (2, 1), "pads": (1, 0, 1, 2)}
INTEGER_CASES: dict[str, tuple[str, list[Any], list[int], dict[str, Any]]] = {
    "QConv": (
        "QConv",
        [codes(2, 6, 7, 6), codes(8, 3, 3, 3), GENERATOR.integers(-9999, 9999, 8).astype(np.int32), *pair(8), codes(2, 8, 4, 6)],
        [1, 2, 3, 4],
        {
            **WINDOWS,
            "dilations": (1, 1),
            "group": 2,
            "zero_point": -128,
            "epilogue": NARROW.format(
                "Add(Dyadic(acc, r0, r1), Dyadic(Widen(r2, zero_point=4), multiplier=1518500250, shift=31))"
            ),
        },
    ),
    "QGemm": (
        "QGemm",
        [codes(3, 50), codes(50, 7), None, np.abs(floats(1, 7))],
        [1, 3],
        {"zero_point": 7, "epilogue": "Reals(acc, r0)"},
    ),
    "QSumPool": (
        "QSumPool",
        [codes(2, 3, 7, 6).view(np.uint8)],
        [],
        {
            **WINDOWS,
            "kernel_shape": (3, 2),
            "zero_point": 255,
            "epilogue": NARROW.format("Dyadic(acc, multiplier=2000000000, shift=35)"),
        },
    ),
    "QGlobalSum": ("QGlobalSum", [codes(2, 3, 7, 6)], [], {"zero_point": 3}),
    "table": (
        "Elementwise",
        [codes(2, 3, 4), codes(256).view(np.uint8)],
        [1],
        {"expression": "Lookup(acc, r0)"},
    ),
    "literals": (
        "Elementwise",
        [codes(2, 3, 4)],
        [],
        {"expression": NARROW.format("Max(Add(Mul(Widen(acc, zero_point=3), 17.0), -40.0), 0.0)")},
    ),
    "Quantize": (
        "Quantize",
        [np.concatenate([X.reshape(-1) * 100, [np.nan, np.inf, -np.inf, 0.5, 1.5, 2.5]]).astype(np.float32)],
        [],
        {"scale": 1.0, "zero_point": 3, "low": -128, "high": 127, "dtype": "int8"},
    ),
    "Dequantize": ("Dequantize", [Q], [], {"scale": 0.3, "zero_point": -7}),
    "FakeQuantize": (
        "FakeQuantize",
        [X],
        [],
        {"scale": 0.03, "zero_point": 3, "low": 0, "high": 100, "dtype": "uint8"},
    ),
}


@pytest.mark.parametrize("target", ["host", "generic-x86-64"])
@pytest.mark.parametrize("name", INTEGER_CASES)
def test_the_integer_dialect_runs_bit_for_bit(name: str, target: str) -> None:
    op, arrays, constant, attributes = INTEGER_CASES[name]
    expected = from_table(op, arrays, [], attributes)
    workload = workload_of(op, arrays, [], constant, expected, attributes)
    got = run(workload, arrays, target)[0]
    assert got.dtype == expected[0].dtype
    np.testing.assert_array_equal(got, expected[0])


def test_what_cannot_be_built_is_refused_with_the_reason() -> None:
    target = find_target("host")
    x = Operand((2, 3), "float64")
    assert "float64" in (reason(Workload("Tanh", (x,), (x,), ()), target) or "")
    assert reason(Workload("NoSuchOperator", (x,), (x,), ()), target) == "there is no kernel for NoSuchOperator"
    assert not FAMILY.serves(Workload("NoSuchOperator", (x,), (x,), ()), target)


def test_the_table_covers_the_operators() -> None:
    assert set(registered()) - supported_operators() == {"Relayout"}
