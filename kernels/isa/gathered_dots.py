"""Dot products of quads that were gathered into a vector, with as many quads of weights, for sums over all lanes in the end.

The meaning, in numpy, for ``codes`` and ``weights`` of ``lanes * 4`` bytes in the order of memory::

    dot(accumulator, codes, weights).sum() = accumulator.sum() + (codes.astype(int) + offset) @ weights

Which product goes to which lane is left open: where there is no dot product of quads, another order is cheaper.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tapdot.kernels.emit import Value, intrinsic
from tapdot.kernels.isa.base import Isa
from tapdot.kernels.isa.integer import integer_vectors
from tapdot.kernels.tvm_adapter import Buffer, T, tirx

QUAD = 4
WORD = 64
"""Bits of a word of indices that is read at once."""


class GatheredDots:
    """Emits gathers and dots of one instruction set."""

    def __init__(self, isa: Isa) -> None:
        self.isa, self.lanes = isa, isa.lanes
        self.vectors = integer_vectors(isa)
        self._signed = {"vpdpbusd": False, "vpmaddwd": False, "sdot": True, "smmla": True, "smlal": True}.get(isa.dot)

    @property
    def size(self) -> int:
        """Codes in a vector."""
        return QUAD * self.lanes

    def operand_offset(self, stored_dtype: str) -> int:
        """What :meth:`gather` adds to stored codes of that type."""
        if self._signed is None or self._signed == (stored_dtype == "int8"):
            return 0
        return -128 if self._signed else 128

    def indices(self, buffer: Buffer, start: Value) -> list[Value]:
        """``lanes`` consecutive indices as 64-bit integers, read by words."""
        bits = 8 * np.dtype(buffer.dtype).itemsize
        together = min(self.lanes, WORD // bits)
        found = []
        for first in range(0, self.lanes, together):
            kind = f"uint{bits * together}"
            word = T.Bind(T.reinterpret(buffer[T.ramp(start + first, 1, together)], dtype=kind))
            for place in range(together):
                shifted = T.shift_right(word, tirx.const(bits * place, kind)) if place else word
                last = place == together - 1
                index = shifted if last else shifted & tirx.const((1 << bits) - 1, kind)
                found.append(T.Bind(index.astype("int64")))
        return found

    def gather(self, buffer: Buffer, offsets: Sequence[Value]) -> Value:
        """The quads of stored codes at ``lanes`` offsets, in the sign that :meth:`dot` wants."""
        words = [T.reinterpret(buffer[T.ramp(offset, 1, QUAD)], dtype="int32") for offset in offsets]
        codes = T.Bind(T.Shuffle(words, list(range(self.lanes))))
        if self.operand_offset(buffer.dtype):  # 128 more or less is the highest bit inverted
            codes = T.Bind(codes ^ T.broadcast(T.int32(-0x7F7F7F80), self.lanes))
        return codes

    def first(self, codes: Value, count: Value) -> Value:
        """The first ``count`` quads; zeros behind them."""
        inside = T.ramp(T.int32(0), 1, self.lanes) < T.broadcast(count, self.lanes)
        return T.Bind(T.Select(inside, codes, self.vectors.number(0)))

    def dot(self, accumulator: Value, codes: Value, weights: Value, stored_dtype: str) -> Value:
        """``codes`` as :meth:`gather` gives them of a buffer of that type, ``weights`` as ``size`` int8 values."""
        if self.isa.dot == "vpdpbusd":
            return self.vectors.dot(accumulator, T.reinterpret(codes, dtype=f"uint8x{self.size}"), weights)
        if self.isa.dot == "vpmaddwd":
            return self.vectors.dot(accumulator, self.vectors.taps(codes), self._halves(weights))
        signed = T.reinterpret(codes, dtype=f"int8x{self.size}")
        if self.isa.dot in ("sdot", "smmla"):
            return self.vectors.dot(accumulator, signed, weights)
        if self.isa.dot == "smlal":
            return self._pairwise(accumulator, signed, weights)
        return self._written_out(accumulator, codes, weights, stored_dtype)

    def _halves(self, weights: Value) -> list[Value]:
        """Weights 0 and 2 of every quad, and 1 and 3, as 16-bit numbers: the order of the codes in ``WidenedProducts.taps``."""
        words, eight = f"int16x{2 * self.lanes}", T.broadcast(T.int16(8), 2 * self.lanes)
        pairs = T.Bind(T.reinterpret(weights, dtype=words))
        return [T.Bind(T.shift_right(T.shift_left(pairs, eight), eight)), T.Bind(T.shift_right(pairs, eight))]

    def _pairwise(self, accumulator: Value, codes: Value, weights: Value) -> Value:
        """``smull``, ``smlal2``, ``sadalp``: two products fit 16 bits, as weights are never -128."""
        products = None
        for half in (0, 8):
            lanes = list(range(half, half + 8))
            operands = [T.Shuffle([vector], lanes) for vector in (codes, weights)]
            product = intrinsic("llvm.aarch64.neon.smull.v8i16", "int16x8", *operands)
            products = product if products is None else products + product
        return T.Bind(accumulator + intrinsic("llvm.aarch64.neon.saddlp.v4i32.v8i16", "int32x4", T.Bind(products)))

    def _written_out(self, accumulator: Value, codes: Value, weights: Value, dtype: str) -> Value:
        signed = T.Bind(T.reinterpret(codes, dtype=f"{dtype}x{self.size}").astype(f"int32x{self.size}"))
        products = T.Bind(signed * weights.astype(f"int32x{self.size}"))
        for part in range(QUAD):
            accumulator = accumulator + T.Shuffle([products], list(range(part * self.lanes, (part + 1) * self.lanes)))
        return T.Bind(accumulator)


PART = 4
"""int32 values of 128 bits, inside which pairs are added first: no step moves a number further than it must."""


def sums_of_lanes(rows: Sequence[Value], lanes: int) -> Value:
    """One int32 vector with the sum of the lanes of each of ``lanes`` vectors."""
    vectors = list(rows)
    single = [[part * PART + lane for lane in range(0, PART, 2)] for part in range(lanes // PART)]
    for _ in range(2):  # of every part of a and b: the sums of neighbours in a, then of those in b
        even = [lane + source for part in single for source in (0, lanes) for lane in part]
        vectors = [_sum_of_picked(a, b, even, 1) for a, b in zip(vectors[::2], vectors[1::2], strict=True)]
    while len(vectors) > 1:  # the same with whole parts
        even = [source + part + lane for source in (0, lanes) for part in range(0, lanes, 2 * PART) for lane in range(PART)]
        vectors = [_sum_of_picked(a, b, even, PART) for a, b in zip(vectors[::2], vectors[1::2], strict=True)]
    return vectors[0]


def _sum_of_picked(a: Value, b: Value, lanes: Sequence[int], distance: int) -> Value:
    """Some lanes of two vectors, plus those that lie ``distance`` behind them."""
    others = [lane + distance for lane in lanes]
    return T.Bind(T.Shuffle([a, b], list(lanes)) + T.Shuffle([a, b], others))
