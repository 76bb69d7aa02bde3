"""Who computes in which precision: operators on codes, islands left in float and why, every conversion, and bytes.

A graph is an integer one where some node reads codes. In it, a float node belongs to an *island*: float nodes that feed each
other, up to where their values become codes or leave the network.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

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
        tuple(_island(graph, nodes, reasons or {}) for nodes in float_islands(graph)),
        tuple(_conversions(graph)),
        {kind: count for kind, count in macs.items() if count},
        _by_dtype((graph.type(name).dtype, graph.type(name).bytes) for name in graph.constants),
        _by_dtype((kind.dtype, kind.bytes) for kind in computed),
    )


def precision(graph: Graph, node: Node) -> str | None:
    """``float`` where a node reads floats, ``integer`` where it reads codes alone; None for views, conversions, bookkeeping."""
    if node.op in VIEWS or node.op in EDGES or node.op in COPIES:
        return None
    kinds = _read(graph, node)
    if any(_is_float(kind) for kind in kinds):
        return FLOAT
    return INTEGER if CODES & kinds else None


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


def is_integer(graph: Graph) -> bool:
    """Whether a graph computes with codes, or makes some."""
    return any(node.op == "Quantize" or CODES & _read(graph, node) for node in graph.nodes)


def float_islands(graph: Graph) -> tuple[tuple[Node, ...], ...]:
    """The one definition of islands: groups of float nodes that floats connect, also through views and copies, each in order.

    None in a graph that has no codes.
    """
    if not is_integer(graph):
        return ()
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
    groups = []
    for group in networkx.connected_components(together):
        nodes = tuple(node for node in graph.nodes if node.name in group and precision(graph, node) == FLOAT)
        if nodes:
            groups.append(nodes)
    return tuple(sorted(groups, key=lambda nodes: order[nodes[0].name]))


def _island(graph: Graph, nodes: Sequence[Node], reasons: Mapping[str, str]) -> Island:
    why = dict.fromkeys(reasons[node.name] for node in nodes if node.name in reasons)
    return Island(tuple(node.name for node in nodes), _place(graph, nodes), "; ".join(why) or NO_REASON)


def _place(graph: Graph, nodes: Sequence[Node]) -> str:
    """Whether codes come before and after the nodes of an island, also through views and copies."""
    sources = [graph.producer(name) for node in nodes for name in node.inputs if name]
    readers = [reader for node in nodes for name in node.outputs if name for reader in graph.consumers[name]]
    follows, leads = False, False
    while sources:
        source = sources.pop()
        if source is not None and precision(graph, source) is None and source.op not in EDGES:
            sources += [graph.producer(name) for name in source.inputs if name]
        else:
            follows |= source is not None and (source.op == "Dequantize" or precision(graph, source) == INTEGER)
    while readers:
        reader = readers.pop()
        if precision(graph, reader) is None and reader.op not in EDGES:
            readers += [further for name in reader.outputs if name for further in graph.consumers[name]]
        else:
            leads |= reader.op == "Quantize"
    if not leads:
        return AFTER
    return BETWEEN if follows else BEFORE


def _by_dtype(pairs: Iterable[tuple[str, int]]) -> Mapping[str, int]:
    found: Counter[str] = Counter()
    for dtype, size in pairs:
        found[dtype] += size
    return dict(found.most_common())
