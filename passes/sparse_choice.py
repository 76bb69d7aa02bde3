"""Which layers are computed by sparse kernels: those of least cost together, the copies between dense and sparse ones counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from tapdot.compiler.graph import Graph
from tapdot.compiler.types import TensorType
from tapdot.compiler.workloads import workload_of
from tapdot.kernels import estimates
from tapdot.kernels.family import Family
from tapdot.kernels.registry import select
from tapdot.kernels.target import Target
from tapdot.kernels.workload import Workload
from tapdot.passes.sides import PLANES, choose_sides, ports_of


class Costs(Protocol):
    """What kernels and copies cost, in one unit."""

    @property
    def unit(self) -> str:
        """In which they are counted."""

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
            found[node.name] = Figures(costs.kernel(select(dense, target), dense), costs.kernel(select(sparse, target), sparse))
    return found


def cheapest(graph: Graph, layers: Mapping[str, Figures], target: Target, costs: Costs) -> frozenset[str]:
    """The names of the layers that are best computed sparse, in a graph in which all are dense."""
    if not layers:
        return frozenset()
    ports = {node.name: ports_of(graph, node, target) for node in graph.nodes}
    sides = choose_sides(graph, ports, costs.copy, {name: (figure.dense, figure.sparse) for name, figure in layers.items()})
    return frozenset(name for name in layers if sides[name] == PLANES)
