"""Element-wise operators on any element type, broadcast as numpy does.

float32 is the epilogues' table; float16 goes through float32; float64, integers and bool have what is listed here.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tapdot.kernels import epilogue, expression
from tapdot.kernels.emit import Value
from tapdot.kernels.fallback import codes
from tapdot.kernels.fallback.table import operator
from tapdot.kernels.fallback.tensors import Builder, Tensor, UnsupportedError, is_float
from tapdot.kernels.tvm_adapter import T, tirx
from tapdot.kernels.vector_math import double

DOUBLE_OPERATORS = {
    "Add", "Sub", "Mul", "Div", "Neg", "Abs", "Reciprocal", "Sqrt", "Floor", "Ceil", "Round", "Sign", "Sum", "Mean", "Max", "Min",
    "Clip", "Relu", "LeakyRelu", "PRelu", "ThresholdedRelu", "Shrink", "HardSigmoid", "HardSwish", "Softsign", "Identity",
}  # fmt: skip
"""Operators whose emitters are exact in float64 too: they take no polynomial made for float32."""


def real(b: Builder, op: str, operands: tuple[Value, ...], attributes: Mapping[str, Any]) -> Value:
    """One operator on float scalars of one type."""
    kind = str(operands[0].ty)
    if kind == "float32":
        return epilogue.apply(b.math, op, operands, attributes)
    if kind == "float16":
        wide = [b.share(T.Cast("float32", value)) for value in operands]
        return T.Cast("float16", epilogue.apply(b.math, op, wide, attributes))
    if kind == "float64" and op in DOUBLE_OPERATORS:
        return epilogue.apply(b.math, op, operands, attributes)
    if kind == "float64" and op == "Exp":
        return double.exp(b.math, *operands)
    if kind == "float64" and op == "Log":
        return double.log(b.math, *operands)
    if kind == "float64" and op == "Sigmoid":
        one = b.constant(1.0, kind)
        return one / (one + double.exp(b.math, b.share(b.math.negate(operands[0]))))
    raise UnsupportedError(f"{op} of {kind}")


def _integer_quotient(b: Builder, x: Value, y: Value) -> Value:
    return tirx.truncdiv(x, y)


def _integer_power(b: Builder, x: Value, y: Value) -> Value:
    """By squaring; exponents from 0 to 63."""
    result, factor, exponent = b.constant(1, str(x.ty)), x, T.Cast("int64", y)
    for bit in range(6):
        odd = tirx.EQ((exponent >> tirx.const(bit, "int64")) & tirx.const(1, "int64"), tirx.const(1, "int64"))
        result = b.share(tirx.Select(odd, result * factor, result))
        factor = b.share(factor * factor)
    return result


def _absolute(b: Builder, x: Value) -> Value:
    if str(x.ty).startswith("uint"):
        return x
    zero = b.constant(0, str(x.ty))
    return tirx.Select(x < zero, zero - x, x)


def _sign(b: Builder, x: Value) -> Value:
    kind = str(x.ty)
    one, zero = b.constant(1, kind), b.constant(0, kind)
    if kind.startswith("uint"):
        return tirx.Select(x > zero, one, zero)
    return tirx.Select(x > zero, one, tirx.Select(x < zero, b.constant(-1, kind), zero))


def _fold(combine: Callable[[Value, Value], Value]) -> Callable[..., Value]:
    return lambda b, *xs: functools.reduce(lambda x, y: b.share(combine(x, y)), xs)


def _bounded(b: Builder, x: Value, *, min: float = -math.inf, max: float = math.inf) -> Value:  # noqa: A002 ONNX's names
    kind = str(x.ty)
    if min > -math.inf:
        x = b.share(tirx.max(x, b.constant(int(min), kind)))
    return tirx.min(x, b.constant(int(max), kind)) if max < math.inf else x


_INTEGER: dict[str, Callable[..., Value]] = {
    "Add": lambda b, x, y: x + y,
    "Sub": lambda b, x, y: x - y,
    "Mul": lambda b, x, y: x * y,
    "Div": _integer_quotient,
    "Pow": _integer_power,
    "Neg": lambda b, x: b.constant(0, str(x.ty)) - x,
    "Abs": _absolute,
    "Sign": _sign,
    "Relu": lambda b, x: tirx.max(x, b.constant(0, str(x.ty))),
    "Clip": _bounded,
    "Sum": _fold(lambda x, y: x + y),
    "Max": _fold(tirx.max),
    "Min": _fold(tirx.min),
    "PRelu": lambda b, x, slope: tirx.Select(x < b.constant(0, str(x.ty)), x * slope, x),
    "Floor": lambda b, x: x,
    "Ceil": lambda b, x: x,
    "Round": lambda b, x: x,
    "Identity": lambda b, x: x,
}


def apply(b: Builder, op: str, operands: tuple[Value, ...], attributes: Mapping[str, Any]) -> Value:
    """One operator on scalars of one type, whatever the type."""
    if op in codes.OPERATORS:
        return codes.OPERATORS[op](b, *operands, **attributes)
    if is_float(str(operands[0].ty)):
        return real(b, op, operands, attributes)
    if op not in _INTEGER:
        raise UnsupportedError(f"{op} of {operands[0].ty}")
    return _INTEGER[op](b, *operands, **attributes)


def _register_arithmetic(name: str) -> None:
    @operator(name)
    def mapped(b: Builder, *xs: Tensor, **attributes: Any) -> Tensor:
        return b.map(lambda *values: apply(b, name, values, attributes), *xs)


for _name in sorted(epilogue.supported_operators() - {"Clip", "Pow", "Identity"}):
    _register_arithmetic(_name)


@operator("Clip")
def clip(b: Builder, x: Tensor, low: np.ndarray | None = None, high: np.ndarray | None = None, **bounds: float) -> Tensor:
    for name, bound in (("min", low), ("max", high)):
        if bound is not None:
            if isinstance(bound, Tensor):
                raise UnsupportedError("Clip with a bound computed at run time")
            bounds[name] = np.asarray(bound).reshape(-1)[0].item()
    return b.map(lambda value: apply(b, "Clip", (value,), bounds), x)


@operator("Pow")
def power(b: Builder, x: Tensor, y: Tensor) -> Tensor:
    """In the type of the base; a float to an integer goes through float32."""
    if is_float(x.dtype):
        return b.map(lambda v, w: apply(b, "Pow", (v, w), {}), x, b.cast(y, x.dtype))
    if is_float(y.dtype):
        powers = b.map(lambda v, w: apply(b, "Pow", (v, w), {}), b.cast(x, y.dtype), y)
        return b.cast(powers, x.dtype)
    return b.map(lambda v, w: apply(b, "Pow", (v, w), {}), x, y)


@operator("Mod")
def modulo(b: Builder, x: Tensor, y: Tensor, *, fmod: int = 0) -> Tensor:
    """Of floats: exact while the quotient is below 2^29. The sign is the dividend's with ``fmod``, else the divisor's."""
    if not is_float(x.dtype):
        return b.map(tirx.truncmod if fmod else tirx.floormod, x, y)
    if x.dtype == "float64":
        raise UnsupportedError("Mod of float64")

    def remainder(v: Value, w: Value) -> Value:
        dividend, divisor = b.share(T.Cast("float64", v)), b.share(T.Cast("float64", w))
        quotient = b.math.trunc(b.share(dividend / divisor))
        rest = b.share(T.Cast("float32", dividend - quotient * divisor))
        magnitude = b.math.absolute(rest)
        finite = b.math.absolute(w) < b.math.like(w, math.inf)
        truncated = b.share(b.math.select(finite, b.math.with_sign_of(magnitude, v), v))
        if fmod:
            return truncated
        return tirx.Select(truncated * w < b.math.like(w, 0.0), truncated + w, truncated)

    wide = b.map(remainder, b.cast(x, "float32"), b.cast(y, "float32"))
    return b.cast(wide, x.dtype)


@operator("Where")
def where(b: Builder, condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return b.map(lambda c, v, w: tirx.Select(c, v, w), condition, x, y, dtype=x.dtype)


# -- comparison and logic ---------------------------------------------------------------------------------------------------


def _register(name: str, function: Callable[..., Value], dtype: str | None) -> None:
    @operator(name)
    def mapped(b: Builder, *xs: Tensor) -> Tensor:
        return b.map(function, *xs, dtype=dtype)


for _name, _compare in {
    "Equal": tirx.EQ,
    "Less": tirx.LT,
    "LessOrEqual": tirx.LE,
    "Greater": tirx.GT,
    "GreaterOrEqual": tirx.GE,
    "And": tirx.And,
    "Or": tirx.Or,
    "Xor": lambda x, y: tirx.Or(tirx.And(x, tirx.Not(y)), tirx.And(y, tirx.Not(x))),
    "Not": tirx.Not,
}.items():
    _register(_name, _compare, "bool")

_register("BitwiseAnd", lambda x, y: x & y, None)
_register("BitwiseOr", lambda x, y: x | y, None)
_register("BitwiseXor", lambda x, y: x ^ y, None)
_register("BitwiseNot", lambda x: ~x, None)


@operator("BitShift")
def bit_shift(b: Builder, x: Tensor, y: Tensor, *, direction: str) -> Tensor:
    """A distance that is negative or not below the width shifts every bit out; the machine leaves that open."""
    width = np.dtype(x.dtype).itemsize * 8
    signed = np.dtype(x.dtype).kind == "i"

    def shift(value: Value, distance: Value) -> Value:
        inside = tirx.And(distance >= tirx.const(0, y.dtype), distance < tirx.const(width, y.dtype))
        if direction == "LEFT":
            return tirx.Select(inside, value << distance, tirx.const(0, x.dtype))
        gone = value >> tirx.const(width - 1, x.dtype) if signed else tirx.const(0, x.dtype)
        return tirx.Select(inside, value >> distance, gone)

    return b.map(shift, x, y)


def _magnitude_bits(b: Builder, x: Value) -> tuple[Value, Value]:
    """A float's bits without the sign, and those of infinity."""
    bits = b.math.bits(b.math.absolute(x))
    return bits, b.math.bits(b.math.like(x, math.inf))


