"""Which workloads are alike: what was fast for one is worth trying for another."""

from __future__ import annotations

import math
from itertools import chain

from tapdot.kernels.workload import Operand, Workload

KINDS = ("kernel_shape", "strides", "group", "dilations")
"""Attributes that change what a kernel does; each that differs counts as much as a dimension four times as large."""
KIND_DISTANCE = 2.0


def distance(one: Workload, other: Workload) -> float:
    """How many doublings of dimensions lie between two workloads; infinite between different operators."""
    if one.op != other.op:
        return math.inf
    total = sum(KIND_DISTANCE for name in KINDS if one.options.get(name) != other.options.get(name))
    operands = zip(chain(one.inputs[:2], one.outputs), chain(other.inputs[:2], other.outputs), strict=False)
    return total + sum(_operand_distance(left, right) for left, right in operands)


def _operand_distance(one: Operand | None, other: Operand | None) -> float:
    if one is None or other is None:
        return 0.0 if one is other else KIND_DISTANCE
    if len(one.shape) != len(other.shape) or one.dtype != other.dtype:
        return math.inf
    return sum(abs(math.log2((1 + left) / (1 + right))) for left, right in zip(one.shape, other.shape, strict=True))
