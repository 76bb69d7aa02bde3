"""What the tuner knows of one workload while it works."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from tapdot.kernels.family import Config
from tapdot.runtime.samples import spread
from tapdot.runtime.tuning import budget
from tapdot.runtime.tuning.record import DONE, Finding, Problem, Record, config_text
from tapdot.runtime.tuning.study import WorkloadStudy
from tapdot.runtime.tuning.workloads import Subject


@dataclass
class State:
    """One workload while it is tuned."""

    subject: Subject
    problem: Problem
    account: budget.Account
    study: WorkloadStudy | None = None
    default: float | None = None
    best: tuple[float, Config] | None = None
    gain: float | None = None
    config: Config | None = None
    """The winner, once it was measured in turns with the default."""
    abandoned: list[Config] = field(default_factory=list)
    warm_starts: set[str] = field(default_factory=set)
    known: set[str] = field(default_factory=set)
    default_tried: bool = False

    def learn(self, config: Config, finding: Finding) -> None:
        """Takes note of what was found of a configuration."""
        self.known.add(config_text(config))
        value = finding.value if finding.state == DONE else None
        self.account.add(value)
        if config_text(config) == config_text(self.subject.default):
            self.default_tried = True
            self.default = value
        if value is not None and (self.best is None or value < self.best[0]):
            self.best = (value, dict(config))


def finding_of(record: Record) -> Finding:
    """What a record found."""
    return Finding(record.state, record.value, record.spread, record.runs, record.detail)


def figures_of(samples: Sequence[float]) -> Finding:
    """What was measured in turns."""
    return Finding(DONE, statistics.median(samples), spread(samples), len(samples))


def record_of(problem: Problem, config: Config, finding: Finding) -> Record:
    """A finding with what it holds for."""
    return Record(**problem.facts, config=config_text(config), state=finding.state, value=finding.value)
