"""How far integers are from the floats they stand for: which layer lost the accuracy.

For every tensor of codes, over samples, against the value of the same name in the float graph::

    SQNR = 10 log10( sum x^2 / sum (x - scale * (code - zero_point))^2 )    in dB

Six decibels are a bit. Values keep their names through the passes; the codes of an input, and of a value that the graph also
gives out as floats, are ``NAME.codes``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tapdot.compiler.graph import Graph, Node
from tapdot.compiler.interpreter import interpret
from tapdot.compiler.operators.fused import parsed
from tapdot.passes.samples import feeds
from tapdot.passes.simulated import without_simulation

SUFFIX = ".codes"


@dataclass(frozen=True)
class Gap:
    """One tensor of codes."""

    value: str
    node: str
    """The node that makes it."""
    op: str
    decibels: float
    """Its SQNR; infinite where it is exact."""


def numeric_gap(reference: Graph, integer: Graph, data: object, samples: int | None = 8) -> tuple[Gap, ...]:
    """The gap of every tensor of codes that the reference has too, worst first.

    ``reference`` is the float graph, before or after fusing; what it simulates of codes is left out. Both take the same inputs.
    ``data`` is anything that ``passes.samples`` reads.
    """
    reference = in_plain_floats(reference)
    pairs = matched(reference, integer)
    signal, noise = dict.fromkeys(pairs, 0.0), dict.fromkeys(pairs, 0.0)
    with torch.inference_mode():
        for feed in feeds(reference, data, samples):
            expected = interpret(reference, feed.inputs, keep=list(dict.fromkeys(pairs.values())))

            def compare(name: str, value: Tensor) -> None:
                quant = integer.type(name).quant if name in pairs else None
                if quant is None:
                    return
                exact = feed.rows(expected[pairs[name]]).double()  # noqa: B023 called within this round only
                found = (feed.rows(value).double() - quant.zero_point[0]) * quant.scale[0]  # noqa: B023
                signal[name] += float(exact.square().sum())
                noise[name] += float((exact - found).square().sum())

            interpret(integer, feed.inputs, observe=compare)
    gaps = []
    for name in pairs:
        node = integer.producers[name]
        gaps.append(Gap(name, node.name, node.op, _decibels(signal[name], noise[name])))
    return tuple(sorted(gaps, key=lambda gap: gap.decibels))


def _decibels(signal: float, noise: float) -> float:
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0 else -math.inf


def matched(reference: Graph, integer: Graph) -> dict[str, str]:
    """The reference's value for each tensor of codes that is computed, where there is one."""
    pairs = {}
    for node in integer.nodes:
        for name in node.outputs:
            if not name or integer.type(name).quant is None:
                continue
            for other in (name, name.removesuffix(SUFFIX)):
                kind = reference.types.get(other)
                if kind is not None and kind.shape == integer.type(name).shape and kind.dtype == "float32":
                    pairs[name] = other
                    break
    return pairs


def in_plain_floats(graph: Graph) -> Graph:
    """The graph without any FakeQuantize; names and shapes stay."""

    def plain(node: Node) -> Node:
        if node.op == "FakeQuantize":
            return replace(node, op="Identity", attributes={})
        texts = {key: node.attributes[key] for key in ("epilogue", "expression") if key in node.attributes}
        return node.with_attributes(**{key: str(without_simulation(parsed(str(text)))) for key, text in texts.items()})

    return graph.map_nodes(plain)
