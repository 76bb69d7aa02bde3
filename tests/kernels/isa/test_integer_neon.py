"""Integer instructions of AArch64 against their meaning in numpy, on an emulated CPU."""

from __future__ import annotations

import numpy as np
import pytest
from tests.kernels.emulated_runner import call

from tapdot.kernels.emit import argument, load, loop, store
from tapdot.kernels.isa.integer_neon import INSTRUCTIONS, Instruction
from tapdot.kernels.target import find_target
from tapdot.kernels.tvm_adapter import PrimFunc, function

pytestmark = pytest.mark.emulated
CASES = 64
TARGET = "cortex-x2"


def _split(vector: str) -> tuple[str, int]:
    dtype, _, lanes = vector.partition("x")
    return dtype, int(lanes)


def _values(dtype: str, lanes: int, generator: np.random.Generator) -> np.ndarray:
    """``CASES`` vectors, the type's extremes and small numbers among them."""
    limits = np.iinfo(dtype)
    special = np.array([limits.min, limits.min + 1, limits.max, limits.max - 1, 0, 1, 2, 31, -1 if limits.min else 1], dtype)
    anything = generator.integers(limits.min, limits.max, (CASES, lanes), dtype, endpoint=True)
    small = anything >> generator.integers(0, limits.bits, (CASES, 1)).astype(dtype)
    return np.where(generator.random((CASES, lanes)) < 0.4, special[generator.integers(0, special.size, (CASES, lanes))], small)


def _apply(instruction: Instruction) -> PrimFunc:
    finished: list[PrimFunc] = []
    with function("kernel", finished):
        sources = [
            (argument(f"x{i}", CASES * _split(t)[1], _split(t)[0]), _split(t)[1]) for i, t in enumerate(instruction.operands)
        ]
        dtype, lanes = _split(instruction.result)
        result = argument("y", CASES * lanes, dtype)
        with loop(CASES) as case:
            operands = [load(buffer, case * count, count) for buffer, count in sources]
            store(result, case * lanes, instruction(*operands), lanes)
    return finished[0]


@pytest.mark.parametrize("instruction", INSTRUCTIONS, ids=lambda instruction: instruction.name)
def test_an_instruction_does_what_it_says(instruction):
    generator = np.random.default_rng(0)
    operands = [_values(*_split(vector), generator) for vector in instruction.operands]
    if "shl" in instruction.name:  # beyond these, bits are lost to the left
        operands[1] = generator.integers(-31, 1, operands[1].shape, np.int32)
    wanted = np.stack([instruction.meaning(*vectors) for vectors in zip(*operands, strict=True)])
    dtype, lanes = _split(instruction.result)
    ((got,),) = call(
        _apply(instruction), find_target(TARGET), [x.reshape(-1) for x in operands], [np.zeros(CASES * lanes, dtype)]
    )
    assert np.array_equal(got.reshape(wanted.shape), wanted)
