"""Which layers are computed by sparse kernels: those of least cost together, the copies between dense and sparse ones counted.

Dense kernels keep channels in blocks of sixteen, sparse kernels in planar rows, and where one feeds the other a copy stands. So the
layers are chosen together: every node is on one of two sides, a side has its kernel's cost, and a value that is read on the other
side costs its copy once. The choice of least cost is a minimum cut (Greig, Porteous and Seheult, 1989), which networkx finds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import networkx

from tapdot.compiler.graph import Graph, Node
from tapdot.compiler.types import TensorType
from tapdot.compiler.workloads import VIEWS, computes_nothing, workload_of
from tapdot.kernels import estimates
from tapdot.kernels.family import Family, Port
from tapdot.kernels.registry import NoFamilyError, select
from tapdot.kernels.target import Target
from tapdot.kernels.workload import Workload

BLOCKS, PLANES = "blocks", "planes"
"""The two sides: where a value lies in channel blocks, and where it lies in planar rows (or row-major)."""


class Costs(Protocol):
    """What kernels and copies cost, in one unit."""

    unit: str

    def kernel(self, family: Family, workload: Workload) -> float:
        """Of one call of a kernel; the workload has no layouts."""

    def copy(self, kind: TensorType) -> float:
        """To copy a value from one side to the other."""


@dataclass(frozen=True)
class Estimated:
    """Costs by the models of ``kernels.estimates``."""

    target: Target
    unit: str = "kcycles"

    def kernel(self, family: Family, workload: Workload) -> float:
        return family.cost(workload, self.target) / 1000

    def copy(self, kind: TensorType) -> float:
        return estimates.copying(2 * kind.bytes) / 1000


@dataclass(frozen=True)
class Figures:
    """The costs of one layer's two kernels, copies left out."""

    dense: float
    sparse: float


def figures(graph: Graph, sparse_graph: Graph, names: frozenset[str], target: Target, costs: Costs) -> dict[str, Figures]:
    """Of the layers of that name, which both graphs have, dense in one and sparse in the other."""
    found: dict[str, Figures] = {}
    sparse_nodes = {node.name: node for node in sparse_graph.nodes}
    for node in graph.nodes:
        if node.name in names:
            dense, sparse = workload_of(graph, node, False), workload_of(sparse_graph, sparse_nodes[node.name], False)
            found[node.name] = Figures(
                costs.kernel(select(dense, target), dense), costs.kernel(select(sparse, target), sparse)
            )
    return found


def cheapest(graph: Graph, layers: Mapping[str, Figures], target: Target, costs: Costs) -> frozenset[str]:
    """The names of the layers that are best computed sparse."""
    if not layers:
        return frozenset()
    cut = networkx.DiGraph()
    cut.add_nodes_from((BLOCKS, PLANES))
    for node in graph.nodes:
        if node.name in layers:
            _edge(cut, BLOCKS, node.name, layers[node.name].sparse)
            _edge(cut, node.name, PLANES, layers[node.name].dense)
        else:
            _fix(cut, node, _sides(graph, node, target))
    for value, readers in _crossings(graph, layers, target):
        producer = graph.producer(value)
        source = PLANES if producer is None else producer.name
        price = costs.copy(graph.type(value))
        to_planes, to_blocks = f"{value}>{PLANES}", f"{value}>{BLOCKS}"
        _edge(cut, source, to_planes, price)
        _edge(cut, to_blocks, source, price)
        for reader in readers:
            _edge(cut, to_planes, reader, math.inf)
            _edge(cut, reader, to_blocks, math.inf)
    _, (_, planes) = networkx.minimum_cut(cut, BLOCKS, PLANES)
    return frozenset(name for name in layers if name in planes)


def _edge(cut: networkx.DiGraph, tail: str, head: str, capacity: float) -> None:
    """``capacity`` is paid where ``tail`` is in blocks and ``head`` in planes."""
    if tail == head or head == BLOCKS or tail == PLANES:
        return
    if cut.has_edge(tail, head):
        capacity += cut[tail][head].get("capacity", math.inf)
    if math.isinf(capacity):
        cut.add_edge(tail, head)  # without a capacity networkx takes it as unbounded
        cut[tail][head].pop("capacity", None)
    else:
        cut.add_edge(tail, head, capacity=capacity)


def _fix(cut: networkx.DiGraph, node: Node, sides: frozenset[str]) -> None:
    """A node that writes on one side only."""
    if sides == {BLOCKS}:
        _edge(cut, BLOCKS, node.name, math.inf)
    elif sides == {PLANES}:
        _edge(cut, node.name, PLANES, math.inf)


def _crossings(graph: Graph, layers: Mapping[str, Figures], target: Target) -> Iterator[tuple[str, list[str]]]:
    """Every value over planes, and the readers that want it on a side: nodes that are on either, or the side itself."""
    for value, kind in graph.types.items():
        if kind.rank != 4 or value in graph.constants:
            continue
        readers = [PLANES] * graph.outputs.count(value)
        for node in graph.consumers[value]:
            if node.name in layers:
                readers.append(node.name)
                continue
            sides = _reading_sides(graph, node, value, target)
            if len(sides) == 1:
                readers += sides
            elif _uniform(graph, node, target):
                readers.append(node.name)
        if readers:
            yield value, list(dict.fromkeys(readers))


def _ports(graph: Graph, node: Node, target: Target) -> tuple[tuple[Port | None, ...], tuple[Port, ...], bool] | None:
    """Of the kernel that serves a node; None for views and what has no kernel."""
    if node.op in VIEWS or computes_nothing(graph, node):
        return None
    workload = workload_of(graph, node, layouts=False)
    try:
        ports = select(workload, target).ports(workload, target)
    except NoFamilyError:
        return None
    return ports.inputs, ports.outputs, getattr(ports, "uniform", False)


def _uniform(graph: Graph, node: Node, target: Target) -> bool:
    found = _ports(graph, node, target)
    return found is not None and found[2]


def _sides(graph: Graph, node: Node, target: Target) -> frozenset[str]:
    """Where a node may write."""
    found = _ports(graph, node, target)
    return frozenset({PLANES}) if found is None else _of_blocks(found[1][0])


def _reading_sides(graph: Graph, node: Node, value: str, target: Target) -> frozenset[str]:
    found = _ports(graph, node, target)
    if found is None:
        return frozenset({PLANES})
    port = found[0][node.inputs.index(value)]
    return frozenset({PLANES}) if port is None else _of_blocks(port)


def _of_blocks(port: Port) -> frozenset[str]:
    sides = {PLANES if block == 1 else BLOCKS for block in port.blocks}
    return frozenset(sides or {PLANES})
