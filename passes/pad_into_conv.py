"""A border of zeros goes into the convolution or pool that reads it.

Before::

    %p = Pad(%x, (0, 0, 1, 1, 0, 0, 2, 2))
    %y = Conv(%p, %w) {pads=(0, 0, 0, 0) strides=(2, 2) ...}

After::

    %y = Conv(%x, %w) {pads=(1, 1, 2, 2) strides=(2, 2) ...}

Legal where
  1. the border is constant, on spatial axes only, and cuts nothing off,
  2. into a convolution: the border is zero,
  3. into an average pool: the border is zero and counts, so the pool has no padding of its own that does not,
  4. into a max pool, whose padding never wins: the border is minus infinity (or the type's lowest number), or it is zero, no
     element is negative, and every window holds an element,
  5. a pool does not round its size up: whether it has a last window depends on where its own padding begins.

Others may go on reading the padded value; then the Pad stays for them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tapdot.compiler.graph import Graph
from tapdot.compiler.operators.movement import normal_axes, static_ints
from tapdot.compiler.pipeline import Notes, Pass
from tapdot.compiler.rewrite import Application, Editor, Value, constant, op, optional, rewrite, rule, values
from tapdot.passes.constants import scalar
from tapdot.passes.resolve_windows import EXPLICIT_WINDOWS

NEVER_NEGATIVE = frozenset({"Relu", "Sigmoid", "HardSigmoid", "Softplus", "Exp", "Abs", "Sqrt", "Softmax", "ReduceL2"})
"""Operators whose results are at least zero."""

KEEPS_SIGN = frozenset({"MaxPool", "AveragePool", "GlobalAveragePool", "Concat", "Identity", "Add", "Mul", "Reshape"})
"""Operators whose results are at least zero where all operands are."""


@dataclass(frozen=True)
class PadIntoConv(Pass):
    """See the module."""

    requires = (EXPLICIT_WINDOWS,)
    tolerance = 1e-5

    def run(self, graph: Graph, notes: Notes) -> Graph:
        return rewrite(graph, RULES)


@dataclass(frozen=True)
class Border:
    """What a Pad adds on spatial axes, in ONNX's order, and of which value."""

    pads: tuple[int, ...]
    value: float


def border(pad: Application) -> Border | None:
    """The border of a Pad under criterion 1."""
    x, pads, value, axes = (*pad.operands, None, None)[:4]
    assert x is not None and pads is not None and pads.array is not None
    along = normal_axes(static_ints(axes.array), x.rank) if axes and axes.array is not None else list(range(x.rank))
    amounts = static_ints(pads.array)
    begin, end = np.zeros(x.rank, int), np.zeros(x.rank, int)
    begin[along], end[along] = amounts[: len(along)], amounts[len(along) :]
    fill = 0.0 if value is None else scalar(value)
    if fill is None or begin[:2].any() or end[:2].any() or min(begin.min(), end.min()) < 0:
        return None
    return Border((*begin[2:].tolist(), *end[2:].tolist()), fill)


def _sum(left: tuple[int, ...], right: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(a + b for a, b in zip(left, right, strict=True))


def into_convolution(new: Editor, x: Value, w: Value, b: Value | None, pad: Application, root: Application) -> Value | None:
    """Conv(Pad(x), w, b)."""
    around = border(pad)  # (1)
    if around is None or around.value != 0:  # (2)
        return None
    return new.add("Conv", [x, w, b], {**root.given, "pads": _sum(root.pads, around.pads)})


def into_average_pool(new: Editor, x: Value, pad: Application, root: Application) -> Value | None:
    """AveragePool(Pad(x))."""
    around = border(pad)  # (1)
    if around is None or around.value != 0 or (any(root.pads) and not root.count_include_pad):  # (3)
        return None
    if root.ceil_mode:  # (5)
        return None
    return new.add("AveragePool", [x], {**root.given, "pads": _sum(root.pads, around.pads), "count_include_pad": 1})


def into_max_pool(new: Editor, x: Value, pad: Application, root: Application) -> Value | None:
    """MaxPool(Pad(x))."""
    around = border(pad)  # (1)
    if around is None or root.ceil_mode or not x.dtype.startswith("float"):  # (5)
        return None
    pads = _sum(root.pads, around.pads)
    never_wins = around.value <= np.finfo(x.dtype).min
    if not never_wins and not (around.value == 0 and is_never_negative(new, x) and _reach_inside(root, pads)):  # (4)
        return None
    return new.add("MaxPool", [x], {**root.given, "pads": pads})


def _reach_inside(pool: Application, pads: tuple[int, ...]) -> bool:
    """Whether no window lies in the padding alone: it is narrower than the kernel, and taps are next to each other."""
    kernel = tuple(pool.kernel_shape)
    return all(dilation == 1 for dilation in pool.dilations) and all(
        side < size for side, size in zip(pads, kernel * 2, strict=True)
    )


def is_never_negative(editor: Editor, value: Value, depth: int = 8) -> bool:
    """Whether the nodes that make a value show that no element is below zero."""
    if value.array is not None:
        return bool((value.array >= 0).all())
    node = editor.producer(value)
    if node is None or not depth:
        return False
    if node.op in NEVER_NEGATIVE:
        return True
    if node.op == "Clip":
        low = node.operands[1] if len(node.operands) > 1 else None
        bound = scalar(low)
        return bound is not None and bound >= 0
    if node.op in KEEPS_SIGN:
        return all(operand is None or is_never_negative(editor, operand, depth - 1) for operand in _data(node))
    return False


def _data(node: Application) -> tuple[Value | None, ...]:
    return node.operands[:1] if node.op == "Reshape" else node.operands


x, w = values("x w")
pad = op.Pad(x, constant("pads"), optional(constant("value")), optional(constant("axes")), mode="constant").named("pad").shared()

RULES = (
    rule(op.Conv(pad, w, optional(values("b"))), into_convolution),
    rule(op.AveragePool(pad), into_average_pool),
    rule(op.MaxPool(pad), into_max_pool),
)
