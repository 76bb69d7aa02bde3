"""Normalizations, softmax and dropout."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tapdot.compiler.operators.movement import normal_axes
from tapdot.compiler.operators.table import Ints, Static, meta, operator


@operator("BatchNormalization")
def batch_normalization(
    x: Tensor,
    scale: Tensor,
    bias: Tensor,
    mean: Tensor,
    var: Tensor,
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    training_mode: int = 0,
) -> Tensor:
    """By stored statistics: ``scale * (x - mean) / sqrt(var + epsilon) + bias``, each ``[C]``."""
    if training_mode:
        raise ValueError("training_mode=1 is not an inference graph; export the model in eval mode")
    if x.is_meta:
        if not {tuple(operand.shape) for operand in (scale, bias, mean, var)} == {(x.shape[1],)}:
            raise ValueError(f"scale, bias, mean and var must each have {x.shape[1]} elements")
        return meta(x.shape, x.dtype)
    return F.batch_norm(x, mean, var, scale, bias, training=False, eps=epsilon)


def _normalized(x: Tensor, axes: Ints, epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
    """``x`` without mean and with unit variance over the axes; also the mean and the inverse standard deviation."""
    mean = x.mean(axes, keepdim=True)
    centred = x - mean
    inverse = torch.rsqrt((centred * centred).mean(axes, keepdim=True) + epsilon)
    return centred * inverse, mean, inverse


@operator("InstanceNormalization")
def instance_normalization(x: Tensor, scale: Tensor, bias: Tensor, *, epsilon: float = 1e-5) -> Tensor:
    """Each channel of each image over its own positions; ``scale`` and ``bias`` are ``[C]``."""
    if scale.shape != x.shape[1:2] or bias.shape != x.shape[1:2]:
        raise ValueError(f"scale and bias must each have {x.shape[1]} elements")
    if x.is_meta:
        return meta(x.shape, x.dtype)
    space = tuple(range(2, x.ndim))
    channels = (-1, *(1,) * len(space))
    return _normalized(x, space, epsilon)[0] * scale.reshape(channels) + bias.reshape(channels)


@operator("LayerNormalization")
def layer_normalization(
    x: Tensor,
    scale: Tensor,
    bias: Tensor | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    stash_type: int = 1,
) -> tuple[Tensor, Tensor, Tensor]:
    """Over all axes from ``axis`` on; further results are the mean and the inverse standard deviation."""
    if np.broadcast_shapes(x.shape, scale.shape, () if bias is None else bias.shape) != x.shape:
        raise ValueError(f"scale and bias must broadcast to {tuple(x.shape)}")
    first = axis % x.ndim
    if x.is_meta:
        statistics = meta((*x.shape[:first], *(1,) * (x.ndim - first)), x.dtype)
        return meta(x.shape, x.dtype), statistics, statistics
    y, mean, inverse = _normalized(x, tuple(range(first, x.ndim)), epsilon)
    y = y * scale
    return y if bias is None else y + bias, mean, inverse


@operator("GroupNormalization")
def group_normalization(
    x: Tensor, scale: Tensor, bias: Tensor, *, epsilon: float = 1e-5, num_groups: int, stash_type: int = 1
) -> Tensor:
    """Over the channels of a group and their positions; ``scale`` and ``bias`` go by group, or by channel as from opset 21 on."""
    channels = x.shape[1]
    if channels % num_groups or scale.shape[0] not in (num_groups, channels) or bias.shape != scale.shape:
        raise ValueError(f"{channels} channels in {num_groups} groups do not fit a scale of {tuple(scale.shape)}")
    if x.is_meta:
        return meta(x.shape, x.dtype)
    grouped = x.reshape(x.shape[0], num_groups, -1)
    y = _normalized(grouped, (2,), epsilon)[0].reshape(x.shape)
    repeats = channels // scale.shape[0]
    per_channel = (-1, *(1,) * (x.ndim - 2))
    return y * scale.repeat_interleave(repeats).reshape(per_channel) + bias.repeat_interleave(repeats).reshape(per_channel)


@operator("LRN")
def local_response_normalization(x: Tensor, *, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0, size: int) -> Tensor:
    """``x / (bias + alpha / size * s)^beta``, ``s`` the sum of squares over ``size`` neighbouring channels."""
    if x.is_meta:
        return meta(x.shape, x.dtype)
    before = (size - 1) // 2
    squares = F.pad(x * x, (0, 0) * (x.ndim - 2) + (before, size - 1 - before))
    channels = x.shape[1]
    sums = squares.narrow(1, 0, channels)
    for shift in range(1, size):
        sums = sums + squares.narrow(1, shift, channels)
    return x / (bias + alpha / size * sums) ** beta


@operator("LpNormalization")
def lp_normalization(x: Tensor, *, axis: int = -1, p: int = 2) -> Tensor:
    """Divided by the ``p``-norm along the axis; where that is zero the result is zero."""
    norm = torch.linalg.vector_norm(x, p, axis, keepdim=True)
    return torch.where(norm == 0, torch.zeros_like(x), x / torch.where(norm == 0, torch.ones_like(norm), norm))


@operator("MeanVarianceNormalization")
def mean_variance_normalization(x: Tensor, *, axes: Ints = (0, 2, 3)) -> Tensor:
    """``(x - mean) / (standard deviation + 1e-9)``."""
    centred = x - x.mean(axes, keepdim=True)
    return centred / (torch.sqrt((centred * centred).mean(axes, keepdim=True)) + 1e-9)


@operator("Softmax")
def softmax(x: Tensor, *, axis: int = -1) -> Tensor:
    (axis,) = normal_axes([axis], x.ndim)
    return meta(x.shape, x.dtype) if x.is_meta else torch.softmax(x, axis)


@operator("LogSoftmax")
def log_softmax(x: Tensor, *, axis: int = -1) -> Tensor:
    return torch.log_softmax(x, axis)


@operator("Hardmax")
def hardmax(x: Tensor, *, axis: int = -1) -> Tensor:
    """One at the first largest element along the axis, zero elsewhere."""
    return torch.zeros_like(x).scatter(axis, x.argmax(axis, keepdim=True), 1.0)


@operator("Dropout")
def dropout(
    x: Tensor, ratio: Static | None = None, training_mode: Static | None = None, *, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """The identity; the second result is a mask that drops nothing. ``to_torch()`` drops while it trains."""
    if training_mode is not None and training_mode.item():
        raise ValueError("training_mode=true is not an inference graph; export the model in eval mode")
    return x, torch.ones(x.shape, dtype=torch.bool, device=x.device)
