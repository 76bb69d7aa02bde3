"""Operators that move elements and compute none."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from tapdot.kernels.emit import Value
from tapdot.kernels.fallback.table import operator
from tapdot.kernels.fallback.tensors import Builder, Shape, Tensor, UnsupportedError
from tapdot.kernels.tvm_adapter import T, tirx

ONNX_DTYPES = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 9: "bool", 10: "float16", 11: "float64",
    12: "uint32", 13: "uint64",
}  # fmt: skip
"""Names of ONNX's element type numbers."""


def ints(operand: np.ndarray) -> list[int]:
    """A static operand as Python integers."""
    return [int(value) for value in np.asarray(operand).reshape(-1)]


def with_axis(index: Sequence[Value], axis: int, value: Value) -> tuple[Value, ...]:
    """An index with one coordinate replaced."""
    return (*index[:axis], value, *index[axis + 1 :])


@operator("Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze")
def reshape(b: Builder, x: Tensor, *_: np.ndarray | None, axis: int = 1, allowzero: int = 0) -> Tensor:
    """The result's shape says it all."""
    return x.reshape(b.outputs[0][0])


@operator("Dropout")
def dropout(b: Builder, x: Tensor, *_: np.ndarray | None, seed: int = 0) -> tuple[Tensor, ...]:
    return x, b.full(x.shape, True, "bool")


@operator("Shape", "Size", "ConstantOfShape", "Range")
def not_run(b: Builder, *_: object, **__: object) -> Tensor:
    raise UnsupportedError("shapes are known when compiling and are folded, not computed")


@operator("Transpose")
def transpose(b: Builder, x: Tensor, *, perm: Shape | None = None) -> Tensor:
    return x.permute(perm if perm is not None else range(x.rank)[::-1])


@operator("Expand")
def expand(b: Builder, x: Tensor, shape: np.ndarray) -> Tensor:
    return x.broadcast(b.outputs[0][0])


@operator("Tile")
def tile(b: Builder, x: Tensor, repeats: np.ndarray) -> Tensor:
    counts = ints(repeats)

    def at(*index: Value) -> Value:
        return x.at(*(i if count == 1 else i % size for i, count, size in zip(index, counts, x.shape, strict=True)))

    return b.compute(b.outputs[0][0], x.dtype, at)


@operator("Cast")
def cast(b: Builder, x: Tensor, *, to: int, saturate: int = 1) -> Tensor:
    return b.cast(x, ONNX_DTYPES[to])


@operator("CastLike")
def cast_like(b: Builder, x: Tensor, like: Tensor) -> Tensor:
    return b.cast(x, like.dtype)


@operator("Concat")
def concat(b: Builder, *xs: Tensor, axis: int) -> Tensor:
    """Each operand is copied to its place by loops of its own."""
    shape, _ = b.outputs[0]
    axis %= len(shape)
    buffer, result = b.output(0, shape)
    strides = [math.prod(shape[place + 1 :]) for place in range(len(shape))]
    start = 0
    for x in xs:
        with b.loops(x.shape) as index:
            moved = with_axis(index, axis, index[axis] + start)
            T.buffer_store(buffer, x.at(*index), [sum(i * stride for i, stride in zip(moved, strides, strict=True))])
        start += x.shape[axis]
    return result


@operator("Split")
def split(
    b: Builder, x: Tensor, split: np.ndarray | None = None, *, axis: int = 0, num_outputs: int | None = None
) -> tuple[Tensor, ...]:
    parts, start = [], 0
    axis %= x.rank
    for shape, dtype in b.outputs:
        parts.append(b.compute(shape, dtype, _shifted(x, axis, start)))
        start += shape[axis]
    return tuple(parts)


def _shifted(x: Tensor, axis: int, start: int) -> Callable[..., Value]:
    return lambda *index: x.at(*with_axis(index, axis, index[axis] + start))


