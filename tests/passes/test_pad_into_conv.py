"""Borders of zeros into convolutions and pools, each criterion on both sides."""

from __future__ import annotations

import pytest
from tests.passes.before_and_after import apply, assert_rewrites, assert_unchanged, nodes

from tapdot.passes.pad_into_conv import PadIntoConv

HEADER = """
    input %x: float32[1,2,5,6]
    constant %w: float32[4,2,3,3]
    constant %pads: int64[8] = [0, 0, 1, 2, 0, 0, 0, 1]
    constant %spatial: int64[2] = [-2, 3]
    constant %short: int64[4] = [1, 2, 0, 1]
    constant %lowest: float32[] = [-3.4028234663852886e38]
    constant %one: float32[] = [1.0]
    constant %channels: int64[8] = [0, 1, 1, 0, 0, 0, 0, 0]
    constant %crop: int64[8] = [0, 0, -1, 2, 0, 0, 1, 1]
"""
WINDOW = "dilations=[1, 1], group=1, pads=[1, 0, 0, 0], strides=[1, 1]"
POOL = "kernel_shape=[3, 3], strides=[1, 1], pads=[{pads}], dilations=[1, 1]"
P = "float32[1,2,6,9]"


@pytest.mark.parametrize("pad", ["Pad(%x, %pads)", "Pad(%x, %short, _, %spatial)"])
def test_into_a_convolution(pad: str) -> None:
    assert_rewrites(
        PadIntoConv(),
        f"{HEADER}\n%p: {P} = {pad}\n%y: float32[1,4,5,7] = Conv(%p, %w) {{{WINDOW}}}\nreturn %y",
        "%y = Conv(%x, %w) {dilations=[1, 1], group=1, pads=[2, 2, 0, 1], strides=[1, 1]}",
    )


def test_a_border_that_others_read_stays_for_them() -> None:
    after = apply(
        PadIntoConv(),
        f"""{HEADER}
        %p: {P} = Pad(%x, %pads)
        %y: float32[1,4,5,7] = Conv(%p, %w) {{{WINDOW}}}
        %r: {P} = Relu(%p)
        return %y, %r""",
    )
    assert sorted(node.op for node in after.nodes) == ["Conv", "Pad", "Relu"]
    assert "Conv(%x, %w)" in nodes(after)


@pytest.mark.parametrize(
    ("pad", "shape"),
    [
        ("Pad(%x, %pads, %one)", "1,2,6,9"),
        ('Pad(%x, %pads) {mode="edge"}', "1,2,6,9"),
        ("Pad(%x, %crop)", "1,2,5,9"),
    ],
    ids=["criterion 2: ones", "criterion 1: edge", "criterion 1: cuts off"],
)
def test_criteria_of_convolutions(pad: str, shape: str) -> None:
    result = "1,4,5,7" if shape == "1,2,6,9" else "1,4,4,7"
    assert_unchanged(
        PadIntoConv(), f"{HEADER}\n%p: float32[{shape}] = {pad}\n%y: float32[{result}] = Conv(%p, %w) {{{WINDOW}}}\nreturn %y"
    )


def test_criterion_1_channels_stay() -> None:
    assert_unchanged(
        PadIntoConv(),
        f"""{HEADER}
        constant %v: float32[4,3,3,3]
        %p: float32[1,3,6,6] = Pad(%x, %channels)
        %y: float32[1,4,5,4] = Conv(%p, %v) {{{WINDOW}}}
        return %y""",
    )


AVERAGE = "kernel_shape=[3, 3], strides=[1, 1], pads=[{pads}]{more}"


@pytest.mark.parametrize(
    ("pads", "more", "folds"),
    [
        ("0, 0, 0, 0", "", True),
        ("1, 0, 0, 0", ", count_include_pad=1", True),
        ("1, 0, 0, 0", "", False),
    ],
)
def test_criterion_3_average_pools_count_the_border(pads: str, more: str, folds: bool) -> None:
    height = 4 + (pads[0] == "1")
    text = f"""{HEADER}
        %p: {P} = Pad(%x, %pads)
        %y: float32[1,2,{height},7] = AveragePool(%p) {{{AVERAGE.format(pads=pads, more=more)}}}
        return %y"""
    if folds:
        after = nodes(apply(PadIntoConv(), text))
        assert "Pad(" not in after and "count_include_pad=1" in after
    else:
        assert_unchanged(PadIntoConv(), text)


def max_pool(producer: str, pad: str, pads: str = "0, 0, 0, 0", kernel: str = "[3, 3]", shape: str = "1,2,4,7") -> str:
    return f"""{HEADER}
        %r: float32[1,2,5,6] = {producer}
        %p: {P} = {pad}
        %y: float32[{shape}] = MaxPool(%p) {{kernel_shape={kernel}, strides=[1, 1], pads=[{pads}], dilations=[1, 1]}}
        return %y"""


@pytest.mark.parametrize("producer", ["Relu(%x)", "Sigmoid(%x)", "Clip(%x, %one)"])
def test_criterion_4_zeros_never_beat_what_is_not_negative(producer: str) -> None:
    assert "Pad(" not in nodes(apply(PadIntoConv(), max_pool(producer, "Pad(%r, %pads)")))


def test_criterion_4_zeros_beat_what_is_negative() -> None:
    assert_unchanged(PadIntoConv(), max_pool("Tanh(%x)", "Pad(%r, %pads)"))


def test_criterion_4_the_lowest_number_never_wins() -> None:
    assert "Pad(" not in nodes(apply(PadIntoConv(), max_pool("Tanh(%x)", "Pad(%r, %pads, %lowest)")))


def test_criterion_5_a_last_window_that_starts_in_the_border_stays() -> None:
    assert_unchanged(
        PadIntoConv(),
        """
        input %x: float32[1,1,4,4]
        constant %pads: int64[8] = [0, 0, 0, 0, 0, 0, 1, 1]
        %p: float32[1,1,5,5] = Pad(%x, %pads)
        %y: float32[1,1,3,3] = AveragePool(%p) {kernel_shape=[2, 2], strides=[2, 2], pads=[0, 0, 0, 0], ceil_mode=1}
        return %y""",
    )


def test_criterion_4_every_window_holds_an_element() -> None:
    assert_unchanged(PadIntoConv(), max_pool("Relu(%x)", "Pad(%r, %pads)", kernel="[2, 2]", shape="1,2,5,8"))
