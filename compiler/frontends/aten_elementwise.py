"""Rows for arithmetic, activations, comparisons and conversions."""

from __future__ import annotations

import math
from typing import Any

import torch

from tapdot.compiler.frontends.aten_table import Call, Scalar, aten

Operand = str | Scalar


# -- arithmetic: operands are brought to the result's element type, as torch promotes ------------------------------------------


def _binary(op: str) -> Any:
    def row(call: Call, a: Operand, b: Operand) -> str:
        return call.emit(op, call.operand(a), call.operand(b))

    return row


aten("mul")(_binary("Mul"))
aten("maximum", "max.other")(_binary("Max"))
aten("minimum", "min.other")(_binary("Min"))


def _scaled(op: str) -> Any:
    """``a + alpha * b`` and its kind."""

    def row(call: Call, a: Operand, b: Operand, alpha: Scalar = 1) -> str:
        right = call.operand(b)
        if alpha != 1:
            right = call.emit("Mul", right, call.constant(alpha, part="alpha"), part="scaled")
        return call.emit(op, call.operand(a), right)

    return row


aten("add")(_scaled("Add"))
aten("sub")(_scaled("Sub"))
aten("rsub")(lambda call, a, b, alpha=1: _scaled("Sub")(call, b, a, alpha) if alpha == 1 else _reversed(call, a, b, alpha))


def _reversed(call: Call, a: Operand, b: Operand, alpha: Scalar) -> str:
    right = call.emit("Mul", call.operand(a), call.constant(alpha, part="alpha"), part="scaled")
    return call.emit("Sub", call.operand(b), right)


@aten("div")
def div(call: Call, a: Operand, b: Operand, rounding_mode: str | None = None) -> str:
    if rounding_mode is None:
        return call.emit("Div", call.operand(a), call.operand(b))
    if not call.dtype.startswith("float"):
        if rounding_mode == "trunc":
            return call.emit("Div", call.operand(a), call.operand(b))
        raise call.refusal("divides integers rounding down, which is not supported; compute sizes outside the model")
    quotient = call.emit("Div", call.operand(a), call.operand(b), part="quotient")
    return call.emit("Floor", quotient) if rounding_mode == "floor" else trunc(call, quotient)


@aten("trunc", "fix")
def trunc(call: Call, x: str, part: str = "") -> str:
    """Towards zero: the sign times the rounded-down magnitude."""
    magnitude = call.emit("Floor", call.emit("Abs", x, part="magnitude"), part="floor")
    return call.emit("Mul", call.emit("Sign", x, part="sign"), magnitude, part=part)


@aten("frac")
def frac(call: Call, x: str) -> str:
    return call.emit("Sub", x, trunc(call, x, "whole"))


@aten("remainder")
def remainder(call: Call, a: Operand, b: Operand) -> str:
    """With the divisor's sign, as in Python; ONNX's Mod does that for integers alone."""
    left, right = call.operand(a), call.operand(b)
    if not call.dtype.startswith("float"):
        return call.emit("Mod", left, right, fmod=0)
    whole = call.emit("Floor", call.emit("Div", left, right, part="quotient"), part="floor")
    return call.emit("Sub", left, call.emit("Mul", whole, right, part="whole"))


@aten("fmod")
def fmod(call: Call, a: Operand, b: Operand) -> str:
    """With the dividend's sign, as in C."""
    return call.emit("Mod", call.operand(a), call.operand(b), fmod=1)


@aten("pow", "square")
def pow_(call: Call, a: Operand, b: Operand = 2) -> str:
    """Powers that are cheaper otherwise are written so."""
    if isinstance(a, str) and b == 2:
        value = call.operand(a)
        return call.emit("Mul", value, value)
    if isinstance(a, str) and b == 0.5:
        return call.emit("Sqrt", call.operand(a))
    if isinstance(a, str) and b == -0.5:
        return rsqrt(call, a)
    return call.emit("Pow", call.operand(a), call.operand(b))


@aten("rsqrt")
def rsqrt(call: Call, x: str) -> str:
    return call.emit("Reciprocal", call.emit("Sqrt", call.operand(x), part="root"))


@aten("addcmul")
def addcmul(call: Call, x: str, a: str, b: str, value: Scalar = 1) -> str:
    product = call.emit("Mul", call.operand(a), call.operand(b), part="product")
    if value != 1:
        product = call.emit("Mul", product, call.constant(value, part="value"), part="scaled")
    return call.emit("Add", call.operand(x), product)


@aten("lerp.Scalar", "lerp.Tensor")
def lerp(call: Call, start: str, end: str, weight: Operand) -> str:
    step = call.emit("Sub", end, start, part="step")
    return call.emit("Add", start, call.emit("Mul", step, call.operand(weight), part="part"))


# -- functions of one value ----------------------------------------------------------------------------------------------------

