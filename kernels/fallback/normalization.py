"""Normalizations and softmax."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tapdot.kernels.emit import Value
from tapdot.kernels.fallback.elementwise import apply
from tapdot.kernels.fallback.movement import padded, with_axis
from tapdot.kernels.fallback.reduction import center, larger, lowest, reduce_axes, total, unary, variance
from tapdot.kernels.fallback.table import operator
from tapdot.kernels.fallback.tensors import Builder, Shape, Tensor, ravel
from tapdot.kernels.tvm_adapter import T, tirx


def in_float32(build: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Builds a function of float16 tensors by way of float32."""

    def wide(b: Builder, x: Tensor, *operands: Tensor | None, **attributes: object) -> Tensor:
        if x.dtype != "float16":
            return build(b, x, *operands, **attributes)
        floats = [operand if operand is None else b.cast(operand, "float32") for operand in (x, *operands)]
        return b.cast(build(b, *floats, **attributes), "float16")

    wide.__doc__ = build.__doc__
    return wide


def _exponentials(b: Builder, x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """``x`` minus its largest element along the axis, and the exponentials of that in memory."""
    peak = reduce_axes(b, x, [axis], larger(b), lowest(x.dtype))
    shifted = b.map(lambda value, top: value - top, x, peak)
    return shifted, b.materialize(unary(b, "Exp", shifted))


@operator("Softmax")
@in_float32
def softmax(b: Builder, x: Tensor, *, axis: int = -1) -> Tensor:
    axis %= x.rank
    _, exponentials = _exponentials(b, x, axis)
    sums = total(b, exponentials, [axis])
    return b.map(lambda value, whole: value / whole, exponentials, sums)


@operator("LogSoftmax")
@in_float32
def log_softmax(b: Builder, x: Tensor, *, axis: int = -1) -> Tensor:
    axis %= x.rank
    shifted, exponentials = _exponentials(b, x, axis)
    logarithm = b.materialize(unary(b, "Log", total(b, exponentials, [axis])))
    return b.map(lambda value, whole: value - whole, shifted, logarithm)


@operator("Hardmax")
def hardmax(b: Builder, x: Tensor, *, axis: int = -1) -> Tensor:
    """One at the first largest element."""
    axis %= x.rank
    peak = reduce_axes(b, x, [axis], larger(b), lowest(x.dtype))
    buffer, result = b.output(0, x.shape)
    with b.loops(with_axis(x.shape, axis, 1)) as index:
        free = b.local(1, "int32")
        T.buffer_store(free, b.constant(1, "int32"), [0])
        with T.serial(x.shape[axis]) as position:
            place = with_axis(index, axis, position)
            hit = b.share(T.Cast("int32", tirx.EQ(x.at(*place), peak.at(*index))) & free[0])
            T.buffer_store(buffer, T.Cast(x.dtype, hit), [ravel(place, x.shape)])
            T.buffer_store(free, free[0] - hit, [0])
    return result


def _inverse_deviation(b: Builder, spread: Tensor, epsilon: float) -> Tensor:
    """One over the standard deviation, from the variance."""

    def inverse(value: Value) -> Value:
        root = apply(b, "Sqrt", (b.share(value + b.constant(epsilon, spread.dtype)),), {})
        return b.constant(1.0, spread.dtype) / root

    return b.materialize(b.map(inverse, spread))


def _normalize(b: Builder, x: Tensor, axes: Sequence[int], epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
    """Zero mean and unit variance along axes; also the mean and the inverse standard deviation."""
    centered, middle = center(b, x, axes)
    inverse = _inverse_deviation(b, variance(b, centered, axes), epsilon)
    return b.map(lambda value, scale: value * scale, centered, inverse), middle, inverse


def _per_channel(x: Tensor, rank: int) -> Tensor:
    """``[C]`` along axis 1 of a tensor of that rank."""
    return x.reshape((1, x.elements, *(1,) * (rank - 2)))


def _affine(b: Builder, x: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
    if bias is None:
        return b.map(lambda value, factor: value * factor, x, scale)
    return b.map(lambda value, factor, shift: value * factor + shift, x, scale, bias)


@operator("BatchNormalization")
@in_float32
def batch_normalization(
    b: Builder,
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
    inverse = _inverse_deviation(b, var, epsilon)
    factor = b.materialize(b.map(lambda s, i: s * i, scale, inverse))
    shift = b.materialize(b.map(lambda s, m, f: s - m * f, bias, mean, factor))
    return _affine(b, x, _per_channel(factor, x.rank), _per_channel(shift, x.rank))


@operator("InstanceNormalization")
@in_float32
def instance_normalization(b: Builder, x: Tensor, scale: Tensor, bias: Tensor, *, epsilon: float = 1e-5) -> Tensor:
    normal, _, _ = _normalize(b, x, range(2, x.rank), epsilon)
    return _affine(b, normal, _per_channel(scale, x.rank), _per_channel(bias, x.rank))


@operator("LayerNormalization")
def layer_normalization(
    b: Builder,
    x: Tensor,
    scale: Tensor,
    bias: Tensor | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    stash_type: int = 1,
) -> tuple[Tensor, ...]:
    wide = b.cast(x, "float32") if x.dtype == "float16" else x
    normal, middle, inverse = _normalize(b, wide, range(axis % x.rank, x.rank), epsilon)
    result = _affine(b, b.cast(normal, x.dtype), scale, bias)
    kinds = [dtype for _, dtype in b.outputs[1:]]
    return result, *(b.cast(value, kind) for value, kind in zip((middle, inverse), kinds, strict=False))


@operator("GroupNormalization")
@in_float32
def group_normalization(
    b: Builder, x: Tensor, scale: Tensor, bias: Tensor, *, epsilon: float = 1e-5, num_groups: int, stash_type: int = 1
) -> Tensor:
    """The scale and the bias go by group or by channel."""
    source = x if x.flat else b.materialize(x)
    normal, _, _ = _normalize(b, source.reshape((x.shape[0], num_groups, x.elements // x.shape[0] // num_groups)), (2,), epsilon)
    repeats = x.shape[1] // scale.elements
    per_channel = (1, x.shape[1], *(1,) * (x.rank - 2))
    spread = [b.compute(per_channel, x.dtype, lambda _, c, *rest, v=v: v.at(c // repeats)) for v in (scale, bias)]
    return _affine(b, normal.reshape(x.shape), *spread)


@operator("MeanVarianceNormalization")
@in_float32
def mean_variance_normalization(b: Builder, x: Tensor, *, axes: Shape = (0, 2, 3)) -> Tensor:
    centered, _ = center(b, x, axes)
    deviation = b.materialize(
        b.map(lambda v: apply(b, "Sqrt", (v,), {}) + b.constant(1e-9, x.dtype), variance(b, centered, axes))
    )
    return b.map(lambda value, size: value / size, centered, deviation)


@operator("LRN")
@in_float32
def local_response_normalization(
    b: Builder, x: Tensor, *, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0, size: int
) -> Tensor:
    """The sum of squares slides over the channels beside each."""
    before = (size - 1) // 2
    channels = x.shape[1]
    source = x if x.flat else b.materialize(x)
    border = (0, before, *(0,) * (x.rank - 2))
    lined = b.materialize(padded(b, source, border, with_axis(x.shape, 1, channels + size - 1), 0))

    def at(*index: Value) -> Value:
        sums: Value = b.constant(0.0, x.dtype)
        for shift in range(size):
            value = b.share(lined.at(*with_axis(index, 1, index[1] + shift)))
            sums = b.share(sums + value * value)
        base = b.share(sums * b.constant(alpha / size, x.dtype) + b.constant(bias, x.dtype))
        if beta == 0.75:  # by two square roots, as everybody trains it
            root = b.share(apply(b, "Sqrt", (base,), {}))
            return source.at(*index) / b.share(root * apply(b, "Sqrt", (root,), {}))
        return source.at(*index) * apply(b, "Pow", (base, b.constant(-beta, x.dtype)), {})

    return b.compute(x.shape, x.dtype, at)
