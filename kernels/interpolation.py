"""Interpolation tables: which source positions a resized axis reads, and with what weights."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

NEAREST: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "round_prefer_floor": lambda place: np.ceil(place - 0.5),
    "round_prefer_ceil": lambda place: np.floor(place + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


def source_places(mode: str, size: int, result: int, scale: float, region: tuple[float, float]) -> np.ndarray:
    """Where each of ``result`` positions lies among ``size`` source positions (ONNX's ``x_original``).

    ``scale * size`` may be a fraction that ``result`` rounds down; ``region`` is the axis's part of ``roi``.
    """
    at = np.arange(result, dtype=np.float64)
    exact = scale * size
    match mode:
        case "half_pixel":
            return (at + 0.5) / scale - 0.5
        case "pytorch_half_pixel":
            return (at + 0.5) / scale - 0.5 if result > 1 else np.zeros(result)
        case "half_pixel_symmetric":
            return (at + 0.5) / scale - 0.5 + size / 2 * (1 - result / exact)
        case "asymmetric":
            return at / scale
        case "align_corners":
            return at * (size - 1) / (exact - 1) if exact != 1 else np.zeros(result)
        case "tf_crop_and_resize":
            first, last = region[0] * (size - 1), region[1] * (size - 1)
            return first + at * (last - first) / (exact - 1) if exact != 1 else np.full(result, (first + last) / 2)
    raise ValueError(f"unknown coordinate_transformation_mode {mode!r}")


def kernel(mode: str, distance: np.ndarray, a: float) -> np.ndarray:
    """The interpolation kernel at distances from its centre: a tent, or Keys' cubic with parameter ``a``."""
    distance = np.abs(distance)
    if mode == "linear":
        return np.maximum(0, 1 - distance)
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))


def taps(
    mode: str, places: np.ndarray, size: int, scale: float, a: float, antialias: bool, exclude_outside: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Source positions and their weights for each place, both ``[result, taps]``; the border repeats the edge."""
    stretch = min(scale, 1.0) if antialias else 1.0
    radius = math.ceil((1 if mode == "linear" else 2) / stretch)
    positions = np.floor(places)[:, None] + np.arange(1 - radius, radius + 1)
    weights = kernel(mode, (positions - places[:, None]) * stretch, a)
    if exclude_outside:
        weights = np.where((positions < 0) | (positions >= size), 0.0, weights)
    if exclude_outside or antialias:
        total = weights.sum(1, keepdims=True)
        weights = weights / np.where(total == 0, 1.0, total)
    return np.clip(positions, 0, size - 1).astype(np.int64), weights


def resized_shape(
    shape: tuple[int, ...], along: list[int], scales: np.ndarray | None, sizes: np.ndarray | None, policy: str
) -> tuple[list[int], list[float]]:
    """The result's size and the scale of each axis."""
    result, factors = list(shape), [1.0] * len(shape)
    if (scales is None) == (sizes is None):
        raise ValueError("exactly one of the operands scales and sizes is needed")
    if scales is not None:
        for axis, scale in zip(along, scales.reshape(-1), strict=True):
            result[axis], factors[axis] = int(scale * np.float32(shape[axis])), float(scale)
        return result, factors
    assert sizes is not None
    wanted = dict(zip(along, (int(size) for size in sizes.reshape(-1)), strict=True))
    factors = [wanted.get(axis, size) / size for axis, size in enumerate(shape)]
    if policy == "stretch":
        return [wanted.get(axis, size) for axis, size in enumerate(shape)], factors
    if policy not in ("not_larger", "not_smaller"):
        raise ValueError(f"keep_aspect_ratio_policy must be stretch, not_larger or not_smaller, not {policy!r}")
    common = (min if policy == "not_larger" else max)(factors[axis] for axis in along)
    factors = [common if axis in wanted else 1.0 for axis in range(len(shape))]
    return [int(common * size + 0.5) if axis in wanted else size for axis, size in enumerate(shape)], factors
