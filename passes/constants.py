"""Questions that several passes ask of constants."""

from __future__ import annotations

import math

import numpy as np

from tapdot.compiler.rewrite import Value


def as_channels(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
    """The ``[C]`` vector that an array stands for when it broadcasts along axis 1 of ``shape`` only; else None.

    One element counts: it is the same for every channel. Others are ``[C, 1, 1]`` or ``[1, C, 1, 1]`` beside a ``shape`` of
    ``[N, C, H, W]``, ``[C]`` or ``[1, C]`` beside ``[N, C]``.
    """
    if len(shape) < 2 or array.ndim > len(shape):
        return None
    padded = (1,) * (len(shape) - array.ndim) + array.shape
    channels = shape[1]
    if padded[1] not in (1, channels) or math.prod(padded) != padded[1]:
        return None
    return np.broadcast_to(array.reshape(-1), (channels,)).copy()


def channel_shape(channels: int, rank: int) -> tuple[int, ...]:
    """``[1, C, 1, 1]`` for rank 4: a vector of channels laid along axis 1."""
    return (1, channels) + (1,) * (rank - 2)


def scalar(value: Value | None) -> float | None:
    """The number a constant of one element holds, or None."""
    if value is None or value.array is None or value.array.size != 1:
        return None
    return float(value.array.item())


def is_finite(*arrays: np.ndarray) -> bool:
    """Whether no array holds an infinity or NaN."""
    return all(bool(np.isfinite(array).all()) for array in arrays)
