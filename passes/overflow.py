"""The proof that no accumulator overflows: interval arithmetic over the real weights.

A sum of products ``sum (x - z) * w + b`` over codes x in [low, high] lies, by output channel, between::

    least    = sum over w > 0 of w * lowest  + sum over w < 0 of w * highest + b
    greatest = sum over w > 0 of w * highest + sum over w < 0 of w * lowest  + b

with ``lowest = min(low - z, 0)``, ``highest = max(high - z, 0)``: the border counts as a real zero.

Kernels add the products of stored codes, of either sign, to ``b - z' * sum(w)`` where z' is the stored zero point. In any order,
a partial sum is ``b`` plus ``x - z`` times the weights that were added, less z' times the others; either factor is at most 255,
and less for codes of few bits. So ``abs(b) + factor * sum(abs(w))`` bounds what is on the way. That may not wrap: compilers take
signed sums that do for impossible.
"""

from __future__ import annotations

import numpy as np

from tapdot.kernels import numerics
from tapdot.passes.codes import Codes
from tapdot.passes.integer_arithmetic import OverflowRefused

ELEMENTS_AT_ONCE = 2**20
LARGEST_FACTOR = 255
"""Of a weight in a partial sum: a code without its zero point, or a stored zero point."""


def accumulator_bounds(weights: np.ndarray, bias: np.ndarray | None, x: Codes, axis: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest int32 sum of every output channel, which runs along ``axis`` of the int8 weights; int64 ``[C]``."""
    positive, negative = signed_sums(weights, axis)
    lowest, highest = window_bounds(x, 1)
    shift = 0 if bias is None else bias.astype(np.int64)
    return positive * lowest + negative * highest + shift, positive * highest + negative * lowest + shift


def signed_sums(weights: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Sums of the positive and of the negative weights of every output channel, int64 ``[C]``."""
    others = tuple(other for other in range(weights.ndim) if other != axis)
    positive, negative = (np.zeros(weights.shape[axis], np.int64) for _ in range(2))
    step = max(1, ELEMENTS_AT_ONCE * len(weights) // max(weights.size, 1))
    for start in range(0, len(weights), step):
        part = weights[start : start + step]
        place = slice(start, start + step) if axis == 0 else slice(None)
        above = np.maximum(part, 0).sum(axis=others, dtype=np.int64)
        positive[place] += above
        negative[place] += part.sum(axis=others, dtype=np.int64) - above
    return positive, negative


def window_bounds(x: Codes, count: int) -> tuple[int, int]:
    """Least and greatest sum of ``count`` codes without their zero point, some of them perhaps outside of the plane."""
    return count * min(x.low - x.zero_point, 0), count * max(x.high - x.zero_point, 0)


def largest_factor(x: Codes) -> int:
    """What no factor of a weight in a partial sum exceeds in magnitude: a code without its zero point, or a stored zero point."""
    zeros = (x.zero_point, x.zero_point + (128 if x.dtype == "int8" else -128))
    return max(x.high - x.zero_point, x.zero_point - x.low, *map(abs, zeros))


def largest_partial_sums(weights: np.ndarray, bias: np.ndarray | None, x: Codes, axis: int = 0) -> np.ndarray:
    """What no partial sum of an output channel exceeds in magnitude, int64 ``[C]``; bounds every whole sum too."""
    positive, negative = signed_sums(weights, axis)
    return largest_factor(x) * (positive - negative) + (0 if bias is None else np.abs(bias.astype(np.int64)))


def prove_accumulator(node: str, magnitudes: np.ndarray | int) -> None:
    """Raises OverflowRefused for the channel whose sum, or a part of it, may leave int32 furthest, given the largest of each."""
    magnitudes = np.asarray(magnitudes, np.int64).reshape(-1)
    channel = int(magnitudes.argmax())
    if magnitudes[channel] > numerics.INT32_MAX:
        raise OverflowRefused(
            f"Expected every accumulator of node {node!r} to fit 32 bits, but with these weights and bias that of channel "
            f"{channel} may reach {int(magnitudes[channel])}, beyond {numerics.INT32_MAX}; keep the node in float "
            f"(--set requantize.keep_float={node})."
        )