@operator("IsNaN")
def is_nan(b: Builder, x: Tensor) -> Tensor:
    def test(value: Value) -> Value:
        bits, infinity = _magnitude_bits(b, value)
        return bits > infinity

    return b.map(test, b.cast(x, "float32") if x.dtype == "float16" else x, dtype="bool")


@operator("IsInf")
def is_inf(b: Builder, x: Tensor, *, detect_negative: int = 1, detect_positive: int = 1) -> Tensor:
    def test(value: Value) -> Value:
        zero = b.math.like(value, 0.0)
        found: Value = tirx.EQ(b.math.absolute(value), b.math.like(value, math.inf))
        if not detect_negative:
            found = tirx.And(found, value > zero)
        return found if detect_positive else tirx.And(found, value < zero)

    return b.map(test, b.cast(x, "float32") if x.dtype == "float16" else x, dtype="bool")


# -- the fused dialect ------------------------------------------------------------------------------------------------------


def apply_epilogue(b: Builder, text: str, acc: Tensor, extras: tuple[Tensor, ...]) -> Tensor:
    """An expression over ``acc`` and the further operands ``r0``, ``r1``, ...; tables of a ``Lookup`` are read whole.

    Literals beside codes or their sums are int32.
    """
    tree = expression.parse(text)
    operands = {expression.ACCUMULATOR: acc, **{f"r{index}": extra for index, extra in enumerate(extras)}}
    tables = {name: operands[name] for name in expression.tables(tree)}
    elements = {name: operand for name, operand in operands.items() if name not in tables}

    def number(value: float) -> Value:
        return b.constant(value, acc.dtype) if is_float(acc.dtype) else b.constant(int(value), _literal_type(acc.dtype))

    def at(*values: Value) -> Value:
        return expression.evaluate(
            tree,
            {**tables, **dict(zip(elements, values, strict=True))},
            lambda op, arguments, attributes: b.share(apply(b, op, tuple(arguments), attributes)),
            number,
        )

    return b.map(at, *elements.values(), dtype=b.outputs[0][1])


def _literal_type(kind: str) -> str:
    return "int32" if kind in ("int8", "uint8") else kind


@operator("Elementwise")
def chain(b: Builder, acc: Tensor, *extras: Tensor, expression: str) -> Tensor:
    return apply_epilogue(b, expression, acc, extras)
