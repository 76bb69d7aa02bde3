"""Nodes that sum in int32, before anything is done with the sum."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tapdot.compiler.graph import Attribute, Node
from tapdot.compiler.types import TensorType
from tapdot.passes.codes import Codes
from tapdot.passes.integer_expressions import Accumulator, Inexpressible
from tapdot.passes.overflow import LARGEST_FACTOR, prove_accumulator, window_bounds


@dataclass(frozen=True, eq=False)
class Sum:
    """A node whose accumulator waits for an expression over it: operator, operands before the extras, and attributes."""

    node: Node
    op: str
    inputs: tuple[str, ...]
    attributes: Mapping[str, Attribute]
    meaning: Accumulator
    codes: Codes
    """Of its operand."""


def check_pool(node: Node, kind: TensorType) -> None:
    """Raises Inexpressible for an average pool, over an operand of that type, without an integer form."""
    if kind.rank != 4:
        raise Inexpressible(f"it is not over planes: its input has the shape {list(kind.shape)}")
    if node.attributes.get("ceil_mode"):
        raise Inexpressible("its last windows hang over padding that counts")


def pool_sum(node: Node, shape: tuple[int, ...], name: str, meaning: Codes) -> Sum:
    """The sum of an average pool over codes of that shape; the division by the count is part of its scale."""
    given: dict[str, Any] = {}
    if node.op == "GlobalAveragePool":
        op, size = "QGlobalSum", math.prod(shape[2:])
        count = np.asarray(size)
    else:
        given = {key: node.attributes[key] for key in ("kernel_shape", "strides", "pads")}
        op, size = "QSumPool", math.prod(given["kernel_shape"])
        count = np.asarray(size)
        if not node.attributes.get("count_include_pad") and any(given["pads"]):
            count = window_counts(shape[2:], given["kernel_shape"], given["strides"], given["pads"])
    low, high = (np.asarray(bound, np.int64) for bound in window_bounds(meaning, size))
    prove_accumulator(node.name, LARGEST_FACTOR * size)
    given["zero_point"] = meaning.zero_point
    return Sum(node, op, (name,), given, Accumulator(meaning.scale / count, low, high), meaning)


def window_counts(plane: Sequence[int], kernel: Sequence[int], strides: Sequence[int], pads: Sequence[int]) -> np.ndarray:
    """How many positions of the plane each window of a pool covers: ``[1, 1, H, W]``."""
    inside = np.pad(np.ones(plane, np.int64), list(zip(pads[: len(plane)], pads[len(plane) :], strict=True)))
    windows = np.lib.stride_tricks.sliding_window_view(inside, tuple(kernel))[tuple(slice(None, None, step) for step in strides)]
    return windows.sum(axis=tuple(range(-len(plane), 0)))[np.newaxis, np.newaxis]
