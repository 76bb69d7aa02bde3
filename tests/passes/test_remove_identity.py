"""What changes nothing goes, what looks like it stays, and chains become one."""

from __future__ import annotations

import pytest
from tests.passes.before_and_after import apply, assert_rewrites, assert_unchanged, nodes

from tapdot.passes.remove_identity import RemoveIdentity

HEADER = """
    input %x: float32[2,3,4,5]
    constant %own: int64[4] = [0, 0, -1, 5]
    constant %axis: int64[1] = [2]
    constant %none: int64[8] = [0, 0, 0, 0, 0, 0, 0, 0]
    constant %shift: int64[8] = [0, 0, 1, 0, 0, 0, -1, 0]
    constant %start: int64[1] = [0]
    constant %last: int64[1] = [-1]
    constant %far: int64[1] = [1000]
    constant %before: int64[1] = [-1000]
    constant %back: int64[1] = [-1]
    constant %ones: int64[4] = [1, 1, 1, 1]
    constant %zero: float32[3,1,1] = [0.0, 0.0, 0.0]
    constant %one: float32[] = [1.0]
    constant %ratio: float32[] = [0.5]
"""
T = "float32[2,3,4,5]"


@pytest.mark.parametrize(
    "line",
    [
        "Identity(%x)",
        "Dropout(%x, %ratio)",
        "Cast(%x) {to=1}",
        "Reshape(%x, %own)",
        "Expand(%x, %ones)",
        "Tile(%x, %ones)",
        "Transpose(%x) {perm=[0, 1, 2, 3]}",
        "Concat(%x) {axis=1}",
        "Split(%x) {axis=1, num_outputs=1}",
        "Pad(%x, %none)",
        "Slice(%x, %start, %far, %axis)",
        "Add(%x, %zero)",
        "Mul(%one, %x)",
    ],
)
def test_nothing_goes(line: str) -> None:
    assert_rewrites(RemoveIdentity(), f"{HEADER}\n%n: {T} = {line}\n%y: {T} = Relu(%n)\nreturn %y", "%y = Relu(%x)")


@pytest.mark.parametrize(
    "line",
    [
        "Pad(%x, %shift)",
        "Slice(%x, %last, %before, %axis, %back)",
        "Mul(%x, %ratio)",
        "Add(%x, %one)",
    ],
)
def test_criterion_1_what_moves_or_changes_elements_stays(line: str) -> None:
    assert_unchanged(RemoveIdentity(), f"{HEADER}\n%n: {T} = {line}\n%y: {T} = Relu(%n)\nreturn %y")


def test_criterion_1_adding_nothing_may_still_broadcast() -> None:
    assert_unchanged(
        RemoveIdentity(),
        "input %x: float32[3,1]\nconstant %z: float32[2] = [0.0, 0.0]\n%y: float32[3,2] = Add(%x, %z)\nreturn %y",
    )


def test_criterion_1_casts_to_other_types_stay() -> None:
    assert_unchanged(RemoveIdentity(), f"{HEADER}\n%y: float64[2,3,4,5] = Cast(%x) {{to=11}}\nreturn %y")


def test_transposes_of_axes_of_size_one() -> None:
    keeps = """
        input %x: float32[2,1,4,1]
        %n: float32[2,1,4,1] = Transpose(%x) {perm=[0, 3, 2, 1]}
        %y: float32[2,1,4,1] = Relu(%n)
        return %y"""
    assert_rewrites(RemoveIdentity(), keeps, "%y = Relu(%x)")
    square = "input %x: float32[4,4]\n%y: float32[4,4] = Transpose(%x) {perm=[1, 0]}\nreturn %y"
    assert_unchanged(RemoveIdentity(), square)


def test_criterion_2_a_mask_that_is_read_keeps_the_dropout() -> None:
    assert_unchanged(RemoveIdentity(), f"{HEADER}\n%n: {T}, %mask: bool[2,3,4,5] = Dropout(%x, %ratio)\nreturn %n, %mask")


def test_a_mask_that_nobody_reads_does_not() -> None:
    text = f"{HEADER}\n%n: {T}, %mask: bool[2,3,4,5] = Dropout(%x, %ratio)\n%y: {T} = Relu(%n)\nreturn %y"
    assert_rewrites(RemoveIdentity(), text, "%y = Relu(%x)")


def test_an_output_that_is_an_input_keeps_its_identity() -> None:
    assert_unchanged(RemoveIdentity(), f"{HEADER}\n%y: {T} = Identity(%x)\nreturn %y")


def test_reshapes_of_reshapes() -> None:
    text = """
        input %x: float32[2,3,4,5]
        constant %s: int64[3] = [2, 12, 5]
        constant %t: int64[2] = [2, 60]
        constant %u: int64[4] = [2, 3, 4, 5]
        %a: float32[2,12,5] = Reshape(%x, %s)
        %b: float32[2,60] = Reshape(%a, %t)
        %c: float32[2,3,4,5] = Reshape(%b, %u)
        %y: float32[2,3,4,5] = Relu(%c)
        return %y, %b"""
    assert nodes(apply(RemoveIdentity(), text)) == nodes("%b = Flatten(%x) {axis=1}\n%c = Reshape(%b, %u)\n%y = Relu(%c)")
    assert nodes(apply(RemoveIdentity(), text.replace("%y, %b", "%y"))) == nodes("%y = Relu(%x)")


def test_transposes_of_transposes() -> None:
    text = """
        input %x: float32[2,3,4]
        %a: float32[3,4,2] = Transpose(%x) {perm=[1, 2, 0]}
        %b: float32[3,2,4] = Transpose(%a) {perm=[0, 2, 1]}
        return %b"""
    assert_rewrites(RemoveIdentity(), text, "%b = Transpose(%x) {perm=[1, 0, 2]}")
    undone = text.replace(
        "%b: float32[3,2,4] = Transpose(%a) {perm=[0, 2, 1]}", "%b: float32[2,3,4] = Transpose(%a) {perm=[2, 0, 1]}"
    )
    assert_rewrites(RemoveIdentity(), undone, "%b = Identity(%x)")


def test_concats_of_concats() -> None:
    text = """
        input %x: float32[1,2,3]
        input %z: float32[1,4,3]
        %a: float32[1,6,3] = Concat(%x, %z) {axis=1}
        %b: float32[1,8,3] = Concat(%a, %x) {axis=-2}
        return %b"""
    assert_rewrites(RemoveIdentity(), text, "%b = Concat(%x, %z, %x) {axis=-2}")
    assert_unchanged(RemoveIdentity(), text.replace("return %b", "return %b, %a"))


def test_relu_of_relu() -> None:
    text = "input %x: float32[3]\n%a: float32[3] = Relu(%x)\n%b: float32[3] = Relu(%a)\nreturn %b"
    assert_rewrites(RemoveIdentity(), text, "%b = Relu(%x)")
