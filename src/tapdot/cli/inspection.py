"""What `tapdot inspect` shows: the graph, who computes what, copies, sizes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from tapdot.compiler.graph import Graph
from tapdot.compiler.operators import lookup
from tapdot.compiler.package import Package

MEBI = 2**20


@dataclass(frozen=True)
class Report:
    """Facts in the order they are printed, and the graph as text."""

    facts: Mapping[str, Any]
    remarks: Sequence[str]
    graph: str

    def json(self) -> dict[str, Any]:
        """Plain data."""
        return {**self.facts, "remarks": list(self.remarks), "graph": self.graph}

    def print(self, console: Console, with_graph: bool) -> None:
        """For a terminal: the graph first, so that what matters stands at the end of the screen."""
        if with_graph:
            console.print(self.graph, markup=False)
        width = max(len(name) for name in self.facts)
        for name, value in self.facts.items():
            console.print(f"{name.replace('_', ' '):<{width}}  {_show(value)}", markup=False)
        for remark in self.remarks:
            console.print(f"- {remark}", markup=False)


def inspect_model(path: Path, shapes: Mapping[str, Sequence[int]] | None) -> Report:
    """A model file as imported, before any pass."""
    import tapdot

    graph = tapdot.trace(path, shapes=shapes)
    facts = {
        "model": str(path),
        **_signature(graph),
        "operators": dict(Counter(node.op for node in graph.nodes).most_common()),
        "parameters": sum(array.size for array in graph.constants.values()),
        "weights_MiB": round(sum(array.nbytes for array in graph.constants.values()) / MEBI, 2),
        "GMAC": _giga(graph_macs(graph)),
    }
    return Report(facts, (), str(graph))


def inspect_package(package: Package) -> Report:
    """A package: coverage, copies, memory."""
    program = package.program
    families = Counter(call.family for call in program.calls)
    slow = [call for call in program.calls if not call.fast]
    copies = [call for call in program.calls if call.workload.op in ("Relayout", "Concat")]
    facts = {
        "package": str(package.path),
        "model": package.name,
        "made_by": f"tapdot {package.manifest['tapdot']} with tvm {package.manifest['tvm']}, recipe {package.recipe}",
        "target": f"{package.target.name} ({package.target.cpu}, {package.target.isa.name})",
        **_signature(package.graph),
        "kernels": f"{len(program.calls)} calls of {len({call.symbol for call in program.calls})} kernels",
        "families": dict(families.most_common()),
        "through_TVM": ", ".join(f"{call.node} ({call.workload.op})" for call in slow) or "none",
        "copies": ", ".join(call.node for call in copies) or "none",
        "GMAC": _giga(sum(call.macs for call in program.calls)),
        "weights_MiB": round(program.weights_bytes / MEBI, 2),
        "arena_MiB": f"{program.arena_bytes / MEBI:.2f} (at least {program.arena_lower_bound / MEBI:.2f} for any plan)",
    }
    return Report(facts, package.notes, package.read("graph.txt").decode())


def graph_macs(graph: Graph) -> int:
    """Multiply-accumulates of one inference."""
    total = 0
    for node in graph.nodes:
        operator = lookup(node.op)
        outputs = [graph.type(name) for name in node.outputs if name]
        total += operator.macs(graph.input_types(node), outputs, operator.defaults(node.attributes))
    return total


def _giga(count: int) -> float:
    """Billions, to four digits that say something however small the network."""
    return float(f"{count / 1e9:.4g}")


def _signature(graph: Graph) -> dict[str, Any]:
    return {
        "inputs": ", ".join(f"{name}: {graph.type(name).dtype}{list(graph.type(name).shape)}" for name in graph.inputs),
        "outputs": ", ".join(f"{name}: {graph.type(name).dtype}{list(graph.type(name).shape)}" for name in graph.outputs),
    }


def _show(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {count}" for name, count in value.items())
    return str(value)
