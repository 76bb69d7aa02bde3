"""Cross-layer equalization: the equation, each legality criterion on both sides, and that answers stay."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from tests.passes.before_and_after import assert_same_answers, assert_unchanged, graph
from tests.random_graphs import graphs

from tapdot.compiler.graph import Graph
from tapdot.compiler.pipeline import Notes, Phase, run
from tapdot.passes.equalize import CrossLayerEqualization
from tapdot.passes.fold_batch_norm import FoldBatchNorm
from tapdot.passes.fold_constants import FoldConstants
from tapdot.passes.recipes import clean_up

WINDOW = "strides=[1, 1], pads=[0, 0, 0, 0], dilations=[1, 1]"
HEAD = """
    input %x: float32[1,2,4,4]
    constant %w: float32[4,2,1,1]
    constant %b: float32[4]
    constant %v: float32[3,4,1,1]
    constant %d: float32[4,1,1,1]
    constant %low: float32[] = [0.0]
    constant %high: float32[] = [6.0]
"""
T = "float32[1,4,4,4]"
FIRST = f"%c: {T} = Conv(%x, %w, %b) {{{WINDOW}, group=1}}"


def last(value: str) -> str:
    return f"%y: float32[1,3,4,4] = Conv(%{value}, %v) {{{WINDOW}, group=1}}"


def uneven(text: str) -> Graph:
    """Channels of very different sizes."""
    model = graph(HEAD + text)
    sizes = np.array([100.0, 1.0, 0.01, 1.0], np.float32)
    w, b = model.constants["w"] * sizes[:, None, None, None], model.constants["b"] * sizes
    return model.replace(constants={**model.constants, "w": w, "b": b})


def largest(model: Graph, name: str, axis: int) -> np.ndarray:
    return np.asarray(np.abs(np.moveaxis(model.constants[name], axis, 0)).reshape(model.constants[name].shape[axis], -1).max(1))


@pytest.mark.parametrize("between", ["", "Relu(%c)", "LeakyRelu(%c)", "MaxPool(%c) {kernel_shape=[1, 1], strides=[1, 1]}"])
def test_both_sides_get_the_geometric_mean(between: str) -> None:
    middle = f"%r: {T} = {between}\n {last('r')}" if between else last("c")
    if "MaxPool" in between:
        middle = middle.replace("strides=[1, 1]}", "strides=[1, 1], pads=[0, 0, 0, 0], dilations=[1, 1]}")
    before = uneven(f"{FIRST}\n {middle}\n return %y")
    after = CrossLayerEqualization()(before).verify()
    expected = np.sqrt(largest(before, "w", 0) * largest(before, "v", 1))
    np.testing.assert_allclose(largest(after, "w", 0), expected, rtol=1e-5)
    np.testing.assert_allclose(largest(after, "v", 1), expected, rtol=1e-5)
    assert_same_answers(before, after)
    assert CrossLayerEqualization()(after) is after


def test_a_chain_through_a_depthwise_convolution_comes_to_rest() -> None:
    before = uneven(f"""{FIRST}
        %r: {T} = Relu(%c)
        %e: {T} = Conv(%r, %d) {{{WINDOW}, group=4}}
        %s: {T} = Relu(%e)
        {last("s")}
        return %y""")
    after = CrossLayerEqualization()(before)
    sides = [largest(after, "w", 0), largest(after, "d", 0), largest(after, "v", 1)]
    np.testing.assert_allclose(sides[0], sides[1], rtol=0.01)
    np.testing.assert_allclose(sides[1], sides[2], rtol=0.01)
    assert_same_answers(before, after)


def test_criterion_1_grouped_convolutions_and_run_time_weights_stay() -> None:
    grouped = f"constant %g: float32[4,2,1,1]\n {FIRST}\n %y: {T} = Conv(%c, %g) {{{WINDOW}, group=2}}\n return %y"
    assert_unchanged(CrossLayerEqualization(), HEAD + grouped)
    made = f"%k: float32[4,2,1,1] = Abs(%w)\n {FIRST.replace('%w', '%k')}\n {last('c')}\n return %y"
    assert_unchanged(CrossLayerEqualization(), HEAD + made)


def test_criterion_1_shared_weights_stay() -> None:
    another = f"%z: float32[1,3,4,4] = Conv(%x2, %v) {{{WINDOW}, group=1}}"
    assert_unchanged(CrossLayerEqualization(), f"{HEAD}\n input %x2: {T}\n {FIRST}\n {last('c')}\n {another}\n return %y, %z")


@pytest.mark.parametrize("middle", ["Sigmoid(%c)", "Clip(%c, %low, %high)", "Add(%c, %c)"])
def test_criterion_2_what_is_not_homogeneous_stays(middle: str) -> None:
    assert_unchanged(CrossLayerEqualization(), f"{HEAD}\n {FIRST}\n %r: {T} = {middle}\n {last('r')}\n return %y")


def test_criterion_2_a_second_reader_stays() -> None:
    assert_unchanged(CrossLayerEqualization(), f"{HEAD}\n {FIRST}\n %r: {T} = Relu(%c)\n {last('r')}\n return %y, %r")


def test_criterion_2_relu6_only_when_asked() -> None:
    before = uneven(f"{FIRST}\n %r: {T} = Clip(%c, %low, %high)\n {last('r')}\n return %y")
    step, notes = CrossLayerEqualization(through_clip=True), Notes()
    after = step.run(before, notes).verify()
    assert [node.op for node in after.nodes] == ["Conv", "Relu", "Conv"]
    assert "1 activations lost their upper bound" in notes.lines[0]
    np.testing.assert_allclose(largest(after, "w", 0), largest(after, "v", 1), rtol=1e-5)
    assert step.tolerance is None
    assert CrossLayerEqualization().tolerance is not None


def test_criterion_3_dead_channels_keep_their_size() -> None:
    before = uneven(f"{FIRST}\n %r: {T} = Relu(%c)\n {last('r')}\n return %y")
    w = before.constants["w"].copy()
    w[1] = 0
    before = before.replace(constants={**before.constants, "w": w})
    after = CrossLayerEqualization()(before)
    np.testing.assert_array_equal(after.constants["v"][:, 1], before.constants["v"][:, 1])
    assert_same_answers(before, after)


@settings(max_examples=30, deadline=None)
@given(graphs())
def test_random_networks_answer_the_same(model: Graph) -> None:
    folded = run(model, (clean_up(), Phase("fold", (FoldBatchNorm(), FoldConstants())))).graph
    after = CrossLayerEqualization()(folded).verify()
    assert_same_answers(folded, after, 1e-3)
