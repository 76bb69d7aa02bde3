"""Element-wise expressions: what happens to a value between the accumulator and memory.

A fused node carries its epilogue as text, for instance ``Relu(Add(acc, r0))`` or ``Clip(acc, min=0.0, max=6.0)``: the names of
the operator table applied to leaves. A leaf is ``acc`` (the accumulator, or operand 0 of a stand-alone chain), ``r0``, ``r1``,
... (further operands in order) or a number. The same text is read by the torch reference and by the kernels, so there is one
description of what is fused.

Expressions are immutable and hash by value; equal sub-expressions are the same computation and are computed once.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

ACCUMULATOR = "acc"
T = TypeVar("T")


@dataclass(frozen=True)
class Leaf:
    """An operand by name."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Number:
    """A literal."""

    value: float

    def __str__(self) -> str:
        return repr(self.value)


@dataclass(frozen=True)
class Apply:
    """An operator applied to arguments, with its attributes as sorted pairs."""

    op: str
    arguments: tuple[Expression, ...]
    attributes: tuple[tuple[str, float | int | str], ...] = ()

    def __str__(self) -> str:
        arguments = [str(argument) for argument in self.arguments]
        return f"{self.op}({', '.join(arguments + [f'{name}={value!r}' for name, value in self.attributes])})"


Expression = Leaf | Number | Apply

IDENTITY = Leaf(ACCUMULATOR)


def parse(text: str) -> Expression:
    """The expression that prints as ``text``; raises ValueError with the offending part."""
    try:
        tree = ast.parse(text, mode="eval").body
    except SyntaxError as error:
        raise ValueError(f"Expected an epilogue such as Relu(Add(acc, r0)), found {text!r}.") from error
    return _convert(tree)


def _convert(tree: ast.expr) -> Expression:
    match tree:
        case ast.Name(id=name):
            return Leaf(name)
        case ast.Call(func=ast.Name(id=op), args=arguments, keywords=keywords):
            attributes = sorted((word.arg or "", ast.literal_eval(word.value)) for word in keywords)
            return Apply(op, tuple(_convert(argument) for argument in arguments), tuple(attributes))
        case ast.Constant() | ast.UnaryOp():
            return Number(float(ast.literal_eval(tree)))
    raise ValueError(f"Expected an operator, an operand or a number in an epilogue, found {ast.unparse(tree)!r}.")


def leaves(expression: Expression) -> tuple[str, ...]:
    """Names of the operands read, each once, in order of first use."""
    match expression:
        case Leaf(name):
            return (name,)
        case Apply(arguments=arguments):
            return tuple(dict.fromkeys(name for argument in arguments for name in leaves(argument)))
    return ()


def leaf_index(name: str) -> int:
    """The operand a leaf stands for: 0 for ``acc``, 1 for ``r0``, ..."""
    return 0 if name == ACCUMULATOR else 1 + int(name.removeprefix("r"))


def tables(expression: Expression) -> tuple[str, ...]:
    """Names of the operands that a ``Lookup`` reads whole; they do not broadcast."""
    match expression:
        case Apply(op="Lookup", arguments=(codes, Leaf(name))):
            return tuple(dict.fromkeys((*tables(codes), name)))
        case Apply(arguments=arguments):
            return tuple(dict.fromkeys(name for argument in arguments for name in tables(argument)))
    return ()


def operators(expression: Expression) -> tuple[str, ...]:
    """Operators applied, innermost first, repeats included."""
    match expression:
        case Apply(op=op, arguments=arguments):
            return (*(name for argument in arguments for name in operators(argument)), op)
    return ()


def substitute(expression: Expression, replacements: Mapping[str, Expression]) -> Expression:
    """The expression with some leaves replaced."""
    match expression:
        case Leaf(name):
            return replacements.get(name, expression)
        case Apply(op, arguments, attributes):
            return Apply(op, tuple(substitute(argument, replacements) for argument in arguments), attributes)
    return expression


def evaluate(
    expression: Expression,
    operands: Mapping[str, T],
    apply: Callable[[str, Sequence[T], Mapping[str, float | int | str]], T],
    number: Callable[[float], T],
) -> T:
    """Computes an expression in any domain (torch tensors, TIR vectors, ...), equal sub-expressions once."""
    known: dict[Expression, T] = {}

    def visit(part: Expression) -> T:
        if part not in known:
            match part:
                case Leaf(name):
                    known[part] = operands[name]
                case Number(value):
                    known[part] = number(value)
                case Apply(op, arguments, attributes):
                    known[part] = apply(op, [visit(argument) for argument in arguments], dict(attributes))
        return known[part]

    return visit(expression)
