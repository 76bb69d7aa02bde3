"""The machinery of the table that says what torch's ATen operators are in ONNX's; the rows stand in the modules beside this one.

A row is a function from an application to values of the graph::

    @aten("relu")
    def relu(call: Call, x: str) -> str:
        return call.emit("Relu", x)

Its parameters are the operator's own, by position and name, with their defaults; tensors arrive as names of values in the
graph. It returns the name of the result, or a tuple of names. The in-place operator (``relu_``) has the same row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tapdot.compiler.errors import ModelError
from tapdot.compiler.graph import Attribute, GraphBuilder
from tapdot.compiler.operators.shapes import ONNX_DTYPES
from tapdot.compiler.operators.table import DTYPE_NAMES
from tapdot.compiler.types import DTYPES

Row = Callable[..., Any]
Scalar = int | float | bool

_ROWS: dict[str, Row] = {}
_ONNX_NUMBERS = {name: number for number, name in ONNX_DTYPES.items()}


def aten(*names: str) -> Callable[[Row], Row]:
    """Puts a row into the table for operators named as in ``torch.ops.aten`` (``add.Tensor``; without overload: all of them)."""

    def register(row: Row) -> Row:
        _ROWS.update((name, row) for name in names)
        return row

    return register


def row_of(target: Any) -> Row | None:
    """The row for an ``OpOverload``, or None."""
    if not isinstance(target, torch._ops.OpOverload) or target.namespace != "aten":
        return None
    name = target._schema.name.removeprefix("aten::")
    if target._schema.is_mutable and name.endswith("_"):
        name = name[:-1]
    return _ROWS.get(f"{name}.{target._overloadname}", _ROWS.get(name))


@dataclass
class Call:
    """One application of an ATen operator on its way into a graph."""

    builder: GraphBuilder
    name: str
    """The name of the node it becomes; helper nodes add a part to it."""
    dtype: str
    """Element type of its (first) result."""

    # -- looking at operands --------------------------------------------------------------------------------------------------

    def shape(self, value: str) -> tuple[int, ...]:
        """The shape of an operand."""
        return self.builder.types[value].shape

    def rank(self, value: str) -> int:
        """The number of axes of an operand."""
        return len(self.shape(value))

    def dtype_of(self, value: str) -> str:
        """The element type of an operand."""
        return self.builder.types[value].dtype

    def axis(self, value: str, axis: int) -> int:
        """An axis counted from the front."""
        return axis % max(self.rank(value), 1)

    def axes(self, value: str, axes: int | Sequence[int] | None) -> tuple[int, ...]:
        """Axes counted from the front; all of them where torch says None or an empty list."""
        if axes is None or axes == []:
            return tuple(range(self.rank(value)))
        return tuple(self.axis(value, axis) for axis in ([axes] if isinstance(axes, int) else axes))

    # -- making values --------------------------------------------------------------------------------------------------------

    def emit(self, op: str, *inputs: str, part: str = "", outputs: int | None = None, **attributes: Attribute) -> Any:
        """Adds a node and returns its result's name (a tuple where ``outputs`` asks for several).

        ``part`` names helper nodes: what the node does on the way to the result.
        """
        name = f"{self.name}.{part}" if part else self.name
        operands = list(inputs)
        while operands and not operands[-1]:
            operands.pop()
        results = self.builder.add(op, operands, attributes, name=name, outputs=outputs)
        return results if outputs is not None else results[0]

    def constant(self, value: Any, dtype: str | None = None, part: str = "constant") -> str:
        """A constant; ``dtype`` is an element type's name (default: the result's)."""
        return self.builder.constant(np.array(value, DTYPES[dtype or self.dtype]), f"{self.name}.{part}")

    def ints(self, values: Sequence[int], part: str) -> str:
        """A shape, axes or the like."""
        return self.constant(list(values), "int64", part)

    def operand(self, value: str | Scalar, dtype: str | None = None, part: str = "operand") -> str:
        """A tensor or number as a value of an element type (default: the result's), converted where it has another."""
        if not isinstance(value, str):
            return self.constant(value, dtype, part)
        return self.cast(value, dtype or self.dtype)

    def cast(self, value: str, dtype: str) -> str:
        """The value in another element type."""
        if self.dtype_of(value) == dtype:
            return value
        return self.emit("Cast", value, part="cast", to=_ONNX_NUMBERS[dtype])

    def torch_dtype(self, dtype: torch.dtype) -> str:
        """The name of a torch element type; raises ModelError where a graph cannot hold it."""
        if dtype not in DTYPE_NAMES:
            raise self.refusal(f"makes the element type {dtype}, which is not supported; use float32")
        return DTYPE_NAMES[dtype]

    def refusal(self, reason: str) -> ModelError:
        """An error about this application; ``reason`` continues the sentence "The operator ..."."""
        return ModelError(reason)


def result_dtype(value: torch.Tensor | None) -> str:
    """The element type's name of an operator's (first) result; float32 where it is none of a graph's."""
    return DTYPE_NAMES.get(value.dtype, "float32") if isinstance(value, torch.Tensor) else "float32"
