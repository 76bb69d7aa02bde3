"""Integer arithmetic, the contract: rounding, dyadic scales, the meaning of codes. Everybody else asks this module.

Functions of arrays work alike on numpy arrays, torch tensors and Python integers, so that the reference, the passes and the tests
of the kernels share one text. A real value and its code are related by ``real = scale * (code - zero_point)``.

Requantization multiplies by a scale ratio without a division or a float (Jacob et al., CVPR 2018, eq. 6; HAWQ-V3, eq. 4)::

    ratio ~ multiplier * 2**-shift,  multiplier in [2**30, 2**31)
    dyadic(x) = (x * multiplier + 2**(shift - 1)) >> shift        in 64 bits, arithmetic shift: round half up

Rounding half up is a floor of a shifted value, and floors nest: with any ``h`` and ``p >= 1``,
``floor((floor(A / 2**h) + 2**(p-1)) / 2**p) == floor((A + 2**(p+h-1)) / 2**(h+p))``, so a core that gives the high half of a
product needs one more rounding shift only (:func:`high_half_shifts`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

MULTIPLIER_BITS = 31
SMALLEST_SHIFT, LARGEST_SHIFT = 2, 62
"""Shifts for which the 64-bit product, its rounding term included, cannot overflow, and :func:`high_half_shifts` shifts an int32
by less than 32 places before."""

INT32_MAX = 2**31 - 1

NARROW_BITS = {"int2": 2, "int4": 4}
"""Element types of weights narrower than a byte. Arrays hold one code a byte (int8); files and some kernels pack them."""


class DyadicRangeError(ValueError):
    """A scale ratio that no multiplier and shift express."""


def dyadic_parameters(ratio: float) -> tuple[int, int]:
    """(multiplier, shift) nearest to a positive ``ratio``.

    ``ratio = fraction * 2**exponent`` with the fraction in [0.5, 1): ``multiplier = floor(fraction * 2**31 + 1/2)``, where 2**31
    becomes 2**30 with the shift one less. Raises :class:`DyadicRangeError` unless 2**-31 < ratio < 2**30 or so.
    """
    if not (ratio > 0 and math.isfinite(ratio)):
        raise DyadicRangeError(f"expected a positive, finite scale ratio, found {ratio}")
    fraction, exponent = math.frexp(ratio)
    multiplier, shift = math.floor(fraction * 2**MULTIPLIER_BITS + 0.5), MULTIPLIER_BITS - exponent
    if multiplier == 2**MULTIPLIER_BITS:
        multiplier, shift = multiplier // 2, shift - 1
    if not SMALLEST_SHIFT <= shift <= LARGEST_SHIFT:
        raise DyadicRangeError(
            f"expected a scale ratio between 2^{MULTIPLIER_BITS - LARGEST_SHIFT - 1} and 2^{MULTIPLIER_BITS - SMALLEST_SHIFT}, "
            f"found {ratio:.3g}"
        )
    return multiplier, shift


def dyadic_arrays(ratios: Sequence[float] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """int32 arrays of multipliers and shifts, one pair a ratio; raises :class:`DyadicRangeError` for the first out of reach."""
    pairs = [dyadic_parameters(float(ratio)) for ratio in np.asarray(ratios, np.float64).reshape(-1)]
    return np.array([m for m, _ in pairs], np.int32), np.array([s for _, s in pairs], np.int32)


def rounding_shift(x: Any, shift: Any) -> Any:
    """``floor(x / 2**shift + 1/2)`` of 64-bit integers (Python's, numpy's or torch's), ``shift >= 1``: round half up."""
    return (x + (x * 0 + 1 << (shift - 1))) >> shift


def dyadic(x: np.ndarray | int, multiplier: Any, shift: Any) -> Any:
    """``x * multiplier * 2**-shift`` rounded half up, as int64, of int32 ``x``."""
    wide = np.asarray(x, np.int64) * np.asarray(multiplier, np.int64)
    return rounding_shift(wide, np.asarray(shift, np.int64))


def high_half_shifts(shift: int, h: int) -> tuple[int, int]:
    """(k, p) such that ``dyadic(x, m, shift) == rounding_shift(floor((x << k) * m / 2**h), p)``, for h = 31 or 32.

    Needs ``abs(x) << k < 2**31``, which the overflow proof of ``passes.requantize`` covers.
    """
    k = max(0, h + 1 - shift)
    return k, shift + k - h


def short_dyadic(multiplier: int, shift: int, low: int, high: int, offset: int = 0) -> tuple[int, int] | None:
    """(M, p) with ``(x * M + 2**(p-1)) >> p`` in 32 bits equal to ``dyadic(x, multiplier, shift)`` for every x in [low, high].

    ``((x + offset) * M + (2**(p-1) - offset * M)) >> p``, as stored codes need it, nowhere leaves 32 bits either: compilers take
    signed numbers that wrap for impossible, even on the way to a sum that fits. Few values, as codes have, seldom need all bits
    of the multiplier; every value is tried. None where no such pair is found.
    """
    x = np.arange(low, high + 1, dtype=np.int64)
    wanted = dyadic(x, multiplier, shift)
    largest = max(1, *(abs(factor) for factor in (low, high, low + offset, high + offset, offset)))
    for p in range(min(30, shift), 0, -1):
        nearest = multiplier >> (shift - p)
        for m in (nearest, nearest + 1):
            if largest * m + 2 ** (p - 1) <= INT32_MAX and np.array_equal(rounding_shift(x * m, np.int64(p)), wanted):
                return m, p
    return None


# -- codes -------------------------------------------------------------------------------------------------------------------


def code_range(bits: int, signed: bool) -> tuple[int, int]:
    """Smallest and largest activation code."""
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)


