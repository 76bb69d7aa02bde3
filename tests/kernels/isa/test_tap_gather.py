"""Gathers of four positions against their meaning: the transpose of four blocks."""

import numpy as np
import pytest

from tapdot.kernels.emit import argument, load, store
from tapdot.kernels.isa.tap_gather import BLOCK, TAPS, interleave, permutation
from tapdot.kernels.target import find_target
from tapdot.kernels.tvm_adapter import build, function, tvm

BLOCKS = np.random.default_rng(0).permutation(BLOCK * TAPS).astype(np.uint8)


def test_the_permutation_of_one_register():
    assert np.array_equal(BLOCKS[permutation()], BLOCKS.reshape(TAPS, BLOCK).T.reshape(-1))


@pytest.mark.parametrize("size", [16, 32, 64])
@pytest.mark.parametrize("target", ["host", "host:generic"])
def test_merging_halves(size, target):
    finished = []
    with function("kernel", finished):
        x, y = (argument(name, BLOCKS.size, "uint8") for name in "xy")
        blocks = [load(x, tap * BLOCK, BLOCK) for tap in range(TAPS)]
        for index, part in enumerate(interleave(blocks, size)):
            store(y, index * size, part, size)
    arrays = [tvm.runtime.tensor(array) for array in (BLOCKS, np.zeros_like(BLOCKS))]
    build({"kernel": finished[0]}, find_target(target).llvm())["kernel"](*arrays)
    assert np.array_equal(arrays[1].numpy(), BLOCKS.reshape(TAPS, BLOCK).T.reshape(-1))
