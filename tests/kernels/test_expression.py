"""Element-wise expressions: text, walks, substitution, evaluation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapdot.kernels.expression import (
    IDENTITY,
    Apply,
    Expression,
    Leaf,
    Number,
    evaluate,
    leaves,
    operators,
    parse,
    substitute,
)

names = st.sampled_from(["acc", "r0", "r1", "r12"])
numbers = st.floats(allow_nan=False, allow_infinity=False)
attributes = st.dictionaries(
    st.sampled_from(["min", "max", "alpha"]), numbers | st.integers(-9, 9) | st.sampled_from(["", "tanh", "a'b\"c"])
)
expressions: st.SearchStrategy[Expression] = st.recursive(
    st.builds(Leaf, names) | st.builds(Number, numbers),
    lambda inner: st.builds(
        Apply,
        st.sampled_from(["Add", "Relu", "Clip"]),
        st.lists(inner, min_size=1, max_size=3).map(tuple),
        attributes.map(lambda pairs: tuple(sorted(pairs.items()))),
    ),
    max_leaves=8,
)


@given(expressions)
def test_text_round_trip(expression: Expression) -> None:
    assert parse(str(expression)) == expression


@pytest.mark.parametrize("text", ["acc + 1", "[acc]", "f.g(acc)", "acc if r0 else r1"])
def test_other_syntax_is_refused_with_the_offending_part(text: str) -> None:
    with pytest.raises(ValueError, match="Expected an operator"):
        parse(text)


@pytest.mark.parametrize("text", ["", "Add(acc", "Relu acc"])
def test_broken_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="Expected an epilogue"):
        parse(text)


def test_walks() -> None:
    expression = parse("Clip(Add(Mul(r1, acc), r1, 2), min=0.0)")
    assert leaves(expression) == ("r1", "acc")
    assert operators(expression) == ("Mul", "Add", "Clip")
    assert leaves(IDENTITY) == ("acc",)


def test_substitution_replaces_leaves_only() -> None:
    found = substitute(parse("Add(acc, Mul(r0, acc))"), {"acc": parse("Relu(acc)"), "r0": parse("r3")})
    assert found == parse("Add(Relu(acc), Mul(r3, Relu(acc)))")


def _apply(op: str, arguments: Sequence[float], settings: Mapping[str, float | int | str]) -> float:
    if op == "Clip":
        return min(max(arguments[0], float(settings.get("min", -math.inf))), float(settings.get("max", math.inf)))
    assert op in ("Add", "Mul")
    return sum(arguments) if op == "Add" else math.prod(arguments)


def test_evaluation() -> None:
    expression = parse("Clip(Add(Mul(acc, r0), -1.5), max=3)")
    assert evaluate(expression, {"acc": 2.0, "r0": 1.0}, _apply, float) == 0.5
    assert evaluate(expression, {"acc": 2.0, "r0": 5.0}, _apply, float) == 3.0


def test_equal_parts_are_computed_once() -> None:
    seen: list[str] = []

    def apply(op: str, arguments: Sequence[float], settings: Mapping[str, float | int | str]) -> float:
        seen.append(op)
        return _apply(op, arguments, settings)

    evaluate(parse("Add(Mul(acc, 2), Mul(acc, 2))"), {"acc": 1.0}, apply, float)
    assert sorted(seen) == ["Add", "Mul"]
