"""Operators that read, write or rank elements by index."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tapdot.compiler.operators.movement import normal_axes
from tapdot.compiler.operators.table import Static, operator


def _positions(indices: Tensor, size: int) -> Tensor:
    """Indices as int64, negative ones counted from the end."""
    indices = indices.long()
    return torch.where(indices < 0, indices + size, indices)


@operator("Gather")
def gather(x: Tensor, indices: Tensor, *, axis: int = 0) -> Tensor:
    """Slices of ``x`` along the axis; the shape of ``indices`` takes the axis's place."""
    (axis,) = normal_axes([axis], x.ndim)
    taken = x.index_select(axis, _positions(indices, x.shape[axis]).reshape(-1))
    return taken.reshape((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))


@operator("GatherElements")
def gather_elements(x: Tensor, indices: Tensor, *, axis: int = 0) -> Tensor:
    """Element by element: an index replaces the coordinate along the axis."""
    return torch.gather(x, axis, _positions(indices, x.shape[axis]))


def _coordinates(indices: Tensor, sizes: tuple[int, ...]) -> tuple[Tensor, ...]:
    """The last axis of ``indices`` as one tensor of positions an axis."""
    return tuple(_positions(part, size) for part, size in zip(indices.unbind(-1), sizes, strict=False))


@operator("GatherND")
def gather_nd(x: Tensor, indices: Tensor, *, batch_dims: int = 0) -> Tensor:
    """The last axis of ``indices`` holds coordinates into the axes of ``x`` after the ``batch_dims`` shared ones."""
    batch, inner = indices.shape[:batch_dims], indices.shape[batch_dims:-1]
    depth = indices.shape[-1]
    shared = tuple(
        torch.arange(size, device=x.device).reshape(-1, *(1,) * (indices.ndim - 2 - axis)) for axis, size in enumerate(batch)
    )
    taken = x[shared + _coordinates(indices, tuple(x.shape[batch_dims : batch_dims + depth]))]
    return taken.reshape((*batch, *inner, *x.shape[batch_dims + depth :]))


_REDUCTIONS = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


@operator("ScatterElements")
def scatter_elements(x: Tensor, indices: Tensor, updates: Tensor, *, axis: int = 0, reduction: str = "none") -> Tensor:
    """``x`` with elements replaced (or combined): an index replaces the coordinate along the axis."""
    positions = _positions(indices, x.shape[axis])
    if reduction == "none":
        return x.scatter(axis, positions, updates)
    return x.scatter_reduce(axis, positions, updates, _REDUCTIONS[reduction])


@operator("ScatterND")
def scatter_nd(x: Tensor, indices: Tensor, updates: Tensor, *, reduction: str = "none") -> Tensor:
    """``x`` with slices replaced (or combined) at the coordinates in the last axis of ``indices``."""
    depth = indices.shape[-1]
    coordinates = _coordinates(indices, tuple(x.shape[:depth]))
    if reduction == "none":
        return x.index_put(coordinates, updates)
    flat = torch.zeros(indices.shape[:-1], dtype=torch.int64, device=x.device)
    for positions, size in zip(coordinates, x.shape[:depth], strict=True):
        flat = flat * size + positions
    slices = x.reshape(math.prod(x.shape[:depth]), -1)
    rows = flat.reshape(-1, 1).expand(-1, slices.shape[1])
    return slices.scatter_reduce(0, rows, updates.reshape(rows.shape), _REDUCTIONS[reduction]).reshape(x.shape)


@operator("OneHot")
def one_hot(indices: Tensor, depth: Static, values: Tensor, *, axis: int = -1) -> Tensor:
    """``values[1]`` where the new axis meets the index, ``values[0]`` elsewhere and for indices out of range."""
    size = int(depth.item())
    axis = axis if axis >= 0 else axis + indices.ndim + 1
    places = torch.arange(size, device=indices.device).reshape(-1, *(1,) * (indices.ndim - axis))
    hot = _positions(indices, size).unsqueeze(axis) == places
    return torch.where(hot, values[1], values[0])


@operator("TopK", outputs=2)
def top_k(x: Tensor, k: Static, *, axis: int = -1, largest: int = 1, sorted: int = 1) -> tuple[Tensor, Tensor]:  # noqa: A002
    """The ``k`` first of the sorted elements and their int64 indices; among equals the lower index comes first."""
    values, indices = torch.sort(x, stable=True, dim=axis, descending=bool(largest))
    count = int(k.item())
    return values.narrow(axis, 0, count), indices.narrow(axis, 0, count)


@operator("Trilu")
def trilu(x: Tensor, k: Static | None = None, *, upper: int = 1) -> Tensor:
    """The upper or lower triangle of each matrix, zero elsewhere; ``k`` moves the diagonal."""
    diagonal = 0 if k is None else int(k.item())
    return torch.triu(x, diagonal) if upper else torch.tril(x, diagonal)
