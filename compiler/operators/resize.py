"""Resize: interpolation along one axis at a time, each a weighted sum of a few taps."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tapdot.compiler.operators.movement import normal_axes
from tapdot.compiler.operators.table import Ints, Static, meta, operator
from tapdot.kernels.interpolation import NEAREST, resized_shape, source_places, taps


@operator("Resize")
def resize(
    x: Tensor,
    roi: Static | None = None,
    scales: Static | None = None,
    sizes: Static | None = None,
    *,
    antialias: int = 0,
    axes: Ints | None = None,
    coordinate_transformation_mode: str = "half_pixel",
    cubic_coeff_a: float = -0.75,
    exclude_outside: int = 0,
    extrapolation_value: float = 0.0,
    keep_aspect_ratio_policy: str = "stretch",
    mode: str = "nearest",
    nearest_mode: str = "round_prefer_floor",
) -> Tensor:
    """``x`` at other sizes, by ``scales`` or to ``sizes`` of the ``axes`` (default: all)."""
    along = normal_axes(axes, x.ndim) if axes is not None else list(range(x.ndim))
    scales = scales if scales is not None and scales.size else None
    sizes = sizes if sizes is not None and sizes.size else None
    shape, factors = resized_shape(tuple(x.shape), along, scales, sizes, keep_aspect_ratio_policy)
    if mode not in ("nearest", "linear", "cubic"):
        raise ValueError(f"mode must be nearest, linear or cubic, not {mode!r}")
    if nearest_mode not in NEAREST:
        raise ValueError(f"nearest_mode must be one of {', '.join(NEAREST)}, not {nearest_mode!r}")
    if mode != "nearest" and not x.is_floating_point():
        raise TypeError(f"mode {mode} interpolates and needs a floating-point tensor; only nearest takes integers")
    crop = coordinate_transformation_mode == "tf_crop_and_resize"
    if crop and (roi is None or roi.size != 2 * len(along)):
        raise ValueError(f"tf_crop_and_resize needs {2 * len(along)} numbers in roi")
    for index, axis in enumerate(along):
        size, result, scale = x.shape[axis], shape[axis], factors[axis]
        region = (float(roi[index]), float(roi[index + len(along)])) if crop and roi is not None else (0.0, 1.0)
        if result == size and scale == 1 and region == (0.0, 1.0):
            continue
        places = source_places(coordinate_transformation_mode, size, result, scale, region)
        if x.is_meta:
            x = meta((*x.shape[:axis], result, *x.shape[axis + 1 :]), x.dtype)
            continue
        outside = (places < 0) | (places > size - 1) if crop else np.zeros(result, bool)
        if mode == "nearest":
            positions = np.clip(NEAREST[nearest_mode](places), 0, size - 1).astype(np.int64)
            y = x.index_select(axis, torch.from_numpy(positions).to(x.device))
        else:
            y = _weighted(x, axis, *taps(mode, places, size, scale, cubic_coeff_a, bool(antialias), bool(exclude_outside)))
        if outside.any():
            mask = torch.from_numpy(outside).to(x.device).reshape(-1, *(1,) * (x.ndim - axis - 1))
            y = torch.where(mask, torch.tensor(extrapolation_value, dtype=x.dtype, device=x.device), y)
        x = y
    return x


def _weighted(x: Tensor, axis: int, positions: np.ndarray, weights: np.ndarray) -> Tensor:
    """The sum over taps of ``weights[:, tap] * x[positions[:, tap]]`` along the axis."""
    column = (-1, *(1,) * (x.ndim - axis - 1))
    parts = [
        x.index_select(axis, torch.from_numpy(positions[:, tap]).to(x.device))
        * torch.from_numpy(weights[:, tap]).to(x).reshape(column)
        for tap in range(positions.shape[1])
        if weights[:, tap].any()
    ]
    return torch.stack(parts).sum(0)
