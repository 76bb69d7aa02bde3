"""ONNX's own quantization operators, where no pass took them over."""

from __future__ import annotations

import numpy as np

from tapdot.kernels.emit import Value
from tapdot.kernels.fallback.table import operator
from tapdot.kernels.fallback.tensors import Builder, Tensor, UnsupportedError
from tapdot.kernels.tvm_adapter import T, tirx

FAR = 2.0**18
"""Beyond every code of 16 bits with any zero point, and within what rounding by an addition reaches."""


def _along(parameter: Tensor, x: Tensor, axis: int) -> Tensor:
    """A scale or zero point of one element, or one an index along ``axis``, shaped to broadcast."""
    if parameter.elements == 1:
        return parameter.reshape(())
    return parameter.reshape([x.shape[axis] if index == axis % x.rank else 1 for index in range(x.rank)])


@operator("QuantizeLinear")
def quantize_linear(b: Builder, x: Tensor, scale: Tensor, zero_point: Tensor | None = None, *, axis: int = 1) -> Tensor:
    """``saturate(round(x / scale) + zero_point)``, ties to even."""
    if x.dtype != "float32" or scale.dtype != "float32":
        raise UnsupportedError(f"QuantizeLinear of {x.dtype} by {scale.dtype}")
    _, kind = b.outputs[0]
    limits = np.iinfo(kind)

    def element(value: Value, step: Value, *zero: Value) -> Value:
        scaled = b.share(value / step)
        is_number = b.math.absolute(scaled) <= b.math.like(scaled, float("inf"))
        scaled = b.math.select(is_number, scaled, b.math.like(scaled, 0.0))
        scaled = b.math.minimum(b.math.like(scaled, FAR), b.math.maximum(b.math.like(scaled, -FAR), scaled))
        code = b.math.nearest(scaled)[1]
        code = b.share(code + T.Cast("int32", zero[0])) if zero else code
        low, high = (b.constant(int(limit), "int32") for limit in (limits.min, limits.max))
        return T.Cast(kind, b.share(tirx.min(tirx.max(code, low), high)))

    zeros = [] if zero_point is None else [_along(zero_point, x, axis)]
    return b.map(element, x, _along(scale, x, axis), *zeros, dtype=kind)


@operator("DequantizeLinear")
def dequantize_linear(b: Builder, x: Tensor, scale: Tensor, zero_point: Tensor | None = None, *, axis: int = 1) -> Tensor:
    """``(x - zero_point) * scale``."""
    if scale.dtype != "float32":
        raise UnsupportedError(f"DequantizeLinear by {scale.dtype}")

    def element(code: Value, step: Value, *zero: Value) -> Value:
        wide = b.share(T.Cast("int64", code))
        wide = b.share(wide - T.Cast("int64", zero[0])) if zero else wide
        return b.share(T.Cast("float32", wide)) * step

    zeros = [] if zero_point is None else [_along(zero_point, x, axis)]
    return b.map(element, x, _along(scale, x, axis), *zeros, dtype="float32")
