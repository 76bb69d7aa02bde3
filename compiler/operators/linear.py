"""Matrix products."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tapdot.compiler.operators.elementwise import require_same_dtype
from tapdot.compiler.operators.table import meta, operator
from tapdot.compiler.types import TensorType


def matmul_macs(inputs: Sequence[TensorType | None], outputs: Sequence[TensorType], attributes: Mapping[str, Any]) -> int:
    """Every element of the result sums over the columns of ``a`` (its rows where ``transA``)."""
    a = inputs[0]
    assert a is not None
    return outputs[0].elements * a.shape[0 if attributes.get("transA") else -1]


@operator("MatMul", macs=matmul_macs)
def matmul(a: Tensor, b: Tensor) -> Tensor:
    """As numpy.matmul: the last two axes are matrices, those before broadcast."""
    require_same_dtype(a, b)
    if a.is_meta and a.ndim == b.ndim == 2 and a.shape[1] == b.shape[0]:
        return meta((a.shape[0], b.shape[1]), a.dtype)
    return torch.matmul(a, b)


@operator("Gemm", macs=matmul_macs)
def gemm(
    a: Tensor,
    b: Tensor,
    c: Tensor | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> Tensor:
    """``alpha * a @ b + beta * c`` of matrices, ``a`` and ``b`` transposed first where asked; ``c`` broadcasts to the result."""
    if a.ndim != 2 or b.ndim != 2:
        raise ValueError(f"matrices are expected, found ranks {a.ndim} and {b.ndim}")
    product = matmul(a.T if transA else a, b.T if transB else b)
    if c is not None and np.broadcast_shapes(product.shape, c.shape) != product.shape:
        raise ValueError(f"operand c of shape {tuple(c.shape)} does not broadcast to {tuple(product.shape)}")
    if product.is_meta:
        return product
    if alpha != 1:
        product = alpha * product
    if c is None:
        return product
    return product + (c if beta == 1 else beta * c)


@operator("Einsum")
def einsum(*xs: Tensor, equation: str) -> Tensor:
    require_same_dtype(*xs)
    return torch.einsum(equation, *xs)
