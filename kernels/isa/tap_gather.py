"""Four positions as one dot: the bytes of four blocks of channels, interleaved so that each channel's four lie side by side.

The meaning, in numpy, for ``blocks`` of stored codes ``[4, 16]``::

    interleaved = blocks.T          # [16, 4]: the four bytes of channel 0, those of channel 1, ...

:meth:`kernels.isa.integer.IntegerVectors.dot` then sums over the four positions, another quad in every lane.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tapdot.kernels.emit import argument, load
from tapdot.kernels.isa.integer import IntegerVectors, Value, integer_vectors
from tapdot.kernels.isa.integer_generic import WrittenOut
from tapdot.kernels.isa.integer_neon import WidenedLanes
from tapdot.kernels.target import Target
from tapdot.kernels.tvm_adapter import Buffer, T, tirx

BLOCK = 16
"""Channels of a block: bytes from one position to the next."""
TAPS = 4


class TapGather:
    """Emits gathers on one target.

    ``table``: the index of the one instruction that interleaves a whole block, ``vpermb``, as an array that the kernel takes as
    an argument: a constant one LLVM would turn into eleven other shuffles. None where there is no such instruction.

    ``separate``: without dot products nothing is interleaved; an operand is a list of four, one a tap, and so are weights.
    """

    def __init__(self, target: Target) -> None:
        self.vectors: IntegerVectors = integer_vectors(target.isa)
        self.table = permutation() if target.isa.lanes == BLOCK and "avx512vbmi" in target.features else None
        self.separate = isinstance(self.vectors, WrittenOut | WidenedLanes)
        self._index: Value = None

    def declare_table(self) -> Callable[[], None]:
        """Declares the table as an argument, where there is one; the function returned reads it, once for all gathers."""
        if self.table is None:
            return lambda: None
        buffer = argument("table", self.table.size, "uint8")

        def load_table() -> None:
            self._index = load(buffer, 0, BLOCK * TAPS)

        return load_table

    @property
    def tables(self) -> list[np.ndarray]:
        """The packed arrays of the gathers: the table, or none."""
        return [] if self.table is None else [self.table]

    def gather(self, buffer: Buffer, offsets: Sequence[Value], consecutive: bool, first: int, count: int) -> list[Any]:
        """``count`` operands of a dot, for the vectors of channels from ``first`` on of the blocks at four ``offsets``.

        ``consecutive``: the blocks follow each other in memory.
        """
        if self.separate:
            return self._separate(buffer, offsets, first, count)
        size = self.vectors.lanes * TAPS
        if self._index is None:
            mixed = interleave(self._blocks(buffer, offsets), size)[first : first + count]
        else:
            if consecutive:
                run = T.Bind(buffer[T.ramp(offsets[0], 1, size)])
            else:
                run = T.Bind(T.Shuffle(self._blocks(buffer, offsets), list(range(size))))
            name = T.llvm_lookup_intrinsic_id("llvm.x86.avx512.permvar.qi.512")
            mixed = [T.Bind(T.call_llvm_pure_intrin(name, run, self._index, dtype=f"{buffer.dtype}x{size}"))]
        return [self.vectors.taps(self._with_offset(part, buffer.dtype, size)) for part in mixed]

    def _with_offset(self, codes: Value, dtype: str, size: int) -> Value:
        """Codes of the sign that dots want: 128 more or less is the highest bit inverted."""
        if not self.vectors.operand_offset(dtype):
            return codes
        other, highest = ("int8", 128) if dtype == "uint8" else ("uint8", -128)
        return T.Bind(T.reinterpret(codes ^ T.broadcast(tirx.const(highest, dtype), size), dtype=f"{other}x{size}"))

    @staticmethod
    def _blocks(buffer: Buffer, offsets: Sequence[Value]) -> list[Value]:
        return [T.Bind(buffer[T.ramp(offset, 1, BLOCK)]) for offset in offsets]

    def _separate(self, buffer: Buffer, offsets: Sequence[Value], first: int, count: int) -> list[Any]:
        """For every vector of channels, its codes at the four offsets, in the element type of the products."""
        dtype, lanes = "int16" if isinstance(self.vectors, WidenedLanes) else "int32", self.vectors.lanes
        size = count * lanes
        wide = [T.Bind(buffer[T.ramp(offset + first * lanes, 1, size)].astype(f"{dtype}x{size}")) for offset in offsets]
        return [[T.Shuffle([codes], list(range(v * lanes, v * lanes + lanes))) for codes in wide] for v in range(count)]


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
    """Elements of ``size`` bytes of two blocks in turn: of their lower halves, and of their upper halves."""
    found = []
    for half in (0, BLOCK // 2):
        pairs = [(start, start + BLOCK) for start in range(half, half + BLOCK // 2, size)]
        indices = [start + byte for pair in pairs for start in pair for byte in range(size)]
        found.append(T.Bind(T.Shuffle([a, b], indices)))
    return found
