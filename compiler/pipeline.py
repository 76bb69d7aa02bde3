"""Passes and how they are run: options, phases, checks between passes, and the record of what happened.

A pass is a frozen dataclass whose fields are its options. A recipe is a tuple of phases, and a phase names the passes it
applies in order. The runner verifies the graph after every pass, checks what the pass says it needs and gives, and where asked
writes every graph to a folder and compares the reference's answers on both sides.
"""

from __future__ import annotations

import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from tapdot.compiler.errors import GraphError, TapdotError
from tapdot.compiler.files import make_folder, write_text
from tapdot.compiler.graph import Graph
from tapdot.compiler.interpreter import interpret

# -- passes ------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Property:
    """Something true of a graph that passes rely on; ``violation`` says where it is not, or returns None."""

    name: str
    violation: Callable[[Graph], str | None]

    def __str__(self) -> str:
        return self.name


Progress = Callable[[str], object]


def silent(line: str) -> None:
    """No progress is shown."""


@dataclass
class Notes:
    """What a pass wants a report to say, for instance what was left as it was and why."""

    lines: list[str] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)
    """Why nodes were left as they were, by name."""
    progress: Progress = silent
    """What a pass that takes long calls with a line now and then."""

    def add(self, line: str) -> None:
        """One sentence."""
        self.lines.append(line)


@dataclass(frozen=True)
class Pass(ABC):
    """A graph goes in, a new graph comes out; the fields of a subclass are its options.

    ``tolerance`` bounds by how much the answer may move, as a share of its largest magnitude; None is said by a pass that changes
    what the network computes on purpose.
    """

    requires: ClassVar[tuple[Property, ...]] = ()
    ensures: ClassVar[tuple[Property, ...]] = ()
    tolerance: ClassVar[float | None] = 1e-4

    @property
    def name(self) -> str:
        """The name options are set by: the class's, in small letters, words joined by underscores."""
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(self).__name__).lower()

    @abstractmethod
    def run(self, graph: Graph, notes: Notes) -> Graph:
        """The new graph (``graph`` itself where nothing changes); remarks for the report go into ``notes``."""

    def __call__(self, graph: Graph) -> Graph:
        """The new graph, remarks left out."""
        return self.run(graph, Notes())


@dataclass(frozen=True)
class Phase:
    """Passes applied in order; with ``until_stable`` again and again, until a whole round changes nothing."""

    name: str
    passes: tuple[Pass, ...]
    until_stable: bool = False


Recipe = tuple[Phase, ...]

MOST_ROUNDS = 20
"""A phase that is not stable after this many rounds has passes that undo each other."""


# -- running -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Record:
    """One application of a pass."""

    phase: str
    name: str
    seconds: float
    nodes_before: int
    nodes_after: int
    changed: bool
    notes: tuple[str, ...]
    reasons: Mapping[str, str]
    error: float | None
    """Largest difference of the reference's answers as a share of their largest magnitude; None where not compared."""


@dataclass(frozen=True)
class Outcome:
    """The final graph, the graph after each phase by its name, and the record of every pass on the way."""

    graph: Graph
    records: tuple[Record, ...]
    after: Mapping[str, Graph]

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks of all passes, each once."""
        return tuple(dict.fromkeys(line for record in self.records for line in record.notes))

    @property
    def reasons(self) -> Mapping[str, str]:
        """Why nodes were left as they were, by name."""
        return {name: reason for record in self.records for name, reason in record.reasons.items()}

    @property
    def seconds(self) -> float:
        """Time spent inside passes."""
        return sum(record.seconds for record in self.records)


def run(
    graph: Graph,
    recipe: Sequence[Phase],
    *,
    dump: Path | None = None,
    check: bool = False,
    seed: int = 0,
    progress: Progress = silent,
) -> Outcome:
    """Runs every phase of a recipe over a graph.

    ``dump`` is a folder that gets the graph as it came, after every pass that changed it and after every phase, in numbered
    files. ``check`` runs the reference on the same seeded inputs before and after every pass that changed the graph.
    ``progress`` gets the lines that passes say while they work.

    Raises TapdotError, naming the pass, where the answer moved by more than the pass's tolerance, and GraphError where the graph
    breaks a rule or lacks what a pass requires or promised.
    """
    journal = _Journal(dump)
    journal.write("import", graph)
    reference = _Reference(graph, seed) if check else None
    records: list[Record] = []
    after: dict[str, Graph] = {}
    for phase in recipe:
        for _ in range(MOST_ROUNDS if phase.until_stable else 1):
            start = graph
            for step in phase.passes:
                graph, record = _apply(step, phase, graph, reference, progress)
                records.append(record)
                if record.changed:
                    journal.write(f"{phase.name}.{step.name}", graph)
            if graph is start:
                break
        else:
            if phase.until_stable:
                raise GraphError(
                    f"Expected the phase {phase.name!r} to settle within {MOST_ROUNDS} rounds, but its passes keep undoing each "
                    "other; this is a defect of a pass."
                )
        journal.write(phase.name, graph)
        after[phase.name] = graph
    return Outcome(graph, tuple(records), after)


def _apply(step: Pass, phase: Phase, graph: Graph, reference: _Reference | None, progress: Progress) -> tuple[Graph, Record]:
    for needed in step.requires:
        if (found := needed.violation(graph)) is not None:
            raise GraphError(f"The pass {step.name!r} requires {needed}, but {found}; run the passes that ensure it first.")
    notes = Notes(progress=progress)
    begin = time.perf_counter()
    changed = step.run(graph, notes)
    seconds = time.perf_counter() - begin
    error = None
    if changed is not graph:
        try:
            changed.verify()
        except GraphError as problem:
            raise GraphError(f"The pass {step.name!r} in the phase {phase.name!r} made a broken graph. {problem}") from problem
        if reference is not None:
            error = reference.compare(changed, step, phase)
    for promised in step.ensures:
        if (found := promised.violation(changed)) is not None:
            raise GraphError(f"The pass {step.name!r} promised {promised}, but {found}.")
    record = Record(
        phase.name,
        step.name,
        seconds,
        len(graph.nodes),
        len(changed.nodes),
        changed is not graph,
        tuple(notes.lines),
        notes.reasons,
        error,
    )
    return changed, record


class _Journal:
    """Writes graphs to a folder, numbered in order."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.count = 0

    def write(self, title: str, graph: Graph) -> None:
        if self.folder is not None:
            make_folder(self.folder)
            write_text(self.folder / f"{self.count:02d}-{title.replace(' ', '-')}.txt", str(graph))
            self.count += 1


