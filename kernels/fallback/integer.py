"""Sums of products of codes with their epilogues: the nodes of the integer dialect, in any form no other family serves."""

from __future__ import annotations

from typing import Any

from tapdot.kernels.fallback.elementwise import apply_epilogue
from tapdot.kernels.fallback.linear import convolve, product
from tapdot.kernels.fallback.pooling import slide
from tapdot.kernels.fallback.reduction import add, total
from tapdot.kernels.fallback.table import operator
from tapdot.kernels.fallback.tensors import Builder, Tensor
from tapdot.kernels.fallback.windows import window


def wide(b: Builder, codes: Tensor, zero_point: int = 0) -> Tensor:
    """Codes as int32 without their zero point, in which a border of zeros is a border of real zeros."""
    wide = b.cast(codes, "int32")
    return b.map(lambda value: value - b.constant(zero_point, "int32"), wide) if zero_point else wide


@operator("QConv")
def qconv(
    b: Builder,
    x: Tensor,
    w: Tensor,
    bias: Tensor | None = None,
    *extras: Tensor,
    zero_point: int = 0,
    epilogue: str = "acc",
    **attributes: Any,
) -> Tensor:
    acc = convolve(b, wide(b, x, zero_point), wide(b, w), bias, attributes, b.outputs[0][0])
    return apply_epilogue(b, epilogue, acc, extras)


@operator("QGemm")
def qgemm(
    b: Builder, a: Tensor, w: Tensor, bias: Tensor | None = None, *extras: Tensor, zero_point: int = 0, epilogue: str = "acc"
) -> Tensor:
    acc = product(b, wide(b, a, zero_point), wide(b, w))
    return apply_epilogue(b, epilogue, acc if bias is None else b.map(add, acc, bias), extras)


@operator("QSumPool")
def qsum_pool(
    b: Builder, x: Tensor, *extras: Tensor, zero_point: int = 0, epilogue: str = "acc", kernel_shape: Any, strides: Any, pads: Any
) -> Tensor:
    over = window(x.shape[2:], kernel_shape, b.outputs[0][0][2:], strides, None, pads, "NOTSET")
    return apply_epilogue(b, epilogue, slide(b, wide(b, x, zero_point), over, 0, add, 0), extras)


@operator("QGlobalSum")
def qglobal_sum(b: Builder, x: Tensor, *extras: Tensor, zero_point: int = 0, epilogue: str = "acc") -> Tensor:
    return apply_epilogue(b, epilogue, total(b, wide(b, x, zero_point), range(2, x.rank)), extras)
