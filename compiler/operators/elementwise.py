"""Arithmetic, comparison, logic and mathematical functions, one position at a time, broadcast as numpy does."""

from __future__ import annotations

import functools
import math
import operator as python
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tapdot.compiler.operators.table import Static, operator

_UNSIGNED = (torch.uint16, torch.uint32, torch.uint64)


def widened(compute: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Computes wide unsigned integers, which torch can store but not calculate with, as int64 (exact below 2^63)."""

    @functools.wraps(compute)
    def wide(*operands: Any, **attributes: Any) -> Tensor:
        kind = next((x.dtype for x in operands if isinstance(x, Tensor) and x.dtype in _UNSIGNED), None)
        if kind is None:
            return compute(*operands, **attributes)
        result = compute(*(x.long() if isinstance(x, Tensor) and x.dtype in _UNSIGNED else x for x in operands), **attributes)
        return result.to(kind) if result.dtype == torch.int64 else result

    return wide


def require_same_dtype(*operands: Tensor) -> None:
    """ONNX has no implicit conversions: raises TypeError where torch would promote."""
    kinds = {x.dtype for x in operands}
    if len(kinds) > 1:
        raise TypeError("operands must have one element type; insert a Cast")


# -- arithmetic -------------------------------------------------------------------------------------------------------------


@operator("Add", elementwise=True)
@widened
def add(a: Tensor, b: Tensor) -> Tensor:
    require_same_dtype(a, b)
    return a + b


@operator("Sub", elementwise=True)
@widened
def sub(a: Tensor, b: Tensor) -> Tensor:
    require_same_dtype(a, b)
    return a - b


@operator("Mul", elementwise=True)
@widened
def mul(a: Tensor, b: Tensor) -> Tensor:
    require_same_dtype(a, b)
    return a * b


@operator("Div", elementwise=True)
@widened
def div(a: Tensor, b: Tensor) -> Tensor:
    """Integers are divided towards zero."""
    require_same_dtype(a, b)
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


@operator("Pow", elementwise=True)
@widened
def pow_(a: Tensor, b: Tensor) -> Tensor:
    """``a ** b`` in the element type of ``a``."""
    return torch.pow(a, b).to(a.dtype)


@operator("Mod", elementwise=True)
@widened
def mod(a: Tensor, b: Tensor, *, fmod: int = 0) -> Tensor:
    """The remainder with the sign of the divisor, or with ``fmod=1`` that of the dividend, as in C."""
    require_same_dtype(a, b)
    return torch.fmod(a, b) if fmod else torch.remainder(a, b)


def _fold(combine: Callable[[Tensor, Tensor], Tensor], operands: tuple[Tensor, ...]) -> Tensor:
    if not operands:
        raise ValueError("at least one operand is needed")
    require_same_dtype(*operands)
    return functools.reduce(combine, operands)


@operator("Sum", elementwise=True)
def sum_(*xs: Tensor) -> Tensor:
    return _fold(python.add, xs)


@operator("Mean", elementwise=True)
def mean(*xs: Tensor) -> Tensor:
    return _fold(python.add, xs) / len(xs)


@operator("Max", elementwise=True)
@widened
def max_(*xs: Tensor) -> Tensor:
    return _fold(torch.maximum, xs)


@operator("Min", elementwise=True)
@widened
def min_(*xs: Tensor) -> Tensor:
    return _fold(torch.minimum, xs)


@operator("Clip", elementwise=True)
@widened
def clip(x: Tensor, min: Static | None = None, max: Static | None = None) -> Tensor:  # noqa: A002 ONNX's names
    """``Min(Max(x, min), max)``; in an expression the bounds are written ``Clip(acc, min=0.0, max=6.0)``."""
    convert = float if x.is_floating_point() else int
    low = None if min is None else convert(np.asarray(min).item())
    high = None if max is None else convert(np.asarray(max).item())
    if low is None and high is None:
        return x
    if x.is_floating_point() and low is not None and high is not None and low < high:
        return torch.nn.functional.hardtanh(x, low, high)  # the same values; its gradient takes a tenth of clamp's time
    return torch.clamp(x, low, high)


@operator("Where", elementwise=True)
def where(condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
    require_same_dtype(x, y)
    if condition.dtype != torch.bool:
        raise TypeError("the condition must be bool")
    return torch.where(condition, x, y)


# -- comparison and logic ---------------------------------------------------------------------------------------------------


def _comparison(name: str, compare: Callable[[Tensor, Tensor], Tensor]) -> None:
    @operator(name, elementwise=True)
    @widened
    def compared(a: Tensor, b: Tensor) -> Tensor:
        require_same_dtype(a, b)
        return compare(a, b)


_comparison("Equal", torch.eq)
_comparison("Less", torch.lt)
_comparison("LessOrEqual", torch.le)
_comparison("Greater", torch.gt)
_comparison("GreaterOrEqual", torch.ge)
_comparison("And", torch.logical_and)
_comparison("Or", torch.logical_or)
_comparison("Xor", torch.logical_xor)
_comparison("BitwiseAnd", torch.bitwise_and)
_comparison("BitwiseOr", torch.bitwise_or)
_comparison("BitwiseXor", torch.bitwise_xor)


@operator("BitShift", elementwise=True)
@widened
def bit_shift(a: Tensor, b: Tensor, *, direction: str) -> Tensor:
    require_same_dtype(a, b)
    if direction not in ("LEFT", "RIGHT"):
        raise ValueError(f"direction must be LEFT or RIGHT, not {direction!r}")
    return a << b if direction == "LEFT" else a >> b


@operator("IsInf", elementwise=True)
def is_inf(x: Tensor, *, detect_negative: int = 1, detect_positive: int = 1) -> Tensor:
    return torch.isinf(x) & (((x > 0) & bool(detect_positive)) | ((x < 0) & bool(detect_negative)))


# -- functions of one operand -----------------------------------------------------------------------------------------------


def _unary(name: str, compute: Callable[[Tensor], Tensor]) -> None:
    @operator(name, elementwise=True)
    def applied(x: Tensor) -> Tensor:
        return compute(x)


def _rounding(compute: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Integers are round already."""
    return lambda x: compute(x) if x.is_floating_point() else x


_unary("Neg", torch.neg)
_unary("Abs", widened(torch.abs))
_unary("Sign", widened(torch.sign))
_unary("Reciprocal", torch.reciprocal)
_unary("Sqrt", torch.sqrt)
_unary("Exp", torch.exp)
_unary("Log", torch.log)
_unary("Erf", torch.erf)
_unary("Floor", _rounding(torch.floor))
_unary("Ceil", _rounding(torch.ceil))
_unary("Round", _rounding(torch.round))  # halves go to the even neighbour
_unary("Sin", torch.sin)
_unary("Cos", torch.cos)
_unary("Tan", torch.tan)
_unary("Asin", torch.asin)
_unary("Acos", torch.acos)
_unary("Atan", torch.atan)
_unary("Sinh", torch.sinh)
_unary("Cosh", torch.cosh)
_unary("Tanh", torch.tanh)
_unary("Asinh", torch.asinh)
_unary("Acosh", torch.acosh)
_unary("Atanh", torch.atanh)
_unary("Not", torch.logical_not)
_unary("BitwiseNot", widened(torch.bitwise_not))
_unary("IsNaN", torch.isnan)
_unary("Identity", lambda x: x)

# -- activations ------------------------------------------------------------------------------------------------------------


@operator("Relu", elementwise=True)
def relu(x: Tensor) -> Tensor:
    return torch.relu(x)


@operator("LeakyRelu", elementwise=True)
def leaky_relu(x: Tensor, *, alpha: float = 0.01) -> Tensor:
    return torch.nn.functional.leaky_relu(x, alpha)


@operator("PRelu", elementwise=True)
def prelu(x: Tensor, slope: Tensor) -> Tensor:
    """``x`` where positive, else ``slope * x``; the slope broadcasts to ``x`` as numpy does, not by channel as torch does."""
    return torch.where(x < 0, x * slope, x)


@operator("ThresholdedRelu", elementwise=True)
def thresholded_relu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    return torch.where(x > alpha, x, 0.0)


@operator("Shrink", elementwise=True)
def shrink(x: Tensor, *, bias: float = 0.0, lambd: float = 0.5) -> Tensor:
    """Nothing within ``lambd`` of zero; outside, ``x`` moved towards zero by ``bias``."""
    return torch.where(x < -lambd, x + bias, torch.where(x > lambd, x - bias, torch.zeros_like(x))).to(x.dtype)


@operator("Elu", elementwise=True)
def elu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    return torch.where(x < 0, alpha * torch.expm1(torch.clamp(x, max=0)), x)


@operator("Selu", elementwise=True)
def selu(x: Tensor, *, alpha: float = 1.67326319217681884765625, gamma: float = 1.05070102214813232421875) -> Tensor:
    return gamma * elu(x, alpha=alpha)


@operator("Celu", elementwise=True)
def celu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    return torch.clamp(x, min=0) + torch.clamp(alpha * torch.expm1(x / alpha), max=0)


@operator("Sigmoid", elementwise=True)
def sigmoid(x: Tensor) -> Tensor:
    return torch.sigmoid(x)


@operator("HardSigmoid", elementwise=True)
def hard_sigmoid(x: Tensor, *, alpha: float = 0.2, beta: float = 0.5) -> Tensor:
    return torch.clamp(alpha * x + beta, 0, 1)


@operator("HardSwish", elementwise=True)
def hard_swish(x: Tensor) -> Tensor:
    """``x * HardSigmoid(x, alpha=1/6, beta=0.5)``."""
    return x * torch.clamp(x / 6 + 0.5, 0, 1)


@operator("Softplus", elementwise=True)
def softplus(x: Tensor) -> Tensor:
    """``log(1 + exp(x))``, at no place by way of an overflow."""
    return torch.logaddexp(x, torch.zeros_like(x))


@operator("Softsign", elementwise=True)
def softsign(x: Tensor) -> Tensor:
    return x / (1 + torch.abs(x))


@operator("Mish", elementwise=True)
def mish(x: Tensor) -> Tensor:
    """``x * tanh(softplus(x))``."""
    return x * torch.tanh(softplus(x))


@operator("Gelu", elementwise=True)
def gelu(x: Tensor, *, approximate: str = "none") -> Tensor:
    """``x`` times the normal distribution's mass below ``x``; ``approximate="tanh"`` is the usual stand-in. (From opset 20.)"""
    if approximate == "tanh":
        return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    if approximate != "none":
        raise ValueError(f"approximate must be none or tanh, not {approximate!r}")
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))
