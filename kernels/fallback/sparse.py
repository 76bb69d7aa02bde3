"""Convolutions and matrix products whose weights are FKW arrays (``kernels.fkw``), straight from the definition of the arrays."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tapdot.kernels.emit import Value
from tapdot.kernels.fallback.elementwise import apply_epilogue
from tapdot.kernels.fallback.integer import wide
from tapdot.kernels.fallback.reduction import add
from tapdot.kernels.fallback.table import operator
from tapdot.kernels.fallback.tensors import Builder, Shape, Tensor, ravel, row_parts
from tapdot.kernels.fallback.windows import padded_data, window
from tapdot.kernels.tvm_adapter import T, tirx

COLUMNS = 3
"""Of a pattern's kernel."""


@dataclass(frozen=True)
class Arrays:
    """The arrays of a layer in memory."""

    reorder: Tensor
    offset: Tensor
    index: Tensor
    stride: Tensor
    weight: Tensor
    patterns: Tensor

    @property
    def groups(self) -> int:
        return self.reorder.shape[0]

    @property
    def share(self) -> int:
        return self.weight.shape[1]

    @contextmanager
    def weights(self, b: Builder, group: Value, filter_of_group: Value) -> Iterator[tuple[Value, Value, Value]]:
        """Loops over the kept weights of one filter: the kernel's unit (input channel or quad), the tap, the weight."""
        first = b.share(_number(self.offset.at(group)))
        with b.loops((self.patterns.shape[0],)) as (pattern,):
            begin, end = (b.share(first + _number(self.stride.at(group, pattern + step))) for step in (0, 1))
            with T.serial(begin, end) as kernel, b.loops((self.patterns.shape[1],)) as (place,):
                unit = b.share(_number(self.index.at(kernel)))
                tap = b.share(_number(self.patterns.at(pattern, place)))
                yield unit, tap, b.share(self.weight.at(kernel, filter_of_group, place))

    def filter(self, group: Value, filter_of_group: Value) -> Value:
        """The output channel of a filter of the group visited at that place."""
        return _number(self.reorder.at(group)) * self.share + filter_of_group


def _number(value: Value) -> Value:
    return T.Cast("int32", value)


def _convolve(b: Builder, x: Tensor, arrays: Arrays, kernel_shape: Shape, strides: Shape, pads: Shape, kind: str) -> Tensor:
    """``[N, O, H, W]``, a part of a row of one filter at a time."""
    shape = b.outputs[0][0]
    over = window(x.shape[2:], kernel_shape, shape[2:], strides, None, pads, "NOTSET")
    data = padded_data(b, x, over, 0)
    by_quads = tuple(kernel_shape) == (1, 1)
    buffer, result = b.scratch(shape, kind)
    batch, _, height, width = shape
    for start, count, length in row_parts(width):
        with b.loops((batch, arrays.groups, arrays.share, height, count)) as (n, group, member, y, part):
            row = b.local(length, kind)
            first = start + part * length
            with b.loops((length,)) as (column,):
                T.buffer_store(row, b.constant(0, kind), [column])
            with arrays.weights(b, group, member) as (unit, tap, weight), b.loops((length,)) as (column,):
                channel = unit * 4 + tap if by_quads else unit
                taps = (0, 0) if by_quads else (tirx.floordiv(tap, COLUMNS), tirx.floormod(tap, COLUMNS))
                # the last quad may have fewer channels, and zeros for the others
                inside = tirx.min(channel, tirx.const(x.shape[1] - 1, "int32"))
                value = data.at(n, inside, *over.place((y, first + column), taps))
                if by_quads and x.shape[1] % 4:
                    value = tirx.Select(channel < x.shape[1], value, b.constant(0, kind))
                T.buffer_store(row, row[column] + value * T.Cast(kind, weight), [column])
            with b.loops((length,)) as (column,):
                T.buffer_store(buffer, row[column], [ravel((n, arrays.filter(group, member), y, first + column), shape)])
    return result


def _multiply(b: Builder, a: Tensor, arrays: Arrays, kind: str) -> Tensor:
    """``[M, N]``, one filter's sum at a time."""
    shape = b.outputs[0][0]
    data = a if a.flat else b.materialize(a)
    buffer, result = b.scratch(shape, kind)
    with b.loops((shape[0], arrays.groups, arrays.share)) as (row, group, member):
        total = b.local(1, kind)
        T.buffer_store(total, b.constant(0, kind), [0])
        with arrays.weights(b, group, member) as (unit, tap, weight):
            channel = b.share(unit * 4 + tap)
            value = data.at(row, tirx.min(channel, tirx.const(a.shape[1] - 1, "int32")))
            if a.shape[1] % 4:
                value = tirx.Select(channel < a.shape[1], value, b.constant(0, kind))
            T.buffer_store(total, total[0] + value * T.Cast(kind, weight), [0])
        T.buffer_store(buffer, total[0], [ravel((row, arrays.filter(group, member)), shape)])
    return result


def _finish(b: Builder, acc: Tensor, bias: Tensor | None, extras: tuple[Tensor, ...], epilogue: str) -> Tensor:
    if bias is not None:
        acc = b.map(add, acc, bias.reshape((1, bias.elements, *(1,) * (acc.rank - 2))))
    return apply_epilogue(b, epilogue, acc, extras)


@operator("SparseConv", "QSparseConv")
def sparse_conv(
    b: Builder,
    x: Tensor,
    reorder: Tensor,
    offset: Tensor,
    index: Tensor,
    stride: Tensor,
    weight: Tensor,
    patterns: Tensor,
    bias: Tensor | None = None,
    *extras: Tensor,
    kernel_shape: Shape,
    strides: Shape,
    pads: Shape,
    zero_point: int = 0,
    epilogue: str = "acc",
) -> Tensor:
    kind = "float32" if weight.dtype == "float32" else "int32"
    x = x if kind == "float32" else wide(b, x, zero_point)
    acc = _convolve(b, x, Arrays(reorder, offset, index, stride, weight, patterns), kernel_shape, strides, pads, kind)
    return _finish(b, acc, bias, extras, epilogue)


@operator("SparseGemm", "QSparseGemm")
def sparse_gemm(
    b: Builder,
    a: Tensor,
    reorder: Tensor,
    offset: Tensor,
    index: Tensor,
    stride: Tensor,
    weight: Tensor,
    patterns: Tensor,
    bias: Tensor | None = None,
    *extras: Tensor,
    zero_point: int = 0,
    epilogue: str = "acc",
) -> Tensor:
    kind = "float32" if weight.dtype == "float32" else "int32"
    a = a if kind == "float32" else wide(b, a, zero_point)
    acc = _multiply(b, a, Arrays(reorder, offset, index, stride, weight, patterns), kind)
    return _finish(b, acc, bias, extras, epilogue)
