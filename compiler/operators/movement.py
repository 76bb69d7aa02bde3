"""Operators that move elements and compute none: shapes, joins, cuts, borders."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tapdot.compiler.operators.geometry import torch_pads
from tapdot.compiler.operators.table import Ints, Static, meta, operator


def static_ints(operand: Static) -> list[int]:
    """A static operand as Python integers."""
    return [int(value) for value in np.asarray(operand).reshape(-1)]


def normal_axes(axes: Sequence[int], rank: int) -> list[int]:
    """Axes counted from the front; raises IndexError for one that is not there."""
    for axis in axes:
        if not -rank <= axis < rank:
            raise IndexError(f"axis {axis} is not one of a tensor of rank {rank}")
    return [axis % rank for axis in axes]


@operator("Reshape")
def reshape(x: Tensor, shape: Static, *, allowzero: int = 0) -> Tensor:
    """0 keeps the size of that axis (unless ``allowzero``), -1 takes what is left."""
    sizes = static_ints(shape)
    if not allowzero:
        sizes = [x.shape[axis] if size == 0 else size for axis, size in enumerate(sizes)]
    return x.reshape(sizes)


@operator("Flatten")
def flatten(x: Tensor, *, axis: int = 1) -> Tensor:
    """A matrix: axes before ``axis`` are its rows."""
    axis = axis + x.ndim if axis < 0 else axis
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


@operator("Squeeze")
def squeeze(x: Tensor, axes: Static | None = None) -> Tensor:
    if axes is None:
        return x.squeeze()
    dropped = normal_axes(static_ints(axes), x.ndim)
    for axis in dropped:
        if x.shape[axis] != 1:
            raise ValueError(f"axis {axis} has size {x.shape[axis]} and cannot be dropped")
    return x.reshape([size for axis, size in enumerate(x.shape) if axis not in dropped])


@operator("Unsqueeze")
def unsqueeze(x: Tensor, axes: Static) -> Tensor:
    """Axes of size 1; ``axes`` count in the result."""
    wanted = static_ints(axes)
    new = normal_axes(wanted, x.ndim + len(wanted))
    if len(set(new)) < len(new):
        raise ValueError(f"axes {wanted} name one axis twice")
    sizes = iter(x.shape)
    return x.reshape([1 if axis in new else next(sizes) for axis in range(x.ndim + len(new))])


@operator("Transpose")
def transpose(x: Tensor, *, perm: Ints | None = None) -> Tensor:
    """Axis ``i`` of the result is axis ``perm[i]``; without ``perm`` all axes are reversed."""
    return x.permute(tuple(reversed(range(x.ndim))) if perm is None else perm)


@operator("Expand")
def expand(x: Tensor, shape: Static) -> Tensor:
    """Broadcast against ``shape``: unlike in torch, a 1 there keeps the operand's size."""
    return x.expand(torch.broadcast_shapes(x.shape, static_ints(shape)))


@operator("Tile")
def tile(x: Tensor, repeats: Static) -> Tensor:
    counts = static_ints(repeats)
    if len(counts) != x.ndim:
        raise ValueError(f"a tensor of rank {x.ndim} needs {x.ndim} repeats, found {len(counts)}")
    return x.repeat(counts)


@operator("Concat")
def concat(*xs: Tensor, axis: int) -> Tensor:
    if len({x.dtype for x in xs}) > 1:
        raise TypeError("operands must have one element type; insert a Cast")
    if len({x.ndim for x in xs}) > 1:
        raise ValueError("operands must have one rank")
    (axis,) = normal_axes([axis], xs[0].ndim)
    others = {(*x.shape[:axis], *x.shape[axis + 1 :]) for x in xs}
    if len(others) > 1:
        raise ValueError(f"operands must agree on all axes but {axis}")
    if xs[0].is_meta:
        return meta((*xs[0].shape[:axis], sum(x.shape[axis] for x in xs), *xs[0].shape[axis + 1 :]), xs[0].dtype)
    return torch.cat(xs, axis)