UNARY = {
    "relu": "Relu",
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "exp": "Exp",
    "log": "Log",
    "sqrt": "Sqrt",
    "abs": "Abs",
    "neg": "Neg",
    "floor": "Floor",
    "ceil": "Ceil",
    "round": "Round",
    "sign": "Sign",
    "reciprocal": "Reciprocal",
    "erf": "Erf",
    "sin": "Sin",
    "cos": "Cos",
    "tan": "Tan",
    "asin": "Asin",
    "acos": "Acos",
    "atan": "Atan",
    "sinh": "Sinh",
    "cosh": "Cosh",
    "asinh": "Asinh",
    "acosh": "Acosh",
    "atanh": "Atanh",
    "hardswish": "HardSwish",
    "mish": "Mish",
    "selu": "Selu",
    "logical_not": "Not",
    "isnan": "IsNaN",
    "isinf": "IsInf",
}
"""Operators that differ in the name alone."""


def _unary(op: str) -> Any:
    return lambda call, x: call.emit(op, call.cast(x, call.dtype) if call.dtype != "bool" else x)


for _name, _op in UNARY.items():
    aten(_name)(_unary(_op))


@aten("relu6")
def relu6(call: Call, x: str) -> str:
    return clamp(call, x, 0.0, 6.0)


@aten("hardtanh")
def hardtanh(call: Call, x: str, min_val: Scalar = -1.0, max_val: Scalar = 1.0) -> str:
    return clamp(call, x, min_val, max_val)


@aten("clamp", "clip")
def clamp(call: Call, x: str, min: Scalar | None = None, max: Scalar | None = None) -> str:  # noqa: A002 torch's names
    if isinstance(min, str) or isinstance(max, str):
        return clamp_tensor(call, x, min, max)
    low = "" if min is None else call.constant(min, part="min")
    high = "" if max is None else call.constant(max, part="max")
    return call.emit("Clip", call.operand(x), low, high)


def clamp_tensor(call: Call, x: str, low: Any, high: Any) -> str:
    value = call.operand(x)
    if low is not None:
        value = call.emit("Max", value, call.operand(low), part="low" if high is not None else "")
    return value if high is None else call.emit("Min", value, call.operand(high))


@aten("clamp_min")
def clamp_min(call: Call, x: str, min: Operand) -> str:  # noqa: A002
    return clamp(call, x, min, None)  # type: ignore[arg-type]


@aten("clamp_max")
def clamp_max(call: Call, x: str, max: Operand) -> str:  # noqa: A002
    return clamp(call, x, None, max)  # type: ignore[arg-type]


@aten("threshold")
def threshold(call: Call, x: str, threshold: Scalar, value: Scalar) -> str:
    if threshold == value == 0:
        return call.emit("Relu", x)
    above = call.emit("Greater", x, call.constant(threshold, part="threshold"), part="above")
    return call.emit("Where", above, x, call.constant(value, part="value"))


@aten("hardsigmoid")
def hardsigmoid(call: Call, x: str) -> str:
    """Torch's slope is a sixth, ONNX's default a fifth."""
    return call.emit("HardSigmoid", x, alpha=1 / 6, beta=0.5)


@aten("silu")
def silu(call: Call, x: str) -> str:
    return call.emit("Mul", x, call.emit("Sigmoid", x, part="sigmoid"))


@aten("gelu")
def gelu(call: Call, x: str, approximate: str = "none") -> str:
    return call.emit("Gelu", x, approximate=approximate)


@aten("elu")
def elu(call: Call, x: str, alpha: Scalar = 1.0, scale: Scalar = 1.0, input_scale: Scalar = 1.0) -> str:
    if input_scale != 1:
        raise call.refusal("scales its input, which is not supported; multiply before it")
    if scale == 1:
        return call.emit("Elu", x, alpha=float(alpha))
    return call.emit("Selu", x, alpha=float(alpha), gamma=float(scale))


@aten("celu")
def celu(call: Call, x: str, alpha: Scalar = 1.0) -> str:
    return call.emit("Celu", x, alpha=float(alpha))


@aten("leaky_relu")
def leaky_relu(call: Call, x: str, negative_slope: Scalar = 0.01) -> str:
    return call.emit("LeakyRelu", x, alpha=float(negative_slope))


@aten("prelu", "_prelu_kernel")
def prelu(call: Call, x: str, weight: str) -> str:
    """Torch's slopes go by channel, ONNX's broadcast as numpy does."""
    rank, slopes = call.rank(x), call.shape(weight)
    if len(slopes) == 1 and rank > 2 and slopes != (1,):
        shape = call.ints([slopes[0], *[1] * (rank - 2)], "shape")
        weight = _reshaped(call, weight, shape)
    return call.emit("PRelu", x, weight)


def _reshaped(call: Call, weight: str, shape: str) -> str:
    """A weight in another shape: a constant stays one."""
    constants = call.builder.constants
    if weight in constants:
        return call.builder.constant(constants[weight].reshape(constants[shape]), weight)
    return call.emit("Reshape", weight, shape, part="slopes")


