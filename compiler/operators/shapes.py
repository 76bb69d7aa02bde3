"""Shapes as values, constants made from shapes, and conversions of element type."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from tapdot.compiler.operators.movement import static_ints
from tapdot.compiler.operators.table import TORCH_DTYPES, Static, operator

ONNX_DTYPES = {
    1: "float32",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    9: "bool",
    10: "float16",
    11: "float64",
    12: "uint32",
    13: "uint64",
}
"""Names of ONNX's element type numbers (``TensorProto.DataType``), those a graph may hold."""


@operator("Shape")
def shape(x: Tensor, *, start: int = 0, end: int | None = None) -> Tensor:
    return torch.tensor(tuple(x.shape)[start:end], dtype=torch.int64)


@operator("Size")
def size(x: Tensor) -> Tensor:
    return torch.tensor(math.prod(x.shape), dtype=torch.int64)


@operator("ConstantOfShape")
def constant_of_shape(shape: Static, value: Static | None = None) -> Tensor:
    """Filled with ``value`` (one element; a float32 zero by default), ONNX's tensor attribute as an operand."""
    fill = np.zeros(1, np.float32) if value is None else value
    return torch.full(static_ints(shape), fill.item(), dtype=TORCH_DTYPES[fill.dtype.name])


@operator("Range")
def range_(start: Static, limit: Static, delta: Static) -> Tensor:
    """From ``start`` up to, not including, ``limit``."""
    return torch.from_numpy(np.arange(start.item(), limit.item(), delta.item(), dtype=start.dtype))


@operator("Cast")
def cast(x: Tensor, *, to: int) -> Tensor:
    """``to`` is ONNX's element type number."""
    if to not in ONNX_DTYPES:
        raise TypeError(f"element type number {to} is none a graph may hold")
    return x.to(TORCH_DTYPES[ONNX_DTYPES[to]])


@operator("CastLike")
def cast_like(x: Tensor, like: Tensor) -> Tensor:
    return x.to(like.dtype)