def weight_limit(bits: int) -> int:
    """Weight codes lie in [-limit, limit]: symmetric, never the most negative number."""
    return int(2 ** (bits - 1)) - 1


def weight_dtype(bits: int) -> str:
    """The narrowest element type that holds weight codes of so many bits."""
    return next((name for name, width in sorted(NARROW_BITS.items(), key=lambda item: item[1]) if bits <= width), "int8")


def pack_codes(codes: np.ndarray, bits: int) -> np.ndarray:
    """int8 codes of 2 or 4 bits, side by side in bytes: uint8 ``[ceil(codes * bits / 8)]``.

    Two's complement, the first code in the lowest bits; what is left of the last byte is zero. Raises ValueError for a code that
    needs more bits.
    """
    flat, per_byte = np.asarray(codes, np.int8).reshape(-1), 8 // bits
    limit = 2 ** (bits - 1)
    if flat.size and not (-limit <= int(flat.min()) and int(flat.max()) < limit):
        raise ValueError(f"expected codes of {bits} bits, found {int(flat.min())} to {int(flat.max())}")
    whole = np.zeros(-(-flat.size // per_byte) * per_byte, np.uint8)
    whole[: flat.size] = flat.view(np.uint8) & (2**bits - 1)
    packed = whole[::per_byte].copy()
    for place in range(1, per_byte):
        packed |= whole[place::per_byte] << (place * bits)
    return packed


def unpack_codes(packed: np.ndarray, bits: int, count: int) -> np.ndarray:
    """The inverse of :func:`pack_codes`: ``count`` int8 codes."""
    stored, per_byte = np.asarray(packed).view(np.int8), 8 // bits
    codes = np.empty((stored.size, per_byte), np.int8)
    for place in range(per_byte):
        codes[:, place] = np.left_shift(stored, 8 - bits * (place + 1), dtype=np.int8) >> (8 - bits)
    return codes.reshape(-1)[:count]


def inverse_scale(scale: float) -> float:
    """``f32(1 / scale)``, the one factor of quantization."""
    return float(np.float32(1.0 / scale))


def quantize(x: np.ndarray, scale: float, zero_point: int, low: int, high: int) -> np.ndarray:
    """Codes of float32 values as int32: ``clamp(rint(x * f32(1/scale)) + z)``; ties to even, NaN gives z."""
    scaled = np.rint(np.asarray(x, np.float32) * np.float32(inverse_scale(scale)))
    scaled = np.where(np.isnan(scaled), np.float32(0), scaled)
    return np.clip(scaled, low - zero_point, high - zero_point).astype(np.int32) + zero_point


def dequantize(codes: np.ndarray, scale: float, zero_point: int) -> np.ndarray:
    """float32 values of codes: one multiply."""
    return (np.asarray(codes, np.int32) - zero_point).astype(np.float32) * np.float32(scale)


def weight_scales(weight: np.ndarray, bits: int, axis: int = 0) -> np.ndarray:
    """float64 scales, one an output channel along ``axis``: ``max|w| / (2**(bits-1) - 1)``; 1 for a channel of zeros."""
    others = tuple(other for other in range(weight.ndim) if other != axis % weight.ndim)
    ends = (weight.max(axis=others, initial=0), weight.min(axis=others, initial=0))
    largest = np.maximum(*(np.abs(np.asarray(end, np.float64)) for end in ends))
    return np.where(largest > 0, largest, weight_limit(bits)) / weight_limit(bits)


def weight_codes(weight: np.ndarray, scales: np.ndarray, bits: int, axis: int = 0) -> np.ndarray:
    """int8 codes of weights at given scales along ``axis``, ties to even."""
    shape = [1] * weight.ndim
    shape[axis] = -1
    limit = weight_limit(bits)
    codes = np.rint(np.asarray(weight, np.float64) / np.asarray(scales, np.float64).reshape(shape))
    return np.clip(codes, -limit, limit).astype(np.int8)


# -- stored codes ------------------------------------------------------------------------------------------------------------
# Hardware wants one sign: a tensor may be stored as u = q + offset, and whoever multiplies folds zero point and offset away.


def folded_bias(bias: np.ndarray, weight_sums: np.ndarray, zero_point: int, offset: int) -> np.ndarray:
    """The bias of a sum over stored codes: ``bias - (zero_point + offset) * sum(w)``.

    Padding with ``zero_point + offset`` and multiplying stored codes then gives the same int32 accumulator; the proof of
    ``passes.overflow`` keeps all partial sums in 32 bits.
    """
    wide = np.asarray(bias, np.int64) - (zero_point + offset) * np.asarray(weight_sums, np.int64)
    return wide.astype(np.int64).astype(np.uint64).astype(np.uint32).view(np.int32)
