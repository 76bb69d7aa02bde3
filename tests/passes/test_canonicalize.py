"""Every row of the table, and where it does not hold."""

from __future__ import annotations

import pytest
from tests.passes.before_and_after import apply, assert_rewrites, assert_unchanged, nodes

from tapdot.passes.canonicalize import Canonicalize

MATRIX = "input %a: float32[3,5]\nconstant %w: float32[5,4]\nconstant %b: float32[4]\n"


def rewritten(text: str) -> str:
    return nodes(apply(Canonicalize(), text))


# -- matrix products ---------------------------------------------------------------------------------------------------------


def test_gemm_loses_its_attributes() -> None:
    assert_rewrites(
        Canonicalize(),
        """
        input %a: float32[5,3]
        constant %w: float32[4,5]
        constant %b: float32[4]
        %y: float32[3,4] = Gemm(%a, %w, %b) {alpha=0.5, beta=2.0, transA=1, transB=1}
        return %y""",
        "%y_1 = Transpose(%a) {perm=[1, 0]}\n%y = Gemm(%y_1, %w, %b)",
    )


def test_a_scaled_bias_computed_at_run_time_is_multiplied() -> None:
    text = "input %c: float32[4]\n" + MATRIX + "%y: float32[3,4] = Gemm(%a, %w, %c) {beta=3.0}\nreturn %y"
    assert rewritten(text) == "%y_1 = Mul(%c, %y.constant)\n%y = Gemm(%a, %w, %y_1)"


def test_criterion_4_matrices_computed_at_run_time_stay() -> None:
    assert_unchanged(
        Canonicalize(), "input %a: float32[3,5]\ninput %w: float32[4,5]\n%y: float32[3,4] = Gemm(%a, %w) {transB=1}\nreturn %y"
    )
    assert_unchanged(
        Canonicalize(), "input %a: float32[3,5]\ninput %w: float32[5,4]\n%y: float32[3,4] = MatMul(%a, %w)\nreturn %y"
    )


def test_matmul_and_bias() -> None:
    text = MATRIX + "%m: float32[3,4] = MatMul(%a, %w)\n%y: float32[3,4] = Add(%b, %m)\nreturn %y"
    assert rewritten(text) == "%y = Gemm(%a, %w, %b)"


def test_matmul_of_stacked_matrices() -> None:
    text = """
        input %a: float32[2,3,5]
        constant %w: float32[5,4]
        constant %b: float32[4]
        %m: float32[2,3,4] = MatMul(%a, %w)
        %y: float32[2,3,4] = Add(%m, %b)
        return %y"""
    assert [line.split("(")[0].split()[-1] for line in rewritten(text).splitlines()] == ["Reshape", "Gemm", "Reshape"]


@pytest.mark.parametrize("shape", ["3,1", "3,4"])
def test_criterion_4_what_is_no_bias_stays_an_add(shape: str) -> None:
    text = f"constant %c: float32[{shape}]\n{MATRIX}%m: float32[3,4] = MatMul(%a, %w)\n%y: float32[3,4] = Add(%m, %c)\nreturn %y"
    assert rewritten(text).count("Add") == 1


def test_criterion_4_stacked_constants_stay() -> None:
    assert_unchanged(
        Canonicalize(),
        "input %a: float32[2,3,5]\nconstant %w: float32[2,5,4]\n%y: float32[2,3,4] = MatMul(%a, %w)\nreturn %y",
    )


# -- shapes ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", ["Reshape(%x, %s)", "Reshape(%x, %t)", "Flatten(%x)", "Flatten(%x) {axis=-3}"])
def test_flatten(line: str) -> None:
    text = f"""
        input %x: float32[2,3,4,5]
        constant %s: int64[2] = [2, -1]
        constant %t: int64[2] = [0, 60]
        %y: float32[2,60] = {line}
        return %y"""
    assert rewritten(text) == "%y = Flatten(%x) {axis=1}"


@pytest.mark.parametrize(
    ("line", "shape"),
    [
        ("Squeeze(%x, %a)", "2,3,5"),
        ("Squeeze(%x)", "2,3,5"),
        ("Unsqueeze(%x, %a)", "2,3,1,1,5"),
        ("Flatten(%x) {axis=2}", "6,5"),
        ("Reshape(%x, %s)", "2,3,5"),
    ],
)
def test_other_changes_of_shape_are_reshapes(line: str, shape: str) -> None:
    text = f"""
        input %x: float32[2,3,1,5]
        constant %a: int64[1] = [2]
        constant %s: int64[3] = [0, -1, 5]
        %y: float32[{shape}] = {line}
        return %y"""
    assert rewritten(text).startswith("%y = Reshape(%x, %")


