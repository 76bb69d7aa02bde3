"""What `tapdot inspect` shows: who computes what, copies, sizes, and the graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console

from tapdot.cli.precision import gap_table, gap_title, precision_facts, precision_json
from tapdot.cli.sparsity import print_layers, sparsity_facts, sparsity_json
from tapdot.compiler.coverage import COPIES
from tapdot.compiler.package import Package, TensorGap
from tapdot.compiler.sparsity import LayerStructure
from tapdot.compiler.text import shortened
from tapdot.compiler.units import bytes_text

BYTES = "_bytes"
"""Facts whose names end so are sizes: whole numbers as JSON, and read with a unit on the terminal."""


@dataclass(frozen=True)
class Report:
    """Facts in the order they are printed, and the graph as text."""

    facts: Mapping[str, Any]
    remarks: Sequence[str]
    graph: str
    gaps: Sequence[TensorGap] = ()
    """Of integer tensors, worst first."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """Facts that only the JSON document has in full."""
    layers: Sequence[LayerStructure] = ()
    """Those that are computed sparse."""
    device: str = ""
    """What they were generated for."""

    def json(self) -> dict[str, Any]:
        """Plain data."""
        return {**self.facts, **self.data, "remarks": list(self.remarks), "graph": self.graph}

    def print(self, console: Console, with_graph: bool) -> None:
        """For a reader. The facts stand where they are seen, however long the graph: last on a terminal, first in a file.

        On a terminal, constants are shortened; in a file, the text is exact.
        """
        if with_graph and console.is_terminal:
            console.print(shortened(self.graph), markup=False)
        self._print_facts(console)
        if with_graph and not console.is_terminal:
            console.print(f"\n{self.graph}", markup=False)

    def _print_facts(self, console: Console) -> None:
        lines = {name.removesuffix(BYTES).replace("_", " "): _show(name, value) for name, value in self.facts.items()}
        width = max(map(len, lines))
        for name, value in lines.items():
            console.print(f"{name:<{width}}  {value}", markup=False)
        for remark in self.remarks:
            console.print(f"- {remark}", markup=False)
        if self.gaps:
            console.print(f"\n{gap_title(self.gaps)}", markup=False)
            console.print(gap_table(self.gaps))
        if self.layers:
            print_layers(self.layers, self.device, console)


class _Typed(Protocol):
    """An input or output as the program of a package and the graph of a model tell it."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> str: ...


def inspect_model(path: Path, shapes: Mapping[str, Sequence[int]] | None) -> Report:
    """A model file as imported, before any pass."""
    import tapdot
    from tapdot.compiler.costs import graph_macs

    graph = tapdot.trace(path, shapes=shapes)
    facts = {
        "model": str(path),
        "inputs": _signature((name, graph.type(name)) for name in graph.inputs),
        "outputs": _signature((name, graph.type(name)) for name in graph.outputs),
        "operators": dict(Counter(node.op for node in graph.nodes).most_common()),
        "parameters": sum(array.size for array in graph.constants.values()),
        "weights_bytes": sum(array.nbytes for array in graph.constants.values()),
        "GMAC": _giga(graph_macs(graph)),
    }
    return Report(facts, graph.notes, str(graph))


def inspect_package(package: Package) -> Report:
    """A package: coverage, copies, memory."""
    program = package.program
    families = Counter(call.family for call in program.calls)
    slow = [call for call in program.calls if not call.fast]
    copies = [call for call in program.calls if call.workload.op in COPIES]
    facts = {
        "package": str(package.path),
        "model": package.name,
        "made_by": f"tapdot {package.manifest['tapdot']} with tvm {package.manifest['tvm']}, recipe {package.recipe}",
        "target": f"{package.target.name} ({package.target.cpu}, {package.target.isa.name})",
        "inputs": _signature((tensor.name, tensor) for tensor in program.inputs),
        "outputs": _signature((tensor.name, tensor) for tensor in program.outputs),
        "kernels": f"{len(program.calls)} calls of {len({call.symbol for call in program.calls})} kernels",
        "families": dict(families.most_common()),
        "through_TVM": ", ".join(f"{call.node} ({call.workload.op})" for call in slow) or "none",
        "copies": ", ".join(call.node for call in copies) or "none",
        "GMAC": _giga(sum(call.macs for call in program.calls)),
        **(precision_facts(package.coverage) if package.coverage is not None and package.coverage.is_integer else {}),
        **sparsity_facts(package.sparsity),
        "weights_bytes": program.weights_bytes,
        **({"weights_in_file_bytes": package.stored_weights.size} if package.narrow else {}),
        "arena_bytes": program.arena_bytes,
        "arena_at_least_bytes": program.arena_lower_bound,
    }
    graph = package.read("graph.txt").decode()
    data = {**precision_json(package), **sparsity_json(package.sparsity)}
    return Report(facts, package.notes, graph, package.numeric_gap, data, package.sparsity, package.target.name)


def _giga(count: int) -> float:
    """Billions, to four digits that say something however small the network."""
    return float(f"{count / 1e9:.4g}")


def _signature(tensors: Iterable[tuple[str, _Typed]]) -> str:
    return ", ".join(f"{name}: {tensor.dtype}{list(tensor.shape)}" for name, tensor in tensors)


def _show(name: str, value: Any) -> str:
    if name.endswith(BYTES):
        return bytes_text(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {count}" for name, count in value.items())
    return str(value)
