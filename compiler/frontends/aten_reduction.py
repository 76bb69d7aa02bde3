"""Rows for matrix products, reductions and softmax."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tapdot.compiler.frontends.aten_table import Call, Scalar, aten

# -- matrix products -----------------------------------------------------------------------------------------------------------


@aten("linear")
def linear(call: Call, x: str, weight: str, bias: str | None = None) -> str:
    """Gemm on matrices; on tensors of other ranks MatMul, to the last axis."""
    if call.rank(x) == 2:
        return call.emit("Gemm", x, weight, bias or "", transB=1)
    matrix = call.emit("Transpose", weight, part="matrix", perm=(1, 0))
    if bias is None:
        return call.emit("MatMul", x, matrix)
    return call.emit("Add", call.emit("MatMul", x, matrix, part="product"), bias)


@aten("addmm")
def addmm(call: Call, c: str, a: str, b: str, beta: Scalar = 1, alpha: Scalar = 1) -> str:
    return call.emit("Gemm", a, b, c, alpha=float(alpha), beta=float(beta))


@aten("mm", "bmm", "matmul", "mv", "dot")
def matmul(call: Call, a: str, b: str) -> str:
    return call.emit("MatMul", a, b)


@aten("baddbmm")
def baddbmm(call: Call, c: str, a: str, b: str, beta: Scalar = 1, alpha: Scalar = 1) -> str:
    product = call.emit("MatMul", a, b, part="product")
    if alpha != 1:
        product = call.emit("Mul", product, call.constant(alpha, part="alpha"), part="scaled")
    if beta != 1:
        c = call.emit("Mul", c, call.constant(beta, part="beta"), part="offset")
    return call.emit("Add", product, c)


@aten("einsum")
def einsum(call: Call, equation: str, tensors: Sequence[str], path: Any = None) -> str:
    return call.emit("Einsum", *tensors, equation=equation)


@aten("scaled_dot_product_attention")
def attention(
    call: Call,
    query: str,
    key: str,
    value: str,
    attn_mask: str | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> str:
    """``softmax(query @ key^T * scale + mask) @ value``."""
    if is_causal or enable_gqa or (attn_mask is not None and call.dtype_of(attn_mask) == "bool"):
        raise call.refusal("uses a causal or boolean mask or shared heads, which is not supported; add a float mask")
    order = list(range(call.rank(key)))
    order[-2:] = order[:-3:-1]
    factor = call.shape(query)[-1] ** -0.5 if scale is None else scale
    scaled = call.emit("Mul", query, call.constant(factor, part="scale"), part="scaled")
    scores = call.emit("MatMul", scaled, call.emit("Transpose", key, part="keys", perm=tuple(order)), part="scores")
    if attn_mask is not None:
        scores = call.emit("Add", scores, attn_mask, part="masked")
    return call.emit("MatMul", call.emit("Softmax", scores, part="softmax", axis=-1), value)


# -- reductions ----------------------------------------------------------------------------------------------------------------


def _reduce(call: Call, op: str, x: str, dim: Any, keepdim: bool, part: str = "") -> str:
    axes = call.axes(x, dim)
    return call.emit(op, call.operand(x), call.ints(axes, "axes"), keepdims=int(keepdim), part=part)


def _reduction(op: str) -> Any:
    def row(call: Call, x: str, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> str:
        return _reduce(call, op, x, dim, keepdim)

    return row


@aten("mean")
def mean(call: Call, x: str, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> str:
    """Over the whole plane it is GlobalAveragePool, the form every network's head has."""
    rank = call.rank(x)
    axes = call.axes(x, dim)
    if rank >= 3 and tuple(sorted(axes)) == tuple(range(2, rank)) and call.dtype_of(x) == call.dtype:
        if keepdim:
            return call.emit("GlobalAveragePool", x)
        pooled = call.emit("GlobalAveragePool", x, part="pool")
        return call.emit("Flatten", pooled, axis=1)
    return _reduce(call, "ReduceMean", x, axes, keepdim)


aten("sum")(_reduction("ReduceSum"))
aten("prod.dim_int", "prod")(_reduction("ReduceProd"))
aten("amax", "max")(_reduction("ReduceMax"))
aten("amin", "min")(_reduction("ReduceMin"))
aten("logsumexp")(_reduction("ReduceLogSumExp"))


