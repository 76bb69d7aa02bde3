"""Who computes in which precision: operators on codes, islands left in float and why, every conversion, and bytes.

A graph is an integer one where some node reads codes. In it, a float node belongs to an *island*: float nodes that feed each
other, up to where their values become codes or leave the network.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import networkx

from tapdot.compiler.costs import node_macs
from tapdot.compiler.coverage import AFTER, BEFORE, BETWEEN, COPIES, EDGES, FLOAT, INTEGER, Conversion, Coverage, Island
from tapdot.compiler.graph import Graph, Node
from tapdot.compiler.workloads import VIEWS
from tapdot.kernels.layout import CODES

NO_REASON = "no pass says why"


def coverage(graph: Graph, reasons: Mapping[str, str] | None = None) -> Coverage:
    """Sorts the nodes of a graph by precision; views, conversions and copies count as neither.

    ``reasons`` says why nodes stayed float, by name, as the passes noted it.
    """
    operators: dict[str, Counter[str]] = {INTEGER: Counter(), FLOAT: Counter()}
    macs: Counter[str] = Counter()
    for node in graph.nodes:
        if (kind := precision(graph, node)) is not None:
            operators[kind][node.op] += 1
            macs[kind] += node_macs(graph, node)
    computed = [graph.type(name) for node in graph.nodes if node.op not in VIEWS for name in node.outputs if name]
    return Coverage(
        {kind: dict(found.most_common()) for kind, found in operators.items() if found},
        _islands(graph, reasons or {}) if operators[INTEGER] else (),
        tuple(_conversions(graph)),
        {kind: count for kind, count in macs.items() if count},
        _by_dtype((array.dtype.name, array.nbytes) for array in graph.constants.values()),
        _by_dtype((kind.dtype, kind.bytes) for kind in computed),
    )


def precision(graph: Graph, node: Node) -> str | None:
    """``integer`` where a node reads codes, ``float`` where it reads floats; None for views, conversions and bookkeeping."""
    if node.op in VIEWS or node.op in EDGES or node.op in COPIES:
        return None
    kinds = _read(graph, node)
    if CODES & kinds:
        return INTEGER
    return FLOAT if any(_is_float(kind) for kind in kinds) else None


def _read(graph: Graph, node: Node) -> set[str]:
    """Element types of the operands that are computed."""
    return {graph.type(name).dtype for name in node.inputs if name and name not in graph.constants}


def _is_float(dtype: str) -> bool:
    return dtype.startswith("float")


def _conversions(graph: Graph) -> Iterable[Conversion]:
    for node in graph.nodes:
        results = [graph.type(name) for name in node.outputs if name]
        ends_in_floats = precision(graph, node) == INTEGER and any(_is_float(kind.dtype) for kind in results)
        if node.op not in EDGES | COPIES and not ends_in_floats:
            continue
        reads = sorted(_read(graph, node))
        yield Conversion(node.name, node.op, (reads[0] if reads else "", results[0].dtype), sum(kind.bytes for kind in results))


def _islands(graph: Graph, reasons: Mapping[str, str]) -> tuple[Island, ...]:
    """Groups of float nodes that floats connect, also through views and copies; each begins at its first node."""
    together = networkx.Graph()
    for node in graph.nodes:
        if node.op in EDGES or precision(graph, node) == INTEGER:
            continue
        together.add_node(node.name)
        for name in node.inputs:
            producer = graph.producer(name) if name else None
            if producer is not None and _is_float(graph.type(name).dtype) and producer.name in together:
                together.add_edge(producer.name, node.name)
    order = {node.name: place for place, node in enumerate(graph.nodes)}
    islands = []
    for group in networkx.connected_components(together):
        nodes = [node for node in graph.nodes if node.name in group and precision(graph, node) == FLOAT]
        if nodes:
            why = dict.fromkeys(reasons[node.name] for node in nodes if node.name in reasons)
            names = tuple(node.name for node in nodes)
            islands.append(Island(names, _place(graph, group), "; ".join(why) or NO_REASON))
    return tuple(sorted(islands, key=lambda island: order[island.nodes[0]]))


def _place(graph: Graph, group: set[str]) -> str:
    """Whether codes come before and after a group of nodes."""
    inside = [node for node in graph.nodes if node.name in group]
    producers = [graph.producer(name) for node in inside for name in node.inputs if name]
    made = {name for node in inside for name in node.outputs}
    follows = any(node is not None and (node.op == "Dequantize" or precision(graph, node) == INTEGER) for node in producers)
    if not any(node.op == "Quantize" and made.intersection(node.inputs) for node in graph.nodes):
        return AFTER
    return BETWEEN if follows else BEFORE


def _by_dtype(pairs: Iterable[tuple[str, int]]) -> Mapping[str, int]:
    found: Counter[str] = Counter()
    for dtype, size in pairs:
        found[dtype] += size
    return dict(found.most_common())
