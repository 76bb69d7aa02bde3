"""Pools over windows and over whole planes, of one, two and three spatial axes."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from tapdot.compiler.operators.geometry import Window, torch_pads, window
from tapdot.compiler.operators.spatial import CONVOLUTIONS
from tapdot.compiler.operators.table import Ints, meta, operator

MAX_POOLS = {3: F.max_pool1d, 4: F.max_pool2d, 5: F.max_pool3d}
AVERAGE_POOLS = {3: F.avg_pool1d, 4: F.avg_pool2d, 5: F.avg_pool3d}


def _overhang(x: Tensor, over: Window, ceil_mode: int) -> Ints:
    """Positions beyond the end padding that the last windows reach, one number an axis."""
    spatial = x.shape[2:]
    return tuple(
        max((out - 1) * stride + extent - (size + begin + end), 0)
        for out, stride, extent, size, begin, end in zip(
            over.output(spatial, bool(ceil_mode)),
            over.strides,
            over.extents,
            spatial,
            over.begin,
            over.end,
            strict=True,
        )
    )


def _lowest(x: Tensor) -> float | int:
    return -math.inf if x.is_floating_point() else torch.iinfo(x.dtype).min


def _check_rank(x: Tensor) -> None:
    if x.ndim not in MAX_POOLS:
        raise ValueError(f"1, 2 or 3 spatial axes are expected, found a tensor of rank {x.ndim}")


@operator("MaxPool")
def max_pool(
    x: Tensor,
    *,
    kernel_shape: Ints,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Ints | None = None,
    pads: Ints | None = None,
    storage_order: int = 0,
    strides: Ints | None = None,
) -> Tensor:
    """The largest element under each window; padding never wins. The second result, indices, is not made."""
    _check_rank(x)
    over = window(x.shape[2:], kernel_shape, strides, dilations, pads, auto_pad)
    if x.is_meta:
        return meta((*x.shape[:2], *over.output(x.shape[2:], bool(ceil_mode))), x.dtype)
    end = tuple(a + b for a, b in zip(over.end, _overhang(x, over, ceil_mode), strict=True))
    if any(over.begin) or any(end):
        x = F.pad(x, torch_pads(over.begin, end), value=_lowest(x))
    return MAX_POOLS[x.ndim](x, over.kernel, over.strides, 0, over.dilations)


@operator("AveragePool")
def average_pool(
    x: Tensor,
    *,
    kernel_shape: Ints,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    pads: Ints | None = None,
    strides: Ints | None = None,
) -> Tensor:
    """The mean under each window, over real elements only unless ``count_include_pad``; what hangs over the pads never counts."""
    _check_rank(x)
    over = window(x.shape[2:], kernel_shape, strides, None, pads, auto_pad)
    if x.is_meta:
        return meta((*x.shape[:2], *over.output(x.shape[2:], bool(ceil_mode))), x.dtype)
    overhang = _overhang(x, over, ceil_mode)
    padded = F.pad(x, torch_pads(over.begin, over.end)) if any(over.pads) else x
    if not any(overhang) and (count_include_pad or not any(over.pads)):
        return AVERAGE_POOLS[x.ndim](padded, over.kernel, over.strides)
    counted = torch.ones((1, 1, *(padded if count_include_pad else x).shape[2:]), dtype=x.dtype, device=x.device)
    if not count_include_pad:
        counted = F.pad(counted, torch_pads(over.begin, over.end))
    beyond = torch_pads((0,) * len(overhang), overhang)
    return _window_sums(F.pad(padded, beyond), over) / _window_sums(F.pad(counted, beyond), over)


def _window_sums(x: Tensor, over: Window) -> Tensor:
    """The sum under each window of a tensor that is padded already."""
    ones = torch.ones((x.shape[1], 1, *over.kernel), dtype=x.dtype, device=x.device)
    return CONVOLUTIONS[x.ndim](x, ones, None, over.strides, 0, over.dilations, x.shape[1])


@operator("LpPool")
def lp_pool(
    x: Tensor,
    *,
    kernel_shape: Ints,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Ints | None = None,
    p: int = 2,
    pads: Ints | None = None,
    strides: Ints | None = None,
) -> Tensor:
    """The ``p``-norm of the elements under each window."""
    _check_rank(x)
    over = window(x.shape[2:], kernel_shape, strides, dilations, pads, auto_pad)
    end = tuple(a + b for a, b in zip(over.end, _overhang(x, over, ceil_mode), strict=True))
    if x.is_meta:
        return meta((*x.shape[:2], *over.output(x.shape[2:], bool(ceil_mode))), x.dtype)
    powers = F.pad(x.abs() ** p, torch_pads(over.begin, end))
    return _window_sums(powers, over) ** (1 / p)


def _space(x: Tensor) -> Ints:
    if x.ndim < 3:
        raise ValueError(f"a tensor with at least one spatial axis is expected, found rank {x.ndim}")
    return tuple(range(2, x.ndim))


@operator("GlobalAveragePool")
def global_average_pool(x: Tensor) -> Tensor:
    space = _space(x)
    return meta((*x.shape[:2], *(1,) * len(space)), x.dtype) if x.is_meta else x.mean(space, keepdim=True)


@operator("GlobalMaxPool")
def global_max_pool(x: Tensor) -> Tensor:
    space = _space(x)
    return meta((*x.shape[:2], *(1,) * len(space)), x.dtype) if x.is_meta else x.amax(space, keepdim=True)


@operator("GlobalLpPool")
def global_lp_pool(x: Tensor, *, p: int = 2) -> Tensor:
    return (x.abs() ** p).sum(_space(x), keepdim=True) ** (1 / p)
