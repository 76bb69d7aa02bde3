"""Windows of convolutions and pools in one explicit form.

Before::

    %a = Conv(%x, %w) {auto_pad="SAME_UPPER" strides=(2, 2)}
    %b = MaxPool(%a) {kernel_shape=(3, 3) strides=(2, 2) ceil_mode=1}
    %c = AveragePool(%b) {kernel_shape=(7, 7)}                      # over a 7x7 plane

After::

    %a = Conv(%x, %w) {dilations=(1, 1) group=1 pads=(0, 0, 1, 1) strides=(2, 2)}
    %b = MaxPool(%a) {dilations=(1, 1) kernel_shape=(3, 3) pads=(0, 0, 1, 1) strides=(2, 2)}
    %c = GlobalAveragePool(%b)

Legal where
  1. the shapes are known, so that ``auto_pad`` means one set of numbers,
  2. for ``ceil_mode``: the window that hangs over reads only what would not count anyway, which holds for a max pool (padding
     never wins) and for an average pool that does not count its padding; otherwise ``ceil_mode`` stays,
  3. for a global pool: the one window covers the plane exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tapdot.compiler.graph import Graph, Node
from tapdot.compiler.operators.geometry import Window, window
from tapdot.compiler.pipeline import Notes, Pass, Property
from tapdot.compiler.rewrite import Application, Editor, Value, op, rest, rewrite, rule, values

WINDOWED = ("Conv", "MaxPool", "AveragePool", "LpPool")


def is_explicit(node: Node) -> bool:
    """Whether nothing about the window is left to defaults."""
    needed = {"strides", "pads", "dilations"} - ({"dilations"} if node.op == "AveragePool" else set())
    return needed <= set(node.attributes) and "auto_pad" not in node.attributes


def _implicit(graph: Graph) -> str | None:
    loose = (node for node in graph.nodes if node.op in WINDOWED and not is_explicit(node))
    return next((f"node {node.name!r} leaves its window to defaults" for node in loose), None)


EXPLICIT_WINDOWS = Property("explicit windows", _implicit)


@dataclass(frozen=True)
class ResolveWindows(Pass):
    """See the module."""

    ensures = (EXPLICIT_WINDOWS,)
    tolerance = 1e-5

    def run(self, graph: Graph, notes: Notes) -> Graph:
        return rewrite(graph, RULES)


def resolved(node: Application) -> Window:
    """The window of a convolution or pool."""
    x = node.operands[0]
    assert x is not None
    if node.op == "Conv":
        filters = node.operands[1]
        assert filters is not None
        kernel = filters.shape[2:]
    else:
        kernel = node.kernel_shape
    dilations = None if node.op == "AveragePool" else node.dilations
    return window(x.shape[2:], kernel, node.strides, dilations, node.pads, node.auto_pad)


def explicit_convolution(new: Editor, operands: tuple[Value | None, ...], root: Application) -> Value | None:
    """Conv."""
    over = resolved(root)  # (1)
    attributes = {"strides": over.strides, "pads": over.pads, "dilations": over.dilations, "group": root.group}
    return None if dict(root.given) == attributes else new.Conv(*operands, **attributes)


def explicit_pool(new: Editor, x: Value, root: Application) -> Value | None:
    """MaxPool, AveragePool, LpPool."""
    over = resolved(root)  # (1)
    attributes: dict[str, Any] = {
        "kernel_shape": over.kernel,
        "strides": over.strides,
        "pads": over.pads,
        "dilations": over.dilations,
    }
    counts_padding = False
    if root.op == "AveragePool":
        del attributes["dilations"]
        counts_padding = bool(root.count_include_pad) and any(over.pads)
        if counts_padding:
            attributes["count_include_pad"] = 1
    if root.op == "LpPool":
        attributes["p"] = root.p
    if root.ceil_mode:
        overhang = _overhang(over, x.shape[2:], root.result.shape[2:])
        if not any(overhang):
            pass
        elif counts_padding:  # (2)
            attributes["ceil_mode"] = 1
        else:
            attributes["pads"] = over.begin + tuple(end + beyond for end, beyond in zip(over.end, overhang, strict=True))
    return None if dict(root.given) == attributes else new.add(root.op, [x], attributes)


def _overhang(over: Window, spatial: tuple[int, ...], output: tuple[int, ...]) -> tuple[int, ...]:
    """Positions beyond the end padding that the last windows reach."""
    return tuple(
        max((steps - 1) * stride + extent - (begin + size + end), 0)
        for steps, stride, extent, begin, size, end in zip(
            output, over.strides, over.extents, over.begin, spatial, over.end, strict=True
        )
    )


def global_pool(new: Editor, x: Value, root: Application) -> Value | None:
    """A pool whose only window is the plane."""
    over = resolved(root)
    if over.extents != x.shape[2:] or over.kernel != x.shape[2:] or any(over.pads):  # (3)
        return None
    return new.add("Global" + root.op, [x], {})


x = values("x")

RULES = (
    rule(op["MaxPool", "AveragePool"](x), global_pool),
    rule(op["MaxPool", "AveragePool", "LpPool"](x), explicit_pool),
    rule(op.Conv(rest("operands")), explicit_convolution),
)
