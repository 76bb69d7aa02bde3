"""What nobody reads goes."""

from __future__ import annotations

from tests.passes.before_and_after import assert_rewrites, assert_unchanged

from tapdot.passes.dead_code import DeadCode


def test_dead_chains_and_constants_go() -> None:
    after = assert_rewrites(
        DeadCode(),
        """
        input %x: float32[3]
        input %unread: float32[3]
        constant %w: float32[3]
        %a: float32[3] = Relu(%x)
        %b: float32[3] = Mul(%a, %w)
        %c: float32[3] = Exp(%b)
        return %a""",
        "%a = Relu(%x)",
    )
    assert not after.constants and after.inputs == ("x", "unread")


def test_criterion_1_one_result_read_keeps_the_node() -> None:
    assert_unchanged(
        DeadCode(),
        """
        input %x: float32[4]
        %p: float32[2], %q: float32[2] = Split(%x) {num_outputs=2}
        return %q""",
    )
