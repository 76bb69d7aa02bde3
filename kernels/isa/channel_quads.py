"""Four channels as one dot: codes of four channels interleaved position by position, and weights that all positions share.

A *strip* is four vectors of consecutive positions: a register of codes of every channel. Two rounds of merging neighbours, each
inside parts of 128 bits, put the four codes of a position side by side; the vectors that come out hold the positions of a strip
in the order of ``kernels.position_block``, in which narrowed codes are again in their natural order. The meaning, in numpy, for a
strip ``x`` of four channels, ``[4, 4 * lanes]``::

    operand(v)[lane] = x[:, strip_code(v, lane)]

A *rest* of one to three vectors holds its positions in their natural order.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from tapdot.kernels.emit import Value, load, splat, store
from tapdot.kernels.isa import Isa
from tapdot.kernels.isa.integer import integer_vectors
from tapdot.kernels.isa.integer_neon import ADDP_8H, SADDLP, SDOT, SMULL_8H
from tapdot.kernels.patterns import KEPT
from tapdot.kernels.position_block import NARROWED, PART
from tapdot.kernels.tvm_adapter import Buffer, T, tirx

STRIP = NARROWED
"""Vectors of a strip."""
LOADED_BYTES = 16
"""Weights that one load brings where dots take a lane of a register."""


def strip_code(vector: int, lane: int) -> int:
    """The position of a strip in a lane."""
    return STRIP * PART * (lane // PART) + PART * vector + lane % PART


class ChannelQuads(ABC):
    """Emits the operands of one instruction set."""

    weight_dtype = "int8"
    scratch_dtype = "int8"
    step = 1
    """Kernels that one iteration takes, where the list has as many."""
    spare_registers = 1
    """Registers that operands and products take."""

    def __init__(self, isa: Isa, share: int, members: int) -> None:
        """For groups of ``share`` filters, of which ``members`` are computed at once."""
        self.isa, self.lanes, self.share, self.members = isa, isa.lanes, share, members
        self.vectors = integer_vectors(isa)

    @property
    def vector_bytes(self) -> int:
        """Bytes of one operand in the scratch."""
        return KEPT * self.lanes

    @property
    def weight_registers(self) -> int:
        """Registers that the weights of an iteration take."""
        return self.members

    @abstractmethod
    def operand_offset(self, stored_dtype: str) -> int:
        """What operands hold more than stored codes of that type."""

    def signed(self, codes: Value, dtype: str, lanes: int) -> Value:
        """Codes with the sign of products: 128 more or less is the highest bit inverted."""
        if not self.operand_offset(dtype):
            return codes
        other, highest = ("int8", 128) if dtype == "uint8" else ("uint8", -128)
        return T.Bind(T.reinterpret(codes ^ T.broadcast(tirx.const(highest, dtype), lanes), dtype=f"{other}x{lanes}"))

    def pack(self, channels: Sequence[Value], dtype: str, count: int, scratch: Buffer, place: Value) -> None:
        """Writes the operands of ``count`` vectors of positions: their stored codes of each channel, a strip at least."""
        size = STRIP * self.lanes
        signed = [self.signed(codes, dtype, size) for codes in channels]
        if count == STRIP:
            self._store_strip(signed, scratch, place)
            return
        for v in range(count):
            picked = [k * size + v * self.lanes + lane for lane in range(self.lanes) for k in range(KEPT)]
            store(scratch, place + v * self.vector_bytes, T.Shuffle(signed, picked), self.vector_bytes)

    def _store_strip(self, channels: Sequence[Value], scratch: Buffer, place: Value) -> None:
        size = STRIP * self.lanes
        dtype = scratch.dtype
        pairs = [_merged(a, b, size, 16) for a, b in (channels[:2], channels[2:])]
        vectors = []
        for half in range(2):
            words = [T.reinterpret(pair[half], dtype=f"int16x{size // 2}") for pair in pairs]
            vectors += [T.reinterpret(mixed, dtype=f"{dtype}x{size}") for mixed in _merged(words[0], words[1], size // 2, 8)]
        for v, vector in enumerate(vectors):
            store(scratch, place + v * self.vector_bytes, vector, size)

    def operand(self, scratch: Buffer, place: Value, vector: int, count: int) -> Any:
        """Operand number ``vector`` of the ``count`` that :meth:`pack` wrote at ``place``."""
        return load(scratch, place + vector * self.vector_bytes, self.vector_bytes)

    # -- weights ------------------------------------------------------------------------------------------------------------

    def pack_weights(self, weights: np.ndarray) -> np.ndarray:
        """int8 ``[kernels, share, 4]`` in the form of :meth:`weights`, flat."""
        return np.ascontiguousarray(weights).reshape(-1)

    def unpack_weights(self, packed: np.ndarray) -> np.ndarray:
        """The inverse of :meth:`pack_weights`."""
        return packed.reshape(-1, self.share, KEPT)

    @abstractmethod
    def weights(self, buffer: Buffer, kernel: Value, kernels: int, first: int) -> list[Any]:
        """The weights of consecutive kernels, ``members`` a kernel from the ``first`` of its group on, each in every lane."""

    def dot(self, accumulator: Value, operand: Any, weights: Any) -> Value:
        """``accumulator[l] + sum_k operand[l][k] * weights[k]``."""
        return self.vectors.dot(accumulator, operand, weights)


class X86Quads(ChannelQuads):
    """``vpdpbusd``, or ``vpmaddwd`` of operands that are widened when they are read."""

    scratch_dtype = "uint8"

    def __init__(self, isa: Isa, share: int, members: int) -> None:
        super().__init__(isa, share, members)
        self.widened = isa.dot == "vpmaddwd"
        self.weight_dtype = "int16" if self.widened else "int8"
        self.spare_registers = 3 if self.widened else 1

    @property
    def weight_registers(self) -> int:
        return self.members * (2 if self.widened else 1)

    def operand_offset(self, stored_dtype: str) -> int:
        return 128 if stored_dtype == "int8" else 0

    def operand(self, scratch: Buffer, place: Value, vector: int, count: int) -> Any:
        return self.vectors.taps(super().operand(scratch, place, vector, count))

    def pack_weights(self, weights: np.ndarray) -> np.ndarray:
        """Widened: taps 0 and 2, then 1 and 3, as ``WidenedProducts.taps`` has them."""
        if not self.widened:
            return super().pack_weights(weights)
        return np.ascontiguousarray(weights.reshape(*weights.shape[:-1], 2, 2).swapaxes(-1, -2), np.int16).reshape(-1)

    def unpack_weights(self, packed: np.ndarray) -> np.ndarray:
        if not self.widened:
            return super().unpack_weights(packed)
        return packed.reshape(-1, self.share, 2, 2).swapaxes(-1, -2).reshape(-1, self.share, KEPT).astype(np.int8)

    def weights(self, buffer: Buffer, kernel: Value, kernels: int, first: int) -> list[Any]:
        found: list[Any] = []
        for member in range(kernels * self.members):
            place = (kernel * self.share + first + member) * KEPT
            if self.widened:
                found.append([self._spread(load(buffer, place + 2 * part, 2), "int16", 2) for part in range(2)])
            else:
                found.append(self._spread(load(buffer, place, KEPT), "int8", KEPT))
        return found

    def _spread(self, elements: Value, dtype: str, count: int) -> Value:
        """32 bits of elements in every lane."""
        word = T.broadcast(T.reinterpret(elements, dtype="int32"), self.lanes)
        return T.Bind(T.reinterpret(word, dtype=f"{dtype}x{count * self.lanes}"))


class NeonQuads(ChannelQuads):
    """``sdot`` by lane; or ``smull`` and pairwise sums. A strip is written by one ``st4``."""

    def __init__(self, isa: Isa, share: int, members: int) -> None:
        super().__init__(isa, share, members)
        self.widened = isa.dot == "smlal"
        self.step = 1 if self.widened or members < share else max(1, LOADED_BYTES // (KEPT * share))
        self.spare_registers = 5 if self.widened else 2

    @property
    def weight_registers(self) -> int:
        return self.members if self.widened else -(-self.step * self.members * KEPT // LOADED_BYTES)

    def operand_offset(self, stored_dtype: str) -> int:
        return -128 if stored_dtype == "uint8" else 0

    def _store_strip(self, channels: Sequence[Value], scratch: Buffer, place: Value) -> None:
        size = STRIP * self.lanes
        mixed = T.Shuffle(channels, [k * size + code for code in range(size) for k in range(KEPT)])
        store(scratch, place, mixed, KEPT * size)

    def weights(self, buffer: Buffer, kernel: Value, kernels: int, first: int) -> list[Any]:
        start, total = (kernel * self.share + first) * KEPT, kernels * self.members
        found: list[Any] = []
        for done in range(0, total, PART):
            here = min(PART, total - done)
            words = load(buffer, start + done * KEPT, here * KEPT)
            words = T.Bind(T.reinterpret(words, dtype="int32" if here == 1 else f"int32x{here}"))
            for lane in range(here):
                spread = splat(words, PART) if here == 1 else T.Shuffle([words, words], [lane] * PART)
                found.append(T.reinterpret(spread, dtype="int8x16"))
        return [T.Bind(quad) for quad in found] if self.widened else found

    def dot(self, accumulator: Value, operand: Any, weights: Any) -> Value:
        """Without dot products: the sum of two products fits 16 bits, as no weight is -128."""
        if not self.widened:
            return SDOT(accumulator, operand, weights)
        halves = [
            SMULL_8H(T.Shuffle([operand], lanes), T.Shuffle([weights], lanes)) for lanes in (list(range(8)), list(range(8, 16)))
        ]
        return accumulator + SADDLP(ADDP_8H(*halves))


class WrittenOutQuads(ChannelQuads):
    """Products in int32. Nothing is interleaved: an operand is a list of four vectors, one a channel, and so are weights."""

    def operand_offset(self, stored_dtype: str) -> int:
        return 0

    def pack(self, channels: Sequence[Value], dtype: str, count: int, scratch: Buffer, place: Value) -> None:
        for k, codes in enumerate(channels):
            wide = T.Bind(codes.astype(f"int16x{STRIP * self.lanes}"))
            for v in range(count):
                part = T.Shuffle([wide], list(range(v * self.lanes, (v + 1) * self.lanes)))
                store(scratch, place + (k * count + v) * self.lanes, part, self.lanes)

    scratch_dtype = "int16"

    def operand(self, scratch: Buffer, place: Value, vector: int, count: int) -> Any:
        return [
            T.Bind(load(scratch, place + (k * count + vector) * self.lanes, self.lanes).astype(f"int32x{self.lanes}"))
            for k in range(KEPT)
        ]

    def weights(self, buffer: Buffer, kernel: Value, kernels: int, first: int) -> list[Any]:
        places = [(kernel * self.share + first + member) * KEPT for member in range(kernels * self.members)]
        return [[T.Bind(splat(buffer[place + k].astype("int32"), self.lanes)) for k in range(KEPT)] for place in places]


def channel_quads(isa: Isa, share: int, members: int) -> ChannelQuads:
    """The emitters of an instruction set for groups of ``share`` filters, ``members`` of them at once."""
    if isa.dot in ("vpdpbusd", "vpmaddwd"):
        return X86Quads(isa, share, members)
    if isa.dot in ("sdot", "smmla", "smlal"):
        return NeonQuads(isa, share, members)
    return WrittenOutQuads(isa, share, members)


def _merged(a: Value, b: Value, size: int, part: int) -> list[Value]:
    """Elements of two vectors of ``size`` in turn, inside parts of so many: of their lower halves, and of their upper halves."""
    found = []
    for half in (0, part // 2):
        indices = [
            source + first + element for first in range(half, size, part) for element in range(part // 2) for source in (0, size)
        ]
        found.append(T.Bind(T.Shuffle([a, b], indices)))
    return found
