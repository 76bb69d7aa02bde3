"""FakeQuantize goes before moves, and stays where others would see the difference."""

from __future__ import annotations

import pytest
from tests.passes.before_and_after import assert_rewrites, assert_unchanged

from tapdot.passes.quantize_early import QuantizeEarly

HEADER = "input %x: float32[1,2,4,4]\n%p: float32[1,2,1,1] = GlobalAveragePool(%x)\n"
F, V = "%f: float32[1,2] = Flatten(%p)\n", "float32[1,2]"
GIVEN = '{scale=0.1, low=0, high=255, dtype="uint8"}'


def test_before_a_flatten() -> None:
    assert_rewrites(
        QuantizeEarly(),
        f"{HEADER}{F}%y: {V} = FakeQuantize(%f) {GIVEN}\nreturn %y",
        f"%p = GlobalAveragePool(%x)\n%p.codes = FakeQuantize(%p) {GIVEN}\n%y = Flatten(%p.codes)",
    )


def test_before_a_chain_of_moves() -> None:
    pool = "%m: float32[1,2,1,1] = MaxPool(%p) {kernel_shape=[1, 1]}\n"
    after = assert_rewrites(
        QuantizeEarly(),
        f"{HEADER}{pool}{F.replace('%p', '%m')}%y: {V} = FakeQuantize(%f) {GIVEN}\nreturn %y",
        f"%p = GlobalAveragePool(%x)\n%p.codes = FakeQuantize(%p) {GIVEN}\n"
        "%m.codes = MaxPool(%p.codes) {kernel_shape=[1, 1]}\n%y = Flatten(%m.codes)",
    )
    assert [node.op for node in after.nodes] == ["GlobalAveragePool", "FakeQuantize", "MaxPool", "Flatten"]


@pytest.mark.parametrize(
    "body",
    [
        f"{F}%y: {V} = FakeQuantize(%f) {GIVEN}\nreturn %y, %p",
        f"{F}%y: {V} = FakeQuantize(%f) {GIVEN}\nreturn %y, %f",
        f"%q: float32[1,2,1,1] = FakeQuantize(%p) {GIVEN}\n{F.replace('%p', '%q')}%y: {V} = FakeQuantize(%f) {GIVEN}\nreturn %y",
    ],
    ids=["read before", "read between", "quantized already"],
)
def test_stays(body: str) -> None:
    assert_unchanged(QuantizeEarly(), HEADER + body)


def test_inputs_are_moved_first() -> None:
    assert_unchanged(
        QuantizeEarly(),
        f"input %x: float32[1,2,2,1]\n%f: float32[1,4] = Flatten(%x)\n%y: float32[1,4] = FakeQuantize(%f) {GIVEN}\nreturn %y",
    )
