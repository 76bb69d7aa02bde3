"""Kernels timed in turns, with the machine's own limit among them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

TURN_SECONDS = 4e-3
"""A turn makes as many calls as fit."""
MOST_CALLS = 200


@dataclass
class Series:
    """One thing that is timed: seconds a call, one figure a round."""

    title: str
    timer: Callable[[int], Callable[[], float]]
    seconds: list[float] = field(default_factory=list)
    _turn: Callable[[], float] | None = None

    def warm_up(self) -> None:
        """Finds out how many calls fit into a turn."""
        once = min(self.timer(1)() for _ in range(2))
        self._turn = self.timer(max(1, min(MOST_CALLS, round(TURN_SECONDS / max(once, 1e-9)))))

    def turn(self) -> None:
        """One round."""
        assert self._turn is not None
        self.seconds.append(self._turn())

    @property
    def median(self) -> float:
        """Seconds a call."""
        return statistics.median(self.seconds)

    @property
    def quartiles(self) -> tuple[float, float]:
        """The middle half of the rounds lies between these."""
        if len(self.seconds) < 2:
            return self.median, self.median
        low, _, high = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return low, high

    def ratio_to(self, basis: Series) -> float:
        """This one's time over the basis's, round by round: a slow minute of the machine divides out."""
        return statistics.median(own / other for own, other in zip(self.seconds, basis.seconds, strict=True))


def repeated(run: Callable[[], object]) -> Callable[[int], Callable[[], float]]:
    """A timer of a callable, for :class:`Series`."""

    def timer(number: int) -> Callable[[], float]:
        def seconds() -> float:
            start = time.perf_counter()
            for _ in range(number):
                run()
            return (time.perf_counter() - start) / number

        return seconds

    return timer


def interleave(series: Sequence[Series], rounds: int) -> None:
    """Times all in turns; every round starts with another one."""
    for one in series:
        one.warm_up()
    for index in range(rounds):
        start = index % len(series)
        for one in (*series[start:], *series[:start]):
            one.turn()
