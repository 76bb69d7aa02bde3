"""Defaults, automatic padding, rounding up and global pools become explicit."""

from __future__ import annotations

import pytest
from tests.passes.before_and_after import apply, assert_rewrites, assert_unchanged, nodes

from tapdot.passes.resolve_windows import ResolveWindows


def test_defaults_are_written_out() -> None:
    assert_rewrites(
        ResolveWindows(),
        """
        input %x: float32[1,2,5,6]
        constant %w: float32[4,2,3,3]
        %y: float32[1,4,3,4] = Conv(%x, %w) {kernel_shape=[3, 3]}
        return %y""",
        "%y = Conv(%x, %w) {strides=[1, 1], pads=[0, 0, 0, 0], dilations=[1, 1], group=1}",
    )


@pytest.mark.parametrize(("side", "pads"), [("SAME_UPPER", "[0, 0, 1, 1]"), ("SAME_LOWER", "[1, 1, 0, 0]")])
def test_automatic_padding(side: str, pads: str) -> None:
    after = apply(
        ResolveWindows(),
        f"""
        input %x: float32[1,2,6,8]
        constant %w: float32[4,2,3,3]
        %y: float32[1,4,3,4] = Conv(%x, %w) {{auto_pad="{side}", strides=[2, 2]}}
        return %y""",
    )
    assert f"pads={pads}" in nodes(after) and "auto_pad" not in nodes(after)


def test_explicit_windows_stay() -> None:
    assert_unchanged(
        ResolveWindows(),
        """
        input %x: float32[1,2,5,6]
        %y: float32[1,2,5,6] = MaxPool(%x) {kernel_shape=[3, 3], strides=[1, 1], pads=[1, 1, 1, 1], dilations=[1, 1]}
        return %y""",
    )


POOL = """
    input %x: float32[1,2,6,6]
    %y: float32[1,2,3,3] = {op}(%x) {{kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1{more}}}
    return %y"""


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
def test_criterion_2_an_overhang_that_does_not_count_is_padding(op: str) -> None:
    after = nodes(apply(ResolveWindows(), POOL.format(op=op, more="")))
    assert "pads=[0, 0, 1, 1]" in after and "ceil_mode" not in after


def test_criterion_2_an_overhang_beside_padding_that_counts_stays() -> None:
    text = """
        input %x: float32[1,2,6,6]
        %y: float32[1,2,4,4] = AveragePool(%x) {kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=1, COUNT}
        return %y""".replace("COUNT", "count_include_pad=1")
    after = nodes(apply(ResolveWindows(), text))
    assert "ceil_mode=1" in after and "pads=[1, 1, 1, 1]" in after


def test_criterion_2_where_no_window_hangs_over_the_flag_says_nothing() -> None:
    text = """
        input %x: float32[1,2,5,5]
        %y: float32[1,2,3,3] = AveragePool(%x) {kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=1, COUNT}
        return %y""".replace("COUNT", "count_include_pad=1")
    after = nodes(apply(ResolveWindows(), text))
    assert "ceil_mode" not in after and "count_include_pad=1" in after and "pads=[1, 1, 1, 1]" in after


def test_counting_padding_that_is_not_there() -> None:
    text = """
        input %x: float32[1,2,6,6]
        %y: float32[1,2,3,3] = AveragePool(%x) {kernel_shape=[2, 2], strides=[2, 2], count_include_pad=1}
        return %y"""
    assert "count_include_pad" not in nodes(apply(ResolveWindows(), text))


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
def test_criterion_3_a_window_over_the_plane_is_a_global_pool(op: str) -> None:
    assert_rewrites(
        ResolveWindows(),
        f"""
        input %x: float32[1,2,5,7]
        %y: float32[1,2,1,1] = {op}(%x) {{kernel_shape=[5, 7]}}
        return %y""",
        f"%y = Global{op}(%x)",
    )


@pytest.mark.parametrize("attributes", ["kernel_shape=[5, 7], pads=[1, 1, 0, 0]", "kernel_shape=[4, 6]", "kernel_shape=[5, 6]"])
def test_criterion_3_other_windows_are_not(attributes: str) -> None:
    shape = {"kernel_shape=[5, 7], pads=[1, 1, 0, 0]": "2,2", "kernel_shape=[4, 6]": "2,2", "kernel_shape=[5, 6]": "1,2"}[
        attributes
    ]
    text = f"""
        input %x: float32[1,2,5,7]
        %y: float32[1,2,{shape}] = MaxPool(%x) {{{attributes}}}
        return %y"""
    assert "Global" not in nodes(apply(ResolveWindows(), text))


def test_one_spatial_axis() -> None:
    text = """
        input %x: float32[1,2,7]
        constant %w: float32[3,2,3]
        %y: float32[1,3,7] = Conv(%x, %w) {auto_pad="SAME_UPPER"}
        return %y"""
    assert "pads=[1, 1]" in nodes(apply(ResolveWindows(), text))
