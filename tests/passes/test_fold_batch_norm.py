"""Batch norms into producers, each legality criterion on both sides, and what becomes of the rest."""

from __future__ import annotations

import numpy as np
import pytest
from tests.passes.before_and_after import apply, assert_rewrites, assert_same_answers, graph, nodes

from tapdot.compiler.graph import Graph
from tapdot.compiler.pipeline import Notes
from tapdot.passes.fold_batch_norm import FoldBatchNorm

STATISTICS = """
    constant %gamma: float32[4]
    constant %beta: float32[4]
    constant %mean: float32[4]
    constant %var: float32[4]
"""

CONV = f"""
    input %x: float32[2,2,5,6]
    constant %w: float32[4,2,3,3]
    constant %b: float32[4]
    {STATISTICS}
"""


def operators(model: Graph) -> list[str]:
    return [node.op for node in model.nodes]


def test_into_a_convolution() -> None:
    assert_rewrites(
        FoldBatchNorm(),
        f"""{CONV}
        %c: float32[2,4,5,6] = Conv(%x, %w, %b) {{pads=[1, 1, 1, 1]}}
        %n: float32[2,4,5,6] = BatchNormalization(%c, %gamma, %beta, %mean, %var) {{epsilon=0.001}}
        return %n""",
        "%n = Conv(%x, %w, %b) {pads=[1, 1, 1, 1]}",
    )


def test_a_bias_appears_where_there_was_none() -> None:
    assert_rewrites(
        FoldBatchNorm(),
        f"""{CONV}
        %c: float32[2,4,3,4] = Conv(%x, %w)
        %n: float32[2,4,3,4] = BatchNormalization(%c, %gamma, %beta, %mean, %var)
        return %n""",
        "%n = Conv(%x, %w, %c.bias)",
    )


def test_the_folded_numbers_are_the_equation() -> None:
    before = graph(f"""{CONV}
        %c: float32[2,4,3,4] = Conv(%x, %w, %b)
        %n: float32[2,4,3,4] = BatchNormalization(%c, %gamma, %beta, %mean, %var) {{epsilon=0.25}}
        return %n""")
    after = FoldBatchNorm()(before)
    c = {name: array.astype(np.float64) for name, array in before.constants.items()}
    factor = c["gamma"] / np.sqrt(c["var"] + 0.25)
    weights, bias = (after.constants[name] for name in after.nodes[0].inputs[1:])
    np.testing.assert_array_equal(weights, (c["w"] * factor[:, None, None, None]).astype(np.float32))
    np.testing.assert_array_equal(bias, (factor * (c["b"] - c["mean"]) + c["beta"]).astype(np.float32))


@pytest.mark.parametrize("group", [1, 2])
def test_into_a_transposed_convolution(group: int) -> None:
    after = apply(
        FoldBatchNorm(),
        f"""
        input %x: float32[1,6,3,4]
        constant %w: float32[6,{4 // group},3,3]
        constant %b: float32[4]
        {STATISTICS}
        %c: float32[1,4,7,9] = ConvTranspose(%x, %w, %b) {{strides=[2, 2], group={group}}}
        %n: float32[1,4,7,9] = BatchNormalization(%c, %gamma, %beta, %mean, %var)
        return %n""",
    )
    assert operators(after) == ["ConvTranspose"]


def test_into_a_matrix_product() -> None:
    assert_rewrites(
        FoldBatchNorm(),
        f"""
        input %x: float32[3,5]
        constant %w: float32[5,4]
        {STATISTICS}
        %c: float32[3,4] = Gemm(%x, %w)
        %n: float32[3,4] = BatchNormalization(%c, %gamma, %beta, %mean, %var)
        return %n""",
        "%n = Gemm(%x, %w, %c.bias)",
    )


def test_scales_and_shifts_of_channels_fold_too() -> None:
    assert_rewrites(
        FoldBatchNorm(),
        """
        input %x: float32[1,2,5,6]
        constant %w: float32[4,2,3,3]
        constant %shift: float32[4,1,1]
        constant %factor: float32[1,4,1,1]
        constant %half: float32[]
        %c: float32[1,4,3,4] = Conv(%x, %w)
        %s: float32[1,4,3,4] = Add(%shift, %c)
        %m: float32[1,4,3,4] = Mul(%s, %factor)
        %h: float32[1,4,3,4] = Mul(%half, %m)
        return %h""",
        "%h = Conv(%x, %w, %c.bias)",
    )


