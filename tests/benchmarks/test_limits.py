"""The limits of this machine run, and say what they are."""

import pytest
from benchmarks import limits

from tapdot.runtime import limit_kernels


def test_every_limit_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limit_kernels, "ITERATIONS", 3)
    monkeypatch.setattr(limits, "READ_BYTES", 1 << 16)
    prepared = limits.prepare_limits(1)
    assert {"float32 multiply-add", "memory read"} <= {limit.name for limit in prepared}
    for limit in prepared:
        limit.run()
        assert limit.work > 0 and limit.instruction
