"""What joins a producer and what does not, and that the epilogues say the same as the nodes they replace."""

from __future__ import annotations

import pytest
from tests.passes.before_and_after import apply, assert_rewrites, graph, nodes

from tapdot.compiler.graph import Graph
from tapdot.compiler.pipeline import Notes
from tapdot.passes.fuse import Fuse

WINDOW = "{dilations=[1, 1], group=1, pads=[1, 1, 1, 1], strides=[1, 1]}"
SAME = "strides=[1, 1], pads=[1, 1, 1, 1], dilations=[1, 1], group=1"
HEADER = """
    input %x: float32[2,4,5,6]
    constant %w: float32[4,4,3,3]
    constant %v: float32[4,4,3,3]
    constant %b: float32[4]
"""
T = "float32[2,4,5,6]"


def epilogues(model: Graph) -> list[tuple[str, str]]:
    """Operator and expression of every fused node."""
    return [(node.op, str(node.attributes.get("epilogue", node.attributes.get("expression")))) for node in model.nodes]


def fused(body: str, header: str = HEADER) -> list[tuple[str, str]]:
    return epilogues(apply(Fuse(), header + body))


def test_every_convolution_becomes_a_fused_one() -> None:
    assert_rewrites(
        Fuse(),
        f"{HEADER}\n%c: {T} = Conv(%x, %w, %b) {WINDOW}\nreturn %c",
        f'%c = FusedConv(%x, %w, %b) {{{SAME}, epilogue="acc"}}',
    )


def test_residual_and_activation() -> None:
    assert_rewrites(
        Fuse(),
        f"""{HEADER}
        %c: {T} = Conv(%x, %w, %b) {WINDOW}
        %s: {T} = Add(%c, %x)
        %y: {T} = Relu(%s)
        return %y""",
        f'%y = FusedConv(%x, %w, %b, %x) {{{SAME}, epilogue="Relu(Add(acc, r0))"}}',
    )


def test_without_bias_the_operand_is_omitted() -> None:
    assert_rewrites(
        Fuse(),
        f"""{HEADER}
        %c: {T} = Conv(%x, %w) {WINDOW}
        %y: {T} = Mul(%c, %x)
        return %y""",
        f'%y = FusedConv(%x, %w, _, %x) {{{SAME}, epilogue="Mul(acc, r0)"}}',
    )


def test_the_convolution_computed_last_takes_the_add() -> None:
    after = apply(
        Fuse(),
        f"""{HEADER}
        %first: {T} = Conv(%x, %w, %b) {WINDOW}
        %last: {T} = Conv(%x, %v, %b) {WINDOW}
        %s: {T} = Add(%first, %last)
        %y: {T} = Relu(%s)
        return %y""",
    )
    assert [node.name for node in after.nodes] == ["first", "last"]
    assert nodes(after).splitlines()[1] == f'%y = FusedConv(%x, %v, %b, %first) {{{SAME}, epilogue="Relu(Add(r0, acc))"}}'


def test_activations_on_both_sides_of_the_add() -> None:
    body = f"""
        %first: {T} = Conv(%x, %w, %b) {WINDOW}
        %f: {T} = Tanh(%first)
        %last: {T} = Conv(%x, %v, %b) {WINDOW}
        %l: {T} = Relu(%last)
        %s: {T} = Sub(%f, %l)
        return %s"""
    assert fused(body) == [("FusedConv", "Tanh(acc)"), ("FusedConv", "Sub(r0, Relu(acc))")]


