"""The table: operator name to the function that builds it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tapdot.kernels.fallback.tensors import Builder, Tensor

Build = Callable[..., Tensor | tuple[Tensor, ...]]
"""``build(builder, *operands, **attributes)``: operands are tensors, numpy arrays where they are static, None where omitted."""

BUILDERS: dict[str, Build] = {}


def operator(*names: str) -> Callable[[Build], Build]:
    """Puts a function into the table."""

    def register(build: Build) -> Build:
        for name in names:
            BUILDERS[name] = build
        return build

    return register


def build(builder: Builder, op: str, operands: list[Any], attributes: dict[str, Any]) -> tuple[Tensor, ...]:
    """The results of an operator; raises KeyError for one that is not in the table."""
    result = BUILDERS[op](builder, *operands, **attributes)
    return result if isinstance(result, tuple) else (result,)
