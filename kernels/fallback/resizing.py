"""Resize: one axis at a time, by tables of positions and weights that are packed with the kernel."""

from __future__ import annotations

import numpy as np

from tapdot.kernels.emit import Value
from tapdot.kernels.fallback.movement import with_axis
from tapdot.kernels.fallback.table import operator
from tapdot.kernels.fallback.tensors import Builder, Shape, Tensor, UnsupportedError, is_float
from tapdot.kernels.interpolation import NEAREST, resized_shape, source_places, taps
from tapdot.kernels.tvm_adapter import tirx


@operator("Resize")
def resize(
    b: Builder,
    x: Tensor,
    roi: np.ndarray | None = None,
    scales: np.ndarray | None = None,
    sizes: np.ndarray | None = None,
    *,
    antialias: int = 0,
    axes: Shape | None = None,
    coordinate_transformation_mode: str = "half_pixel",
    cubic_coeff_a: float = -0.75,
    exclude_outside: int = 0,
    extrapolation_value: float = 0.0,
    keep_aspect_ratio_policy: str = "stretch",
    mode: str = "nearest",
    nearest_mode: str = "round_prefer_floor",
) -> Tensor:
    """Axes that keep their size are left out; each other axis makes an intermediate tensor."""
    if mode != "nearest" and not is_float(x.dtype):
        raise UnsupportedError(f"Resize with mode {mode} of {x.dtype}")
    along = [axis % x.rank for axis in axes] if axes is not None else list(range(x.rank))
    scales = scales if scales is not None and scales.size else None
    sizes = sizes if sizes is not None and sizes.size else None
    shape, factors = resized_shape(x.shape, along, scales, sizes, keep_aspect_ratio_policy)
    kind = x.dtype
    x = b.cast(x, "float32") if kind == "float16" else x
    crop = coordinate_transformation_mode == "tf_crop_and_resize"
    for number, axis in enumerate(along):
        size, result, scale = x.shape[axis], shape[axis], factors[axis]
        region = (float(roi[number]), float(roi[number + len(along)])) if crop and roi is not None else (0.0, 1.0)
        if result == size and scale == 1 and region == (0.0, 1.0):
            continue
        places = source_places(coordinate_transformation_mode, size, result, scale, region)
        if mode == "nearest":
            positions = np.clip(NEAREST[nearest_mode](places), 0, size - 1).astype(np.int64)[:, None]
            weights = None
        else:
            positions, weights = taps(mode, places, size, scale, cubic_coeff_a, bool(antialias), bool(exclude_outside))
        outside = (places < 0) | (places > size - 1) if crop else np.zeros(result, bool)
        x = b.materialize(_along(b, x, axis, result, positions, weights, outside, extrapolation_value))
    return b.cast(x, kind)


def _along(
    b: Builder,
    x: Tensor,
    axis: int,
    result: int,
    positions: np.ndarray,
    weights: np.ndarray | None,
    outside: np.ndarray,
    extrapolation_value: float,
) -> Tensor:
    """One axis resized."""
    count = positions.shape[1]
    places = b.table(positions.astype(np.int32))
    factors = None if weights is None else b.table(weights.astype(x.dtype))
    beyond = b.table(outside.astype(np.int32)) if outside.any() else None

    def at(*index: Value) -> Value:
        parts = [b.share(x.at(*with_axis(index, axis, b.share(places.at(index[axis], tap))))) for tap in range(count)]
        value = parts[0]
        if factors is not None:
            value = b.constant(0.0, x.dtype)
            for tap, part in enumerate(parts):
                value = b.share(value + part * factors.at(index[axis], tap))
        if beyond is None:
            return value
        is_outside = tirx.NE(beyond.at(index[axis]), tirx.const(0, "int32"))
        return tirx.Select(is_outside, b.constant(extrapolation_value, x.dtype), value)

    return b.compute(with_axis(x.shape, axis, result), x.dtype, at)
