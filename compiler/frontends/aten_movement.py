"""Rows for shapes: views, slices, joins, padding and gathering."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from tapdot.compiler.frontends.aten_elementwise import Operand
from tapdot.compiler.frontends.aten_table import Call, Scalar, aten

# -- views ---------------------------------------------------------------------------------------------------------------------


@aten("view", "reshape", "_unsafe_view", "view_copy", "_reshape_copy")
def reshape(call: Call, x: str, shape: Sequence[int]) -> str:
    """Sizes are written out, so that a reader sees them. What makes a matrix of a batch, as before a classifier, is Flatten."""
    old, sizes = call.shape(x), list(shape)
    if -1 in sizes:
        sizes[sizes.index(-1)] = math.prod(old) // max(-math.prod(sizes), 1)
    if len(old) > 2 and sizes == [old[0], math.prod(old[1:])]:
        return call.emit("Flatten", x, axis=1)
    return call.emit("Reshape", x, call.ints(sizes, "shape"))


@aten("flatten")
def flatten(call: Call, x: str, start_dim: int = 0, end_dim: int = -1) -> str:
    start, end, shape = call.axis(x, start_dim), call.axis(x, end_dim), call.shape(x)
    return reshape(call, x, [*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :]])


@aten("unflatten")
def unflatten(call: Call, x: str, dim: int, sizes: Sequence[int]) -> str:
    axis, shape = call.axis(x, dim), call.shape(x)
    return reshape(call, x, [*shape[:axis], *sizes, *shape[axis + 1 :]])


@aten("permute", "permute_copy")
def permute(call: Call, x: str, dims: Sequence[int]) -> str:
    return call.emit("Transpose", x, perm=call.axes(x, dims))


@aten("transpose.int", "swapaxes", "swapdims", "transpose_copy.int")
def transpose(call: Call, x: str, dim0: int, dim1: int) -> str:
    order = list(range(call.rank(x)))
    first, second = call.axis(x, dim0), call.axis(x, dim1)
    order[first], order[second] = second, first
    return call.emit("Transpose", x, perm=tuple(order))


@aten("t", "numpy_T", "mT")
def matrix_transpose(call: Call, x: str) -> str:
    return x if call.rank(x) < 2 else transpose(call, x, -1, -2)


@aten("movedim.int")
def movedim(call: Call, x: str, source: int, destination: int) -> str:
    order = list(range(call.rank(x)))
    order.insert(call.axis(x, destination), order.pop(call.axis(x, source)))
    return call.emit("Transpose", x, perm=tuple(order))


@aten("squeeze", "squeeze_copy")
def squeeze(call: Call, x: str, dim: int | Sequence[int] | None = None) -> str:
    """Torch passes over axes that are not of size 1; ONNX refuses them."""
    axes = [axis for axis in call.axes(x, dim) if call.shape(x)[axis] == 1]
    return call.emit("Squeeze", x, call.ints(axes, "axes")) if axes else x


@aten("unsqueeze", "unsqueeze_copy")
def unsqueeze(call: Call, x: str, dim: int) -> str:
    return call.emit("Unsqueeze", x, call.ints([dim % (call.rank(x) + 1)], "axes"))


@aten("expand", "expand_copy")
def expand(call: Call, x: str, size: Sequence[int], implicit: bool = False) -> str:
    """-1 keeps a size."""
    shape = (1,) * (len(size) - call.rank(x)) + call.shape(x)
    wanted = [old if new == -1 else new for old, new in zip(shape, size, strict=True)]
    return x if tuple(wanted) == call.shape(x) else call.emit("Expand", x, call.ints(wanted, "shape"))


@aten("expand_as")
def expand_as(call: Call, x: str, other: str) -> str:
    return expand(call, x, call.shape(other))


@aten("view_as", "reshape_as")
def view_as(call: Call, x: str, other: str) -> str:
    return reshape(call, x, call.shape(other))


@aten("repeat", "tile")
def repeat(call: Call, x: str, repeats: Sequence[int]) -> str:
    missing = len(repeats) - call.rank(x)
    if missing > 0:
        shape = call.ints([1] * missing + list(call.shape(x)), "shape")
        x = call.emit("Reshape", x, shape, part="axes")
    counts = [1] * -min(missing, 0) + list(repeats)
    return call.emit("Tile", x, call.ints(counts, "repeats"))


# -- parts ---------------------------------------------------------------------------------------------------------------------


@aten("slice.Tensor", "slice_copy.Tensor")
def slice_(call: Call, x: str, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> str:
    axis = call.axis(x, dim)
    size = call.shape(x)[axis]
    first, last, _ = slice(start, None if end in (None, sys.maxsize) else end, step).indices(size)
    if (first, step) == (0, 1) and last >= size:
        return x
    return _sliced(call, x, axis, first, last, step)


def _sliced(call: Call, x: str, axis: int, first: int, last: int, step: int = 1, part: str = "") -> str:
    operands = [call.ints([value], name) for value, name in ((first, "starts"), (last, "ends"), (axis, "axes"), (step, "steps"))]
    return call.emit("Slice", x, *operands, part=part)


@aten("narrow")
def narrow(call: Call, x: str, dim: int, start: int, length: int) -> str:
    first = start % max(call.shape(x)[dim], 1)
    return slice_(call, x, dim, first, first + length)


@aten("select.int", "select_copy.int")
def select(call: Call, x: str, dim: int, index: int) -> str:
    axis = call.axis(x, dim)
    position = call.builder.constant(np.array(index % call.shape(x)[axis], np.int64), f"{call.name}.index")
    return call.emit("Gather", x, position, axis=axis)


@aten("split_with_sizes", "split_with_sizes_copy", "split.sizes")
def split_with_sizes(call: Call, x: str, sizes: Sequence[int], dim: int = 0) -> tuple[str, ...]:
    if len(sizes) == 1:
        return (x,)
    return tuple(call.emit("Split", x, call.ints(sizes, "sizes"), outputs=len(sizes), axis=call.axis(x, dim)))


@aten("split.Tensor", "split_copy.Tensor")
def split(call: Call, x: str, size: int, dim: int = 0) -> tuple[str, ...]:
    total = call.shape(x)[dim]
    return split_with_sizes(call, x, [min(size, total - at) for at in range(0, total, size)] or [0], dim)


@aten("chunk")
def chunk(call: Call, x: str, chunks: int, dim: int = 0) -> tuple[str, ...]:
    return split(call, x, max(-(-call.shape(x)[dim] // chunks), 1), dim)


@aten("unbind.int")
def unbind(call: Call, x: str, dim: int = 0) -> tuple[str, ...]:
    axes = call.ints([call.axis(x, dim)], "axes")
    parts = split(call, x, 1, dim)
    return tuple(call.emit("Squeeze", part, axes, part=f"part{index}") for index, part in enumerate(parts))


# -- joins ---------------------------------------------------------------------------------------------------------------------


@aten("cat", "concat", "concatenate")
def cat(call: Call, tensors: Sequence[str], dim: int = 0) -> str:
    """Torch lets empty vectors pass, whatever the rank of the others."""
    kept = [call.operand(tensor) for tensor in tensors if call.shape(tensor) != (0,)] or list(tensors[:1])
    return kept[0] if len(kept) == 1 else call.emit("Concat", *kept, axis=call.axis(kept[0], dim))


@aten("stack")
def stack(call: Call, tensors: Sequence[str], dim: int = 0) -> str:
    axis = dim % (call.rank(tensors[0]) + 1)
    axes = call.ints([axis], "axes")
    grown = [call.emit("Unsqueeze", call.operand(tensor), axes, part=f"part{index}") for index, tensor in enumerate(tensors)]
    return call.emit("Concat", *grown, axis=axis)


@aten("slice_scatter")
def slice_scatter(
    call: Call, x: str, source: str, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> str:
    """``x`` with a slice replaced, as ``x[a:b] = source`` leaves it: what is before, the source, what is after."""
    if step != 1:
        raise call.refusal("replaces elements at a distance from each other, which is not supported; replace ranges")
    axis = call.axis(x, dim)
    size = call.shape(x)[axis]
    first, last, _ = slice(start, end).indices(size)
    parts = [_sliced(call, x, axis, 0, first, part="before")] if first else []
    parts.append(call.operand(source))
    parts += [_sliced(call, x, axis, last, size, part="after")] if last < size else []
    return parts[0] if len(parts) == 1 else call.emit("Concat", *parts, axis=axis)


@aten("select_scatter")
def select_scatter(call: Call, x: str, source: str, dim: int, index: int) -> str:
    """``x`` with one position of an axis replaced, as ``x[:, i] = source`` leaves it."""
    axis = call.axis(x, dim)
    at = index % call.shape(x)[axis]
    grown = call.emit("Unsqueeze", call.operand(source), call.ints([axis], "axes"), part="source")
    return slice_scatter(call, x, grown, axis, at, at + 1)


@aten("copy")
def copy(call: Call, x: str, source: str, non_blocking: bool = False) -> str:
    """The source in the shape and element type of ``x``, which is what is left of an assignment."""
    return expand(call, call.cast(source, call.dtype), call.shape(x))


@aten("fill")
def fill(call: Call, x: str, value: Operand) -> str:
    return expand(call, call.operand(value), call.shape(x))


# -- padding -------------------------------------------------------------------------------------------------------------------

PAD_MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


@aten("pad")
def pad(call: Call, x: str, pads: Sequence[int], mode: str = "constant", value: Scalar | None = None) -> str:
    """Torch lists the last axis first, both sides of it together; ONNX all beginnings, then all ends."""
    rank, count = call.rank(x), len(pads) // 2
    begin, end = [0] * rank, [0] * rank
    for index in range(count):
        begin[rank - 1 - index], end[rank - 1 - index] = pads[2 * index], pads[2 * index + 1]
    if not any(begin + end):
        return x
    amounts = call.ints(begin + end, "pads")
    if mode != "constant":
        return call.emit("Pad", x, amounts, mode=PAD_MODES[mode])
    return call.emit("Pad", x, amounts, call.constant(value or 0, part="value"))


@aten("constant_pad_nd")
def constant_pad(call: Call, x: str, pads: Sequence[int], value: Scalar = 0) -> str:
    return pad(call, x, pads, "constant", value)


for _spatial in (1, 2, 3):
    aten(f"reflection_pad{_spatial}d")(lambda call, x, pads: pad(call, x, pads, "reflect"))
    aten(f"replication_pad{_spatial}d")(lambda call, x, pads: pad(call, x, pads, "replicate"))


# -- gathering -----------------------------------------------------------------------------------------------------------------


@aten("embedding")
def embedding(call: Call, weight: str, indices: str, *training: Any) -> str:
    return call.emit("Gather", weight, indices, axis=0)


@aten("index_select")
def index_select(call: Call, x: str, dim: int, index: str) -> str:
    return call.emit("Gather", x, index, axis=call.axis(x, dim))


@aten("gather")
def gather(call: Call, x: str, dim: int, index: str, sparse_grad: bool = False) -> str:
    return call.emit("GatherElements", x, index, axis=call.axis(x, dim))


@aten("index.Tensor")
def index(call: Call, x: str, indices: Sequence[str | None]) -> str:
    """Indexing by one vector; several at once are refused."""
    given = [(axis, value) for axis, value in enumerate(indices) if value is not None]
    if len(given) != 1 or call.dtype_of(given[0][1]) == "bool":
        raise call.refusal("indexes by several tensors or by a mask, which is not supported; use gather or index_select")
    axis, value = given[0]
    return call.emit("Gather", x, value, axis=axis)


@aten("flip")
def flip(call: Call, x: str, dims: Sequence[int]) -> str:
    axes = call.axes(x, dims)
    lowest = np.iinfo(np.int64).min
    starts, ends = call.ints([-1] * len(axes), "starts"), call.ints([lowest] * len(axes), "ends")
    return call.emit("Slice", x, starts, ends, call.ints(axes, "axes"), call.ints([-1] * len(axes), "steps"))


@aten("roll")
def roll(call: Call, x: str, shifts: Sequence[int], dims: Sequence[int] = ()) -> str:
    if not dims:
        raise call.refusal("rolls a flattened tensor, which is not supported; name the axes")
    for number, (shift, axis) in enumerate(zip(shifts, call.axes(x, list(dims)), strict=True)):
        size = call.shape(x)[axis]
        cut = -shift % max(size, 1)
        if cut:
            tail = _sliced(call, x, axis, cut, size, part=f"tail{number}")
            head = _sliced(call, x, axis, 0, cut, part=f"head{number}")
            x = call.emit("Concat", tail, head, axis=axis, part=f"axis{number}")
    return x


@aten("pixel_unshuffle")
def pixel_unshuffle(call: Call, x: str, downscale_factor: int) -> str:
    """ONNX's SpaceToDepth puts the block before the channel, torch the channel before the block."""
    block, (batch, channels, height, width) = downscale_factor, call.shape(x)
    split = call.ints([batch, channels, height // block, block, width // block, block], "split")
    blocks = call.emit("Reshape", x, split, part="blocks")
    moved = call.emit("Transpose", blocks, part="moved", perm=(0, 1, 3, 5, 2, 4))
    shape = call.ints([batch, channels * block * block, height // block, width // block], "shape")
    return call.emit("Reshape", moved, shape)


# -- constants -----------------------------------------------------------------------------------------------------------------


@aten("full", "full_like", "new_full")
def full(call: Call, like: Any, value: Any, *rest: Any, **named: Any) -> str:
    """Constants: shapes are known. ``new_full`` has the tensor, then the shape, then the value."""
    if rest and isinstance(like, str):
        shape, value = value, rest[0]
    else:
        shape = call.shape(like) if isinstance(like, str) else like
    return _filled(call, shape, value)


@aten("zeros", "zeros_like", "new_zeros")
def zeros(call: Call, like: Any, *shape: Any, **named: Any) -> str:
    return _filled(call, _shape_of(call, like, shape), 0)


@aten("ones", "ones_like", "new_ones")
def ones(call: Call, like: Any, *shape: Any, **named: Any) -> str:
    return _filled(call, _shape_of(call, like, shape), 1)


def _shape_of(call: Call, like: Any, shape: tuple[Any, ...]) -> Sequence[int]:
    if not isinstance(like, str):
        return like
    return shape[0] if shape and isinstance(shape[0], (list, tuple)) else call.shape(like)


def _filled(call: Call, shape: Sequence[int], value: Operand) -> str:
    return call.builder.constant(np.full(tuple(shape), value, call.dtype), call.name)


@aten("scalar_tensor")
def scalar_tensor(call: Call, value: Scalar, **named: Any) -> str:
    return call.constant(value)


@aten("arange", "arange.start", "arange.start_step")
def arange(call: Call, *bounds: Scalar, **named: Any) -> str:
    return call.builder.constant(np.arange(*bounds, dtype=call.dtype), call.name)
