"""One scale for what a Concat joins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from tapdot.compiler.graph import Graph, Node
from tapdot.compiler.operators.fused import parsed
from tapdot.kernels.expression import ACCUMULATOR, Apply, Leaf
from tapdot.passes.codes import Codes
from tapdot.passes.movement import POOLS, SAME_ON_CODES
from tapdot.passes.simulated import is_simulated, simulated_expression

WIDENING = 1.25
"""A third of a bit."""


def scale_of_reader(graph: Graph, node: Node, changed: Mapping[str, Node]) -> Codes | None:
    """What a Concat's only reader, perhaps changed, quantizes its result to, where it does only that."""
    readers = graph.consumers[node.output]
    if graph.uses(node.output) != 1 or not readers or readers[0].op != "Elementwise":
        return None
    expression = parsed(str(changed.get(readers[0].name, readers[0]).attributes["expression"]))
    if is_simulated(expression) and expression.arguments == (Leaf(ACCUMULATOR),):
        return Codes.of(dict(expression.attributes))
    return None


def common_codes(meanings: Sequence[Codes]) -> Codes:
    """Codes that hold all of them: of the widest, where one zero point does, else of the range they span together.

    Codes of 4 bits and fewer have large scales for their ranges; beside others they do not decide.
    """
    widest = max([codes for codes in meanings if codes.bits > 4] or meanings, key=lambda codes: codes.scale)
    if all((codes.zero_point, codes.dtype) == (widest.zero_point, widest.dtype) for codes in meanings):
        reaches = [end for codes in meanings for end in _reach(codes, widest)]
        joint, bounds = replace(widest, low=min(reaches), high=max(reaches)), np.iinfo(widest.dtype)
        if bounds.min <= joint.low and joint.high <= bounds.max:
            return joint
    least = min(codes.scale * (codes.low - codes.zero_point) for codes in meanings)
    greatest = max(codes.scale * (codes.high - codes.zero_point) for codes in meanings)
    bounds = np.iinfo(widest.dtype)
    scale = (max(greatest, 0.0) - min(least, 0.0)) / (bounds.max - bounds.min)
    zero_point = int(np.clip(np.rint(bounds.min - min(least, 0.0) / scale), bounds.min, bounds.max))
    return Codes(scale, zero_point, int(bounds.min), int(bounds.max), widest.dtype)


def _reach(codes: Codes, others: Codes) -> tuple[int, int]:
    """The lowest and highest of some codes, counted in others of the same zero point where these are finer."""
    step = max(codes.scale / others.scale, 1.0)
    low, high = (round(codes.zero_point + step * (end - codes.zero_point)) for end in (codes.low, codes.high))
    return low, high


def within_range(codes: Codes, range_of: Codes) -> Codes:
    """The codes, bounded to the reals that others span: where a zero point ends the range at zero, this is the ReLU."""
    ends = (range_of.scale * (end - range_of.zero_point) for end in (range_of.low, range_of.high))
    low, high = (int(codes.quantize(end)) for end in ends)
    return replace(codes, low=low, high=high)


def may_widen(own: Codes, codes: Codes) -> bool:
    """Whether a tensor that others read too may take the scale of a join: one little wider costs them less than a rescaling."""
    same = (own.zero_point, own.dtype) == (codes.zero_point, codes.dtype)
    return same and own.scale <= codes.scale <= WIDENING * own.scale


def with_shared_scales(graph: Graph) -> tuple[Graph, dict[str, Codes]]:
    """The graph in which what a Concat joins is produced at one scale (the contract), which saves a second rounding; and the
    codes that each Concat whose branches are known joins in.
    """
    targets: dict[str, Codes] = {}
    changed: dict[str, Node] = {}

    def known(value: str) -> Codes | None:
        node = graph.producer(value)
        if node is None:
            return None
        if (expression := simulated_expression(changed.get(node.name, node))) is not None:
            return Codes.of(dict(expression.attributes))
        if node.op == "Concat":
            return joint(node)
        return known(node.inputs[0]) if node.op in SAME_ON_CODES or node.op in POOLS else None

    def joint(node: Node) -> Codes | None:
        if node.name in targets:
            return targets[node.name]
        branches = [known(name) for name in node.inputs if name not in graph.constants]
        found = [codes for codes in branches if codes is not None]
        return scale_of_reader(graph, node, changed) or (common_codes(found) if found and len(found) == len(branches) else None)

    def assign(value: str, codes: Codes) -> None:
        node, own = graph.producer(value), known(value)
        if node is None or (graph.uses(value) != 1 and not (own is not None and may_widen(own, codes))):
            return
        if (expression := simulated_expression(node)) is not None:
            key = "expression" if node.op == "Elementwise" else "epilogue"
            kept = within_range(codes, Codes.of(dict(expression.attributes)))
            wanted = Apply("FakeQuantize", expression.arguments, tuple(sorted(kept.attributes.items())))
            changed[node.name] = node.with_attributes(**{key: str(wanted)})
        elif node.op in SAME_ON_CODES or node.op in POOLS:
            assign(node.inputs[0], codes)
        elif node.op == "Concat":
            targets[node.name] = codes

    for node in reversed(graph.nodes):  # a Concat that feeds another one learns its scale before its branches do
        if node.op == "Concat" and (wanted := joint(node)) is not None:
            targets[node.name] = wanted
            for name in node.inputs:
                assign(name, wanted)
    return graph.map_nodes(lambda node: changed.get(node.name, node)) if changed else graph, targets
