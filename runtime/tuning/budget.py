"""Which workload gets the next trial: its share of the model's time, and what trials of it brought lately."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

FIRST_TRIALS = 4
"""Every workload gets so many, its default among them, before any gets more."""
RECENT = 6
"""Trials over which the recent gain is taken."""
HOPE = 0.1
"""Gain expected of a workload that has had one trial; it falls as trials bring nothing."""


@dataclass
class Account:
    """What the budget knows of one workload. ``estimate`` is its cost before it was measured, all occurrences together."""

    occurrences: int
    estimate: float
    default: float | None = None
    bests: list[float] = field(default_factory=list)
    """The best figure after each trial that is over."""
    pending: int = 0
    """Trials under way."""
    exhausted: bool = False
    """Nothing is left to try."""

    def add(self, value: float | None) -> None:
        """A trial is over; without a figure where it failed."""
        figures = [figure for figure in (value, *self.bests[-1:]) if figure is not None and math.isfinite(figure)]
        self.bests.append(min(figures, default=math.inf))

    @property
    def trials(self) -> int:
        """Over or under way."""
        return len(self.bests) + self.pending

    @property
    def best(self) -> float | None:
        """The lowest figure."""
        return self.bests[-1] if self.bests and math.isfinite(self.bests[-1]) else None

    @property
    def recent_gain(self) -> float:
        """By what share the best figure fell over the last trials."""
        window = self.bests[-RECENT - 1 :]
        if len(window) < 2 or not math.isfinite(window[0]):
            return 0.0
        return 1 - window[-1] / window[0]

    @property
    def expected_gain(self) -> float:
        """What a further trial may bring: the recent gain of a trial, and a hope that falls with every one."""
        return self.recent_gain / RECENT + HOPE / max(1, self.trials)


def shares(accounts: Sequence[Account]) -> list[float]:
    """Each workload's share of the model's time, by its best figure; by the estimates while any has none."""
    if all(account.best is not None for account in accounts):
        costs = [(account.best or 0.0) * account.occurrences for account in accounts]
    else:
        costs = [account.estimate for account in accounts]
    total = sum(costs)
    return [cost / total for cost in costs] if total > 0 else [1 / len(costs) for _ in costs]


def choose(accounts: Sequence[Account]) -> int | None:
    """The workload of the next trial: those without their default first, then those with few trials, then by what is expected.

    None where nothing is left to try.
    """
    open_ones = [index for index, account in enumerate(accounts) if not account.exhausted]
    if not open_ones:
        return None
    share = shares(accounts)
    for least in (1, FIRST_TRIALS):
        if few := [index for index in open_ones if accounts[index].trials < least]:
            return max(few, key=lambda index: (share[index], -index))
    return max(open_ones, key=lambda index: share[index] * accounts[index].expected_gain)
