"""Packages against each other on one device, in turns, so that whatever the device does meanwhile happens to all alike."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tapdot.compiler.errors import DeviceError, InputError
from tapdot.compiler.package import Package
from tapdot.runtime.conditions import Conditions, WarmUp, Watch
from tapdot.runtime.core_choice import kind_of
from tapdot.runtime.devices.base import DeviceInformation, Session
from tapdot.runtime.measure import DeviceLostError, Measurement, Subject, check_runs, notes, prepare_threads, threads_text
from tapdot.runtime.samples import Ratio, least_rounds, paired_ratio, shared_confidence

ROUNDS = 50
ROUNDS_A_LOADING = 10
"""After so many rounds every package is loaded anew: where its arena happens to lie in memory makes it faster or slower by a
percent, and must not be taken for its merit."""


@dataclass(frozen=True)
class Comparison:
    """Measurements of several packages, round by round in a shuffled order. The first is what the others are held against."""

    labels: tuple[str, ...]
    measurements: tuple[Measurement, ...]
    conditions: Conditions
    remarks: tuple[str, ...] = ()

    @property
    def ratios(self) -> tuple[Ratio, ...]:
        """Times of every package but the first over those of the first."""
        basis = self.measurements[0].times
        return tuple(paired_ratio(found.times, basis) for found in self.measurements[1:])

    @property
    def fastest(self) -> int | None:
        """The index of the package that is faster than every other beyond noise; None where there is no such package.

        The mistakes allowed are split over the comparisons this makes.
        """
        order = sorted(range(len(self.measurements)), key=lambda index: self.measurements[index].median)
        confidence = shared_confidence(len(order) - 1)
        best = self.measurements[order[0]].times
        others = (paired_ratio(self.measurements[index].times, best, confidence) for index in order[1:])
        return order[0] if all(ratio.beyond_noise and ratio.median > 1 for ratio in others) else None

    @property
    def verdict(self) -> str:
        """A sentence: who is faster, and by how much, or that nobody is."""
        first, rounds = self.measurements[0], len(self.measurements[0].times)
        if rounds < least_rounds():
            return (
                f"{rounds} runs are too few to tell a difference from noise; {least_rounds()} are the least, {ROUNDS} are usual."
            )
        fastest = self.fastest
        if len(self.measurements) == 2:
            ratio = self.ratios[0]
            if fastest is None:
                return f"No difference beyond noise: {self.labels[1]} takes {ratio} times as long as {self.labels[0]}."
            slower = ratio if fastest == 0 else ratio.inverse()
            return f"{self.labels[fastest]} is faster: {self.labels[1 - fastest]} takes {slower} times as long."
        if fastest is None:
            near = min(self.measurements, key=lambda found: found.median)
            same = self.labels[self.measurements.index(near)] if near is not first else self.labels[0]
            return f"No fastest beyond noise: {same} has the lowest median, and not every other is slower beyond noise."
        return f"{self.labels[fastest]} is the fastest, beyond noise."

    def json(self) -> dict[str, Any]:
        """Plain data."""
        first = self.measurements[0]
        return {
            "device": first.device,
            "cpu": first.information.cpu,
            "fingerprint": first.information.fingerprint,
            "threads": first.threads,
            "rounds": len(first.times),
            "conditions": self.conditions.json(),
            "packages": [
                {"label": label, **{name: value for name, value in found.json().items() if name != "kernels"}}
                for label, found in zip(self.labels, self.measurements, strict=True)
            ],
            "ratios": [
                {"label": label, "to": self.labels[0], **ratio.json()}
                for label, ratio in zip(self.labels[1:], self.ratios, strict=True)
            ],
            "fastest": None if self.fastest is None else self.labels[self.fastest],
            "verdict": self.verdict,
            "remarks": list(self.remarks),
        }

    def __str__(self) -> str:
        first, where = self.measurements[0], self.conditions.where
        title = (
            f"On {first.device}, {threads_text(first.threads)}{f' {where}' if where else ''}, {len(first.times)} rounds in turns:"
        )
        width = max(map(len, self.labels))
        lines = [title]
        ratios = [None, *self.ratios]
        for label, found, ratio in zip(self.labels, self.measurements, ratios, strict=True):
            beside = "" if ratio is None else f", {ratio} times {self.labels[0]}"
            lines.append(f"{label:<{width}}  {found.median * 1e3:9.3f} ms, spread {found.spread:.1%}{beside}")
        return "\n".join([*lines, self.verdict, *self.remarks, *notes(self.conditions)])


def compare(
    session: Session,
    packages: Sequence[Package],
    *,
    labels: Sequence[str] | None = None,
    threads: int = 1,
    runs: int = ROUNDS,
    cores: str | Sequence[int] | None = None,
    inputs: Mapping[str, np.ndarray] | None = None,
    seed: int = 0,
) -> Comparison:
    """Checks every answer, warms every package up, then takes ``runs`` rounds in each of which every package has its turn.

    The order within a round is shuffled. Raises DeviceError where a package is not for this device or its answer is wrong, before
    anything is timed; InputError for fewer than two packages, no runs, or an emulated device; DeviceLostError, with the
    comparison of all whole rounds, where the device fails later.
    """
    check_runs(runs)
    if len(packages) < 2:
        raise InputError(f"Expected two packages or more to compare, found {len(packages)}.")
    information = session.information()
    if information.emulated:
        raise InputError(
            f"{session.line} is emulated and has no latency to compare; measure the packages one by one for their instructions."
        )
    names = tuple(labels) if labels is not None else labels_of(packages)
    chosen = prepare_threads(session, threads, cores)
    subjects = [_subject(session, *named, inputs, seed) for named in zip(names, packages, strict=True)]
    if chosen:
        session.set_threads(threads, chosen)
    watch = Watch(session, chosen, kind_of(information, chosen))
    rounds = 0
    try:
        watch.begin(_warm_up(subjects))
        order = random.Random(seed)
        while rounds < runs:
            if watch.settle():
                _warm_up(subjects)  # the clock of an idle core falls
            elif rounds and rounds % ROUNDS_A_LOADING == 0:
                for subject in subjects:
                    subject.load_again()
            for subject in order.sample(subjects, len(subjects)):
                subject.turn(1)
            rounds += 1
        conditions = watch.end()
    except DeviceError as error:
        if not rounds:
            raise
        partial = _comparison(names, subjects, rounds, threads, information, watch.cut_short())
        raise DeviceLostError(f"{error} {rounds} of {runs} rounds had been timed.", partial) from error
    return _comparison(names, subjects, rounds, threads, information, conditions)


def _subject(session: Session, name: str, package: Package, inputs: Mapping[str, np.ndarray] | None, seed: int) -> Subject:
    try:
        return Subject(session, package, inputs, seed)
    except (DeviceError, InputError) as error:
        raise type(error)(f"{name}: {error}") from error


def _warm_up(subjects: Sequence[Subject]) -> WarmUp:
    found = [subject.warm_up() for subject in subjects]
    return WarmUp(sum(each.runs for each in found), all(each.stable for each in found))


def _comparison(
    names: tuple[str, ...],
    subjects: Sequence[Subject],
    rounds: int,
    threads: int,
    information: DeviceInformation,
    conditions: Conditions,
) -> Comparison:
    for subject in subjects:
        del subject.times[rounds:]  # of a round that was cut short
    measurements = tuple(subject.measurement(threads, information, None) for subject in subjects)
    return Comparison(names, measurements, conditions, _remarks(names, [subject.package for subject in subjects]))


def _remarks(names: Sequence[str], packages: Sequence[Package]) -> tuple[str, ...]:
    """What makes two packages no two forms of one network."""
    first = packages[0].program
    signature = [(tensor.shape, tensor.dtype) for tensor in (*first.inputs, *first.outputs)]
    return tuple(
        f"{name} takes or gives other tensors than {names[0]}: they are not two forms of one network."
        for name, package in zip(names[1:], packages[1:], strict=True)
        if [(tensor.shape, tensor.dtype) for tensor in (*package.program.inputs, *package.program.outputs)] != signature
    )


def labels_of(packages: Sequence[Package]) -> tuple[str, ...]:
    """Short names that tell packages apart: of the file, else its path, numbered where that is the same."""
    for names in ([package.path.stem for package in packages], [str(package.path) for package in packages]):
        if len(set(names)) == len(names):
            return tuple(names)
    seen: Counter[str] = Counter()
    labels = []
    for package in packages:
        seen[package.path.stem] += 1
        labels.append(f"{package.path.stem} #{seen[package.path.stem]}")
    return tuple(labels)
