"""The fused dialect: a producer, its bias and what happens to each value between accumulator and memory, as one node.

An epilogue is an element-wise expression over ``acc`` and the extra operands ``r0``, ``r1``, ... (see ``kernels.expression``);
its operators are this table's own entries, so fusing changes no meaning.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from tapdot.compiler.operators.linear import gemm, matmul_macs
from tapdot.compiler.operators.spatial import conv_macs, convolve
from tapdot.compiler.operators.table import Ints, lookup, meta, operator
from tapdot.kernels.expression import ACCUMULATOR, Expression, evaluate, leaf_index, parse, tables

CODES = (torch.int8, torch.uint8)

parsed = functools.lru_cache(maxsize=4096)(parse)


def apply_expression(expression: Expression | str, operands: Sequence[Tensor]) -> Tensor:
    """An expression over tensors: ``acc`` is operand 0, ``r0`` operand 1, and so on; differentiable.

    Raises ValueError for an operator that is not element-wise and for a leaf without an operand.
    """
    if isinstance(expression, str):
        expression = parsed(expression)
    if operands[0].is_meta:  # the shape is what the operands broadcast to, the element type shows on one element
        whole = {leaf_index(name) for name in tables(expression)}
        ones = [torch.ones(operand.shape if i in whole else 1, dtype=operand.dtype) for i, operand in enumerate(operands)]
        shape = np.broadcast_shapes(*(operand.shape for i, operand in enumerate(operands) if i not in whole))
        return meta(shape, apply_expression(expression, ones).dtype)
    first = operands[0]
    named = {ACCUMULATOR: first, **{f"r{index}": value for index, value in enumerate(operands[1:])}}

    def apply(op: str, arguments: Sequence[Tensor], attributes: Mapping[str, float | int | str]) -> Tensor:
        entry = lookup(op)
        if not entry.elementwise:
            raise ValueError(f"{op} is not element-wise and has no place in an expression")
        return entry.compute(*arguments, **attributes)

    kind = torch.int32 if first.dtype in CODES else first.dtype  # what codes are widened to

    def number(value: float) -> Tensor:
        return torch.tensor(value, dtype=kind, device=first.device)

    try:
        return evaluate(expression, named, apply, number)
    except KeyError as missing:
        raise ValueError(f"the expression reads {missing.args[0]!r}, but the operands are {', '.join(named)}") from None


def as_shape(epilogue: str, acc: Tensor, extras: Sequence[Tensor]) -> Tensor:
    """The epilogue's result, which has the accumulator's shape: extras broadcast to it, never the other way."""
    result = apply_expression(epilogue, [acc, *extras])
    if result.shape != acc.shape:
        raise ValueError(f"the epilogue turns the shape {tuple(acc.shape)} into {tuple(result.shape)}")
    return result


@operator("FusedConv", macs=conv_macs)
def fused_conv(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    *extras: Tensor,
    strides: Ints,
    pads: Ints,
    dilations: Ints,
    group: int = 1,
    epilogue: str = ACCUMULATOR,
) -> Tensor:
    """``epilogue(acc, *extras)`` with ``acc = Conv(x, w, b)``; pads are explicit."""
    return as_shape(epilogue, convolve(x, w, b, strides, pads, dilations, group), extras)


@operator("FusedGemm", macs=matmul_macs)
def fused_gemm(a: Tensor, w: Tensor, b: Tensor | None = None, *extras: Tensor, epilogue: str = ACCUMULATOR) -> Tensor:
    """``epilogue(acc, *extras)`` with ``acc = a @ w + b`` of ``a: [M, K]``, ``w: [K, N]``, ``b: [N]``."""
    return as_shape(epilogue, gemm(a, w, b), extras)


def _whole(attributes: Mapping[str, str]) -> list[int]:
    return [leaf_index(name) for name in tables(parsed(attributes["expression"]))]


@operator("Elementwise", elementwise=True, tables=_whole)
def elementwise(*xs: Tensor, expression: str) -> Tensor:
    """An expression over its operands, which broadcast as numpy does (tables of a Lookup are read whole)."""
    result = apply_expression(expression, xs)
    whole = {leaf_index(name) for name in tables(parsed(expression))}
    return result.expand(torch.broadcast_shapes(*(x.shape for index, x in enumerate(xs) if index not in whole)))
