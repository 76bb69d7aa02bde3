"""ONNX's own quantization operators, as models quantized elsewhere hold them; ``passes.adopt_quantization`` takes them over."""

from __future__ import annotations

import torch
from torch import Tensor

from tapdot.compiler.operators.table import meta, operator

CODES = (torch.uint8, torch.int8, torch.uint16, torch.int16)


def _along(parameter: Tensor, x: Tensor, axis: int) -> Tensor:
    """A scale or zero point of one element or of one an index along ``axis``, shaped to broadcast."""
    if parameter.numel() == 1:
        return parameter.reshape(())
    if parameter.ndim != 1 or parameter.shape[0] != x.shape[axis]:
        raise ValueError(f"scales of shape {list(parameter.shape)} do not fit axis {axis} of a tensor of shape {list(x.shape)}")
    return parameter.reshape([-1 if index == axis % x.ndim else 1 for index in range(x.ndim)])


@operator("QuantizeLinear")
def quantize_linear(x: Tensor, y_scale: Tensor, y_zero_point: Tensor | None = None, *, axis: int = 1) -> Tensor:
    """``saturate(round(x / y_scale) + y_zero_point)``, ties to even; uint8 without a zero point."""
    kind = torch.uint8 if y_zero_point is None else y_zero_point.dtype
    if kind not in CODES:
        raise TypeError(f"codes are 8 or 16 bits wide, not {str(kind).removeprefix('torch.')}")
    if x.is_meta:
        _along(y_scale, x, axis)
        return meta(x.shape, kind)
    bounds = torch.iinfo(kind)
    codes = torch.round(x / _along(y_scale, x, axis)).nan_to_num(nan=0.0).double()
    if y_zero_point is not None:
        codes = codes + _along(y_zero_point.to(torch.int64), x, axis)
    return codes.clamp(bounds.min, bounds.max).to(torch.int64).to(kind)


@operator("DequantizeLinear")
def dequantize_linear(x: Tensor, x_scale: Tensor, x_zero_point: Tensor | None = None, *, axis: int = 1) -> Tensor:
    """``(x - x_zero_point) * x_scale``; codes, or int32 sums."""
    if x.dtype not in (*CODES, torch.int32):
        raise TypeError(f"codes or int32 are expected, not {str(x.dtype).removeprefix('torch.')}")
    if x.is_meta:
        _along(x_scale, x, axis)
        return meta(x.shape, x_scale.dtype)
    wide = x.to(torch.int64)
    if x_zero_point is not None:
        wide = wide - _along(x_zero_point.to(torch.int64), x, axis)
    return wide.to(x_scale.dtype) * _along(x_scale, x, axis)
