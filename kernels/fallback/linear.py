"""Matrix products and convolutions of any rank, with constant or computed weights."""

from __future__ import annotations

import math
from typing import Any

from tapdot.kernels.emit import Value
from tapdot.kernels.fallback.elementwise import apply_epilogue
from tapdot.kernels.fallback.reduction import add
from tapdot.kernels.fallback.table import operator
from tapdot.kernels.fallback.tensors import Builder, Index, Shape, Tensor, UnsupportedError, broadcast_shape
from tapdot.kernels.fallback.windows import padded_data, window
from tapdot.kernels.tvm_adapter import tirx


def _wide(b: Builder, x: Tensor) -> Tensor:
    """What products of elements are added up in."""
    return b.cast(x, "float32") if x.dtype == "float16" else x


def _in_memory(b: Builder, x: Tensor) -> Tensor:
    return x if x.flat else b.materialize(x)


def product(b: Builder, a: Tensor, w: Tensor, transposed: bool = False) -> Tensor:
    """``a @ w`` over the last two axes, those before broadcast; ``w`` is a matrix read along its columns where ``transposed``."""
    kind = a.dtype
    if transposed and w.flat:
        rows = _wide(b, w)
        a = _in_memory(b, _wide(b, a))
        shape: Shape = (a.shape[-2], rows.shape[0])

        def dot(index: Index, reduced: Index) -> Value:
            return a.at(index[0], *reduced) * rows.at(index[1], *reduced)

        return b.cast(b.reduce(shape, (a.shape[-1],), dot, add, 0, a.dtype, contiguous=True), kind)
    w = w.permute((1, 0)) if transposed else w
    a, w = _in_memory(b, _wide(b, a)), _in_memory(b, _wide(b, w))
    leading = broadcast_shape(a.shape[:-2], w.shape[:-2])
    shape = (*leading, a.shape[-2], w.shape[-1])
    a = a.broadcast((*leading, *a.shape[-2:]))
    w = w.broadcast((*leading, *w.shape[-2:]))

    def term(index: Index, reduced: Index) -> Value:
        *outer, row, column = index
        return a.at(*outer, row, *reduced) * w.at(*outer, *reduced, column)

    return b.cast(b.reduce(shape, (a.shape[-1],), term, add, 0, a.dtype), kind)


@operator("MatMul")
def matmul(b: Builder, a: Tensor, w: Tensor) -> Tensor:
    left = a.reshape((1, a.elements)) if a.rank == 1 else a
    right = w.reshape((w.elements, 1)) if w.rank == 1 else w
    return product(b, left, right).reshape(b.outputs[0][0])


