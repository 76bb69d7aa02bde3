"""Integer vectors on AArch64: ``sdot`` by lane where there is one, else ``smlal`` by lane over codes widened to 16 bits.

An :class:`Instruction` is the name of LLVM's intrinsic with its meaning in numpy beside it; tests run one against the other on an
emulated CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tapdot.kernels import numerics
from tapdot.kernels.emit import Value, intrinsic
from tapdot.kernels.isa.integer import IntegerVectors
from tapdot.kernels.tvm_adapter import Buffer, T, tirx

Meaning = Callable[..., np.ndarray]


@dataclass(frozen=True)
class Instruction:
    """One vector instruction: an LLVM intrinsic, the types of its operands and result, and what it computes."""

    name: str
    """LLVM's, behind ``llvm.aarch64.neon.``."""
    operands: tuple[str, ...]
    result: str
    meaning: Meaning
    feature: str = "neon"

    def __call__(self, *operands: Value) -> Value:
        """Emits the instruction."""
        return intrinsic(f"llvm.aarch64.neon.{self.name}", self.result, *operands)


def _wide(x: np.ndarray) -> np.ndarray:
    return np.asarray(x).astype(np.int64)


def _saturated(x: np.ndarray, dtype: str) -> np.ndarray:
    limits = np.iinfo(dtype)
    return np.clip(x, limits.min, limits.max).astype(dtype)