class _Reference:
    """The torch reference's answers to one seeded set of inputs, before the next pass."""

    def __init__(self, graph: Graph, seed: int) -> None:
        # Integers may be indices, and only the graph knows how large these may be.
        for integers_below in (8, 2, 1):
            arrays = seeded_inputs(graph, seed, integers_below)
            self.inputs = {name: torch.from_numpy(array) for name, array in arrays.items()}
            try:
                self.answers = self._run(graph)
                return
            except (IndexError, RuntimeError) as error:  # torch's words for an index that is not there, or a division by zero
                problem = error
        raise TapdotError(
            f"The reference cannot run {graph.name!r} on made-up inputs ({str(problem).splitlines()[0]}), so there is nothing to "
            "check the passes against; run without the check."
        )

    def _run(self, graph: Graph) -> list[np.ndarray]:
        with torch.no_grad():
            answers = interpret(graph, self.inputs)
        return [answers[name].numpy() for name in graph.outputs]

    def compare(self, graph: Graph, step: Pass, phase: Phase) -> float | None:
        """The relative difference from the answers before; raises TapdotError where it is more than the pass may cause."""
        before, self.answers = self.answers, self._run(graph)
        if step.tolerance is None:
            return None
        error = 0.0
        for name, old, new in zip(graph.outputs, before, self.answers, strict=True):
            worst = relative_error(old, new)
            if not worst <= step.tolerance:
                raise TapdotError(
                    f"The pass {step.name!r} in the phase {phase.name!r} changed the answer: output {name!r} differs "
                    f"by {worst:.3g} of its largest magnitude, and the pass may change it by {step.tolerance:.3g}."
                )
            error = max(error, worst)
        return error


def seeded_inputs(graph: Graph, seed: int, integers_below: int = 8) -> dict[str, np.ndarray]:
    """The same inputs for the same seed: normal floats, small non-negative integers, coin-toss booleans."""
    generator = np.random.default_rng(seed)
    inputs = {}
    for name in graph.inputs:
        kind = graph.type(name)
        if kind.dtype.startswith("float"):
            inputs[name] = generator.standard_normal(kind.shape).astype(kind.dtype)
        else:
            inputs[name] = generator.integers(0, 2 if kind.dtype == "bool" else integers_below, kind.shape).astype(kind.dtype)
    return inputs


SMALLEST_SCALE = 1e-6
"""Magnitudes below this count as this one: rounding around an exact zero is no error."""


def relative_error(expected: np.ndarray, found: np.ndarray) -> float:
    """Largest difference as a share of the largest magnitude expected; infinite where shapes, or places of NaN, differ."""
    if expected.shape != found.shape or expected.dtype != found.dtype:
        return float("inf")
    if not expected.size or np.array_equal(expected, found, equal_nan=expected.dtype.kind == "f"):
        return 0.0
    left, right = expected.astype(np.float64), found.astype(np.float64)
    same = (left == right) | (np.isnan(left) & np.isnan(right))
    if not np.isfinite(right[~same]).all() or not np.isfinite(left[~same]).all():
        return float("inf")
    finite = np.abs(left[np.isfinite(left)])
    return float(np.abs(left[~same] - right[~same]).max() / max(finite.max(initial=0.0), SMALLEST_SCALE))


def summary(records: Sequence[Record]) -> Mapping[str, float]:
    """Seconds spent in each pass, all rounds together."""
    totals: dict[str, float] = {}
    for record in records:
        totals[record.name] = totals.get(record.name, 0.0) + record.seconds
    return totals
