"""Expressions that simulate codes in floats: where they end in FakeQuantize, and what is left without."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeGuard

from tapdot.compiler.graph import Node
from tapdot.compiler.operators import lookup
from tapdot.compiler.operators.fused import parsed
from tapdot.kernels.expression import ACCUMULATOR, Apply, Expression, Leaf, leaves, substitute
from tapdot.passes.codes import Codes


def apply(op: str, *arguments: Expression, **attributes: float | int | str) -> Apply:
    """An operator applied."""
    return Apply(op, arguments, tuple(sorted(attributes.items())))


def defaults(part: Apply) -> dict[str, Any]:
    """Attributes with the table's defaults filled in."""
    return lookup(part.op).defaults(dict(part.attributes))


def clip_bounds(part: Apply) -> tuple[float, float]:
    """Lower and upper bound of a Clip, infinite where there is none."""
    given = dict(part.attributes)
    return float(given.get("min", -math.inf)), float(given.get("max", math.inf))


def exchanged(expression: Expression, part: Expression, other: Expression) -> Expression:
    """The expression with every occurrence of a part replaced."""
    if expression == part:
        return other
    if isinstance(expression, Apply):
        arguments = tuple(exchanged(argument, part, other) for argument in expression.arguments)
        return Apply(expression.op, arguments, expression.attributes)
    return expression


def is_simulated(expression: Expression) -> TypeGuard[Apply]:
    """Whether an expression ends in FakeQuantize."""
    return isinstance(expression, Apply) and expression.op == "FakeQuantize"


def without_simulation(expression: Expression) -> Expression:
    """The expression in plain floats, every FakeQuantize left out."""
    match expression:
        case Apply(op="FakeQuantize", arguments=(x,)):
            return without_simulation(x)
        case Apply(op, arguments, attributes):
            return Apply(op, tuple(without_simulation(argument) for argument in arguments), attributes)
    return expression


def clamped(part: Expression, codes: Codes) -> tuple[Expression, int, int]:
    """Rule 1: what stands inside the outermost clamps, and the codes these leave."""
    low, high = codes.low, codes.high
    while isinstance(part, Apply) and part.op in ("Relu", "Clip", "Identity"):
        bounds = {"Relu": (0.0, math.inf), "Identity": (-math.inf, math.inf)}.get(part.op) or clip_bounds(part)
        inner = [int(codes.quantize(bound)) for bound in bounds]
        low, high = (min(max(bound, low), high) for bound in inner)
        part = part.arguments[0]
    return part, low, high


def simulated_expression(node: Node) -> Apply | None:
    """The expression of a node that ends in FakeQuantize."""
    text = node.attributes.get("epilogue", node.attributes.get("expression"))
    expression = parsed(text) if isinstance(text, str) else None
    return expression if expression is not None and is_simulated(expression) else None


# -- expressions with operands ---


def operand_names(count: int) -> list[str]:
    """What an expression calls its operands."""
    return [ACCUMULATOR, *(f"r{index}" for index in range(count - 1))]


def as_epilogue(expression: Expression) -> tuple[list[str], Expression]:
    """Leaves but the accumulator in order of first use, and the expression that calls them ``r0``, ``r1``, ..."""
    names = [name for name in leaves(expression) if name != ACCUMULATOR]
    return names, substitute(expression, {name: Leaf(f"r{index}") for index, name in enumerate(names)})


def as_chain(expression: Expression, is_whole: Callable[[str], bool]) -> tuple[list[str], Expression]:
    """Leaves, those of the result's whole shape first, and the expression that calls them ``acc``, ``r0``, ..."""
    names = sorted(leaves(expression), key=lambda name: not is_whole(name))
    numbered = dict(zip(names, map(Leaf, operand_names(len(names))), strict=True))
    return names, substitute(expression, numbered)


def outermost_simulated(expression: Expression) -> list[Apply]:
    """The outermost distinct parts that are quantized."""
    if is_simulated(expression):
        return [expression]
    if isinstance(expression, Apply):
        return list(dict.fromkeys(part for argument in expression.arguments for part in outermost_simulated(argument)))
    return []
