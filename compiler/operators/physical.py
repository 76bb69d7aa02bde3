"""Operators about memory, not mathematics: inserted by passes, invisible to the reference."""

from __future__ import annotations

from torch import Tensor

from tapdot.compiler.operators.table import operator


@operator("Relayout")
def relayout(x: Tensor) -> Tensor:
    """The same tensor at another physical type; which one stands in the types of its operand and result."""
    return x