@operator("Gemm")
def gemm(
    b: Builder,
    a: Tensor,
    w: Tensor,
    c: Tensor | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> Tensor:
    result = product(b, a.permute((1, 0)) if transA else a, w, bool(transB))
    if alpha != 1:
        result = b.map(lambda value: value * b.constant(alpha, result.dtype), result)
    if c is None:
        return result
    return b.map(lambda value, extra: value + extra * b.constant(beta, c.dtype), result, c)


@operator("FusedGemm")
def fused_gemm(b: Builder, a: Tensor, w: Tensor, bias: Tensor | None = None, *extras: Tensor, epilogue: str = "acc") -> Tensor:
    acc = product(b, a, w)
    if bias is not None:
        acc = b.map(add, acc, bias)
    return apply_epilogue(b, epilogue, acc, extras)


@operator("Einsum")
def einsum(b: Builder, *xs: Tensor, equation: str) -> Tensor:
    """Letters that are not in the result are summed over; no ellipsis."""
    left, _, right = equation.replace(" ", "").partition("->")
    if "." in equation:
        raise UnsupportedError("Einsum with an ellipsis")
    names = left.split(",")
    if not right and "->" not in equation:
        letters = sorted(set(left) - {","})
        right = "".join(letter for letter in letters if left.count(letter) == 1)
    sizes = {letter: size for name, x in zip(names, xs, strict=True) for letter, size in zip(name, x.shape, strict=True)}
    summed = [letter for letter in sizes if letter not in right]

    def term(index: Index, reduced: Index) -> Value:
        places = dict(zip(right, index, strict=True)) | dict(zip(summed, reduced, strict=False))
        factors = [x.at(*(places[letter] for letter in name)) for name, x in zip(names, xs, strict=True)]
        return math.prod(factors[1:], start=factors[0])

    shape = tuple(sizes[letter] for letter in right)
    return b.reduce(shape, tuple(sizes[letter] for letter in summed), term, add, 0, xs[0].dtype)


# -- convolutions -----------------------------------------------------------------------------------------------------------


def convolve(b: Builder, x: Tensor, w: Tensor, bias: Tensor | None, attributes: dict[str, Any], output: Shape) -> Tensor:
    """``x: [N, C, *spatial]`` with ``w: [M, C / group, *kernel]``, a row of the result at a time."""
    kind = x.dtype
    x, w = _wide(b, x), _in_memory(b, _wide(b, w))
    strides, dilations, pads = (attributes.get(name) for name in ("strides", "dilations", "pads"))
    over = window(x.shape[2:], w.shape[2:], output[2:], strides, dilations, pads, attributes.get("auto_pad", "NOTSET"))
    group = attributes.get("group", 1)
    data = padded_data(b, x, over, 0)
    filters, depth = w.shape[0] // group, w.shape[1]

    def term(index: Index, reduced: Index) -> Value:
        n, m, *position = index
        c, *taps = reduced
        channel = m // filters * depth + c if group > 1 else c
        return data.at(n, channel, *over.place(tuple(position), tuple(taps))) * w.at(m, c, *taps)

    result = b.reduce(output, (depth, *over.kernel), term, add, 0, x.dtype)
    if bias is not None:
        result = b.map(add, result, b.cast(bias, x.dtype).reshape((1, bias.elements, *(1,) * (x.rank - 2))))
    return b.cast(result, kind)


@operator("Conv")
def conv(b: Builder, x: Tensor, w: Tensor, bias: Tensor | None = None, **attributes: Any) -> Tensor:
    return convolve(b, x, w, bias, attributes, b.outputs[0][0])


@operator("FusedConv")
def fused_conv(
    b: Builder, x: Tensor, w: Tensor, bias: Tensor | None = None, *extras: Tensor, epilogue: str = "acc", **attributes: Any
) -> Tensor:
    return apply_epilogue(b, epilogue, convolve(b, x, w, bias, attributes, b.outputs[0][0]), extras)


@operator("ConvTranspose")
def conv_transpose(
    b: Builder,
    x: Tensor,
    w: Tensor,
    bias: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Shape | None = None,
    group: int = 1,
    kernel_shape: Shape | None = None,
    output_padding: Shape | None = None,
    output_shape: Shape | None = None,
    pads: Shape | None = None,
    strides: Shape | None = None,
) -> Tensor:
    """A convolution of the data, spread out by the strides, with the mirrored filters: ``w: [C, M / group, *kernel]``."""
    kind, rank = x.dtype, x.rank - 2
    x, w = _in_memory(b, _wide(b, x)), _in_memory(b, _wide(b, w))
    strides, dilations = strides or (1,) * rank, dilations or (1,) * rank
    kernel, spatial, shape = w.shape[2:], x.shape[2:], b.outputs[0][0]
    begin = (pads or ())[:rank] if auto_pad == "NOTSET" else ()
    if output_shape is not None or auto_pad.startswith("SAME"):  # the sizes are given, what is cut off follows
        grown = output_padding or (0,) * rank
        full = [
            (size - 1) * stride + (k - 1) * dilation + 1 + extra
            for size, stride, k, dilation, extra in zip(spatial, strides, kernel, dilations, grown, strict=True)
        ]
        cut = [have - want for have, want in zip(full, shape[2:], strict=True)]
        begin = tuple(c // 2 if auto_pad == "SAME_UPPER" else c - c // 2 for c in cut)
    begin = begin or (0,) * rank
    filters, depth = w.shape[1], x.shape[1] // group
    # The last tap of the first output reads the spread data at -(extent - 1 - begin).
    lead = [(k - 1) * dilation - cut for k, dilation, cut in zip(kernel, dilations, begin, strict=True)]
    reach = tuple(out + (k - 1) * dilation for out, k, dilation in zip(shape[2:], kernel, dilations, strict=True))

    def spread(n: Value, c: Value, *position: Value) -> Value:
        inside: Value = tirx.const(True, "bool")
        places = []
        for p, before, stride, size in zip(position, lead, strides, spatial, strict=True):
            moved = p - before + tirx.const(0, "int32")
            place = tirx.floordiv(moved, stride)
            inside = tirx.And(inside, tirx.And(moved >= 0, place < size))
            if stride > 1:
                inside = tirx.And(inside, tirx.EQ(tirx.floormod(moved, stride), 0))
            places.append(place)
        return tirx.if_then_else(inside, x.at(n, c, *places), b.constant(0, x.dtype))

    data = b.materialize(b.compute((*x.shape[:2], *reach), x.dtype, spread))

    def term(index: Index, reduced: Index) -> Value:
        n, m, *position = index
        c, *taps = reduced
        channel = m // filters * depth + c if group > 1 else c
        mirrored = [k - 1 - tap for k, tap in zip(kernel, taps, strict=True)]
        source = [p + tap * dilation for p, tap, dilation in zip(position, taps, dilations, strict=True)]
        return data.at(n, channel, *source) * w.at(channel, m % filters if group > 1 else m, *mirrored)

    result = b.reduce(shape, (depth, *kernel), term, add, 0, x.dtype)
    if bias is not None:
        result = b.map(add, result, b.cast(bias, x.dtype).reshape((1, bias.elements, *(1,) * rank)))
    return b.cast(result, kind)
