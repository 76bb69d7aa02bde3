"""One scale for what a Concat joins: who is produced at it, who is rescaled, and which scale it is."""

from __future__ import annotations

import pytest
from tests.passes.test_requantize import HEADER, WINDOW, T, U, close

from tapdot.passes.codes import Codes
from tapdot.passes.concat_scales import common_codes, may_widen, within_range

BRANCHES = f"""{HEADER}
    %c: {T} = Conv(%q, %w, %b) {{{WINDOW}}}
    %r: {T} = Relu(%c)
    %f: {T} = FakeQuantize(%r) {{scale=0.4, {U}}}
    %d: {T} = Conv(%q, %v, %b) {{{WINDOW}}}
    %g: {T} = FakeQuantize(%d) {{scale=0.3, zero_point=5, {U}}}
"""
JOINED = "float32[1,8,5,6]"


def rescaled(text: str, steps: float) -> list[str]:
    made = close(text, steps)
    concat = next(node for node in made.nodes if node.op == "Concat")
    quants = {made.type(name).quant for name in (*concat.inputs, concat.output)}
    assert len(quants) == 1
    return [node.name for node in made.nodes if node.op == "Elementwise"]


def test_branches_that_nobody_else_reads_are_produced_at_the_scale_of_the_result() -> None:
    join = f"%j: {JOINED} = Concat(%f, %g) {{axis=1}}\n%y: {JOINED} = FakeQuantize(%j) {{scale=0.5, zero_point=7, {U}}}"
    assert rescaled(f"{BRANCHES}{join}\nreturn %y", 0.5) == []


def test_without_a_scale_of_its_own_it_is_one_that_holds_all() -> None:
    assert rescaled(f"{BRANCHES}%j: {JOINED} = Concat(%f, %g) {{axis=1}}\nreturn %j", 0.5) == []


def test_a_branch_that_others_read_is_rescaled() -> None:
    join = f"%j: {JOINED} = Concat(%f, %g) {{axis=1}}\n%e: {T} = Conv(%g, %v) {{{WINDOW}}}"
    assert rescaled(f"{BRANCHES}{join}\nreturn %j, %e", 2.0) == ["j.rescale1"]


def test_a_branch_that_others_read_is_widened_a_little() -> None:
    text = BRANCHES.replace("scale=0.3, zero_point=5", "scale=0.35, zero_point=0")
    join = f"%j: {JOINED} = Concat(%f, %g) {{axis=1}}\n%e: {T} = Conv(%g, %v) {{{WINDOW}}}"
    assert rescaled(f"{text}{join}\nreturn %j, %e", 2.5) == []


def test_a_moved_branch_and_a_join_of_joins() -> None:
    body = f"""
        %p: {T} = MaxPool(%g) {{kernel_shape=[3, 3], strides=[1, 1], pads=[1, 1, 1, 1], dilations=[1, 1]}}
        %j: {JOINED} = Concat(%f, %p) {{axis=1}}
        %k: float32[1,12,5,6] = Concat(%j, %q) {{axis=1}}"""
    made = close(f"{BRANCHES}{body}\nreturn %k", 0.7)
    assert [node.name for node in made.nodes if node.op == "Elementwise"] == ["k.rescale1"]


def test_a_zero_point_that_rectifies_still_does_at_another_scale() -> None:
    """Quantizers drop a ReLU whose range begins at their lowest code."""
    text = BRANCHES.replace(f"%r: {T} = Relu(%c)\n", "").replace("FakeQuantize(%r)", "FakeQuantize(%c)")
    join = f"%j: {JOINED} = Concat(%f, %g) {{axis=1}}\n%y: {JOINED} = FakeQuantize(%j) {{scale=0.5, zero_point=100, {U}}}"
    made = close(f"{text}{join}\nreturn %y", 0.5)
    assert "low=100" in str(made.producers["f"].attributes["epilogue"])


def test_constants_join_as_codes() -> None:
    join = "constant %k: float32[1,1,5,6]\n%j: float32[1,5,5,6] = Concat(%f, %k) {axis=1}"
    close(f"{BRANCHES}{join}\nreturn %j", 0.4)


def test_who_may_be_widened() -> None:
    assert may_widen(SMALL, Codes(0.12, 0, 0, 255, "uint8"))
    for other in (Codes(0.13, 0, 0, 255, "uint8"), Codes(0.09, 0, 0, 255, "uint8"), Codes(0.1, 1, 0, 255, "uint8")):
        assert not may_widen(SMALL, other)


SMALL = Codes(0.1, 0, 0, 255, "uint8")


@pytest.mark.parametrize(
    ("others", "wanted"),
    [
        ([Codes(0.3, 0, 0, 200, "uint8")], Codes(0.3, 0, 0, 255, "uint8")),
        ([Codes(0.1, 55, 0, 255, "uint8")], Codes(0.1 * 310 / 255, 45, 0, 255, "uint8")),
        ([Codes(0.2, 0, -128, 127, "int8")], Codes(0.2 * 255.5 / 255, 0, -128, 127, "int8")),
    ],
)
def test_common_codes_span_all_ranges(others: list[Codes], wanted: Codes) -> None:
    meanings = [SMALL, *others]
    found = common_codes(meanings)
    assert (found.dtype, found.low, found.high) == (wanted.dtype, wanted.low, wanted.high)
    slack = found.scale
    assert found.scale * (found.low - found.zero_point) <= min(c.scale * (c.low - c.zero_point) for c in meanings) + slack
    assert found.scale * (found.high - found.zero_point) >= max(c.scale * (c.high - c.zero_point) for c in meanings) - slack


def test_a_range_is_kept_in_other_codes() -> None:
    assert within_range(Codes(0.5, 100, 0, 255, "uint8"), SMALL) == Codes(0.5, 100, 100, 151, "uint8")


def test_codes_of_few_bits_join_others_at_the_others_scale() -> None:
    fine, coarse = Codes(0.01, 0, 0, 200, "uint8"), Codes(0.16, 0, 0, 15, "uint8")
    assert common_codes([coarse, fine]) == Codes(0.01, 0, 0, 240, "uint8")
    assert common_codes([coarse, Codes(0.02, 0, 0, 3, "uint8")]) == coarse
    far = common_codes([Codes(0.4, 0, 0, 15, "uint8"), fine])
    assert (far.scale, far.zero_point, far.low, far.high) == (pytest.approx(6 / 255), 0, 0, 255)