def test_criterion_1_weights_computed_at_run_time_stay() -> None:
    after = apply(
        FoldBatchNorm(),
        f"""
        input %x: float32[1,2,5,6]
        input %w: float32[4,2,3,3]
        {STATISTICS}
        %c: float32[1,4,3,4] = Conv(%x, %w)
        %n: float32[1,4,3,4] = BatchNormalization(%c, %gamma, %beta, %mean, %var)
        return %n""",
    )
    assert nodes(after) == nodes("""
        %c = Conv(%x, %w)
        %n_1 = Mul(%c, %n.factor)
        %n = Add(%n_1, %n.shift)""")


def test_criterion_2_a_result_read_elsewhere_stays() -> None:
    after = apply(
        FoldBatchNorm(),
        f"""{CONV}
        %c: float32[2,4,3,4] = Conv(%x, %w)
        %n: float32[2,4,3,4] = BatchNormalization(%c, %gamma, %beta, %mean, %var)
        %r: float32[2,4,3,4] = Relu(%c)
        return %n, %r""",
    )
    assert sorted(operators(after)) == ["Add", "Conv", "Mul", "Relu"]


def test_criterion_2_an_output_stays() -> None:
    after = apply(
        FoldBatchNorm(),
        f"""{CONV}
        %c: float32[2,4,3,4] = Conv(%x, %w)
        %n: float32[2,4,3,4] = BatchNormalization(%c, %gamma, %beta, %mean, %var)
        return %n, %c""",
    )
    assert operators(after) == ["Conv", "Mul", "Add"]


def test_criterion_3_statistics_computed_at_run_time_are_expanded() -> None:
    before = graph("""
        input %x: float32[1,2,5,6]
        input %mean: float32[4]
        constant %w: float32[4,2,3,3]
        constant %gamma: float32[4]
        constant %beta: float32[4]
        constant %var: float32[4]
        %c: float32[1,4,3,4] = Conv(%x, %w)
        %n: float32[1,4,3,4] = BatchNormalization(%c, %gamma, %beta, %mean, %var)
        return %n""")
    after = FoldBatchNorm()(before).verify()
    assert "BatchNormalization" not in operators(after)
    assert_same_answers(before, after)


@pytest.mark.parametrize("shape", ["4,3,4", "3,1", "1,4", "2,4,1,1"])
def test_criterion_3_what_varies_elsewhere_stays(shape: str) -> None:
    text = f"""
        input %x: float32[2,2,5,6]
        constant %w: float32[4,2,3,3]
        constant %factor: float32[{shape}]
        %c: float32[2,4,3,4] = Conv(%x, %w)
        %m: float32[2,4,3,4] = Mul(%c, %factor)
        return %m"""
    assert operators(apply(FoldBatchNorm(), text)) == ["Conv", "Mul"]


def test_criterion_4_a_variance_of_zero_without_epsilon_is_left_visible() -> None:
    before = graph("""
        input %x: float32[1,1,2,2]
        constant %w: float32[1,1,1,1]
        constant %one: float32[1]
        constant %zero: float32[1] = [0.0]
        %c: float32[1,1,2,2] = Conv(%x, %w)
        %n: float32[1,1,2,2] = BatchNormalization(%c, %one, %one, %one, %zero) {epsilon=0.0}
        return %n""")
    assert operators(FoldBatchNorm()(before)) == ["Conv", "Mul", "Add"]


def test_a_batch_norm_alone_becomes_two_nodes_and_a_note() -> None:
    notes = Notes()
    before = graph(f"""
        input %x: float32[1,4,3,2]
        {STATISTICS}
        %n: float32[1,4,3,2] = BatchNormalization(%x, %gamma, %beta, %mean, %var)
        return %n""")
    after = FoldBatchNorm().run(before, notes)
    assert operators(after) == ["Mul", "Add"]
    assert_same_answers(before, after)
    assert "1 batch norms (n)" in notes.lines[0]


def test_chains_of_scales_and_shifts_become_one_of_each() -> None:
    after = apply(
        FoldBatchNorm(),
        f"""
        input %x: float32[1,4,3,2]
        {STATISTICS}
        constant %factor: float32[4,1,1]
        constant %shift: float32[4,1,1]
        %n: float32[1,4,3,2] = BatchNormalization(%x, %gamma, %beta, %mean, %var)
        %m: float32[1,4,3,2] = Mul(%n, %factor)
        %s: float32[1,4,3,2] = Add(%m, %shift)
        return %s""",
    )
    assert operators(after) == ["Mul", "Add"]