@pytest.mark.parametrize(
    ("body", "expression"),
    [
        (f"%s: {T} = Sigmoid(%c)\n%y: {T} = Mul(%c, %s)", "Mul(acc, Sigmoid(acc))"),
        (
            f"%a: {T} = Add(%c, %three)\n%k: {T} = Clip(%a, %zero, %six)\n%m: {T} = Mul(%c, %k)\n%y: {T} = Div(%m, %six)",
            "Div(Mul(acc, Clip(Add(acc, 3.0), max=6.0, min=0.0)), 6.0)",
        ),
        (f"%e: {T} = Exp(%c)\n%a: {T} = Add(%e, %three)\n%y: {T} = Div(%e, %a)", "Div(Exp(acc), Add(Exp(acc), 3.0))"),
        (f"%y: {T} = Clip(%c, _, %six)", "Clip(acc, max=6.0)"),
        (f"%y: {T} = Sub(%three, %c)", "Sub(3.0, acc)"),
        (f"%y: {T} = Elu(%c) {{alpha=0.5}}", "Elu(acc, alpha=0.5)"),
    ],
    ids=["silu", "hard swish", "diamond", "clip above", "number first", "attribute"],
)
def test_chains_that_read_the_accumulator(body: str, expression: str) -> None:
    header = HEADER + "constant %three: float32[] = [3.0]\nconstant %zero: float32[] = [0.0]\nconstant %six: float32[] = [6.0]"
    assert fused(f"\n%c: {T} = Conv(%x, %w, %b) {WINDOW}\n{body}\nreturn %y", header) == [("FusedConv", expression)]


def test_constants_of_channels_become_four_dimensional_operands() -> None:
    after = apply(
        Fuse(),
        f"""{HEADER}
        constant %slope: float32[4,1,1]
        %c: {T} = Conv(%x, %w, %b) {WINDOW}
        %y: {T} = PRelu(%c, %slope)
        return %y""",
    )
    assert epilogues(after) == [("FusedConv", "PRelu(acc, r0)")]
    assert after.type(after.nodes[0].inputs[3]).shape == (1, 4, 1, 1)


def test_a_first_add_of_channels_goes_into_the_bias() -> None:
    after = apply(
        Fuse(),
        f"""{HEADER}
        constant %shift: float32[1,4,1,1]
        %c: {T} = Conv(%x, %w) {WINDOW}
        %s: {T} = Add(%c, %shift)
        %y: {T} = Relu(%s)
        return %y""",
    )
    assert epilogues(after) == [("FusedConv", "Relu(acc)")]
    assert after.type(after.nodes[0].inputs[2]).shape == (4,)


def test_matrix_products() -> None:
    assert_rewrites(
        Fuse(),
        """
        input %a: float32[3,5]
        input %r: float32[3,4]
        constant %w: float32[5,4]
        constant %c: float32[1,4]
        constant %p: float32[4]
        %g: float32[3,4] = Gemm(%a, %w, %c)
        %s: float32[3,4] = Add(%g, %r)
        %m: float32[3,4] = Mul(%s, %p)
        %y: float32[3,4] = Relu(%m)
        return %y""",
        '%y = FusedGemm(%a, %w, %c, %r, %p) {epilogue="Relu(Mul(Add(acc, r0), r1))"}',
    )


def test_a_gemm_whose_third_operand_is_no_bias() -> None:
    header = "input %a: float32[3,5]\ninput %c: float32[3,1]\nconstant %w: float32[5,4]\n"
    assert fused("%g: float32[3,4] = Gemm(%a, %w, %c)\nreturn %g", header) == [
        ("FusedGemm", "acc"),
        ("Elementwise", "Add(acc, r0)"),
    ]
    header = "input %a: float32[3,5]\ninput %c: float32[3,4]\nconstant %w: float32[5,4]\n"
    assert fused("%g: float32[3,4] = Gemm(%a, %w, %c)\nreturn %g", header) == [("FusedGemm", "Add(acc, r0)")]


def test_what_has_no_producer_becomes_chains() -> None:
    assert_rewrites(
        Fuse(),
        """
        input %x: float32[1,3,4,4]
        input %z: float32[1,3,4,4]
        constant %k: float32[3,1,1]
        %a: float32[1,3,4,4] = Mul(%x, %k)
        %b: float32[1,3,4,4] = Add(%a, %z)
        %c: float32[1,3,4,4] = Relu(%b)
        return %c""",
        '%c = Elementwise(%x, %z, %k) {expression="Relu(Add(Mul(acc, r1), r0))"}',
    )


def test_a_gate_of_channels_is_not_recomputed_at_every_position() -> None:
    header = "input %x: float32[1,3,4,4]\ninput %g: float32[1,3,1,1]\n"
    body = """
        %s: float32[1,3,1,1] = Sigmoid(%g)
        %y: float32[1,3,4,4] = Mul(%s, %x)
        return %y"""
    assert fused(body, header) == [("Elementwise", "Sigmoid(acc)"), ("Elementwise", "Mul(r0, acc)")]