def _extreme(op: str, argument_op: str) -> Any:
    def row(call: Call, x: str, dim: int, keepdim: bool = False) -> tuple[str, str]:
        index = call.emit(argument_op, x, part="index", axis=call.axis(x, dim), keepdims=int(keepdim))
        return _reduce(call, op, x, dim, keepdim), index

    return row


aten("max.dim")(_extreme("ReduceMax", "ArgMax"))
aten("min.dim")(_extreme("ReduceMin", "ArgMin"))


def _argument(op: str) -> Any:
    def row(call: Call, x: str, dim: int | None = None, keepdim: bool = False) -> str:
        if dim is None:
            x = call.emit("Reshape", x, call.ints([-1], "shape"), part="flat")
            dim, keepdim = 0, False
        return call.emit(op, x, axis=call.axis(x, dim), keepdims=int(keepdim))

    return row


aten("argmax")(_argument("ArgMax"))
aten("argmin")(_argument("ArgMin"))


def variance(call: Call, x: str, dim: Any, correction: Scalar, keepdim: bool, part: str = "") -> str:
    """The mean square of what is left without the mean, over ``n - correction``."""
    axes = call.axes(x, dim)
    count = 1
    for axis in axes:
        count *= call.shape(x)[axis]
    centred = call.emit("Sub", x, _reduce(call, "ReduceMean", x, axes, True, "mean"), part="centred")
    squares = call.emit("Mul", centred, centred, part="squares")
    if correction == 0:
        return _reduce(call, "ReduceMean", squares, axes, keepdim, part)
    total = _reduce(call, "ReduceSum", squares, axes, keepdim, "total")
    return call.emit("Div", total, call.constant(count - correction, part="count"), part=part)


@aten("var.correction")
def var(call: Call, x: str, dim: Any = None, correction: Scalar | None = None, keepdim: bool = False) -> str:
    return variance(call, x, dim, 1 if correction is None else correction, keepdim)


@aten("var.dim", "var")
def var_dim(call: Call, x: str, dim: Any = None, unbiased: bool = True, keepdim: bool = False) -> str:
    return variance(call, x, dim, int(unbiased), keepdim)


@aten("std.correction")
def std(call: Call, x: str, dim: Any = None, correction: Scalar | None = None, keepdim: bool = False) -> str:
    return call.emit("Sqrt", variance(call, x, dim, 1 if correction is None else correction, keepdim, "variance"))


@aten("std.dim", "std")
def std_dim(call: Call, x: str, dim: Any = None, unbiased: bool = True, keepdim: bool = False) -> str:
    return std(call, x, dim, int(unbiased), keepdim)


@aten("var_mean.correction")
def var_mean(call: Call, x: str, dim: Any = None, correction: Scalar | None = None, keepdim: bool = False) -> tuple[str, str]:
    return var(call, x, dim, correction, keepdim), _reduce(call, "ReduceMean", x, dim, keepdim, "average")


@aten("linalg_vector_norm")
def vector_norm(call: Call, x: str, ord: Scalar = 2, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> str:  # noqa: A002
    if ord not in (1, 2):
        raise call.refusal(f"is the {ord}-norm, and only the 1- and the 2-norm are supported; write it with powers and sums")
    return _reduce(call, f"ReduceL{int(ord)}", x, dim, keepdim)


@aten("cumsum")
def cumsum(call: Call, x: str, dim: int, dtype: Any = None) -> str:
    axis = call.constant(call.axis(x, dim), "int64", "axis")
    return call.emit("CumSum", call.operand(x), axis)


@aten("topk")
def topk(call: Call, x: str, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> tuple[str, str]:  # noqa: A002
    count = call.ints([k], "k")
    return call.emit("TopK", x, count, outputs=2, axis=call.axis(x, dim), largest=int(largest), sorted=1)


# -- softmax -------------------------------------------------------------------------------------------------------------------


@aten("softmax.int", "_softmax")
def softmax(call: Call, x: str, dim: int, dtype: Any = None) -> str:
    return call.emit("Softmax", call.operand(x), axis=call.axis(x, dim))


@aten("log_softmax.int", "_log_softmax")
def log_softmax(call: Call, x: str, dim: int, dtype: Any = None) -> str:
    return call.emit("LogSoftmax", call.operand(x), axis=call.axis(x, dim))
