"""Pools over windows and over whole planes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tapdot.kernels.emit import Value
from tapdot.kernels.fallback.elementwise import apply
from tapdot.kernels.fallback.reduction import add, larger, lowest, mean, reduce_axes, total, unary
from tapdot.kernels.fallback.table import operator
from tapdot.kernels.fallback.tensors import Builder, Index, Shape, Tensor, UnsupportedError, is_float
from tapdot.kernels.fallback.windows import Window, covered, padded_data, window
from tapdot.kernels.tvm_adapter import T


def slide(
    b: Builder, x: Tensor, over: Window, border: float | int, combine: Callable[[Value, Value], Value], initial: float | int
) -> Tensor:
    """Everything under each window combined; outside the data stands ``border``."""
    data = padded_data(b, x, over, border)

    def term(index: Index, taps: Index) -> Value:
        return data.at(*index[:2], *over.place(index[2:], taps))

    return b.reduce((*x.shape[:2], *over.output), over.kernel, term, combine, initial, x.dtype)


def _window(b: Builder, x: Tensor, attributes: dict[str, Any]) -> Window:
    return window(
        x.shape[2:],
        attributes["kernel_shape"],
        b.outputs[0][0][2:],
        attributes.get("strides"),
        attributes.get("dilations"),
        attributes.get("pads"),
        attributes.get("auto_pad", "NOTSET"),
    )


@operator("MaxPool")
def max_pool(b: Builder, x: Tensor, **attributes: Any) -> Tensor:
    if len(b.outputs) > 1:
        raise UnsupportedError("MaxPool with indices")
    return slide(b, x, _window(b, x, attributes), lowest(x.dtype), larger(b), lowest(x.dtype))


@operator("AveragePool")
def average_pool(b: Builder, x: Tensor, *, count_include_pad: int = 0, **attributes: Any) -> Tensor:
    """Divided by the number of positions under each window."""
    over = _window(b, x, attributes)
    if any(dilation > 1 for dilation in over.dilations):
        raise UnsupportedError("AveragePool with dilations")
    sums = slide(b, x, over, 0, add, 0)

    def at(*index: Value) -> Value:
        count: Value = 1
        for axis, output in enumerate(index[2:]):
            count = count * covered(over, axis, output, bool(count_include_pad))
        return sums.at(*index) / T.Cast(x.dtype, count)

    return b.compute(sums.shape, x.dtype, at)


def _norm(b: Builder, p: int, x: Tensor, add_up: Callable[[Tensor], Tensor]) -> Tensor:
    """The ``p``-norm of what ``add_up`` adds up."""
    if not is_float(x.dtype):
        raise UnsupportedError(f"a norm of {x.dtype}")
    if p == 1:
        return add_up(unary(b, "Abs", x))
    if p == 2:
        return unary(b, "Sqrt", add_up(b.map(lambda value: value * value, x)))
    exponent, inverse = b.constant(float(p), x.dtype), b.constant(1 / p, x.dtype)
    powers = b.map(lambda value: apply(b, "Pow", (b.math.absolute(value), exponent), {}), x)
    return b.map(lambda value: apply(b, "Pow", (value, inverse), {}), add_up(powers))


@operator("LpPool")
def lp_pool(b: Builder, x: Tensor, *, p: int = 2, **attributes: Any) -> Tensor:
    over = _window(b, x, attributes)
    return _norm(b, p, x, lambda powers: slide(b, powers, over, 0, add, 0))


def _space(x: Tensor) -> Shape:
    return tuple(range(2, x.rank))


@operator("GlobalAveragePool")
def global_average_pool(b: Builder, x: Tensor) -> Tensor:
    return mean(b, x, _space(x))


@operator("GlobalMaxPool")
def global_max_pool(b: Builder, x: Tensor) -> Tensor:
    return reduce_axes(b, x, _space(x), larger(b), lowest(x.dtype))


@operator("GlobalLpPool")
def global_lp_pool(b: Builder, x: Tensor, *, p: int = 2) -> Tensor:
    return _norm(b, p, x, lambda powers: total(b, powers, _space(x)))
