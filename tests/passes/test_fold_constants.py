"""Known operands make known results."""

from __future__ import annotations

import numpy as np
from tests.passes.before_and_after import apply, assert_rewrites, assert_unchanged, graph

from tapdot.passes.fold_constants import FoldConstants


def test_constants_of_constants() -> None:
    assert_rewrites(
        FoldConstants(),
        """
        input %x: float32[3]
        constant %a: float32[3]
        constant %b: float32[3]
        %c: float32[3] = Mul(%a, %b)
        %d: float32[3] = Neg(%c)
        %y: float32[3] = Add(%x, %d)
        return %y""",
        "%y = Add(%x, %d)",
    )


def test_criterion_1_shapes_need_no_values() -> None:
    before = graph("""
        input %x: float32[2,3,5]
        constant %i: int64[1] = [1]
        %s: int64[3] = Shape(%x)
        %g: int64[1] = Gather(%s, %i)
        %f: float32[1] = Cast(%g) {to=1}
        %y: float32[2,3,5] = Mul(%x, %f)
        return %y""")
    after = apply(FoldConstants(), before)
    assert [node.op for node in after.nodes] == ["Mul"]
    np.testing.assert_array_equal(after.constants["f"], [3.0])


def test_criterion_1_what_is_computed_at_run_time_stays() -> None:
    assert_unchanged(FoldConstants(), "input %x: float32[3]\nconstant %a: float32[3]\n%y: float32[3] = Mul(%x, %a)\nreturn %y")


def test_criterion_2_an_output_keeps_its_node() -> None:
    assert_unchanged(FoldConstants(), "input %x: float32[3]\nconstant %a: float32[3]\n%y: float32[3] = Neg(%a)\nreturn %y")


def test_criterion_3_large_results_of_small_constants_stay() -> None:
    text = """
        input %x: float32[64,64]
        constant %one: float32[1] = [1.0]
        constant %s: int64[2] = [64, 64]
        %e: float32[64,64] = Expand(%one, %s)
        %y: float32[64,64] = Add(%x, %e)
        return %y"""
    assert_unchanged(FoldConstants(max_bytes=16 * 1024 - 1), text)
    assert len(apply(FoldConstants(max_bytes=16 * 1024), text).nodes) == 1


def test_several_results() -> None:
    after = apply(
        FoldConstants(),
        """
        input %x: float32[2]
        constant %a: float32[4]
        %p: float32[2], %q: float32[2] = Split(%a) {num_outputs=2}
        %y: float32[2] = Add(%x, %q)
        return %y""",
    )
    assert [node.op for node in after.nodes] == ["Add"] and "p" not in after.types
