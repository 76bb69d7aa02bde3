"""Who computes in which precision: operators on codes, operators left in float, and every conversion between the two."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tapdot.compiler.costs import node_macs
from tapdot.compiler.graph import Graph, Node
from tapdot.compiler.workloads import VIEWS

CODES = frozenset({"int8", "uint8"})
EDGES = frozenset({"Quantize", "Dequantize"})
COPIES = frozenset({"Relayout", "Concat"})
INTEGER, FLOAT = "integer", "float"


@dataclass(frozen=True)
class Coverage:
    """What a report says of precision; names are those of nodes and values of the graph."""

    operators: Mapping[str, Mapping[str, int]]
    """Operators by precision ("integer", "float"), and how many of each."""
    float_nodes: tuple[str, ...]
    """Nodes that compute in float between the first Quantize and the last Dequantize: the islands' members."""
    conversions: tuple[str, ...]
    """Quantize and Dequantize nodes that are kernels of their own, as ``name (Quantize)``."""
    macs: Mapping[str, int]
    weight_bytes: Mapping[str, int]
    """Bytes of constants by element type."""
    activation_bytes: Mapping[str, int]
    """Bytes of everything computed, each value counted once, by element type."""

    @property
    def integer_share(self) -> float:
        """The share of multiply-accumulates that are of integers."""
        total = sum(self.macs.values())
        return self.macs.get(INTEGER, 0) / total if total else 0.0


def coverage(graph: Graph) -> Coverage:
    """Sorts the nodes of a graph by precision; views and conversions count as neither."""
    operators: dict[str, Counter[str]] = {INTEGER: Counter(), FLOAT: Counter()}
    macs: Counter[str] = Counter()
    for node in graph.nodes:
        if (kind := precision(graph, node)) is not None:
            operators[kind][node.op] += 1
            macs[kind] += node_macs(graph, node)
    edges = [node for node in graph.nodes if node.op in EDGES]
    floats = [node.name for node in graph.nodes if precision(graph, node) == FLOAT]
    computed = [graph.type(name) for node in graph.nodes for name in node.outputs if name]
    return Coverage(
        {kind: dict(found.most_common()) for kind, found in operators.items() if found},
        tuple(floats) if operators[INTEGER] else (),
        tuple(f"{node.name} ({node.op})" for node in edges),
        {kind: count for kind, count in macs.items() if count},
        _by_dtype((array.dtype.name, array.nbytes) for array in graph.constants.values()),
        _by_dtype((kind.dtype, kind.bytes) for kind in computed),
    )


def precision(graph: Graph, node: Node) -> str | None:
    """``integer`` where a node reads codes, ``float`` where it reads floats; None for views, conversions and bookkeeping."""
    if node.op in VIEWS or node.op in EDGES or node.op in COPIES:
        return None
    kinds = [graph.type(name).dtype for name in node.inputs if name and name not in graph.constants]
    if any(kind in CODES for kind in kinds):
        return INTEGER
    return FLOAT if any(kind.startswith("float") for kind in kinds) else None


def _by_dtype(pairs: Iterable[tuple[str, int]]) -> Mapping[str, int]:
    found: Counter[str] = Counter()
    for dtype, size in pairs:
        found[dtype] += size
    return dict(found.most_common())
