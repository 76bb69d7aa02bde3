"""What layers cost, measured: dense and sparse for ``compress_weights.choice=measured``, by bits for mixed widths."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from tapdot.compiler.cache import cache_directory
from tapdot.compiler.errors import TapdotError
from tapdot.compiler.files import write_bytes
from tapdot.compiler.graph import Graph
from tapdot.compiler.lower import lower
from tapdot.compiler.package import Package
from tapdot.compiler.types import TensorType
from tapdot.kernels.family import Family
from tapdot.kernels.target import Target
from tapdot.kernels.workload import Workload
from tapdot.passes.assign_layouts import AssignLayouts
from tapdot.passes.plan_memory import plan_memory
from tapdot.passes.sparse_choice import Figures
from tapdot.runtime.devices.base import Device

RUNS = 20
BYTES_PER_SECOND = 30e9
"""Of copies between layouts, where the model has none to measure."""


class MeasuredCosts:
    """Costs in microseconds, of copies by their bytes."""

    unit = "us"

    def __init__(self, bytes_per_second: float) -> None:
        self.bytes_per_second = bytes_per_second

    def kernel(self, family: Family, workload: Workload) -> float:
        """Layers are measured in their own graphs, not one by one."""
        raise NotImplementedError

    def copy(self, kind: TensorType) -> float:
        return kind.bytes / self.bytes_per_second * 1e6


class LayerTimes:
    """Times every kernel of the dense and of the sparse form of a graph on a device; what was timed before is not again.

    Times are kept in the cache by the device's fingerprint, the number of threads, and the kernels' symbols, which say what is
    computed by which code for which target: two phones of one model share them. Raises DeviceError where the device fails.
    """

    def __init__(self, device: Device, runs: int = RUNS, threads: int = 1) -> None:
        self.device = device
        self.runs = runs
        self.threads = threads

    def __call__(
        self, dense: Graph, sparse: Graph, names: frozenset[str], target: Target
    ) -> tuple[Mapping[str, Figures], MeasuredCosts]:
        """Microseconds of the layers of those names in both graphs. Raises TapdotError for a target that runs elsewhere."""
        if self.device.emulated or target.name.partition(":")[0] != self.device.default_target().partition(":")[0]:
            raise TapdotError(
                f"Expected a target that runs on the device {self.device.line} to measure layers on, found {target.name}; use "
                "compress_weights.choice=auto, which estimates."
            )
        in_dense, moved = self.times(dense, target)
        in_sparse, moved_too = self.times(sparse, target)
        figures = {name: Figures(in_dense[name] * 1e6, in_sparse[name] * 1e6) for name in in_dense if name in names}
        copied = [part for part in (*moved, *moved_too) if part[1] > 0]
        rate = sum(size for size, _ in copied) / sum(seconds for _, seconds in copied) if copied else BYTES_PER_SECOND
        return figures, MeasuredCosts(rate)

    def times(self, graph: Graph, target: Target) -> tuple[dict[str, float], list[tuple[int, float]]]:
        """Seconds of every kernel of a graph by its node, and bytes and seconds of every copy.

        A kernel that stands for several nodes takes their mean, and one that was measured in another graph keeps its figure: what
        is compared was measured once. Raises TapdotError for an emulated device.
        """
        physical = AssignLayouts(target)(graph)
        lowered = lower(physical, plan_memory(physical), target)
        calls = lowered.program.calls
        known = {call.symbol: found for call in calls if (found := recall(self.place(call.symbol))) is not None}
        if any(call.symbol not in known for call in calls):
            package = Package.create(lowered, target, name=graph.name, recipe="")
            measurement = self.device.measure(package, threads=self.threads, runs=self.runs, per_layer=True)
            if measurement.information.emulated:
                raise TapdotError(
                    f"The device {self.device.line} is emulated, and its clock says nothing of layers; use "
                    "compress_weights.choice=auto, which estimates."
                )
            by_node = {kernel.node: kernel.seconds for kernel in measurement.kernels}
            for symbol in {call.symbol: None for call in calls if call.symbol not in known}:
                known[symbol] = statistics.fmean(by_node[call.node] for call in calls if call.symbol == symbol)
                remember(self.place(symbol), known[symbol])
        copies = [(physical.type(call.outputs[0]).bytes, known[call.symbol]) for call in calls if call.workload.op == "Relayout"]
        return {call.node: known[call.symbol] for call in calls}, copies

    @cached_property
    def _folder(self) -> Path:
        """Where times of devices of this kind are kept."""
        with self.device.open() as session:
            fingerprint = session.information().fingerprint
        return cache_directory() / "times" / f"{fingerprint}-{self.threads}"

    def place(self, symbol: str) -> Path:
        """Where the figure of a kernel is kept."""
        return self._folder / f"{symbol}.json"


def recall(place: Path) -> float | None:
    """A figure that was kept; None where there is none."""
    try:
        return float(json.loads(place.read_text())["seconds"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def remember(place: Path, seconds: float) -> None:
    """Keeps a figure."""
    place.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(place, json.dumps({"seconds": seconds}).encode())
