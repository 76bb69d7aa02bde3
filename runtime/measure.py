"""How long, how steady, and where the time goes. Nothing is printed before the answer was checked."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tapdot.compiler.errors import DeviceError
from tapdot.compiler.package import Package
from tapdot.compiler.pipeline import relative_error, seeded_inputs
from tapdot.compiler.units import bytes_text
from tapdot.runtime.devices.base import DeviceInformation, Session
from tapdot.runtime.exactness import Classification
from tapdot.runtime.program import LoadedProgram, check_inputs
from tapdot.runtime.verify import flat_in_layout, reference_values

WARM_UP_WINDOW = 5
WARM_UP_SPREAD = 0.05
WARM_UP_LIMIT = 60
"""Warm-up ends when the last ``WINDOW`` runs lie within ``SPREAD`` of each other, or after ``LIMIT`` runs."""

TIMED_STRETCH = 2e-4
"""Seconds; a kernel alone is called as often as fills this, because reading the clock takes part of a microsecond."""


@dataclass(frozen=True)
class KernelTime:
    """One kernel of a profile. ``share`` is of the sum of all kernels; ``macs_per_second`` is 0 where nothing is multiplied."""

    node: str
    family: str
    fast: bool
    seconds: float
    share: float
    macs: int

    @property
    def macs_per_second(self) -> float:
        return self.macs / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class Measurement:
    """Latency of a package on a device. Times are in seconds, an inference each; sizes in bytes."""

    name: str
    device: str
    target: str
    recipe: str
    threads: int
    times: tuple[float, ...]
    error: float
    weights_bytes: int
    arena_bytes: int
    macs: int
    information: DeviceInformation
    kernels: tuple[KernelTime, ...] = ()
    instructions: int | None = None
    """Guest instructions an inference, on emulated devices, where there is no time worth printing."""

    @property
    def median(self) -> float:
        return statistics.median(self.times)

    @property
    def spread(self) -> float:
        """Half the distance between the quartiles, as a share of the median."""
        if len(self.times) < 4:
            return 0.0
        low, _, high = statistics.quantiles(self.times, n=4)
        return (high - low) / 2 / self.median

    def json(self) -> dict[str, Any]:
        """Plain data. An emulated device has ``instructions`` and no latency."""
        facts: dict[str, Any] = {
            "name": self.name,
            "device": self.device,
            "target": self.target,
            "recipe": self.recipe,
            "threads": self.threads,
            "error": self.error,
            "weights_bytes": self.weights_bytes,
            "arena_bytes": self.arena_bytes,
            "macs": self.macs,
            "cpu": self.information.cpu,
            "emulated": self.information.emulated,
        }
        if self.information.emulated:
            facts["instructions"] = self.instructions
        else:
            facts.update(median_seconds=self.median, spread=self.spread, runs=len(self.times), times=list(self.times))
        facts["kernels"] = [
            {
                "node": kernel.node,
                "family": kernel.family,
                "fast": kernel.fast,
                "seconds": kernel.seconds,
                "share": kernel.share,
                "macs": kernel.macs,
            }
            for kernel in self.kernels
        ]
        return facts

    def __str__(self) -> str:
        memory = f"weights {bytes_text(self.weights_bytes)}, arena {bytes_text(self.arena_bytes)}"
        if self.information.emulated:
            count = (
                "not counted" if self.instructions is None else f"{self.instructions / 1e6:.1f} million instructions an inference"
            )
            return f"{self.name} on {self.device} (emulated, so no latency): {count}, {memory}"
        return (
            f"{self.name} on {self.device}: {self.median * 1e3:.3f} ms median of {len(self.times)} runs, "
            f"spread {self.spread:.1%}, {self.threads} thread{'s' if self.threads > 1 else ''}, {memory}"
        )


def measure(
    session: Session,
    package: Package,
    *,
    threads: int = 1,
    runs: int = 20,
    per_layer: bool = False,
    inputs: Mapping[str, np.ndarray] | None = None,
    seed: int = 0,
) -> Measurement:
    """Checks the answer, warms up until times are stable, then takes the median of ``runs``.

    Raises DeviceError where the answer is wrong: a wrong answer has no latency.
    """
    graph = package.graph
    inputs = seeded_inputs(graph, seed) if inputs is None else inputs
    check_inputs(package, inputs)
    session.set_threads(threads)
    loaded = LoadedProgram(session, package)
    values = reference_values(graph, inputs)
    answers = loaded.run(inputs)
    classes, error = Classification(graph), 0.0
    for tensor, name in zip(package.program.outputs, graph.outputs, strict=True):
        difference, allowed = relative_error(values[name], answers[tensor.name]), classes.of_output(name).tolerance
        if not difference <= allowed:
            raise DeviceError(
                f"The answer on {session.line} differs from the reference by {difference:.3g} of its largest magnitude, where "
                f"{allowed:.0e} is allowed, so nothing was timed. Find the kernel with: tapdot verify {package.path.name} "
                f"--device {session.line}"
            )
        error = max(error, difference)
    information = session.information()
    times: tuple[float, ...] = ()
    instructions = None
    kernels: tuple[KernelTime, ...] = ()
    if information.emulated:
        from tapdot.runtime.instructions import count_package_instructions

        instructions = count_package_instructions(package, inputs, session.line)
    else:
        _warm_up(loaded, inputs)
        times = tuple(loaded.time(inputs, 1, runs))
        if per_layer:
            kernels = _profile(loaded, values, runs)
    return Measurement(
        package.name,
        session.line,
        package.target.name,
        package.recipe,
        threads,
        times,
        error,
        package.program.weights_bytes,
        package.program.arena_bytes,
        sum(call.macs for call in package.program.calls),
        information,
        kernels,
        instructions,
    )


def _warm_up(loaded: LoadedProgram, inputs: Mapping[str, np.ndarray]) -> None:
    times: list[float] = []
    while len(times) < WARM_UP_LIMIT:
        times += loaded.time(inputs, 1, 1)
        window = times[-WARM_UP_WINDOW:]
        if len(times) >= WARM_UP_WINDOW and max(window) <= min(window) * (1 + WARM_UP_SPREAD):
            return


def _calls_to_time(seconds: float) -> int:
    """How many calls of that length make one stretch a clock reads well."""
    return max(1, math.ceil(TIMED_STRETCH / max(seconds, 1e-9)))


def _profile(loaded: LoadedProgram, values: Mapping[str, np.ndarray], runs: int) -> tuple[KernelTime, ...]:
    """Every kernel timed alone, on the reference's inputs."""
    graph = loaded.package.graph
    found = []
    for call in loaded.program.calls:
        flats = [flat_in_layout(values[name], graph.type(name)) for name in call.inputs]
        number = _calls_to_time(min(loaded.time_kernel(call, flats, 1, 3)))
        found.append((call, statistics.median(loaded.time_kernel(call, flats, number, runs))))
    total = sum(seconds for _, seconds in found) or 1.0
    return tuple(KernelTime(call.node, call.family, call.fast, seconds, seconds / total, call.macs) for call, seconds in found)