@pytest.mark.parametrize(
    ("keepdims", "shape", "expected"),
    [
        (1, "2,3,1,1", "%y = GlobalAveragePool(%x)"),
        (0, "2,3", "%y_1 = GlobalAveragePool(%x)\n%y = Flatten(%y_1) {axis=1}"),
    ],
)
def test_means_over_the_plane_are_pools(keepdims: int, shape: str, expected: str) -> None:
    text = f"""
        input %x: float32[2,3,4,5]
        constant %a: int64[2] = [-1, 2]
        %y: float32[{shape}] = ReduceMean(%x, %a) {{keepdims={keepdims}}}
        return %y"""
    assert rewritten(text) == expected


@pytest.mark.parametrize(("axes", "shape"), [("[1]", "2,1,4,5"), ("[3]", "2,3,4,1"), ("[1, 2, 3]", "2,1,1,1")])
def test_other_means_are_not(axes: str, shape: str) -> None:
    count = axes.count(",") + 1
    assert_unchanged(
        Canonicalize(),
        f"""
        input %x: float32[2,3,4,5]
        constant %a: int64[{count}] = {axes}
        %y: float32[{shape}] = ReduceMean(%x, %a) {{keepdims=1}}
        return %y""",
    )


# -- arithmetic and activations ----------------------------------------------------------------------------------------------

ONE = "input %x: float32[2,3]\ninput %z: float32[2,3]\ninput %u: float32[3]\n"


@pytest.mark.parametrize(
    ("line", "after"),
    [
        ("Sum(%x, %z, %u)", "%y_1 = Add(%x, %z)\n%y = Add(%y_1, %u)"),
        ("Mean(%x, %z)", "%y_1 = Add(%x, %z)\n%y = Mul(%y_1, %y.constant)"),
        ("Max(%x, %z, %u)", "%y_1 = Max(%x, %z)\n%y = Max(%y_1, %u)"),
        ("Sub(%x, %c)", "%y = Add(%x, %c)"),
        ("Div(%x, %c)", "%y = Mul(%x, %c)"),
        ("Sub(%c, %x)", "%y = Sub(%c, %x)"),
        ("Div(%x, %o)", "%y = Div(%x, %o)"),
        ("Clip(%x, %o)", "%y = Relu(%x)"),
        ("Clip(%x, %o, %big)", "%y = Relu(%x)"),
        ("Clip(%x, %c)", "%y = Clip(%x, %c)"),
        ("Max(%o, %x)", "%y = Relu(%x)"),
        ("Pow(%x, %two)", "%y = Mul(%x, %x)"),
        ("Pow(%x, %c)", "%y = Pow(%x, %c)"),
        ("PRelu(%x, %c)", None),
        ("PRelu(%x, %u)", "%y = PRelu(%x, %u)"),
    ],
)
def test_arithmetic(line: str, after: str | None) -> None:
    text = f"""{ONE}
        constant %c: float32[] = [0.75]
        constant %o: float32[] = [0.0]
        constant %two: float32[1] = [2.0]
        constant %big: float32[] = [3.5e38]
        %y: float32[2,3] = {line}
        return %y""".replace("3.5e38", "3.4028234663852886e38")
    assert rewritten(text) == (after or "%y = LeakyRelu(%x) {alpha=0.75}")


def test_criterion_3_integers_are_divided_as_they_are() -> None:
    assert_unchanged(Canonicalize(), "input %x: int32[4]\nconstant %c: int32[] = [3]\n%y: int32[4] = Div(%x, %c)\nreturn %y")


HARD = """
    input %x: float32[2,3]
    constant %three: float32[] = [3.0]
    constant %zero: float32[] = [0.0]
    constant %six: float32[] = [6.0]
    %a: float32[2,3] = Add(%x, %three)
    %c: float32[2,3] = Clip(%a, %zero, %six)
"""


def test_hard_activations() -> None:
    assert rewritten(HARD + "%y: float32[2,3] = Div(%c, %six)\nreturn %y").startswith("%y = HardSigmoid(%x)")
    assert rewritten(HARD + "%m: float32[2,3] = Mul(%c, %x)\n%y: float32[2,3] = Div(%m, %six)\nreturn %y") == "%y = HardSwish(%x)"
    assert rewritten(HARD + "%d: float32[2,3] = Div(%c, %six)\n%y: float32[2,3] = Mul(%x, %d)\nreturn %y") == "%y = HardSwish(%x)"


def test_hard_activations_of_other_numbers_stay() -> None:
    text = HARD.replace("[3.0]", "[2.5]") + "%y: float32[2,3] = Div(%c, %six)\nreturn %y"
    assert "HardSigmoid" not in rewritten(text)
