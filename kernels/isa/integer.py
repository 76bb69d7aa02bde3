"""Integer vectors: dot products of 8-bit codes, dyadic scaling, codes to and from int32, as small emitters over an ISA.

Sums over channels run over *quads*, 4 consecutive input channels; a vector holds ``lanes`` output channels in int32::

    dot(acc, quad, weights)[l] = acc[l] + sum_k (quad[k] + operand_offset) * weights[l][k]
    dyadic(x, multiplier, shift)[l] = numerics.dyadic(x[l], multiplier[l], shift[l])

What an instruction set stores is its own business: :meth:`IntegerVectors.pack_weights`,
:meth:`~IntegerVectors.pack_multipliers` and :meth:`~IntegerVectors.pack_shifts` put constants into the form the instructions
want, and back. Each emitter's meaning in numpy is the module ``kernels.numerics``; ``tests/kernels/isa`` tests one against the
other.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from tapdot.kernels import numerics
from tapdot.kernels.isa.base import Isa
from tapdot.kernels.tvm_adapter import Buffer, T

Value = Any
"""A TIR expression or a Python int."""


class IntegerVectors(ABC):
    """The emitters of one instruction set, each written for vectors of ``lanes`` int32 values."""

    weight_registers = 1
    """Registers that one vector of weights takes."""
    quad_registers = 1
    """Registers that one broadcast quad takes."""
    spare_registers = 0
    """Registers for intermediate values of :meth:`dot`."""
    quads_per_load = 1
    """Quads that one load serves, where an instruction takes one of them out of a register."""
    dots_per_cycle = 2.0

    def __init__(self, isa: Isa) -> None:
        self.isa = isa
        self.lanes = isa.lanes

    @property
    def vector(self) -> str:
        """TVM's name of the int32 vector type."""
        return f"int32x{self.lanes}"

    # -- dot products -------------------------------------------------------------------------------------------------------

    @abstractmethod
    def operand_offset(self, stored_dtype: str) -> int:
        """What :meth:`quads` adds to stored codes of that type: 128 or -128 where instructions want the other sign, else 0."""

    @abstractmethod
    def quads(self, buffer: Buffer, offset: Value, count: int) -> list[Any]:
        """``count`` consecutive quads of stored codes, each as the operand that :meth:`dot` multiplies with every lane."""

    def taps(self, codes: Value) -> Any:
        """``lanes * 4`` codes, another quad in every lane, as an operand of :meth:`dot`; :meth:`operand_offset` is in it."""
        return codes

    @abstractmethod
    def weights(self, buffer: Buffer, offset: Value) -> Any:
        """``lanes * 4`` consecutive int8 weights in the order of :meth:`pack_weights`, as an operand of :meth:`dot`."""

    def weights_of(self, codes: Value) -> Any:
        """The same operand from ``lanes * 4`` int8 weights in a register."""
        raise NotImplementedError

    def narrow_weights(self, buffer: Buffer, offset: Value) -> tuple[Any, Any]:
        """Two vectors of 4-bit weights from ``lanes * 4`` bytes, in the order of :meth:`pack_narrow`, for :meth:`dot`."""
        size = self.lanes * 4
        codes, places = T.Bind(buffer[T.ramp(offset, 1, size)]), T.broadcast(T.int8(4), size)
        first = T.Bind(T.shift_right(T.Bind(T.shift_left(codes, places)), places))
        return self.weights_of(first), self.weights_of(T.Bind(T.shift_right(codes, places)))

    def pack_narrow(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Two vectors of 4-bit weights, ``[..., lanes * 4]`` by :meth:`pack_weights` both, as int8 ``[..., lanes * 4]``.

        The first lies in the low halves of the bytes, the second in the high ones.
        """
        return numerics.pack_codes(np.stack([first, second], axis=-1), 4).view(np.int8).reshape(first.shape)

    def unpack_narrow(self, packed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The inverse of :meth:`pack_narrow`."""
        both = numerics.unpack_codes(np.ascontiguousarray(packed).reshape(-1), 4, 2 * packed.size).reshape(*packed.shape, 2)
        return both[..., 0], both[..., 1]

    @abstractmethod
    def dot(self, accumulator: Value, quad: Any, weights: Any) -> Value:
        """``accumulator[l] + sum_k quad[k] * weights[l][k]`` in int32."""

    def pack_weights(self, weights: np.ndarray) -> np.ndarray:
        """int8 ``[..., lanes, 4]`` as ``[..., lanes * 4]`` in the order in which :meth:`weights` reads them."""
        return weights.reshape(*weights.shape[:-2], self.lanes * 4)

    def unpack_weights(self, packed: np.ndarray) -> np.ndarray:
        """The inverse of :meth:`pack_weights`."""
        return packed.reshape(*packed.shape[:-1], self.lanes, 4)

    # -- requantization -----------------------------------------------------------------------------------------------------

    multiplier_rows = 1
    shift_rows = 1
    """Vectors that a packed multiplier and a packed shift take."""

    def pack_multipliers(self, multipliers: np.ndarray) -> np.ndarray:
        """int32 ``[vectors, lanes]`` as ``[vectors, multiplier_rows, lanes]``."""
        return multipliers[:, None]

    def unpack_multipliers(self, packed: np.ndarray) -> np.ndarray:
        """The inverse of :meth:`pack_multipliers`."""
        return packed[:, 0]

    def pack_shifts(self, shifts: np.ndarray) -> np.ndarray:
        """int32 ``[vectors, lanes]`` as ``[vectors, shift_rows, lanes]``."""
        return shifts[:, None]

    def unpack_shifts(self, packed: np.ndarray) -> np.ndarray:
        """The inverse of :meth:`pack_shifts`."""
        return packed[:, 0]

    shifts_ahead = False
    """Whether row 0 of a packed shift is a shift of ``x`` before the product, which is zero for every scale below 1/2."""

    def any(self, values: Sequence[Value]) -> Value:
        """Whether some lane of some int32 vector is not zero."""
        raise NotImplementedError

    @abstractmethod
    def dyadic(self, x: Value, multiplier: Sequence[Value], shift: Sequence[Value]) -> Value:
        """``(x * m + 2**(s-1)) >> s`` of an int32 vector, exact for shifts in [2, 62].

        ``multiplier`` and ``shift`` are the packed rows as vectors. ``abs(x) << max(0, 33 - s) < 2**31`` holds
        (``numerics.high_half_shifts``).
        """

    # -- codes --------------------------------------------------------------------------------------------------------------

    def widen(self, buffer: Buffer, offset: Value, vectors: int) -> list[Value]:
        """``vectors * lanes`` consecutive stored codes as int32 vectors."""
        lanes = self.lanes
        return [T.Bind(buffer[T.ramp(offset + v * lanes, 1, lanes)].astype(self.vector)) for v in range(vectors)]

    def narrow(self, values: Sequence[Value], zero: int, low: int, high: int, dtype: str) -> Value:
        """int32 vectors as one vector of ``len(values) * lanes`` stored codes: ``clamp(x + zero, low, high)``, no overflow.

        ``zero``, ``low`` and ``high`` speak of stored codes of type ``dtype``.
        """
        parts = [T.Bind(self.clamp(value, zero, low, high).astype(f"{dtype}x{self.lanes}")) for value in values]
        if len(parts) == 1:
            return parts[0]
        return T.Bind(T.Shuffle(parts, list(range(len(parts) * self.lanes))))

    def narrow_parts(self, values: Sequence[Value], zero: int, low: int, high: int, dtype: str) -> Value:
        """:meth:`narrow` of up to four vectors in the order of ``kernels.position_block``: code ``16 p + 4 v + j`` of the
        ``4 * lanes`` is lane ``4 p + j`` of vector ``v``; those of vectors that are missing hold anything.
        """
        codes = self.narrow([*values, *[values[-1]] * (4 - len(values))], zero, low, high, dtype)
        order = [v * self.lanes + 4 * p + j for p in range(self.lanes // 4) for v in range(4) for j in range(4)]
        return codes if self.lanes == 4 else T.Bind(T.Shuffle([codes], order))

    def clamp(self, value: Value, zero: int, low: int, high: int) -> Value:
        """``clamp(x + zero, low, high)`` of an int32 vector: clamped before the addition, which then cannot overflow."""
        value = T.Bind(T.min(T.max(value, self.number(low - zero)), self.number(high - zero)))
        return T.Bind(value + self.number(zero)) if zero else value

    def lookup(self, indices: Value, table: Buffer) -> Value:
        """``table[indices]`` of an int32 vector of indices in [0, 255], as int32."""
        return T.Bind(table[indices].astype(self.vector))

    def number(self, value: int) -> Value:
        """One int32 in every lane."""
        return T.broadcast(T.int32(value), self.lanes)


@cache
def integer_vectors(isa: Isa) -> IntegerVectors:
    """The emitters of an instruction set, for weights of 8 bits."""
    if isa.dot == "vpdpbusd":
        from tapdot.kernels.isa.integer_x86 import DotProducts

        return DotProducts(isa)
    if isa.dot == "vpmaddwd":
        from tapdot.kernels.isa.integer_x86 import WidenedProducts

        return WidenedProducts(isa)
    if isa.dot in ("sdot", "smmla"):
        from tapdot.kernels.isa.integer_neon import LaneDots

        return LaneDots(isa)
    if isa.dot == "smlal":
        from tapdot.kernels.isa.integer_neon import WidenedLanes

        return WidenedLanes(isa)
    from tapdot.kernels.isa.integer_generic import WrittenOut

    return WrittenOut(isa)


@cache
def narrow_vectors(isa: Isa) -> IntegerVectors:
    """Those for weights of 4 bits and fewer: others where smaller products allow faster instructions."""
    if isa.dot == "vpmaddwd":
        from tapdot.kernels.isa.integer_x86 import NarrowProducts

        return NarrowProducts(isa)
    return integer_vectors(isa)
