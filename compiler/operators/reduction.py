"""Sums, extremes and norms along axes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tapdot.compiler.operators.movement import normal_axes, static_ints
from tapdot.compiler.operators.table import Static, meta, operator


def _reduction(name: str, reduce: Callable[[Tensor, list[int], bool], Tensor]) -> None:
    """Over ``axes``, all when none are given (or none at all with ``noop_with_empty_axes``)."""

    @operator(name)
    def reduced(x: Tensor, axes: Static | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Tensor:
        along = normal_axes(static_ints(axes), x.ndim) if axes is not None else []
        if not along:
            if noop_with_empty_axes:
                return x
            along = list(range(x.ndim))
        if not along:  # a scalar: reduce it as a vector of one element
            return reduce(x.reshape(1), [0], False)
        if x.is_meta:
            sizes = [1 if axis in along else size for axis, size in enumerate(x.shape) if keepdims or axis not in along]
            return meta(sizes, x.dtype)
        return reduce(x, along, bool(keepdims))


def _product(x: Tensor, axes: list[int], keepdims: bool) -> Tensor:
    for axis in sorted(axes, reverse=True):
        x = torch.prod(x, axis, keepdims, dtype=x.dtype)
    return x


def _sum(x: Tensor, axes: list[int], keepdims: bool) -> Tensor:
    return torch.sum(x, axes, keepdims, dtype=x.dtype)


def _mean(x: Tensor, axes: list[int], keepdims: bool) -> Tensor:
    if x.is_floating_point():
        return torch.mean(x, axes, keepdims)
    return torch.mean(x.double(), axes, keepdims).to(x.dtype)


_reduction("ReduceSum", _sum)
_reduction("ReduceMean", _mean)
_reduction("ReduceMax", torch.amax)
_reduction("ReduceMin", torch.amin)
_reduction("ReduceProd", _product)
_reduction("ReduceL1", lambda x, axes, keepdims: _sum(x.abs(), axes, keepdims))
_reduction("ReduceL2", lambda x, axes, keepdims: torch.sqrt(_sum(x * x, axes, keepdims)).to(x.dtype))
_reduction("ReduceSumSquare", lambda x, axes, keepdims: _sum(x * x, axes, keepdims))
_reduction("ReduceLogSum", lambda x, axes, keepdims: torch.log(_sum(x, axes, keepdims)).to(x.dtype))
_reduction("ReduceLogSumExp", lambda x, axes, keepdims: torch.logsumexp(x, axes, keepdims).to(x.dtype))


def _argument(name: str, choose: Callable[..., Tensor]) -> None:
    """The int64 index of the extreme along the axis; among equals the first, or the last with ``select_last_index``."""

    @operator(name)
    def argument(x: Tensor, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Tensor:
        if select_last_index:
            return x.shape[axis] - 1 - choose(x.flip(axis), axis, bool(keepdims))
        return choose(x, axis, bool(keepdims))


_argument("ArgMax", torch.argmax)
_argument("ArgMin", torch.argmin)


@operator("CumSum")
def cumulative_sum(x: Tensor, axis: Static, *, exclusive: int = 0, reverse: int = 0) -> Tensor:
    """Running sums along the axis, without the element itself if ``exclusive``, from the end if ``reverse``."""
    (along,) = normal_axes([int(axis.item())], x.ndim)
    ordered = x.flip(along) if reverse else x
    sums = torch.cumsum(ordered, along, dtype=x.dtype)
    if exclusive:
        sums = sums - ordered
    return sums.flip(along) if reverse else sums
