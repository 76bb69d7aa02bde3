"""What layers take with weights of each width, measured on a device through the kernels that will ship.

The whole network is compiled once for every width and profiled kernel by kernel, so that a kernel finds its data in the caches
where it will find them. Figures are kept by device and kernel: a layer that was measured before is not measured again, and where
a device drops out in between, what was measured stays. Emulated devices have no time worth the name, and count instructions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping

from tapdot.compiler.errors import DeviceError
from tapdot.compiler.graph import Graph
from tapdot.compiler.workloads import computes_nothing
from tapdot.kernels.target import Target
from tapdot.passes.assign_layouts import AssignLayouts
from tapdot.passes.bit_candidates import INSTRUCTIONS, LATENCY, LayerFigures
from tapdot.runtime.devices.base import Device
from tapdot.runtime.devices.targets import check_fits
from tapdot.runtime.layer_costs import RUNS, LayerTimes, recall, remember

COUNT_SECONDS = 600.0
"""For counting one kernel."""


def measured_kind(device: Device, target: Target) -> str:
    """What :func:`measure_layers` finds out of layers there: latencies, or instructions. A session is opened, nothing measured.

    Raises DeviceError where the device cannot be reached, and for a target that does not run on it.
    """
    with device.open() as session:
        information = session.information()
    check_fits(target, information, device.line)
    return INSTRUCTIONS if information.emulated else LATENCY


def measure_layers(
    device: Device,
    graphs: Mapping[int, Graph],
    names: Collection[str],
    target: Target,
    *,
    runs: int = RUNS,
    progress: Callable[[str], object] = lambda line: None,
) -> LayerFigures:
    """The figures of the layers of those names in integer graphs, whose weights all have the width that is their key.

    Raises DeviceError where the device fails, and for a target that does not run on it.
    """
    kind = measured_kind(device, target)
    times = LayerTimes(device, runs)
    found: dict[int, dict[str, float]] = {}
    for bits, graph in graphs.items():
        progress(f"measuring layers with weights of {bits} bits on {device.line}")
        try:
            if kind == INSTRUCTIONS:
                found[bits] = _counted(times, graph, target, progress)
            else:
                found[bits], _ = times.times(graph, target)
        except DeviceError as error:
            kept = f"; of weights of {', '.join(map(str, found))} bits the figures are kept" if found else ""
            raise DeviceError(
                f"{str(error).removesuffix('.')}{kept}. Try again: what was measured is not measured again."
            ) from error
    first = found[next(iter(graphs))]
    by_layer = {name: {bits: figures[name] for bits, figures in found.items()} for name in names}
    rest = math.fsum(figure for name, figure in first.items() if name not in by_layer)
    return LayerFigures(kind, by_layer, rest, device.line)


def _counted(times: LayerTimes, graph: Graph, target: Target, progress: Callable[[str], object]) -> dict[str, float]:
    """Instructions of every kernel of a graph by its node."""
    from tapdot.runtime.tuning.candidates import CandidateError, build_candidate
    from tapdot.runtime.tuning.runners import runner_for
    from tapdot.runtime.tuning.workloads import subjects

    physical = AssignLayouts(target)(graph)
    nodes = [node for node in physical.nodes if not computes_nothing(physical, node)]
    found: dict[str, float] = {}
    runner = runner_for(times.device, times.threads, "")
    try:
        for subject in subjects(physical, nodes, target, choices_only=False):
            symbol = subject.family.symbol(subject.workload, subject.default, target)
            place = times.place(f"{symbol}.instructions")
            figure = recall(place)
            if figure is None:
                progress(f"counting instructions of {subject.title} on {times.device.line}")
                try:
                    _, (figure, *_) = runner.measure(build_candidate(subject, subject.default), None, COUNT_SECONDS)
                except CandidateError as error:
                    raise DeviceError(f"The kernel of {subject.title} could not be counted: {error}.") from error
                remember(place, figure)
            found |= dict.fromkeys(subject.nodes, figure)
    finally:
        runner.close()
    return found
