"""Where codes go: every rule of calibrate's docstring on small graphs, and what never holds a code."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from tests.passes.before_and_after import graph
from tests.random_graphs import graphs

from tapdot.compiler.graph import Graph
from tapdot.compiler.pipeline import Phase, run
from tapdot.passes.code_places import Placement, never_negative
from tapdot.passes.fold_batch_norm import FoldBatchNorm
from tapdot.passes.fold_constants import FoldConstants
from tapdot.passes.recipes import clean_up

HEAD = """
    input %x: float32[1,4,6,6]
    constant %w: float32[4,4,1,1]
    constant %v: float32[4,4,1,1]
    constant %half: float32[]
    constant %channels: float32[4,1,1]
    constant %shape: int64[2] = [1, 144]
"""


def places(text: str, *, sums_at_the_end: bool = False) -> Mapping[str, str]:
    return Placement(graph(HEAD + text), sums_at_the_end=sums_at_the_end).places().scales


def quantized(text: str, *, sums_at_the_end: bool = False) -> set[str]:
    return set(places(text, sums_at_the_end=sums_at_the_end))


T = "float32[1,4,6,6]"
NEXT = f"%next: {T} = Conv(%y, %v)\n return %next"
"""Somebody who wants %y as codes, and whose own result nobody quantizes."""


def test_rule_1_inputs_and_what_sums_read() -> None:
    assert quantized(f"%y: {T} = Conv(%x, %w)\n {NEXT}") == {"x", "y"}


@pytest.mark.parametrize("activation", ["Relu(%s)", "Clip(%s, %half)", "Max(%s, %half)", "Min(%s, %x)"])
def test_rule_2_only_the_last_of_a_chain(activation: str) -> None:
    assert quantized(f"%c: {T} = Conv(%x, %w)\n %s: {T} = Add(%c, %x)\n %y: {T} = {activation}\n {NEXT}") == {"x", "y"}


def test_rule_2_a_value_with_two_readers_is_codes() -> None:
    text = f"%c: {T} = Conv(%x, %w)\n %a: {T} = Relu(%c)\n %b: {T} = Add(%c, %x)\n %y: {T} = Add(%a, %b)\n {NEXT}"
    assert "c" in quantized(text)


def test_rule_2_of_two_sums_the_later_goes_on() -> None:
    text = f"%a: {T} = Conv(%x, %w)\n %b: {T} = Conv(%x, %v)\n %s: {T} = Add(%b, %a)\n %y: {T} = Relu(%s)\n {NEXT}"
    assert quantized(text) == {"x", "a", "y"}


def test_rule_2_a_sum_goes_on_rather_than_a_later_pool() -> None:
    text = f"""%a: {T} = Conv(%x, %w)
        %b: {T} = AveragePool(%x) {{kernel_shape=[1, 1]}}
        %y: {T} = Add(%a, %b)
        {NEXT}"""
    assert quantized(text) == {"x", "b", "y"}


def test_rule_2_a_broadcast_ends_the_chain() -> None:
    text = f"%g: float32[1,4,1,1] = GlobalAveragePool(%x)\n %c: {T} = Conv(%x, %w)\n %y: {T} = Add(%c, %g)\n {NEXT}"
    assert quantized(text) == {"x", "g", "c", "y"}


def test_rule_2_a_product_of_two_tensors_reads_codes() -> None:
    text = f"%a: {T} = Conv(%x, %w)\n %b: {T} = Conv(%x, %v)\n %m: {T} = Mul(%b, %a)\n %y: {T} = Relu(%m)\n {NEXT}"
    assert quantized(text) == {"x", "a", "b", "y"}


@pytest.mark.parametrize("function", ["Sigmoid", "HardSwish", "HardSigmoid", "LeakyRelu", "Tanh", "Gelu", "Elu"])
def test_rule_3_before_and_after_a_curve(function: str) -> None:
    assert quantized(f"%c: {T} = Conv(%x, %w)\n %y: {T} = {function}(%c)\n {NEXT}") == {"x", "c", "y"}


def test_rule_3_a_whole_expression_is_one_function() -> None:
    silu = f"%c: {T} = Conv(%x, %w)\n %s: {T} = Sigmoid(%c)\n %y: {T} = Mul(%c, %s)\n {NEXT}"
    assert quantized(silu) == {"x", "c", "y"}
    longer = f"""%c: {T} = Conv(%x, %w)
        %a: {T} = Add(%c, %half)
        %b: {T} = Clip(%a, %half)
        %m: {T} = Mul(%c, %b)
        %y: {T} = Mul(%m, %half)
        {NEXT}"""
    assert quantized(longer) == {"x", "c", "y"}


def test_rule_3_not_when_somebody_looks_inside() -> None:
    text = f"%c: {T} = Conv(%x, %w)\n %s: {T} = Sigmoid(%c)\n %y: {T} = Mul(%c, %s)\n %n: {T} = Conv(%y, %v)\n return %n, %s"
    assert quantized(text) == {"x", "c", "s", "y"}


def test_rule_3_a_line_before_a_curve_joins_the_sum() -> None:
    text = f"%c: {T} = Conv(%x, %w)\n %r: {T} = Relu(%c)\n %y: {T} = Tanh(%r)\n {NEXT}"
    assert quantized(text) == {"x", "r", "y"}


def test_rule_4_moves_and_maxima_keep_codes() -> None:
    text = f"""%c: {T} = Conv(%x, %w)
        %p: {T} = MaxPool(%c) {{kernel_shape=[1, 1]}}
        %y: {T} = Transpose(%p) {{perm=[0, 1, 3, 2]}}
        {NEXT}"""
    assert quantized(text) == {"x", "c"}


def test_rule_5_branches_share_the_scale_of_their_concat() -> None:
    text = f"""%a: {T} = Conv(%x, %w)
        %b: {T} = Conv(%x, %v)
        %r: {T} = Relu(%b)
        %p: {T} = MaxPool(%r) {{kernel_shape=[1, 1]}}
        %y: float32[1,12,6,6] = Concat(%a, %p, %x) {{axis=1}}
        constant %u: float32[2,12,1,1]
        %n: float32[1,2,6,6] = Conv(%y, %u)
        return %n"""
    assert places(text) == {"x": "x", "a": "y", "r": "y", "y": "y"}


def test_rule_5_through_two_concats() -> None:
    text = f"""%a: {T} = Conv(%x, %w)
        %b: {T} = Conv(%x, %v)
        %i: float32[1,8,6,6] = Concat(%a, %b) {{axis=1}}
        %y: float32[1,12,6,6] = Concat(%i, %x) {{axis=1}}
        constant %u: float32[2,12,1,1]
        %n: float32[1,2,6,6] = Conv(%y, %u)
        return %n"""
    assert places(text) == {"x": "x", "a": "y", "b": "y", "i": "y", "y": "y"}


def test_rule_6_what_has_no_integer_form_only_where_it_is_read() -> None:
    assert quantized(f"%c: {T} = Conv(%x, %w)\n %y: {T} = Softmax(%c) {{axis=1}}\n {NEXT}") == {"x", "y"}
    assert quantized(f"%c: {T} = Conv(%x, %w)\n %y: {T} = LRN(%c) {{size=3}}\n return %y") == {"x"}


def test_rule_6_floats_among_themselves_stay_so() -> None:
    text = f"""%c: {T} = Conv(%x, %w)
        %s: {T} = Softmax(%c) {{axis=1}}
        %e: {T} = Exp(%s)
        %y: {T} = LogSoftmax(%e) {{axis=1}}
        return %y"""
    assert quantized(text) == {"x"}


def test_rule_8_the_last_sum_keeps_its_accumulator() -> None:
    text = f"""%c: {T} = Conv(%x, %w)
        %f: float32[1,144] = Flatten(%c)
        constant %m: float32[144,3]
        %logits: float32[1,3] = Gemm(%f, %m)
        return %logits"""
    assert quantized(text) == {"x", "c"}
    assert quantized(text, sums_at_the_end=True) == {"x", "c", "logits"}


def test_rule_8_also_behind_a_move_and_before_a_float_head() -> None:
    assert quantized(f"%c: {T} = Conv(%x, %w)\n %f: float32[1,144] = Flatten(%c)\n return %f") == {"x"}
    activated = f"%c: {T} = Conv(%x, %w)\n %r: {T} = Relu(%c)\n %f: float32[1,144] = Flatten(%r)\n return %f"
    assert quantized(activated) == {"x", "r"}


def test_weights_computed_at_run_time_make_no_sum() -> None:
    text = f"%k: float32[4,4,1,1] = Sigmoid(%w)\n %y: {T} = Conv(%x, %k)\n {NEXT}"
    assert quantized(text) == {"y"}


def test_what_cannot_be_negative() -> None:
    model = graph(f"""{HEAD}
        %r: {T} = Relu(%x)
        %p: {T} = MaxPool(%r) {{kernel_shape=[1, 1]}}
        %s: {T} = Sigmoid(%x)
        %m: {T} = Mul(%p, %s)
        %a: {T} = Add(%m, %channels)
        %square: {T} = Mul(%x, %x)
        %c: {T} = Clip(%x, %half)
        %most: {T} = Max(%x, %s)
        %signed: {T} = Add(%r, %x)
        %less: {T} = Min(%r, %x)
        %conv: {T} = Conv(%r, %w)
        return %a, %square, %c, %most, %signed, %less, %conv""")
    assert never_negative(model, []) == {"r", "p", "s", "m", "a", "square", "c", "most"}
    assert {"x", "signed", "less"} <= never_negative(model, ["x"])


@settings(max_examples=60, deadline=None)
@given(graphs())
def test_random_networks_give_codes_to_whoever_multiplies(model: Graph) -> None:
    folded = run(model, (clean_up(), Phase("fold", (FoldBatchNorm(), FoldConstants())))).graph
    placement = Placement(folded)
    scales = placement.places().scales

    def has_codes(name: str) -> bool:
        node = folded.producer(name)
        keeps = node is not None and (placement.is_move(node) or node.op in ("MaxPool", "GlobalMaxPool"))
        return name in scales or (node is not None and keeps and has_codes(node.inputs[0]))

    for node in folded.nodes:
        if placement.is_sum(node):
            assert has_codes(node.inputs[0]), node
        if placement.is_move(node):
            assert node.output not in scales
    assert not placement.inner & set(scales)
    assert all(folded.type(name).dtype == "float32" for name in scales)
