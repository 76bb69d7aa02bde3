"""Batch norms, and other scales and shifts by channel, go into the weights of the producer.

Before::

    %c = Conv(%x, %w, %b)
    %n = BatchNormalization(%c, %scale, %shift, %mean, %var) {epsilon=1e-05}

After::

    %n = Conv(%x, %w_folded, %b_folded)

At inference a batch norm is affine in each channel (Ioffe and Szegedy, "Batch Normalization", ICML 2015, algorithm 2)::

    y = gamma * (x - mean) / sqrt(var + epsilon) + beta

and so is the producer, hence with ``factor = gamma / sqrt(var + epsilon)``::

    w_folded[c] = factor[c] * w[c]        b_folded[c] = factor[c] * (b[c] - mean[c]) + beta[c]

computed in float64 and rounded once. ``Mul`` and ``Add`` by a constant vector of channels are the cases ``(factor, 0)`` and
``(1, shift)``. A batch norm that has no producer to go into becomes a Mul and an Add, and chains of these become one of each,
which later fuse with their neighbours.

Legal where
  1. the producer is a convolution, transposed convolution or matrix product with constant weights and bias,
  2. nobody else reads the producer's result,
  3. factor and shift are constants, one number a channel, in the producer's element type,
  4. the folded numbers are finite.

This pass comes late: calibration and distillation without data need the statistics that it dissolves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tapdot.compiler.graph import Graph
from tapdot.compiler.pipeline import Notes, Pass, Property
from tapdot.compiler.rewrite import Application, Editor, Value, constant, op, optional, rewrite, rule, values
from tapdot.passes.constants import as_channels, channel_shape, is_finite

CHANNEL_AXIS = {"Conv": 0, "ConvTranspose": 1, "Gemm": 1}
"""The axis of the weights that runs over output channels (of one group, for ConvTranspose)."""


def _no_batch_norm(graph: Graph) -> str | None:
    return next((f"node {node.name!r} is a batch norm" for node in graph.nodes if node.op == "BatchNormalization"), None)


NO_BATCH_NORM = Property("a graph without batch norms", _no_batch_norm)


@dataclass(frozen=True)
class FoldBatchNorm(Pass):
    """See the module."""

    ensures = (NO_BATCH_NORM,)

    def run(self, graph: Graph, notes: Notes) -> Graph:
        folded = rewrite(graph, INTO_PRODUCER)
        left = [node.name for node in folded.nodes if node.op == "BatchNormalization"]
        if left:
            names = ", ".join(left[:3]) + (", ..." if len(left) > 3 else "")
            notes.add(f"{len(left)} batch norms ({names}) have no producer to fold into and became a Mul and an Add each.")
        return rewrite(folded, STAND_ALONE)


def statistics(norm: Application) -> tuple[np.ndarray, np.ndarray] | None:
    """Factor and shift of a batch norm in float64, each ``[C]``; None where they are computed at run time."""
    gamma, beta, mean, variance = (None if operand is None else operand.array for operand in norm.operands[1:5])
    if gamma is None or beta is None or mean is None or variance is None:  # (3)
        return None
    with np.errstate(all="ignore"):
        factor = gamma.astype(np.float64) / np.sqrt(variance.astype(np.float64) + norm.epsilon)
        return factor, beta - factor * mean.astype(np.float64)


def fold_norm(new: Editor, producer: Application, root: Application) -> Value | None:
    """BatchNormalization(producer)."""
    affine = statistics(root)
    return fold_affine(new, producer, *affine) if affine else None


def fold_scale(new: Editor, producer: Application, factor: Value, root: Application) -> Value | None:
    """Mul(producer, factor)."""
    channels = _channels(factor, producer, root)
    return None if channels is None else fold_affine(new, producer, channels, np.zeros_like(channels))


def fold_shift(new: Editor, producer: Application, shift: Value, root: Application) -> Value | None:
    """Add(producer, shift)."""
    channels = _channels(shift, producer, root)
    return None if channels is None else fold_affine(new, producer, np.ones_like(channels), channels)


def _channels(value: Value, producer: Application, root: Application) -> np.ndarray | None:
    assert value.array is not None
    if root.result.shape != producer.result.shape:
        return None
    channels = as_channels(value.array, producer.result.shape)  # (3)
    return None if channels is None else channels.astype(np.float64)


def fold_affine(new: Editor, producer: Application, factor: np.ndarray, shift: np.ndarray) -> Value | None:
    """The producer with ``factor * result + shift`` moved into its weights and bias."""
    x, w, b = (*producer.operands, None)[:3]
    assert x is not None and w is not None and w.array is not None
    bias = np.zeros(1) if b is None else _bias(b, producer)
    if bias is None:  # (1)
        return None
    if producer.op == "Gemm" and (producer.alpha, producer.beta, producer.transA, producer.transB) != (1, 1, 0, 0):  # (1)
        return None
    with np.errstate(all="ignore"):
        weights = (w.array * _along_channels(factor, producer, w.rank)).astype(w.dtype)
        folded = (factor * bias + shift).astype(w.dtype)
    if not is_finite(weights, folded):  # (4)
        return None
    return new.add(
        producer.op,
        (x, new.constant(weights, w.name), new.constant(folded, b.name if b else f"{producer.name}.bias")),
        producer.given,
        name=producer.name,
    )


def _bias(b: Value, producer: Application) -> np.ndarray | None:
    """The producer's bias as ``[C]``."""
    if b.array is None:
        return None
    return b.array if producer.op != "Gemm" else as_channels(b.array, producer.result.shape)