@aten("softplus")
def softplus(call: Call, x: str, beta: Scalar = 1, threshold: Scalar = 20) -> str:
    """Torch's threshold only guards against overflow, which ONNX's softplus does not know."""
    if beta == 1:
        return call.emit("Softplus", x)
    scaled = call.emit("Mul", x, call.constant(beta, part="beta"), part="scaled")
    return call.emit("Div", call.emit("Softplus", scaled, part="softplus"), call.constant(beta, part="beta"))


@aten("log1p")
def log1p(call: Call, x: str) -> str:
    return call.emit("Log", call.emit("Add", x, call.constant(1, part="one"), part="sum"))


@aten("expm1")
def expm1(call: Call, x: str) -> str:
    return call.emit("Sub", call.emit("Exp", x, part="exp"), call.constant(1, part="one"))


@aten("log2")
def log2(call: Call, x: str) -> str:
    return call.emit("Mul", call.emit("Log", x, part="log"), call.constant(1 / math.log(2), part="factor"))


@aten("log_sigmoid")
def log_sigmoid(call: Call, x: str) -> str:
    """``-softplus(-x)``, at no place by way of an overflow."""
    return call.emit("Neg", call.emit("Softplus", call.emit("Neg", x, part="negative"), part="softplus"))


@aten("softsign")
def softsign(call: Call, x: str) -> str:
    return call.emit("Softsign", x)


@aten("hardshrink")
def hardshrink(call: Call, x: str, lambd: Scalar = 0.5) -> str:
    return call.emit("Shrink", x, lambd=float(lambd), bias=0.0)


@aten("softshrink")
def softshrink(call: Call, x: str, lambd: Scalar = 0.5) -> str:
    return call.emit("Shrink", x, lambd=float(lambd), bias=float(lambd))


@aten("glu")
def glu(call: Call, x: str, dim: int = -1) -> str:
    value, gate = call.emit("Split", x, part="halves", outputs=2, axis=call.axis(x, dim), num_outputs=2)
    return call.emit("Mul", value, call.emit("Sigmoid", gate, part="sigmoid"))


# -- identities ----------------------------------------------------------------------------------------------------------------


@aten("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout", "native_dropout")
def dropout(call: Call, x: str, p: float, train: bool) -> str:
    """Kept for training the graph: the identity otherwise."""
    if train:
        raise call.refusal("drops values at random; call module.eval() before exporting")
    return call.emit("Dropout", x, call.constant(p, "float32", part="ratio"))


@aten("clone", "contiguous", "alias", "detach", "lift_fresh_copy", "lift_fresh")
def same(call: Call, x: str, **layout: Any) -> str:
    return x


@aten("_to_copy", "to.dtype", "to.dtype_layout", "to.device", "type_as", "to.other", "_to_copy.default")
def convert(call: Call, x: str, *rest: Any, **named: Any) -> str:
    """A conversion to the element type of the result; places do not matter."""
    return call.cast(x, call.dtype)


# -- comparisons and choices ---------------------------------------------------------------------------------------------------

COMPARISONS = {"eq": "Equal", "gt": "Greater", "ge": "GreaterOrEqual", "lt": "Less", "le": "LessOrEqual"}
LOGIC = {
    "logical_and": "And",
    "logical_or": "Or",
    "logical_xor": "Xor",
    "bitwise_and": "And",
    "bitwise_or": "Or",
    "bitwise_xor": "Xor",
}


def common_dtype(call: Call, a: Operand, b: Operand) -> str:
    """The element type in which torch compares two operands; a number takes the tensor's, unless it is a fraction beside
    integers.
    """
    kinds = [
        torch.empty((1,) if isinstance(value, str) else (), dtype=getattr(torch, call.dtype_of(value)))
        if isinstance(value, str)
        else torch.tensor(value)
        for value in (a, b)
    ]
    return call.torch_dtype(torch.result_type(*kinds))


def _comparison(op: str, negate: bool = False) -> Any:
    def row(call: Call, a: Operand, b: Operand) -> str:
        dtype = common_dtype(call, a, b)
        left, right = call.operand(a, dtype), call.operand(b, dtype)
        if negate:
            return call.emit("Not", call.emit(op, left, right, part="equal"))
        return call.emit(op, left, right)

    return row


for _name, _op in COMPARISONS.items():
    aten(_name)(_comparison(_op))
aten("ne")(_comparison("Equal", negate=True))


def _logic(op: str) -> Any:
    def row(call: Call, a: str, b: Operand) -> str:
        if op and call.dtype_of(a) != "bool":
            raise call.refusal("works on the bits of integers, which is not supported; use booleans")
        return call.emit(op, a, call.operand(b, "bool"))

    return row


for _name, _op in LOGIC.items():
    aten(_name)(_logic(_op))
aten("bitwise_not")(lambda call, x: call.emit("Not", x))


@aten("where.self", "where.ScalarOther", "where.ScalarSelf", "where.Scalar")
def where(call: Call, condition: str, a: Operand, b: Operand) -> str:
    return call.emit("Where", condition, call.operand(a), call.operand(b))


@aten("masked_fill")
def masked_fill(call: Call, x: str, mask: str, value: Operand) -> str:
    return call.emit("Where", mask, call.operand(value), x)
