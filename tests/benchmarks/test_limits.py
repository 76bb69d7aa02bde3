"""The limit kernels compute what they claim to, and run."""

from collections.abc import Callable

import numpy as np
import pytest
from benchmarks import limits

from tapdot.kernels.target import find_target
from tapdot.kernels.tvm_adapter import PrimFunc, build, tvm


@pytest.fixture
def few_iterations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ITERATIONS", 3)


def compiled(kernel: PrimFunc) -> Callable[..., None]:
    target = find_target("host")
    symbol = str(kernel.attrs["global_symbol"])
    return build({symbol: kernel}, target.llvm())[symbol]


def test_multiply_add_accumulates(few_iterations: None) -> None:
    isa = find_target("host").isa
    starts = np.arange(limits.CHAINS * isa.lanes, dtype=np.float32)
    sums, operands = tvm.runtime.tensor(starts), tvm.runtime.tensor(np.full(2 * isa.lanes, 0.5, np.float32))
    compiled(limits.multiply_add_kernel(isa, 1))(sums, operands)
    np.testing.assert_array_equal(sums.numpy(), starts + 3 * 0.25)


def test_dot_accumulates_products_of_codes(few_iterations: None) -> None:
    instruction = limits.find_dot_instruction(find_target("host"))
    if instruction is None or not instruction.accumulates:
        pytest.skip("this processor has no accumulating 8-bit dot product")
    starts = np.arange(limits.CHAINS * instruction.sums, dtype=np.int32)
    codes = np.tile(np.array([1, 2, 3, 4], np.int8), 2 * instruction.sums)
    sums, operands = tvm.runtime.tensor(starts), tvm.runtime.tensor(codes.view(np.int32))
    compiled(limits.dot_kernel(instruction, 1))(sums, operands)
    np.testing.assert_array_equal(sums.numpy(), starts + 3 * (1 + 4 + 9 + 16))


def test_read_touches_every_element() -> None:
    isa = find_target("host").isa
    elements = 5 * limits.CHAINS * isa.lanes
    data = np.random.default_rng(0).random(elements, dtype=np.float32)
    sums = tvm.runtime.tensor(np.zeros(limits.CHAINS * isa.lanes, np.float32))
    compiled(limits.read_kernel(isa, elements, 1))(sums, tvm.runtime.tensor(data))
    np.testing.assert_allclose(sums.numpy().sum(), data.sum(), rtol=1e-5)


def test_every_limit_runs(few_iterations: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "READ_BYTES", 1 << 16)
    prepared = limits.prepare_limits(1)
    assert {"float32 multiply-add", "memory read"} <= {limit.name for limit in prepared}
    for limit in prepared:
        limit.run()
        assert limit.work > 0 and limit.instruction
