"""How long, how steady, and where the time goes. Nothing is printed before the answer was checked."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tapdot.compiler.errors import DeviceError, InputError
from tapdot.compiler.package import Package
from tapdot.compiler.pipeline import relative_error, seeded_inputs
from tapdot.compiler.program import ENTRY
from tapdot.compiler.units import bytes_text
from tapdot.runtime.conditions import Conditions, WarmUp, Watch, stretch_calls, warm_up
from tapdot.runtime.core_choice import choose_cores, kind_of
from tapdot.runtime.devices.base import DeviceInformation, Session
from tapdot.runtime.exactness import Classification
from tapdot.runtime.layer_profile import TIMED_STRETCH, KernelTime, Profile, profile
from tapdot.runtime.program import LoadedProgram, check_inputs
from tapdot.runtime.samples import spread
from tapdot.runtime.verify import reference_values

RUNS_IN_A_ROW = 5
"""Between two looks at the thermometer."""


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
    profile: Profile | None = None
    instructions: int | None = None
    """Guest instructions an inference, on emulated devices, where there is no time worth printing."""
    conditions: Conditions | None = None
    """None on emulated devices."""

    @property
    def kernels(self) -> tuple[KernelTime, ...]:
        """Of the profile; empty where none was taken."""
        return self.profile.kernels if self.profile else ()

    @property
    def median(self) -> float:
        """Seconds; NaN where nothing was timed."""
        return statistics.median(self.times) if self.times else float("nan")

    @property
    def spread(self) -> float:
        """Half the distance between the quartiles, as a share of the median."""
        return spread(self.times)

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
            "fingerprint": self.information.fingerprint,
            "emulated": self.information.emulated,
        }
        if self.information.emulated:
            facts["instructions"] = self.instructions
        else:
            facts.update(median_seconds=self.median, spread=self.spread, runs=len(self.times), times=list(self.times))
        if self.conditions is not None:
            facts["conditions"] = self.conditions.json()
        return {**facts, **(self.profile.json() if self.profile else {"kernels": []})}

    def __str__(self) -> str:
        memory = f"weights {bytes_text(self.weights_bytes)}, arena {bytes_text(self.arena_bytes)}"
        if self.information.emulated:
            count = (
                "not counted" if self.instructions is None else f"{self.instructions / 1e6:.1f} million instructions an inference"
            )
            return f"{self.name} on {self.device} (emulated, so no latency): {count}, {memory}"
        where = self.conditions.where if self.conditions else ""
        lines = [
            f"{self.name} on {self.device}: {self.median * 1e3:.3f} ms median of {len(self.times)} runs, "
            f"spread {self.spread:.1%}, {threads_text(self.threads)}{f' {where}' if where else ''}, {memory}"
        ]
        return "\n".join(lines + notes(self.conditions))


def threads_text(threads: int) -> str:
    """``1 thread``."""
    return f"{threads} thread{'s' if threads > 1 else ''}"


def notes(conditions: Conditions | None) -> list[str]:
    """What a reader of times must know of how they came about, a line each; nothing where all went as it should."""
    if conditions is None:
        return []
    return [*([conditions.cooling] if conditions.cooling else []), *(f"Warning: {line}" for line in conditions.warnings)]


class DeviceLostError(DeviceError):
    """A device failed in the middle of measuring. ``partial`` is what was measured until then."""

    def __init__(self, sentence: str, partial: Any) -> None:
        super().__init__(sentence)
        self.partial = partial


class Subject:
    """A package in a session whose answer was checked, its inputs on the device, ready to be timed again and again.

    Raises DeviceError where the answer is wrong: a wrong answer has no latency.
    """

    def __init__(self, session: Session, package: Package, inputs: Mapping[str, np.ndarray] | None, seed: int) -> None:
        graph = package.graph
        self.session = session
        self.package = package
        self.inputs = seeded_inputs(graph, seed) if inputs is None else inputs
        check_inputs(package, self.inputs)
        self.loaded = LoadedProgram(session, package)
        self.values = reference_values(graph, self.inputs)
        self.error = self._check()
        self._arguments = self.loaded.arguments(self.inputs)
        self._calls = 1
        self.times: list[float] = []

    def _check(self) -> float:
        graph = self.package.graph
        answers = self.loaded.run(self.inputs)
        classes, error = Classification(graph), 0.0
        for tensor, name in zip(self.package.program.outputs, graph.outputs, strict=True):
            difference = relative_error(self.values[name], answers[tensor.name])
            allowed = classes.of_output(name).tolerance
            if not difference <= allowed:
                raise DeviceError(
                    f"The answer of {self.package.path.name} on {self.session.line} differs from the reference by "
                    f"{difference:.3g} of its largest magnitude, where {allowed:.0e} is allowed, so nothing was timed. Find the "
                    f"kernel with: tapdot verify {self.package.path.name} --device {self.session.line}"
                )
            error = max(error, difference)
        return error

    def time(self, number: int = 1, repeat: int = 1) -> list[float]:
        """Seconds an inference, ``repeat`` times the mean over ``number``."""
        return self.session.time(self.loaded.module, ENTRY, self._arguments, number, repeat)

    def warm_up(self) -> WarmUp:
        """Runs until times settle, and sees how many inferences a clock reads well at a time."""
        found = warm_up(lambda number: self.time(number)[0])
        self._calls = stretch_calls(min(self.time(1, 3)), TIMED_STRETCH)
        return found

    def load_again(self) -> None:
        """Another place in memory for code, arena, inputs and outputs, and a first run there."""
        self.loaded = LoadedProgram(self.session, self.package)
        self._arguments = self.loaded.arguments(self.inputs)
        self.time(self._calls)

    def turn(self, runs: int) -> None:
        """Takes so many times more."""
        self.times += self.time(self._calls, runs)

    def measurement(self, threads: int, information: DeviceInformation, conditions: Conditions | None) -> Measurement:
        """What was measured so far."""
        program = self.package.program
        return Measurement(
            self.package.name,
            self.session.line,
            self.package.target.name,
            self.package.recipe,
            threads,
            tuple(self.times),
            self.error,
            program.weights_bytes,
            program.arena_bytes,
            sum(call.macs for call in program.calls),
            information,
            conditions=conditions,
        )


def prepare_threads(session: Session, threads: int, cores: str | Sequence[int] | None) -> tuple[int, ...]:
    """Sets the number of threads; the cores they are to be pinned to once everything slow is done.

    The reference computes with threads of its own, which would share one core with a pinned caller. Raises DeviceError for
    threads and cores that are not there, InputError for cores of an emulated device.
    """
    information = session.information()
    if information.emulated and cores is not None:
        raise InputError(f"{session.line} is emulated: instructions are counted there, and cores play no part; leave them out.")
    chosen = () if information.emulated else choose_cores(session.line, information, cores, threads)
    session.set_threads(threads)
    return chosen


def check_runs(runs: int) -> None:
    """Raises InputError for fewer than one run."""
    if runs < 1:
        raise InputError(f"Expected 1 run or more to take a median of, found {runs}.")


def measure(
    session: Session,
    package: Package,
    *,
    threads: int = 1,
    runs: int = 20,
    per_layer: bool = False,
    cores: str | Sequence[int] | None = None,
    inputs: Mapping[str, np.ndarray] | None = None,
    seed: int = 0,
) -> Measurement:
    """Checks the answer, warms up until times are stable, then takes the median of ``runs``.

    ``cores`` are ``big``, ``little`` or numbers to pin threads to; None chooses the fastest where a device has several kinds.

    Raises DeviceError where the answer is wrong: a wrong answer has no latency. Raises DeviceLostError, with what was measured,
    where the device fails later.
    """
    check_runs(runs)
    chosen = prepare_threads(session, threads, cores)
    subject = Subject(session, package, inputs, seed)
    information = session.information()
    if information.emulated:
        from tapdot.runtime.instructions import count_package_instructions, counting_cpu

        instructions = count_package_instructions(package, subject.inputs, counting_cpu(session.line, information))
        return replace(subject.measurement(threads, information, None), instructions=instructions)
    if chosen:
        session.set_threads(threads, chosen)
    watch = Watch(session, chosen, kind_of(information, chosen))
    try:
        watch.begin(subject.warm_up())
        while len(subject.times) < runs:
            if watch.settle():
                subject.warm_up()  # the clock of an idle core falls
            subject.turn(min(RUNS_IN_A_ROW, runs - len(subject.times)))
        found = subject.measurement(threads, information, watch.end())
    except DeviceError as error:
        if not subject.times:
            raise
        partial = subject.measurement(threads, information, watch.cut_short())
        raise DeviceLostError(f"{error} {len(subject.times)} of {runs} runs had been timed.", partial) from error
    if not per_layer:
        return found
    try:
        layers = profile(subject.loaded, subject.values, runs=runs, threads=threads, cores=chosen, whole=found.median)
        return replace(found, profile=layers)
    except DeviceError as error:
        raise DeviceLostError(f"{error} The whole had been timed, its kernels not yet.", found) from error
