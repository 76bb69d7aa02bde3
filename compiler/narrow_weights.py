"""Weights of 4 and 2 bits in a package's file: two or four to a byte where they lie one a byte in memory.

``weights.bin`` is the block of packed weights that kernels read. Arrays of narrow codes that kernels want as bytes are packed in
the file and unpacked once, when the package is opened to be run; whatever a kernel reads packed is bytes here, and the rest of
the block is stored as it is. Both forms keep every array on a boundary of ``ALIGNMENT`` bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tapdot.kernels.layout import ALIGNMENT, round_up
from tapdot.kernels.numerics import NARROW_BITS, pack_codes, unpack_codes

CHUNK = 1 << 20


@dataclass(frozen=True)
class NarrowArray:
    """``elements`` int8 codes of ``bits`` bits from byte ``offset`` of the block in memory."""

    offset: int
    elements: int
    bits: int

    def __post_init__(self) -> None:
        if self.bits not in NARROW_BITS.values() or self.offset % ALIGNMENT or self.offset < 0 or self.elements <= 0:
            raise ValueError(f"not a narrow array: {self}")

    @property
    def memory_bytes(self) -> int:
        """Bytes up to the next array in memory."""
        return round_up(self.elements, ALIGNMENT)

    @property
    def stored_bytes(self) -> int:
        """Bytes up to the next array in the file."""
        return round_up(-(-self.elements * self.bits // 8), ALIGNMENT)

    def json(self) -> list[int]:
        """Plain data, the fields in order."""
        return [self.offset, self.elements, self.bits]


def packed(codes: np.ndarray, bits: int) -> Iterator[bytes]:
    """The bytes of a narrow array in the file, piece by piece, up to the next array."""
    flat, size = codes.reshape(-1), 0
    for start in range(0, flat.size, CHUNK):
        piece = pack_codes(flat[start : start + CHUNK], bits).tobytes()
        size += len(piece)
        yield piece
    yield bytes(round_up(size, ALIGNMENT) - size)


def stored_bytes(memory_bytes: int, narrow: Sequence[NarrowArray]) -> int:
    """Bytes of the block in the file. Raises ValueError for arrays that do not lie one behind the other inside of the block."""
    end = 0
    for array in narrow:
        if array.offset < end:
            raise ValueError("narrow arrays overlap")
        end = array.offset + array.memory_bytes
    if end > memory_bytes:
        raise ValueError("a narrow array leaves the block")
    return memory_bytes - sum(array.memory_bytes - array.stored_bytes for array in narrow)


def in_memory(stored: np.ndarray, narrow: Iterable[NarrowArray]) -> Iterator[bytes]:
    """The block as it lies in memory, piece by piece, from its bytes in the file."""
    place = memory = 0
    for array in narrow:
        yield from _pieces(stored[place : place + array.offset - memory])
        place += array.offset - memory
        per_byte = 8 // array.bits
        for start in range(0, array.elements, CHUNK):
            count = min(CHUNK, array.elements - start)
            piece = stored[place + start // per_byte : place + -(-(start + count) // per_byte)]
            yield unpack_codes(piece, array.bits, count).tobytes()
        yield bytes(array.memory_bytes - array.elements)
        place, memory = place + array.stored_bytes, array.offset + array.memory_bytes
    yield from _pieces(stored[place:])


def _pieces(block: np.ndarray) -> Iterator[bytes]:
    for start in range(0, block.size, CHUNK):
        yield block[start : start + CHUNK].tobytes()