@operator("Split", outputs=lambda attributes: attributes.get("num_outputs") or 1)
def split(x: Tensor, split: Static | None = None, *, axis: int = 0, num_outputs: int | None = None) -> tuple[Tensor, ...]:
    """Consecutive parts of the sizes in ``split``, or ``num_outputs`` equal ones of which the last may be smaller."""
    size = x.shape[axis]
    if split is None:
        if num_outputs is None:
            raise ValueError("either the operand split or the attribute num_outputs is needed")
        part = -(-size // num_outputs)
        sizes = [min(part, max(size - index * part, 0)) for index in range(num_outputs)]
    else:
        sizes = static_ints(split)
    return torch.split(x, sizes, axis)


@operator("Slice")
def slice_(x: Tensor, starts: Static, ends: Static, axes: Static | None = None, steps: Static | None = None) -> Tensor:
    """Python's slices, one for each of ``axes`` (default: the first ones); steps may be negative."""
    firsts, lasts = static_ints(starts), static_ints(ends)
    along = normal_axes(static_ints(axes) if axes is not None else range(len(firsts)), x.ndim)
    strides = static_ints(steps) if steps is not None else [1] * len(firsts)
    for axis, first, last, step in zip(along, firsts, lasts, strides, strict=True):
        positions = range(*slice(first, last, step).indices(x.shape[axis]))
        if step > 0:
            x = x[(slice(None),) * axis + (slice(positions.start, max(positions.stop, positions.start), step),)]
        else:
            x = x.index_select(axis, torch.tensor(list(positions), dtype=torch.int64, device=x.device))
    return x


@operator("Pad")
def pad(
    x: Tensor,
    pads: Static,
    constant_value: Static | None = None,
    axes: Static | None = None,
    *,
    mode: str = "constant",
) -> Tensor:
    """Borders of a constant, or by ``reflect``, ``edge`` or ``wrap``; a negative pad cuts off."""
    amounts = static_ints(pads)
    along = normal_axes(static_ints(axes), x.ndim) if axes is not None else list(range(x.ndim))
    if len(amounts) != 2 * len(along):
        raise ValueError(f"{len(along)} axes need {2 * len(along)} pads, found {len(amounts)}")
    begin, end = [0] * x.ndim, [0] * x.ndim
    for index, axis in enumerate(along):
        begin[axis], end[axis] = amounts[index], amounts[index + len(along)]
    if mode == "constant":
        value = 0 if constant_value is None or not constant_value.size else constant_value.item()
        return F.pad(x, torch_pads(begin, end), value=value)
    if mode not in ("reflect", "edge", "wrap"):
        raise ValueError(f"mode must be constant, reflect, edge or wrap, not {mode!r}")
    for axis, (before, after) in enumerate(zip(begin, end, strict=True)):
        if before or after:
            size = x.shape[axis]
            inside = np.arange(max(-before, 0), size - max(-after, 0))
            positions = np.pad(inside, (max(before, 0), max(after, 0)), mode)  # type: ignore[call-overload]
            x = x.index_select(axis, torch.from_numpy(positions).to(x.device))
    return x


@operator("DepthToSpace")
def depth_to_space(x: Tensor, *, blocksize: int, mode: str = "DCR") -> Tensor:
    """Channels become square patches; the patch's axes are the slow (DCR) or the fast (CRD) part of a channel's index."""
    batch, channels, height, width = x.shape
    depth = channels // blocksize**2
    if mode == "DCR":
        parts = x.reshape(batch, blocksize, blocksize, depth, height, width).permute(0, 3, 4, 1, 5, 2)
    elif mode == "CRD":
        parts = x.reshape(batch, depth, blocksize, blocksize, height, width).permute(0, 1, 4, 2, 5, 3)
    else:
        raise ValueError(f"mode must be DCR or CRD, not {mode!r}")
    return parts.reshape(batch, depth, height * blocksize, width * blocksize)


@operator("SpaceToDepth")
def space_to_depth(x: Tensor, *, blocksize: int) -> Tensor:
    """The inverse of DepthToSpace in DCR mode."""
    batch, channels, height, width = x.shape
    parts = x.reshape(batch, channels, height // blocksize, blocksize, width // blocksize, blocksize)
    return parts.permute(0, 3, 5, 1, 2, 4).reshape(batch, channels * blocksize**2, height // blocksize, width // blocksize)