@operator("Slice")
def slice_(
    b: Builder,
    x: Tensor,
    starts: np.ndarray,
    ends: np.ndarray,
    axes: np.ndarray | None = None,
    steps: np.ndarray | None = None,
) -> Tensor:
    along = [axis % x.rank for axis in (ints(axes) if axes is not None else range(len(ints(starts))))]
    strides = ints(steps) if steps is not None else [1] * len(along)
    first, step = [0] * x.rank, [1] * x.rank
    for axis, start, end, stride in zip(along, ints(starts), ints(ends), strides, strict=True):
        first[axis], step[axis] = slice(start, end, stride).indices(x.shape[axis])[0], stride

    def at(*index: Value) -> Value:
        return x.at(*(i * stride + start for i, start, stride in zip(index, first, step, strict=True)))

    return b.compute(b.outputs[0][0], x.dtype, at)


def padded(b: Builder, x: Tensor, begin: Sequence[int], shape: Shape, value: float | int | bool) -> Tensor:
    """``x`` in the middle of a tensor filled with ``value``; ``begin`` may be negative."""
    if tuple(shape) == x.shape and not any(begin):
        return x
    literal = b.constant(value, x.dtype)

    def at(*index: Value) -> Value:
        inside: Value = tirx.const(True, "bool")
        source = []
        for i, before, size, total in zip(index, begin, x.shape, shape, strict=True):
            place = i - before
            if before > 0:
                inside = tirx.And(inside, place >= 0)
            if total - before > size:
                inside = tirx.And(inside, place < size)
            source.append(place)
        return T.if_then_else(inside, x.at(*source), literal)

    return b.compute(shape, x.dtype, at)


@operator("Pad")
def pad(
    b: Builder,
    x: Tensor,
    pads: np.ndarray,
    constant_value: np.ndarray | None = None,
    axes: np.ndarray | None = None,
    *,
    mode: str = "constant",
) -> Tensor:
    amounts = ints(pads)
    along = [axis % x.rank for axis in ints(axes)] if axes is not None else list(range(x.rank))
    begin = [0] * x.rank
    for axis, amount in zip(along, amounts, strict=False):
        begin[axis] = amount
    shape = b.outputs[0][0]
    if mode == "constant":
        value = 0 if constant_value is None or not np.size(constant_value) else np.asarray(constant_value).reshape(-1)[0].item()
        # Reading is conditional, so what is read must be memory and not statements.
        return padded(b, x if x.flat else b.materialize(x), begin, shape, value)

    def source(place: Value, size: int) -> Value:
        if size == 1:
            return 0
        if mode == "edge":
            return tirx.max(tirx.min(place, size - 1), 0)
        if mode == "wrap":
            return tirx.floormod(place, size)
        period = 2 * (size - 1)
        return size - 1 - tirx.abs(size - 1 - tirx.floormod(place, period))

    if mode not in ("edge", "wrap", "reflect"):
        raise UnsupportedError(f"Pad with mode {mode!r}")
    if any(amount < 0 for amount in amounts):
        raise UnsupportedError(f"Pad with mode {mode!r} and negative pads")

    def at(*index: Value) -> Value:
        return x.at(
            *(
                i if total == size else source(i - before, size)
                for i, before, size, total in zip(index, begin, x.shape, shape, strict=True)
            )
        )

    return b.compute(shape, x.dtype, at)


@operator("DepthToSpace")
def depth_to_space(b: Builder, x: Tensor, *, blocksize: int, mode: str = "DCR") -> Tensor:
    n, channels, height, width = x.shape
    depth = channels // blocksize**2
    if mode == "DCR":
        parts = x.reshape((n, blocksize, blocksize, depth, height, width)).permute((0, 3, 4, 1, 5, 2))
    else:
        parts = x.reshape((n, depth, blocksize, blocksize, height, width)).permute((0, 1, 4, 2, 5, 3))
    return parts.reshape(b.outputs[0][0])


@operator("SpaceToDepth")
def space_to_depth(b: Builder, x: Tensor, *, blocksize: int) -> Tensor:
    n, channels, height, width = x.shape
    parts = x.reshape((n, channels, height // blocksize, blocksize, width // blocksize, blocksize))
    return parts.permute((0, 3, 5, 1, 2, 4)).reshape(b.outputs[0][0])