def test_names_that_look_like_leaves() -> None:
    header = "input %acc: float32[1,3,4,4]\ninput %r1: float32[1,3,4,4]\ninput %r0: float32[1,3,4,4]\n"
    body = """
        %a: float32[1,3,4,4] = Sub(%r1, %acc)
        %b: float32[1,3,4,4] = Sub(%r0, %a)
        %c: float32[1,3,4,4] = Relu(%b)
        return %c"""
    assert fused(body, header) == [("Elementwise", "Relu(Sub(acc, Sub(r0, r1)))")]


# -- criteria ----------------------------------------------------------------------------------------------------------------


def test_criterion_1_other_element_types_are_left_alone() -> None:
    header = "input %x: float64[1,3,4,4]\ninput %i: int32[4]\nconstant %w: float64[2,3,1,1]\n"
    body = """
        %c: float64[1,2,4,4] = Conv(%x, %w) {dilations=[1, 1], group=1, pads=[0, 0, 0, 0], strides=[1, 1]}
        %r: float64[1,2,4,4] = Relu(%c)
        %n: int32[4] = Neg(%i)
        return %r, %n"""
    model = graph(header + body)
    assert Fuse()(model) is model


def test_criterion_1_comparisons_are_left_alone() -> None:
    header = "input %x: float32[4]\ninput %z: float32[4]\n"
    body = "%c: bool[4] = Less(%x, %z)\n%w: float32[4] = Where(%c, %x, %z)\n%r: float32[4] = Relu(%w)\nreturn %r"
    assert fused(body, header) == [("Less", "None"), ("Where", "None"), ("Elementwise", "Relu(acc)")]


def test_criterion_1_weights_and_biases_computed_at_run_time_stay() -> None:
    header = "input %x: float32[1,3,4,4]\ninput %w: float32[2,3,1,1]\n"
    window = "{dilations=[1, 1], group=1, pads=[0, 0, 0, 0], strides=[1, 1]}"
    body = f"%c: float32[1,2,4,4] = Conv(%x, %w) {window}\n%r: float32[1,2,4,4] = Relu(%c)\nreturn %r"
    assert fused(body, header) == [("Conv", "None"), ("Elementwise", "Relu(acc)")]
    header = "input %x: float32[1,3,4,4]\nconstant %w: float32[2,3,1,1]\ninput %b: float32[2]\n"
    body = f"%c: float32[1,2,4,4] = Conv(%x, %w, %b) {window}\nreturn %c"
    assert fused(body, header) == [("Conv", "None")]


def test_criterion_2_a_result_with_other_readers_stays() -> None:
    body = f"""
        %c: {T} = Conv(%x, %w, %b) {WINDOW}
        %r: {T} = Relu(%c)
        %d: {T} = Conv(%c, %v, %b) {WINDOW}
        return %r, %d"""
    assert sorted(fused(body)) == [("Elementwise", "Relu(acc)"), ("FusedConv", "acc"), ("FusedConv", "acc")]


def test_criterion_2_an_output_of_the_graph_stays() -> None:
    body = f"""
        %c: {T} = Conv(%x, %w, %b) {WINDOW}
        %r: {T} = Relu(%c)
        %t: {T} = Tanh(%r)
        return %c, %t, %r"""
    assert fused(body) == [("FusedConv", "acc"), ("Elementwise", "Relu(acc)"), ("Elementwise", "Tanh(acc)")]


def test_criterion_3_a_result_that_is_broadcast_stays() -> None:
    header = "input %x: float32[1,4,1,1]\ninput %z: float32[1,4,5,6]\nconstant %w: float32[4,4,1,1]\n"
    body = """
        %c: float32[1,4,1,1] = Conv(%x, %w) {dilations=[1, 1], group=1, pads=[0, 0, 0, 0], strides=[1, 1]}
        %y: float32[1,4,5,6] = Mul(%c, %z)
        return %y"""
    assert fused(body, header) == [("FusedConv", "acc"), ("Elementwise", "Mul(r0, acc)")]


