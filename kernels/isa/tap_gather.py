"""Four positions as one dot: the bytes of four blocks of channels, interleaved so that each channel's four lie side by side.

The meaning, in numpy, of ``taps`` ``[4, channels]`` of stored codes::

    interleaved[channel] = taps[:, channel]            # 4 bytes, one lane of a dot product

The operands of :meth:`kernels.isa.integer.IntegerVectors.dot` that come out hold other codes in every lane, where those of
``quads`` repeat one quad.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tapdot.kernels.isa.base import Isa
from tapdot.kernels.isa.integer import IntegerVectors, Value, integer_vectors
from tapdot.kernels.isa.integer_generic import WrittenOut
from tapdot.kernels.target import Target
from tapdot.kernels.tvm_adapter import Buffer, T

BLOCK = 16
"""Channels of a block: bytes from one position to the next."""
TAPS = 4


class TapGather:
    """Emits gathers on one target.

    ``table``: the index of the one instruction that interleaves a whole block where there is one (``vpermb``), as an array the
    kernel takes as an argument; LLVM would replace a constant one by nine other shuffles.
    """

    def __init__(self, target: Target) -> None:
        self.vectors: IntegerVectors = integer_vectors(target.isa)
        self.table = permutation() if has_byte_permutation(target) else None
        self._index: Value = None

    def load_table(self, buffer: Buffer) -> None:
        """Reads the table, once for all gathers."""
        self._index = T.Bind(buffer[T.ramp(0, 1, BLOCK * TAPS)])

    def gather(self, buffer: Buffer, offsets: Sequence[Value], consecutive: bool, first: int, count: int) -> list[Any]:
        """``count`` operands of a dot: channels ``first``, ... of the blocks that begin at the four ``offsets``.

        ``consecutive``: the blocks follow each other in memory.
        """
        if isinstance(self.vectors, WrittenOut):
            return self._separate(buffer, offsets, first, count)
        lanes = self.vectors.lanes
        if self._index is not None:
            if consecutive:
                run = T.Bind(buffer[T.ramp(offsets[0], 1, BLOCK * TAPS)])
            else:
                run = T.Bind(T.Shuffle(self._blocks(buffer, offsets), list(range(BLOCK * TAPS))))
            name = T.llvm_lookup_intrinsic_id("llvm.x86.avx512.permvar.qi.512")
            mixed = [T.call_llvm_pure_intrin(name, run, self._index, dtype=f"{buffer.dtype}x{BLOCK * TAPS}")]
        else:
            mixed = interleave(self._blocks(buffer, offsets), lanes * TAPS)[first // lanes : first // lanes + count]
        return [self.vectors.taps(T.Bind(part)) for part in mixed]

    @staticmethod
    def _blocks(buffer: Buffer, offsets: Sequence[Value]) -> list[Value]:
        return [T.Bind(buffer[T.ramp(offset, 1, BLOCK)]) for offset in offsets]

    def _separate(self, buffer: Buffer, offsets: Sequence[Value], first: int, count: int) -> list[Any]:
        """Where products are written out, codes of four taps in a vector each."""
        lanes = self.vectors.lanes
        return [[self.vectors.widen(buffer, offset + first + v * lanes, 1)[0] for offset in offsets] for v in range(count)]


def has_byte_permutation(target: Target) -> bool:
    """Whether one instruction permutes the 64 bytes of a register."""
    return target.isa.lanes == BLOCK and "avx512vbmi" in target.features


def permutation() -> np.ndarray:
    """Byte ``4 * channel + tap`` of the result is byte ``16 * tap + channel`` of four blocks in a row."""
    return np.arange(BLOCK * TAPS, dtype=np.uint8).reshape(TAPS, BLOCK).T.reshape(-1).copy()


def interleave(blocks: Sequence[Value], size: int) -> list[Value]:
    """The bytes of four blocks, channel by channel, as vectors of ``size`` bytes: two rounds of merging halves of pairs."""
    pairs = [_merge(blocks[even], blocks[even + 1], 1) for even in (0, 2)]
    quarters = [quarter for low, high in zip(*pairs, strict=True) for quarter in _merge(low, high, 2)]
    together = size // BLOCK
    if together == 1:
        return quarters
    joined = [quarters[start : start + together] for start in range(0, len(quarters), together)]
    return [T.Bind(T.Shuffle(part, list(range(size)))) for part in joined]


def _merge(a: Value, b: Value, size: int) -> list[Value]:
    """Elements of ``size`` bytes of two blocks in turn, the lower halves first."""
    found = []
    for half in (0, BLOCK // 2):
        pairs = [(start, start + BLOCK) for start in range(half, half + BLOCK // 2, size)]
        indices = [start + byte for pair in pairs for start in pair for byte in range(size)]
        found.append(T.Bind(T.Shuffle([a, b], indices)))
    return found