def _sdot(acc: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    products = _wide(a).reshape(4, 4) * _wide(b).reshape(4, 4)
    return (_wide(acc) + products.sum(axis=1)).astype(np.int32)


def _smmla(acc: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (_wide(acc).reshape(2, 2) + _wide(a).reshape(2, 8) @ _wide(b).reshape(2, 8).T).astype(np.int32).reshape(4)


def _tbl2(a: np.ndarray, b: np.ndarray, index: np.ndarray) -> np.ndarray:
    codes, at = np.concatenate([a, b]), np.asarray(index).view(np.uint8).astype(np.int64)
    return np.where(at < len(codes), codes[np.minimum(at, len(codes) - 1)], 0).astype(np.int8)


def _pairs(x: np.ndarray, dtype: str) -> np.ndarray:
    return _wide(x).reshape(-1, 2).sum(axis=1).astype(dtype)


def _sqdmulh(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return _saturated((_wide(a) * _wide(b)) >> 31, "int32")


def _sshl(x: np.ndarray, shift: np.ndarray) -> np.ndarray:
    left, right = np.maximum(_shift(shift), 0), np.maximum(-_shift(shift), 0)
    return ((_wide(x) << left) >> right).astype(np.int32)


def _srshl(x: np.ndarray, shift: np.ndarray) -> np.ndarray:
    left, right = np.maximum(_shift(shift), 0), np.maximum(-_shift(shift), 0)
    return (((_wide(x) << left) + ((1 << right) >> 1)) >> right).astype(np.int32)


def _shift(lanes: np.ndarray) -> np.ndarray:
    """Shifts by a register look at the lowest byte of each lane only."""
    return _wide(np.asarray(lanes).astype(np.int32).view(np.uint32).astype(np.uint8).view(np.int8))


SDOT = Instruction("sdot.v4i32.v16i8", ("int32x4", "int8x16", "int8x16"), "int32x4", _sdot, "dotprod")
"""``acc[l] += sum_k a[4 l + k] * b[4 l + k]``; with a shuffle for an operand, ``sdot v.4s, v.16b, v.4b[lane]``."""

SMMLA = Instruction("smmla.v4i32.v16i8", ("int32x4", "int8x16", "int8x16"), "int32x4", _smmla, "i8mm")
"""``acc[2 i + j] += sum_k a[8 i + k] * b[8 j + k]``: a 2x8 matrix by an 8x2 one."""

SMULL = Instruction("smull.v4i32", ("int16x4", "int16x4"), "int32x4", lambda a, b: (_wide(a) * _wide(b)).astype(np.int32))
"""``a[l] * b[l]`` in 32 bits; an addition makes it ``smlal``."""

SQDMULH = Instruction("sqdmulh.v4i32", ("int32x4", "int32x4"), "int32x4", _sqdmulh)
"""``floor(a[l] * b[l] / 2^31)``, saturated where both are -2^31."""

SSHL = Instruction("sshl.v4i32", ("int32x4", "int32x4"), "int32x4", _sshl)
"""``x[l] * 2^shift[l]``, for negative shifts rounded down."""

SRSHL = Instruction("srshl.v4i32", ("int32x4", "int32x4"), "int32x4", _srshl)
"""``x[l] * 2^shift[l]``, for negative shifts rounded half up."""

SQXTN_4H = Instruction("sqxtn.v4i16", ("int32x4",), "int16x4", lambda x: _saturated(_wide(x), "int16"))
SQXTN_8B = Instruction("sqxtn.v8i8", ("int16x8",), "int8x8", lambda x: _saturated(_wide(x), "int8"))
SQXTUN_8B = Instruction("sqxtun.v8i8", ("int16x8",), "uint8x8", lambda x: _saturated(_wide(x), "uint8"))
"""Narrowing with saturation, to signed and from signed to unsigned."""

SQADD_8H = Instruction("sqadd.v8i16", ("int16x8", "int16x8"), "int16x8", lambda a, b: _saturated(_wide(a) + _wide(b), "int16"))

TBL2 = Instruction("tbl2.v16i8", ("int8x16", "int8x16", "int8x16"), "int8x16", _tbl2)
"""``[a, b][index[l]]`` of the bytes of two registers, 0 for an index past them."""

SMULL_8H = Instruction("smull.v8i16", ("int8x8", "int8x8"), "int16x8", lambda a, b: (_wide(a) * _wide(b)).astype(np.int16))
ADDP_8H = Instruction("addp.v8i16", ("int16x8", "int16x8"), "int16x8", lambda a, b: _pairs(np.concatenate([a, b]), "int16"))
SADDLP = Instruction("saddlp.v4i32.v8i16", ("int16x8",), "int32x4", lambda x: _pairs(x, "int32"))
"""Products of bytes, sums of neighbours, and those in 32 bits."""

INSTRUCTIONS = (
    *(SDOT, SMMLA, SMULL, SQDMULH, SSHL, SRSHL, SQXTN_4H, SQXTN_8B, SQXTUN_8B, SQADD_8H),
    *(TBL2, SMULL_8H, ADDP_8H, SADDLP),
)


class _NeonVectors(IntegerVectors):
    """What every AArch64 core shares: scaling by ``sqdmulh`` and ``srshl``, narrowing by saturation."""

    quads_per_load = 4
    shift_rows = 2
    shifts_ahead = True

    # -- requantization -----------------------------------------------------------------------------------------------------

    def pack_shifts(self, shifts: np.ndarray) -> np.ndarray:
        """Rows: the shift k before the product, and minus the shift p after its high half."""
        pairs = np.array([numerics.high_half_shifts(int(shift), 31) for shift in shifts.reshape(-1)])
        k, p = pairs.T.astype(np.int32).reshape(2, *shifts.shape)
        return np.stack([k, -p], axis=1)

    def unpack_shifts(self, packed: np.ndarray) -> np.ndarray:
        return 31 - packed[:, 0] - packed[:, 1]

    def any(self, values: Sequence[Value]) -> Value:
        together = values[0]
        for value in values[1:]:
            together = together | value
        return intrinsic("llvm.vector.reduce.or", "int32", together) != 0

    def dyadic(self, x: Value, multiplier: Sequence[Value], shift: Sequence[Value]) -> Value:
        """``sqdmulh`` gives ``floor((x << k) * m / 2^31)``, unsaturated as ``m`` is positive; ``srshl`` rounds half up."""
        before, after = shift
        return T.Bind(SRSHL(SQDMULH(T.shift_left(x, before), multiplier[0]), after))

    # -- codes --------------------------------------------------------------------------------------------------------------

    def widen(self, buffer: Buffer, offset: Value, vectors: int) -> list[Value]:
        """Eight codes a load, by way of 16 bits: of wider loads, LLVM makes four instructions a vector and not one and a half."""
        found = []
        for first in range(0, vectors - vectors % 2, 2):
            wide = T.Bind(buffer[T.ramp(offset + 4 * first, 1, 8)].astype("int16x8"))
            found += [T.Bind(T.Bind(T.Shuffle([wide], list(range(v, v + 4)))).astype("int32x4")) for v in (0, 4)]
        if vectors % 2:
            found.append(T.Bind(buffer[T.ramp(offset + 4 * (vectors - 1), 1, 4)].astype("int32x4")))
        return found

    def narrow(self, values: Sequence[Value], zero: int, low: int, high: int, dtype: str) -> Value:
        """Saturation is a clamp. To 16 bits first: with ``|zero| <= 256``, a value that saturates there lies, as does the sum,
        beyond every limit of 8 bits. To 8 bits then, which leaves a clamp to do only where ``low`` and ``high`` are narrower.
        """
        flipped = dtype == "int8" and zero == -128 and low == -128  # as unsigned codes, with the highest bit inverted
        if flipped:
            zero, low, high, dtype = 0, 0, high + 128, "uint8"
        parts = []
        for pair in (values[v : v + 2] for v in range(0, len(values), 2)):
            halves = [SQXTN_4H(value) for value in (*pair, *pair)[:2]]
            part = T.Bind(T.Shuffle(halves, list(range(8))))
            if zero:
                part = T.Bind(SQADD_8H(part, T.broadcast(T.int16(zero), 8)))
            parts.append(T.Bind((SQXTN_8B if dtype == "int8" else SQXTUN_8B)(part)))
        count = 4 * len(values)
        codes = T.Bind(T.Shuffle(parts, list(range(count)))) if count % 8 or len(parts) > 1 else parts[0]
        limits = np.iinfo(dtype)
        if low > limits.min:
            codes = T.Bind(T.max(codes, _splat(low, dtype, count)))
        if high < limits.max:
            codes = T.Bind(T.min(codes, _splat(high, dtype, count)))
        if flipped:
            codes = T.Bind(T.reinterpret(codes ^ _splat(128, dtype, count), dtype=f"int8x{count}"))
        return codes


def _splat(value: int, dtype: str, lanes: int) -> Value:
    return T.broadcast(tirx.const(value, dtype), lanes)


class LaneDots(_NeonVectors):
    """``sdot`` by lane: a load of 16 signed codes serves four quads."""

    dots_per_cycle = 2.0

    def operand_offset(self, stored_dtype: str) -> int:
        return -128 if stored_dtype == "uint8" else 0

    def quads(self, buffer: Buffer, offset: Value, count: int) -> list[Any]:
        found: list[Any] = []
        while len(found) < count:
            here = next(size for size in (4, 2, 1) if size <= count - len(found))
            codes = self._codes(buffer, offset + 4 * len(found), 4 * here)
            words = T.Bind(T.reinterpret(codes, dtype=_vector("int32", here)))
            for lane in range(here):
                spread = T.broadcast(words, 4) if here == 1 else T.Shuffle([words, words], [lane] * 4)
                found.append(T.reinterpret(spread, dtype="int8x16"))
        return found

    @staticmethod
    def _codes(buffer: Buffer, offset: Value, count: int) -> Value:
        """Consecutive codes as signed ones."""
        codes = T.Bind(buffer[T.ramp(offset, 1, count)])
        if buffer.dtype == "int8":
            return codes
        return T.Bind(T.reinterpret(codes ^ _splat(128, "uint8", count), dtype=f"int8x{count}"))

    def weights(self, buffer: Buffer, offset: Value) -> Any:
        return T.Bind(buffer[T.ramp(offset, 1, 16)])

    def weights_of(self, codes: Value) -> Any:
        return codes

    def dot(self, accumulator: Value, quad: Any, weights: Any) -> Value:
        return SDOT(accumulator, weights, quad)


OCTET = 8
"""Channels that a row of a :data:`SMMLA` operand holds."""


class MatrixDots(LaneDots):
    """``smmla``: two positions times two filters, eight channels at a time.

    Weights lie as ``[lanes, 8]``: two registers of two filters each. An accumulator holds the sums of filters 0 and 1 at position
    0, then at position 1; :meth:`regrouped` makes vectors of four filters of two accumulators.
    """

    def pack_weights(self, weights: np.ndarray) -> np.ndarray:
        return weights.reshape(*weights.shape[:-2], self.lanes * OCTET)

    def unpack_weights(self, packed: np.ndarray) -> np.ndarray:
        return packed.reshape(*packed.shape[:-1], self.lanes, OCTET)

    def pairs(self, buffer: Buffer, start: Value, offsets: Sequence[int], octets: int) -> list[list[Value]]:
        """For positions two by two, ``octets`` (1 or 2) consecutive octets of both; a last position alone is its own neighbour.

        Neighbours that lie side by side are read and taken apart by one ``ld2``.
        """
        found = []
        for first, second in position_pairs(offsets):
            if octets == 2 and second - first == 2 * OCTET:
                both = [T.Bind(T.reinterpret(self._codes(buffer, start + first, 32), dtype="int64x4"))]
                indices = [[0, 2], [1, 3]]
            else:
                both = [self._words(buffer, start + offset, octets) for offset in (first, second)]
                indices = [[0, 2], [1, 3]] if octets == 2 else [[0, 1]]
            found.append([T.Bind(T.reinterpret(T.Shuffle(both, pick), dtype="int8x16")) for pick in indices])
        return found

    def _words(self, buffer: Buffer, offset: Value, octets: int) -> Value:
        return T.Bind(T.reinterpret(self._codes(buffer, offset, OCTET * octets), dtype=_vector("int64", octets)))

    def dot(self, accumulator: Value, quad: Any, weights: Any) -> Value:
        return SMMLA(accumulator, quad, weights)

    def spread(self, bias: Value) -> list[Value]:
        """The accumulators of two equal positions from a vector of four filters."""
        return [T.Bind(T.Shuffle([bias], [first, first + 1] * 2)) for first in (0, 2)]

    def regrouped(self, low: Value, high: Value) -> list[Value]:
        """The four filters of each of two positions from accumulators of filters 0 and 1 and of 2 and 3."""
        return [T.Bind(T.Shuffle([low, high], [first, first + 1, first + 4, first + 5])) for first in (0, 2)]


def position_pairs(offsets: Sequence[int]) -> list[tuple[int, int]]:
    """Positions two by two, the last perhaps twice."""
    return list(zip(offsets[::2], [*offsets[1::2], offsets[-1]], strict=False))


class WidenedLanes(_NeonVectors):
    """``smlal`` by lane: codes and weights are widened to 16 bits, so that every product is exact.

    Weights lie as ``[4, lanes]``.
    """

    weight_registers = 2
    spare_registers = 1
    dots_per_cycle = 0.5
    quads_per_load = 2

    def operand_offset(self, stored_dtype: str) -> int:
        return 0

    def quads(self, buffer: Buffer, offset: Value, count: int) -> list[Any]:
        wide = [
            T.Bind(buffer[T.ramp(offset + 4 * first, 1, 4 * min(2, count - first))].astype(f"int16x{4 * min(2, count - first)}"))
            for first in range(0, count, 2)
        ]
        return [[T.Shuffle([wide[quad // 2]], [quad % 2 * 4 + k] * 4) for k in range(4)] for quad in range(count)]

    def weights(self, buffer: Buffer, offset: Value) -> Any:
        return self._by_lane([buffer[T.ramp(offset + 8 * half, 1, 8)] for half in range(2)])

    def weights_of(self, codes: Value) -> Any:
        return self._by_lane([T.Bind(T.Shuffle([codes], list(range(8 * half, 8 * half + 8)))) for half in range(2)])

    @staticmethod
    def _by_lane(halves: Sequence[Value]) -> list[Value]:
        wide = [T.Bind(half.astype("int16x8")) for half in halves]
        return [T.Shuffle([wide[k // 2]], list(range(k % 2 * 4, k % 2 * 4 + 4))) for k in range(4)]

    def dot(self, accumulator: Value, quad: Any, weights: Any) -> Value:
        for code, weight in zip(quad, weights, strict=True):
            accumulator = accumulator + SMULL(weight, code)
        return accumulator

    def pack_weights(self, weights: np.ndarray) -> np.ndarray:
        return weights.swapaxes(-1, -2).reshape(*weights.shape[:-2], 16)

    def unpack_weights(self, packed: np.ndarray) -> np.ndarray:
        return packed.reshape(*packed.shape[:-1], 4, 4).swapaxes(-1, -2)


def _vector(dtype: str, lanes: int) -> str:
    return dtype if lanes == 1 else f"{dtype}x{lanes}"
