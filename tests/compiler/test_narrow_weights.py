"""Weights of few bits in a package: small in the file, bytes in memory, whatever lies between them."""

from __future__ import annotations

import numpy as np
import pytest

from tapdot.compiler.lower.lowering import _Weights
from tapdot.compiler.narrow_weights import NarrowArray, in_memory, stored_bytes
from tapdot.kernels.layout import ALIGNMENT


def block(arrays: list[tuple[np.ndarray, int]]) -> tuple[_Weights, np.ndarray, bytes]:
    """The arrays as a package gets them: the block, its bytes in the file, and in memory."""
    weights = _Weights()
    memory = bytearray()
    for array, bits in arrays:
        assert weights.add(array, bits) == len(memory)
        memory += array.tobytes() + bytes(-array.nbytes % ALIGNMENT)
    stored = np.frombuffer(b"".join(map(bytes, weights.chunks())), np.uint8)
    return weights, stored, bytes(memory) or bytes(ALIGNMENT)


def arrays(seed: int) -> list[tuple[np.ndarray, int]]:
    """Of all kinds, some of codes that fit few bits and some that do not."""
    numbers = np.random.default_rng(seed)
    made: list[tuple[np.ndarray, int]] = []
    for _ in range(numbers.integers(0, 7)):
        bits, size = int(numbers.choice([8, 4, 2])), int(numbers.choice([1, 5, 63, 64, 65, 1000, 5001]))
        limit = 2 ** (int(numbers.choice([bits, 8])) - 1)
        codes = numbers.integers(-limit, limit, size).astype(np.int8)
        made.append((codes.astype(np.int32) if numbers.random() < 0.3 else codes, bits))
    distinct = {(array.dtype, array.tobytes()): (array, bits) for array, bits in made}  # equal ones are stored once
    return list(distinct.values())


@pytest.mark.parametrize("seed", range(20))
def test_what_lies_in_memory_comes_back_from_the_file(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tapdot.compiler.narrow_weights.CHUNK", 1024)
    weights, stored, memory = block(arrays(seed))
    assert stored.size == stored_bytes(weights.block_bytes, weights.narrow)
    assert b"".join(in_memory(stored, weights.narrow)) == memory


def test_four_bits_take_half_the_bytes() -> None:
    codes = np.resize(np.arange(-7, 8, dtype=np.int8), 10_000)
    weights, stored, _ = block([(codes, 4), (codes % 2, 2)])
    assert [array.bits for array in weights.narrow] == [4, 2]
    assert stored.size == 5056 + 2560 and weights.block_bytes == 2 * 10_048
    assert not block([(codes + 3, 4)])[0].narrow, "a code of 10 needs a byte"
    assert not block([(codes[:64], 4)])[0].narrow, "arrays keep their boundary, so that this one would save nothing"


@pytest.mark.parametrize(
    "narrow",
    [[(64, 100, 3)], [(-64, 100, 4)], [(8, 100, 4)], [(0, 0, 4)], [(0, 1000, 4)], [(0, 100, 4), (64, 10, 4)]],
    ids=["bits", "before", "boundary", "empty", "behind", "overlap"],
)
def test_arrays_that_cannot_be_are_refused(narrow: list[tuple[int, int, int]]) -> None:
    with pytest.raises(ValueError):
        stored_bytes(256, [NarrowArray(*array) for array in narrow])
