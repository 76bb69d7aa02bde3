"""The proof that no accumulator overflows: interval arithmetic over the real weights.

A sum of products ``sum (x - z) * w + b`` over codes x in [low, high] lies, by output channel, between::

    least    = sum over w > 0 of w * lowest  + sum over w < 0 of w * highest + b
    greatest = sum over w > 0 of w * highest + sum over w < 0 of w * lowest  + b

with ``lowest = min(low - z, 0)``, ``highest = max(high - z, 0)``: the border counts as a real zero. Partial sums may wrap, in
two's complement, without harm.
"""

from __future__ import annotations

import numpy as np

from tapdot.kernels import numerics
from tapdot.passes.integer_expressions import Codes, OverflowRefused


def accumulator_bounds(weights: np.ndarray, bias: np.ndarray | None, x: Codes, axis: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest int32 sum of every output channel, which runs along ``axis`` of the int8 weights; int64 ``[C]``."""
    flat = np.moveaxis(weights, axis, 0).reshape(weights.shape[axis], -1)
    positive = np.where(flat > 0, flat, 0).sum(axis=1, dtype=np.int64)
    negative = np.where(flat < 0, flat, 0).sum(axis=1, dtype=np.int64)
    lowest, highest = window_bounds(x, 1)
    shift = 0 if bias is None else bias.astype(np.int64)
    return positive * lowest + negative * highest + shift, positive * highest + negative * lowest + shift


def window_bounds(x: Codes, count: int) -> tuple[int, int]:
    """Least and greatest sum of ``count`` codes without their zero point, some of them perhaps outside of the plane."""
    return count * min(x.low - x.zero_point, 0), count * max(x.high - x.zero_point, 0)


def prove_accumulator(node: str, low: np.ndarray, high: np.ndarray) -> None:
    """Raises OverflowRefused for the channel whose sum may leave int32 furthest."""
    magnitude = np.maximum(np.abs(low), np.abs(high)).reshape(-1)
    channel = int(magnitude.argmax())
    if magnitude[channel] > numerics.INT32_MAX:
        raise OverflowRefused(
            f"Expected every accumulator of node {node!r} to fit 32 bits, but with these weights and bias that of channel "
            f"{channel} may reach {int(magnitude[channel])}, beyond {numerics.INT32_MAX}; keep the node in float "
            f"(--set requantize.keep_float={node})."
        )
