"""One way of writing each thing, so that later passes look for one form.

=====================================================  ====================================================================
before                                                  after
=====================================================  ====================================================================
``Gemm(a, B) {alpha, beta, transA, transB}``           ``Gemm(a, B')``, constants scaled and transposed
``MatMul(a, W)``, ``W [K, N]``                         ``Gemm(a, W)``; with leading axes between two reshapes
``Add(Gemm(a, W), bias [N])``, also after a reshape    ``Gemm(a, W, bias)``
``ReduceMean(x)`` over the positions                   ``GlobalAveragePool(x)``, and a reshape without ``keepdims``
``Squeeze``, ``Unsqueeze``, ``Reshape``, ``Flatten``   ``Flatten(x)`` where the result is ``[N, all the rest]``, else ``Reshape``
``Sum``, ``Mean``, ``Max``, ``Min`` of many            nodes of two operands
``Sub(x, c)``, ``Div(x, c)``                           ``Add(x, -c)``, ``Mul(x, 1/c)``
``Clip(x, 0)``, ``Max(x, 0)``                          ``Relu(x)``
``Clip(Add(x, 3), 0, 6) / 6``, and times ``x``         ``HardSigmoid(x)``, ``HardSwish(x)``
``Mul(x, Sigmoid-like 1/6, 1/2 of x)``                 ``HardSwish(x)``
``PRelu(x, slope of one element)``                     ``LeakyRelu(x)``
``Pow(x, 2)``, ``Pow(x, 0.5)``                         ``Mul(x, x)``, ``Sqrt(x)``
``CastLike(x, y)``                                     ``Cast(x)``
=====================================================  ====================================================================

Legal where
  1. operands that move into attributes or other constants are constants,
  2. types and shapes of results stay as they are,
  3. for Sub and Div: the constant is floating point, finite, and so is its inverse (an integer division rounds),
  4. for a matrix product: the constant is a matrix; a bias has one number a column.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from tapdot.compiler.graph import Graph
from tapdot.compiler.operators.shapes import ONNX_DTYPES
from tapdot.compiler.pipeline import Notes, Pass
from tapdot.compiler.rewrite import Application, Editor, Value, constant, op, optional, rest, rewrite, rule, values
from tapdot.passes.constants import as_channels, is_finite, scalar


@dataclass(frozen=True)
class Canonicalize(Pass):
    """See the module."""

    tolerance = 1e-5

    def run(self, graph: Graph, notes: Notes) -> Graph:
        return rewrite(graph, PRODUCTS + SHAPES + ARITHMETIC + ACTIVATIONS)


# -- matrix products ---------------------------------------------------------------------------------------------------------


def plain_gemm(new: Editor, a: Value, w: Value, c: Value | None, root: Application) -> Value | None:
    """Gemm with attributes."""
    assert w.array is not None
    plain = (root.alpha, root.beta, root.transA, root.transB) == (1, 1, 0, 0)
    if plain and not root.given:
        return None
    matrix = transposed(w.array) if root.transB else w.array
    if root.alpha != 1:
        matrix = matrix * np.asarray(root.alpha, w.dtype)
    quant = w.type.quant if root.alpha == 1 else None
    if quant is not None and root.transB:
        quant = quant.transposed((1, 0))
    weights = w if matrix is w.array else new.constant(matrix, w.name, quant)
    if c is not None and root.beta != 1:
        scale = np.asarray(root.beta, c.dtype)
        c = new.constant(c.array * scale, c.name) if c.array is not None else new.Mul(c, scale)
    rows = new.Transpose(a, perm=(1, 0)) if root.transA else a
    return new.Gemm(rows, weights, c)


def transposed(matrix: np.ndarray) -> np.ndarray:
    """The transpose in row-major order; torch copies it in blocks, ten times as fast as numpy."""
    return torch.from_numpy(matrix).T.contiguous().numpy()


def matmul_to_gemm(new: Editor, a: Value, w: Value, root: Application) -> Value | None:
    """MatMul with a constant matrix."""
    if w.rank != 2 or a.rank < 2 or not w.dtype.startswith("float"):  # (4)
        return None
    if a.rank == 2:
        return new.Gemm(a, w)
    rows = reshape(new, a, (math.prod(a.shape[:-1]), a.shape[-1]))
    return reshape(new, new.Gemm(rows, w), root.result.shape)


def bias_into_gemm(new: Editor, gemm: Application, a: Value, w: Value, bias: Value, root: Application) -> Value | None:
    """Add(Gemm(a, w), bias)."""
    assert bias.array is not None
    plain = (gemm.alpha, gemm.transA, gemm.transB) == (1, 0, 0)
    vector = as_channels(bias.array, gemm.result.shape)
    if not plain or vector is None or root.result.shape != gemm.result.shape:  # (2), (4)
        return None
    return new.Gemm(a, w, new.constant(vector, bias.name), name=gemm.name)


def bias_before_reshape(new: Editor, rows: Application, bias: Value, root: Application) -> Value | None:
    """Add(Reshape(Gemm(a, w)), bias) where the reshape keeps columns whole."""
    assert bias.array is not None
    gemm, result = rows.operands[0], rows.result
    assert gemm is not None
    columns = gemm.shape[1]
    if result.shape[-1:] != (columns,) or bias.array.size != columns or bias.shape[-1:] != (columns,):  # (4)
        return None
    if root.result.shape != result.shape:  # (2)
        return None
    return reshape(new, new.Add(gemm, bias.array.reshape(columns)), result.shape)


# -- shapes ------------------------------------------------------------------------------------------------------------------


def reshape(new: Editor, x: Value, shape: tuple[int, ...]) -> Value:
    """The canonical node that only changes the shape."""
    if x.rank > 2 and shape == (x.shape[0], math.prod(x.shape[1:])):
        return new.Flatten(x, axis=1)
    target = new.constant(np.asarray(shape, np.int64), "shape")
    return new.Reshape(x, target, allowzero=1 if 0 in shape else None)


def plain_reshape(new: Editor, x: Value, root: Application) -> Value | None:
    """Squeeze, Unsqueeze, Reshape, Flatten."""
    shape = root.result.shape
    flat = x.rank > 2 and shape == (x.shape[0], math.prod(x.shape[1:]))
    if root.op == "Flatten" and flat and dict(root.given) == {"axis": 1}:
        return None
    if root.op == "Reshape" and not flat and not (root.allowzero and 0 not in shape):
        target = root.operands[1]
        assert target is not None and target.array is not None
        if tuple(target.array.reshape(-1)) == shape:
            return None
    return reshape(new, x, shape)


def mean_to_pool(new: Editor, x: Value, axes: Value | None, root: Application) -> Value | None:
    """ReduceMean over all positions."""
    along = [] if axes is None or axes.array is None else [int(axis) % x.rank for axis in axes.array.reshape(-1)]
    if x.rank < 3 or sorted(along) != list(range(2, x.rank)) or x.dtype != "float32":
        return None
    pooled = new.GlobalAveragePool(x)
    return pooled if root.keepdims else reshape(new, pooled, root.result.shape)


# -- arithmetic --------------------------------------------------------------------------------------------------------------


def by_two(new: Editor, xs: tuple[Value, ...], root: Application) -> Value | None:
    """Sum, Mean, Max, Min of any number of operands."""
    if root.op in ("Max", "Min") and len(xs) == 2:
        return None
    combine = {"Sum": new.Add, "Mean": new.Add, "Max": new.Max, "Min": new.Min}[root.op]
    result = xs[0]
    for other in xs[1:]:
        result = combine(result, other)
    if root.op == "Mean" and len(xs) > 1:
        result = new.Mul(result, np.asarray(1 / len(xs), result.dtype))
    return result


def sub_to_add(new: Editor, x: Value, c: Value) -> Value | None:
    """Sub(x, c)."""
    assert c.array is not None
    if not c.dtype.startswith("float") or not is_finite(c.array):  # (3)
        return None
    return new.Add(x, new.constant(-c.array, c.name))


def div_to_mul(new: Editor, x: Value, c: Value) -> Value | None:
    """Div(x, c)."""
    assert c.array is not None
    if not c.dtype.startswith("float"):  # (3)
        return None
    with np.errstate(all="ignore"):
        inverse = (1 / c.array.astype(np.float64)).astype(c.dtype)
    if not is_finite(c.array, inverse) or not inverse.all():  # (3)
        return None
    return new.Mul(x, new.constant(inverse, c.name))


def plain_power(new: Editor, x: Value, exponent: Value, root: Application) -> Value | None:
    """Pow by 2, 1 or 0.5."""
    if not x.dtype.startswith("float") or x.shape != root.result.shape:
        return None
    match scalar(exponent):
        case 2.0:
            return new.Mul(x, x)
        case 1.0:
            return x
        case 0.5:
            return new.Sqrt(x)
    return None


# -- activations -------------------------------------------------------------------------------------------------------------


def clip_to_relu(new: Editor, x: Value, low: Value | None, high: Value | None) -> Value | None:
    """Clip without an upper bound at zero, or without bounds at all."""
    if not x.dtype.startswith("float"):
        return None
    lower, upper = -math.inf if low is None else scalar(low), math.inf if high is None else scalar(high)
    if upper is None or upper < np.finfo(x.dtype).max or lower is None:
        return None
    if lower == 0:
        return new.Relu(x)
    return x if lower <= np.finfo(x.dtype).min else None


def max_to_relu(new: Editor, x: Value, root: Application) -> Value | None:
    """Max(x, 0)."""
    return new.Relu(x) if x.dtype.startswith("float") and x.shape == root.result.shape else None


def hard_sigmoid(new: Editor, x: Value, root: Application) -> Value | None:
    """Div(Clip(Add(x, 3), 0, 6), 6)."""
    return new.HardSigmoid(x, alpha=1 / 6, beta=0.5) if x.shape == root.result.shape else None


def hard_swish(new: Editor, x: Value, root: Application) -> Value | None:
    """x * Clip(x + 3, 0, 6) / 6."""
    return new.HardSwish(x) if x.shape == root.result.shape else None


def gated_hard_swish(new: Editor, x: Value, gate: Application) -> Value | None:
    """x * HardSigmoid(x, 1/6, 1/2)."""
    return new.HardSwish(x) if math.isclose(gate.alpha, 1 / 6, rel_tol=1e-6) and gate.beta == 0.5 else None


def leaky_relu(new: Editor, x: Value, slope: Value, root: Application) -> Value | None:
    """PRelu with one slope."""
    alpha = scalar(slope)
    return None if alpha is None or x.shape != root.result.shape else new.LeakyRelu(x, alpha=alpha)


def plain_cast(new: Editor, x: Value, root: Application) -> Value:
    """CastLike."""
    number = {name: number for number, name in ONNX_DTYPES.items()}[root.result.dtype]
    return new.Cast(x, to=number)


# -- the rows ----------------------------------------------------------------------------------------------------------------

x, a = values("x a")
w, c = constant("w"), constant("c")
three_to_nine = op.Clip(op.Add(x, 3.0), 0.0, 6.0)

PRODUCTS = (
    rule(op.Gemm(a, w, optional(values("c"))), plain_gemm),
    rule(op.MatMul(a, w), matmul_to_gemm),
    rule(op.Add(op.Gemm(a, w).named("gemm"), constant("bias")), bias_into_gemm),
    rule(op.Add(op.Reshape(op.Gemm(a, w), constant("shape")).named("rows"), constant("bias")), bias_before_reshape),
)

SHAPES = (
    rule(op["Reshape", "Squeeze", "Unsqueeze", "Flatten"](x, optional(constant("shape"))), plain_reshape),
    rule(op.ReduceMean(x, optional(constant("axes"))), mean_to_pool),
    rule(op.CastLike(x, values("like")), plain_cast),
)

ARITHMETIC = (
    rule(op["Sum", "Mean", "Max", "Min"](rest("xs")), by_two),
    rule(op.Div(three_to_nine, 6.0), hard_sigmoid),
    rule(op.Div(op.Mul(x, three_to_nine), 6.0), hard_swish),
    rule(op.Mul(x, op.HardSigmoid(x).named("gate")), gated_hard_swish),
    rule(op.Sub(x, c), sub_to_add),
    rule(op.Div(x, c), div_to_mul),
    rule(op.Pow(x, constant("exponent")), plain_power),
)

ACTIVATIONS = (
    rule(op.Clip(x, optional(constant("low")), optional(constant("high"))), clip_to_relu),
    rule(op.Max(x, 0.0), max_to_relu),
    rule(op.PRelu(x, constant("slope")), leaky_relu),
)
