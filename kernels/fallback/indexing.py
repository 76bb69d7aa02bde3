"""Operators that read or write elements by index."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tapdot.kernels.emit import Value
from tapdot.kernels.fallback.elementwise import apply
from tapdot.kernels.fallback.movement import ints, with_axis
from tapdot.kernels.fallback.table import operator
from tapdot.kernels.fallback.tensors import Builder, Index, Tensor, UnsupportedError, ravel
from tapdot.kernels.tvm_adapter import T, tirx


def _position(b: Builder, index: Value, size: int) -> Value:
    """An index as a position: negative ones count from the end, and none leaves the axis, whatever the data say."""
    zero, last = tirx.const(0, "int32"), tirx.const(size - 1, "int32")
    place = b.share(T.Cast("int32", index))
    place = b.share(tirx.Select(place < zero, place + tirx.const(size, "int32"), place))
    return b.share(tirx.min(tirx.max(place, zero), last))


@operator("Gather")
def gather(b: Builder, x: Tensor, indices: Tensor, *, axis: int = 0) -> Tensor:
    axis %= x.rank
    rank = indices.rank

    def at(*index: Value) -> Value:
        place = _position(b, indices.at(*index[axis : axis + rank]), x.shape[axis])
        return x.at(*index[:axis], place, *index[axis + rank :])

    return b.compute(b.outputs[0][0], x.dtype, at)


@operator("GatherElements")
def gather_elements(b: Builder, x: Tensor, indices: Tensor, *, axis: int = 0) -> Tensor:
    axis %= x.rank

    def at(*index: Value) -> Value:
        return x.at(*with_axis(index, axis, _position(b, indices.at(*index), x.shape[axis])))

    return b.compute(indices.shape, x.dtype, at)


@operator("GatherND")
def gather_nd(b: Builder, x: Tensor, indices: Tensor, *, batch_dims: int = 0) -> Tensor:
    depth, inner = indices.shape[-1], indices.rank - 1

    def at(*index: Value) -> Value:
        leading = index[:inner]
        places = [_position(b, indices.at(*leading, d), x.shape[batch_dims + d]) for d in range(depth)]
        return x.at(*index[:batch_dims], *places, *index[inner:])

    return b.compute(b.outputs[0][0], x.dtype, at)


_COMBINE = {"add": "Add", "mul": "Mul", "max": "Max", "min": "Min"}


def _combiner(b: Builder, reduction: str) -> Callable[[Value, Value], Value]:
    if reduction == "none":
        return lambda old, new: new
    if reduction not in _COMBINE:
        raise UnsupportedError(f"scatter with reduction {reduction!r}")
    return lambda old, new: apply(b, _COMBINE[reduction], (b.share(old), b.share(new)), {})


@operator("ScatterElements")
def scatter_elements(
    b: Builder, x: Tensor, indices: Tensor, updates: Tensor, *, axis: int = 0, reduction: str = "none"
) -> Tensor:
    axis %= x.rank
    combine = _combiner(b, reduction)
    buffer, result = b.output(0, x.shape)
    b.write(buffer, x)
    with b.loops(updates.shape) as index:
        target = ravel(with_axis(index, axis, _position(b, indices.at(*index), x.shape[axis])), x.shape)
        T.buffer_store(buffer, combine(buffer[target], updates.at(*index)), [target])
    return result


@operator("ScatterND")
def scatter_nd(b: Builder, x: Tensor, indices: Tensor, updates: Tensor, *, reduction: str = "none") -> Tensor:
    depth, inner = indices.shape[-1], indices.rank - 1
    combine = _combiner(b, reduction)
    buffer, result = b.output(0, x.shape)
    b.write(buffer, x)
    with b.loops(updates.shape) as index:
        places = [_position(b, indices.at(*index[:inner], d), x.shape[d]) for d in range(depth)]
        target = ravel((*places, *index[inner:]), x.shape)
        T.buffer_store(buffer, combine(buffer[target], updates.at(*index)), [target])
    return result


@operator("OneHot")
def one_hot(b: Builder, indices: Tensor, depth: np.ndarray, values: Tensor, *, axis: int = -1) -> Tensor:
    shape = b.outputs[0][0]
    axis %= len(shape)
    size = ints(depth)[0]

    def at(*index: Value) -> Value:
        wanted = b.share(T.Cast("int32", indices.at(*index[:axis], *index[axis + 1 :])))
        wanted = b.share(tirx.Select(wanted < tirx.const(0, "int32"), wanted + tirx.const(size, "int32"), wanted))
        return tirx.Select(tirx.EQ(wanted, _int32(index[axis])), values.at(1), values.at(0))

    return b.compute(shape, values.dtype, at)


def _int32(value: Value) -> Value:
    return tirx.const(value, "int32") if isinstance(value, int) else value


@operator("Trilu")
def trilu(b: Builder, x: Tensor, k: np.ndarray | None = None, *, upper: int = 1) -> Tensor:
    diagonal = 0 if k is None else ints(k)[0]

    def at(*index: Index) -> Value:
        row, column = _int32(index[-2]), _int32(index[-1])
        kept = column - row >= diagonal if upper else column - row <= diagonal
        return tirx.Select(kept, x.at(*index), b.constant(0, x.dtype))

    return b.compute(x.shape, x.dtype, at)