@pytest.mark.parametrize("shape", ["2,4,1,1", "1,4,5,6", "5,6", "1,1,5,6", "6"])
@pytest.mark.parametrize("kind", ["input", "constant"])
def test_criterion_4_operands_of_other_shapes_stay_outside(shape: str, kind: str) -> None:
    header = HEADER + f"{kind} %z: float32[{shape}]\n"
    body = f"%c: {T} = Conv(%x, %w, %b) {WINDOW}\n%y: {T} = Mul(%c, %z)\nreturn %y"
    assert [op for op, _ in fused(body, header)] == ["FusedConv", "Elementwise"]


def test_criterion_4_a_gate_computed_at_run_time_stays_outside() -> None:
    header = HEADER + "input %z: float32[2,4,1,1]\n"
    body = f"%c: {T} = Conv(%x, %w, %b) {WINDOW}\n%y: {T} = Mul(%c, %z)\nreturn %y"
    assert fused(body, header) == [("FusedConv", "acc"), ("Elementwise", "Mul(acc, r0)")]


def test_criterion_5_size_of_expressions() -> None:
    chain = "\n".join(f"%t{index + 1}: {T} = Tanh(%t{index})" for index in range(6))
    text = f"{HEADER}\n%t0: {T} = Conv(%x, %w, %b) {WINDOW}\n{chain}\nreturn %t6"
    assert len(apply(Fuse(), text).nodes) == 1
    sizes = [expression.count("Tanh") for _, expression in epilogues(apply(Fuse(max_operators=4), text))]
    assert sum(sizes) == 6 and max(sizes) <= 4 and len(sizes) == 2


def test_criterion_5_operands_of_expressions() -> None:
    inputs = "\n".join(f"input %z{index}: {T}" for index in range(5))
    chain = "\n".join(f"%t{index + 1}: {T} = Add(%t{index}, %z{index})" for index in range(5))
    text = f"{inputs}{HEADER}\n%t0: {T} = Conv(%x, %w, %b) {WINDOW}\n{chain}\nreturn %t5"
    assert len(apply(Fuse(), text).nodes) == 1
    after = apply(Fuse(max_operands=3), text)
    assert all(expression.count("r") <= 2 for _, expression in epilogues(after)) and len(after.nodes) == 3


def test_the_report_says_why_something_was_not_fused() -> None:
    notes = Notes()
    body = f"""{HEADER}
        input %z: float32[2,4,1,1]
        %c: {T} = Conv(%x, %w, %b) {WINDOW}
        %m: {T} = Mul(%c, %z)
        %d: {T} = Conv(%x, %v, %b) {WINDOW}
        %t: {T} = Tanh(%d)
        return %m, %t, %d"""
    Fuse().run(graph(body), notes)
    assert notes.lines == [
        "'m' was not fused into 'c': operand 'z' has the shape [2, 4, 1, 1].",
        "'t' was not fused into 'd': 'd' is an output of the model.",
    ]


def test_integer_chains_are_left_alone() -> None:
    """They are another dialect: floats beside them are fused with floats only."""
    scale = "Narrow(Dyadic(Widen(acc, zero_point=0), multiplier=1500000000, shift=31), low=0, high=255, dtype='uint8')"
    text = (
        "input %x: uint8[1,4,5,5]\n"
        f'%a: uint8[1,4,5,5] = Elementwise(%x) {{expression="{scale}"}}\n'
        f'%b: uint8[1,4,5,5] = Elementwise(%a) {{expression="{scale}"}}\n'
        '%r: float32[1,4,5,5] = Elementwise(%b) {expression="Dequantize(Widen(acc), scale=0.5)"}\n'
        "%s: float32[1,4,5,5] = Sigmoid(%r)\n"
        "%t: float32[1,4,5,5] = Relu(%s)\n"
        "return %t"
    )
    after = Fuse()(graph(text))
    assert [node.op for node in after.nodes] == ["Elementwise"] * 4
    assert after.nodes[-1].attributes["expression"] == "Relu(Sigmoid(acc))"
    assert [node.attributes["expression"] for node in after.nodes[:2]] == [scale, scale]
