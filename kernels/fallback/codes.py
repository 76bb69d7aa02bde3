"""Operators of the integer dialect on one element: between floats and codes, and inside the expressions of integer nodes.

Their meaning is ``kernels.numerics``'; every other kernel of the dialect gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tapdot.kernels import numerics
from tapdot.kernels.emit import Value
from tapdot.kernels.fallback.table import operator
from tapdot.kernels.fallback.tensors import Builder, Tensor, UnsupportedError
from tapdot.kernels.tvm_adapter import T, tirx


def _rounded(b: Builder, x: Value, scale: float, zero_point: int, low: int, high: int) -> Value:
    """``clamp(rint(x * f32(1/scale)), low - zero_point, high - zero_point)`` as int32; NaN gives 0.

    Bounds are integers, so clamping before rounding changes nothing and keeps the rounding within reach of the hardware.
    """
    scaled = b.share(x * b.constant(numerics.inverse_scale(scale), "float32"))
    is_number = b.math.absolute(scaled) <= b.math.like(scaled, float("inf"))
    scaled = b.math.select(is_number, scaled, b.math.like(scaled, 0.0))
    scaled = b.math.maximum(b.math.like(scaled, float(low - zero_point)), scaled)
    scaled = b.math.minimum(b.math.like(scaled, float(high - zero_point)), scaled)
    return b.math.nearest(scaled)[1]


def _real(b: Builder, difference: Value, scale: float) -> Value:
    """int32 codes without their zero point as float32 values."""
    return b.share(T.Cast("float32", difference)) * b.constant(float(np.float32(scale)), "float32")


def quantize(b: Builder, x: Value, *, scale: float, low: int, high: int, zero_point: int = 0, dtype: str) -> Value:
    return T.Cast(dtype, _rounded(b, x, scale, zero_point, low, high) + b.constant(zero_point, "int32"))


def dequantize(b: Builder, q: Value, *, scale: float, zero_point: int = 0) -> Value:
    return _real(b, widen(b, q, zero_point=zero_point), scale)


def fake_quantize(b: Builder, x: Value, *, scale: float, low: int, high: int, zero_point: int = 0, dtype: str) -> Value:
    return _real(b, _rounded(b, x, scale, zero_point, low, high), scale)


def widen(b: Builder, q: Value, *, zero_point: int = 0) -> Value:
    return b.share(T.Cast("int32", q) - b.constant(zero_point, "int32"))


def dyadic(b: Builder, x: Value, m: Value | None = None, s: Value | None = None, *, multiplier: int = 0, shift: int = 0) -> Value:
    wide = T.Cast("int64", x)
    if m is None or s is None:
        rounding = b.constant(1 << (shift - 1), "int64")
        return T.Cast("int32", b.share(wide * b.constant(multiplier, "int64") + rounding) >> b.constant(shift, "int64"))
    places = b.share(T.Cast("int64", s))
    rounding = b.constant(1, "int64") << (places - b.constant(1, "int64"))
    return T.Cast("int32", b.share(wide * T.Cast("int64", m) + rounding) >> places)


def reals(b: Builder, x: Value, scales: Value) -> Value:
    return b.share(T.Cast("float32", x)) * scales


def narrow(b: Builder, x: Value, *, low: int, high: int, zero_point: int = 0, dtype: str) -> Value:
    """Clamped before the zero point is added, so that the sum cannot overflow."""
    least, most = b.constant(low - zero_point, "int32"), b.constant(high - zero_point, "int32")
    return T.Cast(dtype, b.share(tirx.min(tirx.max(x, least), most)) + b.constant(zero_point, "int32"))


def lookup(b: Builder, q: Value, table: Tensor) -> Value:
    """The table is a whole tensor, not an element."""
    if str(q.ty) not in ("int8", "uint8"):
        raise UnsupportedError(f"Lookup by {q.ty}")
    lowest = int(np.iinfo(str(q.ty)).min)
    return table.reshape((table.elements,)).at(b.share(T.Cast("int32", q) - b.constant(lowest, "int32")))


OPERATORS: Mapping[str, Callable[..., Value]] = {
    "Quantize": quantize,
    "Dequantize": dequantize,
    "FakeQuantize": fake_quantize,
    "Widen": widen,
    "Dyadic": dyadic,
    "Reals": reals,
    "Narrow": narrow,
    "Lookup": lookup,
}


def _register(name: str, element: Callable[..., Value]) -> None:
    @operator(name)
    def mapped(b: Builder, *xs: Tensor, **attributes: Any) -> Tensor:
        if name == "Lookup":
            codes, table = xs
            return b.map(lambda q: element(b, q, table), codes, dtype=b.outputs[0][1])
        return b.map(lambda *values: element(b, *values, **attributes), *xs, dtype=b.outputs[0][1])


for _name, _element in OPERATORS.items():
    _register(_name, _element)
