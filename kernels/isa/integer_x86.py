"""Integer vectors on x86: ``vpdpbusd`` where there is one, else ``vpmaddwd`` over codes widened to 16 bits."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from tapdot.kernels import numerics
from tapdot.kernels.emit import intrinsic
from tapdot.kernels.isa.integer import IntegerVectors, Value
from tapdot.kernels.tvm_adapter import Buffer, T, tirx

SIGN_BITS = -0x7F7F7F80
"""0x80 in each of four bytes: turns signed codes into unsigned ones 128 higher, and back, by exclusive or."""


class _X86Vectors(IntegerVectors):
    """What both kinds of dot product share: unsigned activations, and scaling by the high halves of 64-bit products.

    ``vpmuldq`` multiplies even lanes only. So the odd lanes are shifted down, and their multipliers lie in a second row; the
    high half of an odd product is in its place already.
    """

    multiplier_rows = 2
    shift_rows = 3
    shifts_ahead = True

    def operand_offset(self, stored_dtype: str) -> int:
        return 128 if stored_dtype == "int8" else 0

    def _quad(self, buffer: Buffer, offset: Value) -> Value:
        """A quad of unsigned codes in every lane. LLVM loops for ever over a sign turned after the broadcast."""
        quad = T.reinterpret(buffer[T.ramp(offset, 1, 4)], dtype="int32")
        if buffer.dtype == "int8":
            quad = T.Bind(quad ^ T.int32(SIGN_BITS))
        return T.Bind(T.reinterpret(T.broadcast(quad, self.lanes), dtype=f"uint8x{4 * self.lanes}"))

    @abstractmethod
    def weights(self, buffer: Buffer, offset: Value) -> Any: ...

    def narrow_weights(self, buffer: Buffer, offset: Value) -> tuple[Any, Any]:
        """There are no shifts of bytes: halves are cut out of words, and their sign is extended by ``(x ^ 8) - 8``."""
        size = self.lanes * 4
        codes = T.Bind(buffer[T.ramp(offset, 1, size)])
        words = T.Bind(T.reinterpret(codes, dtype=f"uint16x{size // 2}"))
        shifted = T.Bind(T.reinterpret(T.shift_right(words, T.broadcast(T.uint16(4), size // 2)), dtype=f"int8x{size}"))
        half, sign = T.broadcast(T.int8(15), size), T.broadcast(T.int8(8), size)
        return tuple(T.Bind(T.Bind((part & half) ^ sign) - sign) for part in (codes, shifted))  # type: ignore[return-value]

    def pack_multipliers(self, multipliers: np.ndarray) -> np.ndarray:
        odd = np.zeros_like(multipliers)
        odd[:, ::2] = multipliers[:, 1::2]
        return np.stack([multipliers, odd], axis=1)

    def unpack_multipliers(self, packed: np.ndarray) -> np.ndarray:
        return packed[:, 0]

    def pack_shifts(self, shifts: np.ndarray) -> np.ndarray:
        """Rows: the shift k before the product, half of the last place, the shift p after its high half."""
        pairs = np.array([numerics.high_half_shifts(int(shift), 32) for shift in shifts.reshape(-1)])
        k, p = pairs.T.astype(np.int32).reshape(2, *shifts.shape)
        return np.stack([k, np.left_shift(1, p - 1, dtype=np.int32), p], axis=1)

    def unpack_shifts(self, packed: np.ndarray) -> np.ndarray:
        return packed[:, 2] + 32 - packed[:, 0]

    def any(self, values: Sequence[Value]) -> Value:
        together = values[0]
        for value in values[1:]:
            together = together | value
        return intrinsic(f"llvm.vector.reduce.or.v{self.lanes}i32", "int32", together) != 0

    def dyadic(self, x: Value, multiplier: Sequence[Value], shift: Sequence[Value]) -> Value:
        lanes, wide = self.lanes, f"int64x{self.lanes // 2}"
        places = T.broadcast(T.int64(32), lanes // 2)

        def even(value: Value) -> Value:
            """The even lanes, sign-extended."""
            return T.shift_right(T.shift_left(T.reinterpret(value, dtype=wide), places), places)

        before, half, after = shift
        x = T.Bind(T.shift_left(x, before))
        low = T.Bind(even(x) * even(multiplier[0]))
        high = T.Bind(T.shift_right(T.reinterpret(x, dtype=wide), places) * even(multiplier[1]))
        halves = [T.reinterpret(product, dtype=self.vector) for product in (low, high)]
        indices = [lane + 1 if lane % 2 == 0 else lanes + lane for lane in range(lanes)]
        return T.Bind(T.shift_right(T.Bind(T.Shuffle(halves, indices)) + half, after))

    def narrow(self, values: Sequence[Value], zero: int, low: int, high: int, dtype: str) -> Value:
        """Saturation is a clamp: to 16 bits, with ``|zero| <= 256`` added there, and to 8 bits; four vectors fill a register.

        The instructions work on 128-bit parts: part ``l`` of their result holds lanes ``4 l``, ... of each of the four vectors.
        """
        if len(values) == 1:
            return super().narrow(values, zero, low, high, dtype)
        if len(values) > 4:
            parts = [self.narrow(values[start : start + 4], zero, low, high, dtype) for start in range(0, len(values), 4)]
            return T.Bind(T.Shuffle(parts, list(range(len(values) * self.lanes))))
        packed = self.narrow_parts(values, zero, low, high, dtype)
        order = [4 * part + v for v in range(len(values)) for part in range(self.lanes // 4)]
        ordered = T.Bind(T.Shuffle([T.reinterpret(packed, dtype=self.vector)], order))
        return T.Bind(T.reinterpret(ordered, dtype=f"{dtype}x{len(values) * self.lanes}"))

    def narrow_parts(self, values: Sequence[Value], zero: int, low: int, high: int, dtype: str) -> Value:
        a, b, c, d = (*values, *[values[-1]] * (4 - len(values)))
        words, codes = f"int16x{2 * self.lanes}", f"{dtype}x{4 * self.lanes}"
        halves = [self._pack("packssdw", words, *pair) for pair in ((a, b), (c, d))]
        if zero:
            added = T.broadcast(T.int16(zero), 2 * self.lanes)
            halves = [T.Bind(intrinsic("llvm.sadd.sat", words, half, added)) for half in halves]
        packed = self._pack("packuswb" if dtype == "uint8" else "packsswb", codes, *halves)
        limits = np.iinfo(dtype)
        if low > limits.min:
            packed = T.Bind(T.max(packed, T.broadcast(tirx.const(low, dtype), 4 * self.lanes)))
        if high < limits.max:
            packed = T.Bind(T.min(packed, T.broadcast(tirx.const(high, dtype), 4 * self.lanes)))
        return packed

    def _pack(self, name: str, dtype: str, a: Value, b: Value) -> Value:
        full = f"llvm.x86.avx512.{name}.512" if self.lanes == 16 else f"llvm.x86.avx2.{name}"
        return T.Bind(intrinsic(full, dtype, a, b))


class DotProducts(_X86Vectors):
    """``vpdpbusd``: sums of four products of unsigned codes and signed weights, with no saturation in between."""

    def quads(self, buffer: Buffer, offset: Value, count: int) -> list[Any]:
        return [self._quad(buffer, offset + 4 * quad) for quad in range(count)]

    def weights(self, buffer: Buffer, offset: Value) -> Any:
        return T.Bind(buffer[T.ramp(offset, 1, self.lanes * 4)])

    def weights_of(self, codes: Value) -> Any:
        return codes

    def dot(self, accumulator: Value, quad: Any, weights: Any) -> Value:
        name = T.llvm_lookup_intrinsic_id("llvm.x86.avx512.vpdpbusd.512")
        return T.call_llvm_pure_intrin(name, accumulator, quad, weights, dtype=self.vector)


class WidenedProducts(_X86Vectors):
    """``vpmaddwd``: codes and weights are widened to 16 bits, so that no product saturates.

    A register of quads holds codes 0 and 2 of each quad in its low bytes and 1 and 3 in its high bytes. Weights lie in that
    order: ``[2, lanes, 2]``.
    """

    weight_registers = 2
    quad_registers = 2
    spare_registers = 1
    dots_per_cycle = 0.5

    def quads(self, buffer: Buffer, offset: Value, count: int) -> list[Any]:
        return [self.taps(self._quad(buffer, offset + 4 * index)) for index in range(count)]

    def taps(self, codes: Value) -> Any:
        wide = f"int16x{2 * self.lanes}"
        quad = T.Bind(T.reinterpret(codes, dtype=f"u{wide}"))
        even = T.Bind(quad & T.broadcast(T.uint16(255), 2 * self.lanes))
        odd = T.Bind(T.shift_right(quad, T.broadcast(T.uint16(8), 2 * self.lanes)))
        return [T.reinterpret(even, dtype=wide), T.reinterpret(odd, dtype=wide)]

    def weights(self, buffer: Buffer, offset: Value) -> Any:
        count = 2 * self.lanes
        return [T.Bind(buffer[T.ramp(offset + part * count, 1, count)].astype(f"int16x{count}")) for part in range(2)]

    def dot(self, accumulator: Value, quad: Any, weights: Any) -> Value:
        name = T.llvm_lookup_intrinsic_id("llvm.x86.avx512.pmaddw.d.512" if self.lanes == 16 else "llvm.x86.avx2.pmadd.wd")
        for codes, weight in zip(quad, weights, strict=True):
            accumulator = accumulator + T.call_llvm_pure_intrin(name, codes, weight, dtype=self.vector)
        return T.Bind(accumulator)

    def pack_weights(self, weights: np.ndarray) -> np.ndarray:
        *outer, lanes, _ = weights.shape
        parts = weights.reshape(*outer, lanes, 2, 2)
        return np.moveaxis(parts, -1, -3).reshape(*outer, lanes * 4)

    def unpack_weights(self, packed: np.ndarray) -> np.ndarray:
        *outer, size = packed.shape
        parts = packed.reshape(*outer, 2, size // 4, 2)
        return np.moveaxis(parts, -3, -1).reshape(*outer, size // 4, 4)


class NarrowProducts(_X86Vectors):
    """``vpmaddubsw`` for weights of 4 bits: two products of an unsigned code and such a weight never leave 16 bits."""

    spare_registers = 2
    dots_per_cycle = 0.66

    def quads(self, buffer: Buffer, offset: Value, count: int) -> list[Any]:
        return [self._quad(buffer, offset + 4 * quad) for quad in range(count)]

    def weights(self, buffer: Buffer, offset: Value) -> Any:
        return T.Bind(buffer[T.ramp(offset, 1, self.lanes * 4)])

    def weights_of(self, codes: Value) -> Any:
        return codes

    def dot(self, accumulator: Value, quad: Any, weights: Any) -> Value:
        wide = self.lanes == 16
        pairs = intrinsic(
            "llvm.x86.avx512.pmaddubs.w.512" if wide else "llvm.x86.avx2.pmadd.ub.sw", f"int16x{2 * self.lanes}", quad, weights
        )
        ones = T.broadcast(T.int16(1), 2 * self.lanes)
        sums = intrinsic("llvm.x86.avx512.pmaddw.d.512" if wide else "llvm.x86.avx2.pmadd.wd", self.vector, pairs, ones)
        return T.Bind(accumulator + sums)
