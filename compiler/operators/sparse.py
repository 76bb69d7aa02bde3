"""The sparse dialect: convolutions and matrix products whose weights are stored as FKW arrays (``kernels.fkw``).

Operands are ``x``, the six arrays by the paper's names, a bias (may be omitted), then the epilogue's extra operands::

    %y: float32[1,64,56,56] = SparseConv(%x, @reorder, @offset, @index, @stride, @weight, @patterns, @b) {kernel_shape=[3,3], ...}

Their meaning is that of the dense operator on the decompressed weight, so the reference is exact by construction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tapdot.compiler.operators.fused import fused_conv, fused_gemm
from tapdot.compiler.operators.integer import qconv, qgemm
from tapdot.compiler.operators.table import Ints, Stored, meta, operator
from tapdot.compiler.types import TensorType
from tapdot.kernels.expression import ACCUMULATOR
from tapdot.kernels.fkw import FKW
from tapdot.kernels.patterns import KEPT

WEIGHT = 5
"""The operand of the kept weights, ``[kernels, share, 4]``."""
BIAS = 7
EXTRAS = 8
"""The first operand of the epilogue."""


def sparse_macs(inputs: Sequence[TensorType | None], outputs: Sequence[TensorType], attributes: Mapping[str, Any]) -> int:
    """Every kept weight, at every position (every row of a matrix)."""
    reorder, weight = inputs[1], inputs[WEIGHT]
    assert reorder is not None and weight is not None
    share = weight.shape[1]
    return outputs[0].elements // (reorder.shape[0] * share) * weight.shape[0] * share * KEPT


def decompress(arrays: Sequence[np.ndarray], shape: tuple[int, ...]) -> Tensor:
    """The dense weight of that shape from the six arrays."""
    return torch.from_numpy(FKW(*arrays).dense(shape))


def _dense(x: Tensor, arrays: Sequence[np.ndarray], kernel_shape: Ints) -> Tensor:
    reorder, weight = arrays[0], arrays[4]
    shape = (len(reorder) * weight.shape[1], x.shape[1], *kernel_shape)
    return meta(shape, torch.from_numpy(weight[:0]).dtype) if x.is_meta else decompress(arrays, shape)


@operator("SparseConv", macs=sparse_macs)
def sparse_conv(
    x: Tensor,
    reorder: Stored,
    offset: Stored,
    index: Stored,
    stride: Stored,
    weight: Stored,
    patterns: Stored,
    b: Tensor | None = None,
    *extras: Tensor,
    kernel_shape: Ints,
    strides: Ints,
    pads: Ints,
    epilogue: str = ACCUMULATOR,
) -> Tensor:
    """``epilogue(Conv(x, w, b), *extras)`` of the weight ``w`` that the arrays hold; kernels of 3x3 or 1x1."""
    w = _dense(x, (reorder, offset, index, stride, weight, patterns), kernel_shape)
    return fused_conv(x, w, b, *extras, strides=strides, pads=pads, dilations=(1, 1), epilogue=epilogue)


@operator("QSparseConv", macs=sparse_macs)
def qsparse_conv(
    x: Tensor,
    reorder: Stored,
    offset: Stored,
    index: Stored,
    stride: Stored,
    weight: Stored,
    patterns: Stored,
    b: Tensor | None = None,
    *extras: Tensor,
    kernel_shape: Ints,
    strides: Ints,
    pads: Ints,
    zero_point: int = 0,
    epilogue: str = ACCUMULATOR,
) -> Tensor:
    """``QConv`` of the int8 weight that the arrays hold."""
    w = _dense(x, (reorder, offset, index, stride, weight, patterns), kernel_shape)
    return qconv(x, w, b, *extras, strides=strides, pads=pads, dilations=(1, 1), zero_point=zero_point, epilogue=epilogue)


@operator("SparseGemm", macs=sparse_macs)
def sparse_gemm(
    a: Tensor,
    reorder: Stored,
    offset: Stored,
    index: Stored,
    stride: Stored,
    weight: Stored,
    patterns: Stored,
    b: Tensor | None = None,
    *extras: Tensor,
    epilogue: str = ACCUMULATOR,
) -> Tensor:
    """``epilogue(a @ w.T + b, *extras)`` of ``a: [M, K]`` and the weight ``w: [N, K]``, pruned by quads, that the arrays hold."""
    w = _dense(a, (reorder, offset, index, stride, weight, patterns), ())
    return fused_gemm(a, w.T, b, *extras, epilogue=epilogue)


@operator("QSparseGemm", macs=sparse_macs)
def qsparse_gemm(
    a: Tensor,
    reorder: Stored,
    offset: Stored,
    index: Stored,
    stride: Stored,
    weight: Stored,
    patterns: Stored,
    b: Tensor | None = None,
    *extras: Tensor,
    zero_point: int = 0,
    epilogue: str = ACCUMULATOR,
) -> Tensor:
    """``QGemm`` of the int8 weight ``[N, K]``, pruned by quads, that the arrays hold."""
    w = _dense(a, (reorder, offset, index, stride, weight, patterns), ())
    return qgemm(a, w.T, b, *extras, zero_point=zero_point, epilogue=epilogue)
