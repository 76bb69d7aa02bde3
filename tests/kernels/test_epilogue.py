"""Epilogues as vector code against the operator table in torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tapdot.compiler.operators import registered
from tapdot.compiler.operators.fused import apply_expression
from tapdot.kernels import epilogue
from tapdot.kernels.emit import argument, load, store
from tapdot.kernels.expression import leaves, parse
from tapdot.kernels.target import find_target
from tapdot.kernels.tvm_adapter import PrimFunc, T, build, function, tvm

COUNT = 1024
TARGETS = ["host", "host:avx2", "host:generic"]
UNARY = [
    "Neg", "Abs", "Sign", "Reciprocal", "Sqrt", "Exp", "Log", "Erf", "Floor", "Ceil", "Round", "Sin", "Cos", "Tan",
    "Asin", "Acos", "Atan", "Sinh", "Cosh", "Tanh", "Asinh", "Acosh", "Atanh", "Identity", "Relu", "LeakyRelu",
    "ThresholdedRelu", "Shrink", "Elu", "Selu", "Celu", "Sigmoid", "HardSigmoid", "HardSwish", "Softplus", "Softsign",
    "Mish", "Gelu",
]  # fmt: skip
EXPRESSIONS = [
    *(f"{op}(acc)" for op in UNARY),
    *(f"{op}(acc, r0)" for op in ("Add", "Sub", "Mul", "Div", "Max", "Min", "PRelu", "Sum", "Mean")),
    "Pow(Abs(acc), r0)",
    "Pow(acc, 2.0)",
    "Pow(acc, 3.0)",
    "Pow(Abs(acc), 0.5)",
    "Pow(Abs(acc), -0.5)",
    "Max(acc, r0, 0.25)",
    "Min(1.5, acc)",
    "Clip(acc, max=6.0, min=0.0)",
    "Clip(acc, min=-0.5)",
    "LeakyRelu(acc, alpha=0.2)",
    "LeakyRelu(acc, alpha=1.5)",
    "LeakyRelu(acc, alpha=-0.5)",
    "Elu(acc, alpha=0.7)",
    "Selu(acc, alpha=1.5, gamma=0.9)",
    "Celu(acc, alpha=2.0)",
    "HardSigmoid(acc, alpha=0.3, beta=0.4)",
    "Shrink(acc, bias=0.25, lambd=0.75)",
    "ThresholdedRelu(acc, alpha=0.3)",
    "Gelu(acc, approximate='tanh')",
    "FakeQuantize(acc, dtype='int8', high=9, low=-16, scale=0.25, zero_point=2)",
    "Relu(Add(acc, r0))",
    "Mul(acc, Sigmoid(acc))",
    "Add(Mul(Sigmoid(Add(acc, r0)), Add(acc, r0)), r1)",
]


def run(text: str, target_name: str, *operands: np.ndarray) -> np.ndarray:
    target, expression = find_target(target_name), parse(text)
    lanes, done = target.isa.lanes, list[PrimFunc]()
    names = ["acc", "r0", "r1"][: len(operands)]
    with function("chain", done):
        buffers = [argument(name, COUNT, "float32") for name in names]
        y = argument("y", COUNT, "float32")
        with T.serial(COUNT // lanes) as i:
            values = {name: load(buffer, i * lanes, lanes) for name, buffer in zip(names, buffers, strict=True)}
            store(y, i * lanes, epilogue.emit(expression, values, target.isa, lanes), lanes)
    result = tvm.runtime.tensor(np.zeros(COUNT, np.float32))
    library = build({"chain": done[0]}, target.llvm())
    library["chain"](*(tvm.runtime.tensor(x) for x in operands), result)
    return result.numpy()


def arrays(text: str) -> list[np.ndarray]:
    """Operands from -4 to 4, with zeros, exact halves and large numbers among them."""
    generator = np.random.default_rng(0)
    count = 1 + sum(name != "acc" for name in leaves(parse(text)))
    xs = [generator.uniform(-4, 4, COUNT).astype(np.float32) for _ in range(count)]
    xs[0][:8] = [0.0, -0.0, 0.5, -0.5, 1.5, 30.0, -30.0, 80.0]
    return xs


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("text", EXPRESSIONS)
def test_an_expression_means_what_the_table_says(text: str, target: str) -> None:
    xs = arrays(text)
    expected = apply_expression(text, [torch.from_numpy(x).double() for x in xs]).numpy()
    np.testing.assert_allclose(run(text, target, *xs), expected, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    "text", ["Relu(acc)", "Clip(acc, max=6.0, min=0.0)", "Max(acc, r0)", "Max(r0, acc)", "Min(acc, r0)", "Min(acc, 2.0)"]
)
def test_nan_survives_maxima_and_minima(text: str, target: str) -> None:
    xs = [np.ones(COUNT, np.float32), np.ones(COUNT, np.float32)]
    xs[0][::2] = np.nan
    got = run(text, target, *xs[: 1 + ("r0" in text)])
    assert np.isnan(got[::2]).all() and not np.isnan(got[1::2]).any()


@pytest.mark.parametrize("target", TARGETS)
def test_what_is_no_number_is_zero_once_quantized(target: str) -> None:
    x = np.full(COUNT, np.nan, np.float32)
    x[1::2] = np.inf
    got = run("FakeQuantize(acc, dtype='uint8', high=255, low=0, scale=0.5, zero_point=5)", target, x)
    assert (got[::2] == 0).all() and (got[1::2] == 125).all()


def test_every_float_operator_of_the_table_is_supported() -> None:
    """What has no place in a float epilogue: logic, bits, and results that are no numbers."""
    others = {
        "And", "Or", "Xor", "Not", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitwiseNot", "BitShift", "Equal", "Less",
        "LessOrEqual", "Greater", "GreaterOrEqual", "IsInf", "IsNaN", "Where", "Mod", "Elementwise",
        "Quantize", "Dequantize", "Widen", "Dyadic", "Reals", "Narrow", "Lookup",
    }  # fmt: skip
    elementwise = {name for name, entry in registered().items() if entry.elementwise}
    assert elementwise - others == epilogue.supported_operators()