def _along_channels(factor: np.ndarray, producer: Application, rank: int) -> np.ndarray:
    """The factor shaped to multiply the weights."""
    if producer.op == "ConvTranspose" and producer.group > 1:
        # w: [C, M / group, *kernel]; the input channels of group g make the output channels of group g.
        inputs = producer.operands[1].shape[0]  # type: ignore[union-attr]
        by_group = np.repeat(factor.reshape(producer.group, -1), inputs // producer.group, axis=0)
        return by_group.reshape(*by_group.shape, *(1,) * (rank - 2))
    axis = CHANNEL_AXIS[producer.op]
    return factor.reshape((1,) * axis + (-1,) + (1,) * (rank - axis - 1))


def expand_norm(new: Editor, x: Value, root: Application) -> Value:
    """A batch norm alone becomes ``x * factor + shift``."""
    affine = statistics(root)
    shape = channel_shape(root.operands[1].shape[0], x.rank)  # type: ignore[union-attr]
    if affine is None:
        gamma, beta, mean, variance = root.operands[1:5]
        deviation = new.Sqrt(new.Add(variance, np.asarray(root.epsilon, x.dtype)))
        factor = new.Div(gamma, deviation)
        shift = new.Sub(beta, new.Mul(factor, mean))
        target = np.asarray(shape, np.int64)
        scaled = new.Mul(x, new.Reshape(factor, target))
        return new.Add(scaled, new.Reshape(shift, target))
    factor, shift = (array.astype(x.dtype).reshape(shape) for array in affine)
    scaled = new.Mul(x, new.constant(factor, f"{root.name}.factor"))
    return new.Add(scaled, new.constant(shift, f"{root.name}.shift"))


def one_constant(new: Editor, x: Value, first: Value, second: Value, root: Application) -> Value | None:
    """``Mul(Mul(x, first), second)``, ``Add(Add(x, first), second)``."""
    combine = np.multiply if root.op == "Mul" else np.add
    return _if_finite(new, root, x, combine(*_wide(first, second)), lambda constant: new.add(root.op, [x, constant], {}))


def scale_first(new: Editor, x: Value, shift: Value, factor: Value, root: Application) -> Value | None:
    """``Mul(Add(x, shift), factor)`` becomes ``Add(Mul(x, factor), shift * factor)``."""
    product = np.multiply(*_wide(shift, factor))
    return _if_finite(new, root, x, product, lambda constant: new.Add(new.Mul(x, factor), constant))


def _wide(*constants: Value) -> tuple[np.ndarray, ...]:
    return tuple(constant.array.astype(np.float64) for constant in constants if constant.array is not None)


def _if_finite(new: Editor, root: Application, x: Value, array: np.ndarray, build: Callable[[Value], Value]) -> Value | None:
    """Builds with a constant, unless it is not finite (4) or the nodes broadcast ``x``."""
    rounded = array.astype(x.dtype)
    if not x.dtype.startswith("float") or x.shape != root.result.shape or not is_finite(rounded):
        return None
    return build(new.constant(rounded, f"{root.name}.constant"))


x = values("x")
# (1) by operator and constant weights; (2) by matching inner nodes with a single reader.
producer = op["Conv", "ConvTranspose", "Gemm"](x, constant("w"), optional(constant("b"))).named("producer")

INTO_PRODUCER = (
    rule(op.BatchNormalization(producer, *values("gamma beta mean variance")), fold_norm),
    rule(op.Mul(producer, constant("factor")), fold_scale),
    rule(op.Add(producer, constant("shift")), fold_shift),
)

STAND_ALONE = (
    rule(op.BatchNormalization(x, *values("gamma beta mean variance")), expand_norm),
    rule(op.Mul(op.Mul(x, constant("first")), constant("second")), one_constant),
    rule(op.Add(op.Add(x, constant("first")), constant("second")), one_constant),
    rule(op.Mul(op.Add(x, constant("shift")), constant("factor")), scale_first),
)
