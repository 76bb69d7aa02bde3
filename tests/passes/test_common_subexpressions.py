"""Equal computations meet; what only looks equal does not."""

from __future__ import annotations

import pytest
from tests.passes.before_and_after import apply, assert_rewrites, assert_unchanged

from tapdot.passes.common_subexpressions import CommonSubexpressions

HEADER = "input %x: float32[2,3]\ninput %z: float32[2,3]\n"
T = "float32[2,3]"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Relu(%x)", "Relu(%x)"),
        ("Elu(%x)", "Elu(%x) {alpha=1.0}"),
        ("Add(%x, %z)", "Add(%z, %x)"),
    ],
)
def test_criterion_1_equal_computations(first: str, second: str) -> None:
    text = f"{HEADER}%a: {T} = {first}\n%b: {T} = {second}\n%y: {T} = Sub(%a, %b)\nreturn %y"
    after = apply(CommonSubexpressions(), text)
    assert [node.inputs for node in after.nodes][1:] == [("a", "a")]


@pytest.mark.parametrize(
    ("first", "second"),
    [("Relu(%x)", "Relu(%z)"), ("Elu(%x)", "Elu(%x) {alpha=2.0}"), ("Sub(%x, %z)", "Sub(%z, %x)"), ("Relu(%x)", "Tanh(%x)")],
)
def test_criterion_1_different_computations(first: str, second: str) -> None:
    assert_unchanged(CommonSubexpressions(), f"{HEADER}%a: {T} = {first}\n%b: {T} = {second}\n%y: {T} = Sub(%a, %b)\nreturn %y")


def test_chains_meet_in_one_round() -> None:
    assert_rewrites(
        CommonSubexpressions(),
        f"""{HEADER}
        %a: {T} = Relu(%x)
        %b: {T} = Relu(%x)
        %c: {T} = Tanh(%a)
        %d: {T} = Tanh(%b)
        %y: {T} = Mul(%c, %d)
        return %y""",
        "%a = Relu(%x)\n%c = Tanh(%a)\n%y = Mul(%c, %c)",
    )


def test_equal_weights_stored_twice() -> None:
    text = f"""{HEADER}
        constant %v: float32[3] = [1.0, 2.0, 3.0]
        constant %w: float32[3] = [1.0, 2.0, 3.0]
        %a: {T} = Mul(%x, %v)
        %b: {T} = Mul(%x, %w)
        %y: {T} = Add(%a, %b)
        return %y"""
    assert_rewrites(CommonSubexpressions(), text, "%a = Mul(%x, %v)\n%y = Add(%a, %a)")
    other = text.replace("%w: float32[3] = [1.0, 2.0, 3.0]", "%w: float32[3] = [1.0, 2.0, 3.5]")
    assert_unchanged(CommonSubexpressions(), other)


def test_equal_constants_of_different_computations_are_not_tied() -> None:
    assert_unchanged(
        CommonSubexpressions(),
        f"""{HEADER}
        constant %v: float32[3] = [1.0, 2.0, 3.0]
        constant %w: float32[3] = [1.0, 2.0, 3.0]
        %a: {T} = Mul(%x, %v)
        %b: {T} = Mul(%a, %w)
        return %b""",
    )


def test_zero_and_minus_zero_differ() -> None:
    assert_unchanged(
        CommonSubexpressions(),
        f"""{HEADER}
        constant %v: float32[] = [0.0]
        constant %w: float32[] = [-0.0]
        %a: {T} = Div(%x, %v)
        %b: {T} = Div(%x, %w)
        %y: {T} = Max(%a, %b)
        return %y""",
    )


def test_criterion_2_outputs_keep_their_names() -> None:
    assert_unchanged(CommonSubexpressions(), f"{HEADER}%a: {T} = Relu(%x)\n%b: {T} = Relu(%x)\nreturn %a, %b")
