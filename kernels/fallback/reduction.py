"""Sums, extremes, norms, running sums, and positions of extremes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from tapdot.kernels.emit import Value
from tapdot.kernels.fallback.elementwise import apply
from tapdot.kernels.fallback.movement import ints, with_axis
from tapdot.kernels.fallback.table import operator
from tapdot.kernels.fallback.tensors import Builder, Index, Shape, Tensor, UnsupportedError, is_float, ravel
from tapdot.kernels.tvm_adapter import T, tirx

Combine = Callable[[Value, Value], Value]


def lowest(dtype: str) -> float | int:
    """What no element is below."""
    return -math.inf if is_float(dtype) else (0 if dtype == "bool" else int(np.iinfo(dtype).min))


def highest(dtype: str) -> float | int:
    """What no element is above."""
    return math.inf if is_float(dtype) else (1 if dtype == "bool" else int(np.iinfo(dtype).max))


def larger(b: Builder) -> Combine:
    """The maximum; NaN where the second value is NaN, or the first on hardware that says so."""
    return lambda x, y: _extreme(b, "Max", x, y)


def smaller(b: Builder) -> Combine:
    """The minimum, likewise."""
    return lambda x, y: _extreme(b, "Min", x, y)


def _extreme(b: Builder, op: str, x: Value, y: Value) -> Value:
    if str(x.ty) == "bool":
        return tirx.Or(x, y) if op == "Max" else tirx.And(x, y)
    return apply(b, op, (x, y), {})


def add(x: Value, y: Value) -> Value:
    """The sum."""
    return x + y


def reduce_axes(
    b: Builder, x: Tensor, axes: Sequence[int], combine: Combine, initial: float | int, dtype: str | None = None
) -> Tensor:
    """Combined along some axes, which stay with size 1."""
    along = sorted(axis % x.rank for axis in axes)
    shape = tuple(1 if axis in along else size for axis, size in enumerate(x.shape))

    def term(index: Index, reduced: Index) -> Value:
        place = list(index)
        for axis, position in zip(along, reduced, strict=True):
            place[axis] = position
        return x.at(*place)

    return b.reduce(shape, tuple(x.shape[axis] for axis in along), term, combine, initial, dtype or x.dtype)


def total(b: Builder, x: Tensor, axes: Sequence[int]) -> Tensor:
    """The sum along axes, which stay with size 1; float16 is added up as float32."""
    if x.dtype == "float16":
        return b.cast(reduce_axes(b, b.cast(x, "float32"), axes, add, 0), "float16")
    return reduce_axes(b, x, axes, add, 0)


def mean(b: Builder, x: Tensor, axes: Sequence[int]) -> Tensor:
    """The mean along axes, which stay with size 1."""
    count = math.prod(x.shape[axis] for axis in axes)
    if not is_float(x.dtype):
        wide = total(b, b.cast(x, "float64"), axes)
        return b.cast(b.map(lambda value: value / b.constant(float(count), "float64"), wide), x.dtype)
    return b.map(lambda value: value / b.constant(float(count), x.dtype), total(b, x, axes))


def unary(b: Builder, op: str, x: Tensor) -> Tensor:
    """An element-wise operator by name."""
    return b.map(lambda value: apply(b, op, (value,), {}), x)


def square(b: Builder, x: Tensor) -> Tensor:
    """Each element times itself."""
    return b.map(lambda value: value * value, x)


def _through_float(b: Builder, op: str, x: Tensor) -> Tensor:
    """A function of floats on any element type."""
    return unary(b, op, x) if is_float(x.dtype) else b.cast(unary(b, op, b.cast(x, "float32")), x.dtype)


def log_sum_exp(b: Builder, x: Tensor, axes: Sequence[int]) -> Tensor:
    """``log(sum(exp(x)))`` along axes, at no place by way of an overflow."""
    peak = reduce_axes(b, x, axes, larger(b), lowest(x.dtype))
    finite = b.map(lambda v: tirx.Select(b.math.absolute(v) < b.math.like(v, math.inf), v, b.math.like(v, 0.0)), peak)
    finite = b.materialize(finite)
    sums = total(b, b.map(lambda v, p: apply(b, "Exp", (b.share(v - p),), {}), x, finite), axes)
    return b.map(lambda s, p: apply(b, "Log", (s,), {}) + p, sums, finite)


_REDUCTIONS: dict[str, Callable[[Builder, Tensor, Sequence[int]], Tensor]] = {
    "ReduceSum": total,
    "ReduceMean": mean,
    "ReduceMax": lambda b, x, axes: reduce_axes(b, x, axes, larger(b), lowest(x.dtype)),
    "ReduceMin": lambda b, x, axes: reduce_axes(b, x, axes, smaller(b), highest(x.dtype)),
    "ReduceProd": lambda b, x, axes: reduce_axes(b, x, axes, lambda v, w: v * w, 1),
    "ReduceL1": lambda b, x, axes: total(b, unary(b, "Abs", x), axes),
    "ReduceL2": lambda b, x, axes: _through_float(b, "Sqrt", total(b, square(b, x), axes)),
    "ReduceSumSquare": lambda b, x, axes: total(b, square(b, x), axes),
    "ReduceLogSum": lambda b, x, axes: _through_float(b, "Log", total(b, x, axes)),
    "ReduceLogSumExp": log_sum_exp,
}


def _register(name: str) -> None:
    @operator(name)
    def reduced(
        b: Builder, x: Tensor, axes: np.ndarray | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
    ) -> Tensor:
        along = ints(axes) if axes is not None else []
        if not along:
            if noop_with_empty_axes:
                return x
            along = list(range(x.rank))
        return _REDUCTIONS[name](b, x if x.rank else x.reshape((1,)), along or [0]).reshape(b.outputs[0][0])


for _name in _REDUCTIONS:
    _register(_name)


def _register_argument(name: str, better: Callable[[Value, Value], Value]) -> None:
    @operator(name)
    def argument(b: Builder, x: Tensor, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Tensor:
        axis %= x.rank
        shape = with_axis(x.shape, axis, 1)
        buffer, result = b.output(0, shape)
        with b.loops(shape) as index:
            best, place = b.local(1, x.dtype), b.local(1, "int64")
            T.buffer_store(best, x.at(*with_axis(index, axis, 0)), [0])
            T.buffer_store(place, b.constant(0, "int64"), [0])
            if x.shape[axis] > 1:
                with T.serial(1, x.shape[axis]) as position:
                    value = b.share(x.at(*with_axis(index, axis, position)))
                    wins = better(value, best[0])
                    if select_last_index:
                        wins = tirx.Or(wins, tirx.EQ(value, best[0]))
                    with T.If(wins), T.Then():
                        T.buffer_store(best, value, [0])
                        T.buffer_store(place, T.Cast("int64", position), [0])
            T.buffer_store(buffer, place[0], [ravel(index, shape)])
        return result.reshape(b.outputs[0][0])


_register_argument("ArgMax", tirx.GT)
_register_argument("ArgMin", tirx.LT)


@operator("CumSum")
def cumulative_sum(b: Builder, x: Tensor, axis: np.ndarray, *, exclusive: int = 0, reverse: int = 0) -> Tensor:
    along = ints(axis)[0] % x.rank
    buffer, result = b.output(0, x.shape)
    length = x.shape[along]
    with b.loops(with_axis(x.shape, along, 1)) as index:
        running = b.local(1, x.dtype)
        T.buffer_store(running, b.constant(0, x.dtype), [0])
        with T.serial(length) as step:
            place = with_axis(index, along, length - 1 - step if reverse else step)
            before = b.share(running[0])
            T.buffer_store(running, before + x.at(*place), [0])
            T.buffer_store(buffer, before if exclusive else running[0], [ravel(place, x.shape)])
    return result


@operator("TopK")
def top_k(
    b: Builder,
    x: Tensor,
    k: np.ndarray,
    *,
    axis: int = -1,
    largest: int = 1,
    sorted: int = 1,  # noqa: A002 ONNX's name
) -> tuple[Tensor, Tensor]:
    """An element's place is the number of elements that come before it: those that are better, and equal ones of lower index."""
    axis %= x.rank
    shape = b.outputs[0][0]
    values, value_tensor = b.output(0, shape)
    places, place_tensor = b.output(1, shape) if len(b.outputs) > 1 else b.scratch(shape, "int64")
    x = x if x.flat else b.materialize(x)
    length, count = x.shape[axis], shape[axis]
    with b.loops(with_axis(x.shape, axis, 1)) as index, T.serial(length) as position:
        value = b.share(x.at(*with_axis(index, axis, position)))
        rank = b.local(1, "int32")
        T.buffer_store(rank, b.constant(0, "int32"), [0])
        with T.serial(length) as other:
            rival = b.share(x.at(*with_axis(index, axis, other)))
            better = rival > value if largest else rival < value
            before = tirx.Or(better, tirx.And(tirx.EQ(rival, value), other < position))
            T.buffer_store(rank, rank[0] + T.Cast("int32", before), [0])
        with T.If(rank[0] < count), T.Then():
            target = ravel(with_axis(index, axis, rank[0]), shape)
            T.buffer_store(values, value, [target])
            T.buffer_store(places, T.Cast("int64", position), [target])
    return value_tensor, place_tensor


@operator("LpNormalization")
def lp_normalization(b: Builder, x: Tensor, *, axis: int = -1, p: int = 2) -> Tensor:
    if p not in (1, 2):
        raise UnsupportedError(f"LpNormalization with p={p}")
    magnitude = unary(b, "Abs", x) if p == 1 else square(b, x)
    norm = total(b, magnitude, [axis % x.rank])
    norm = b.materialize(unary(b, "Sqrt", norm)) if p == 2 else norm

    def scaled(value: Value, size: Value) -> Value:
        zero = b.constant(0.0, x.dtype)
        return tirx.Select(tirx.EQ(size, zero), zero, value / size)

    return b.map(scaled, x, norm)


def center(b: Builder, x: Tensor, axes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """``x`` minus its mean along axes, and the mean."""
    middle = b.materialize(mean(b, x, axes))
    return b.map(lambda value, m: value - m, x, middle), middle


def variance(b: Builder, centered: Tensor, axes: Shape | Sequence[int]) -> Tensor:
    """The mean square of centered elements."""
    return mean(b, square(b, centered), axes)
